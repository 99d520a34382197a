//! The settings of a gateway within this process: what `tidegate gateway` has by default (`tidegate
//! config --default` prints it), and one listener for lines without pings.

use std::net::SocketAddrV4;
use std::time::Duration;

use tidegate_cluster::gateway::settings::{GatewaySettings, ListenerSettings, NoWorker};
use tidegate_hub::hub::HubLimits;
use tidegate_hub::outbound::{Newlines, QueuePolicy};
use tidegate_hub::routing::Router;
use tidegate_link::LinkSettings;
use tidegate_link::membership::MembershipSettings;
use tidegate_link::net::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use tidegate_wire::event::Transport;

const LINK: LinkSettings = LinkSettings {
    heartbeat: Duration::from_secs(2),
    lease: Duration::from_secs(10),
    handshake: Duration::from_secs(5),
    queue_bytes_max: 64 << 20,
};
const RECONNECT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// How long clients may take to close.
const CLOSE: Duration = Duration::from_secs(10);

/// Its place in the cluster.
pub(super) const MEMBERSHIP: MembershipSettings = MembershipSettings {
    link: LINK,
    lease: Duration::from_secs(10),
    reconnect_min: RECONNECT_MIN,
    reconnect_max: RECONNECT_MAX,
};

/// The gateway, one shard for each core.
pub(super) fn gateway(announced: SocketAddrV4, second_custodian: bool) -> GatewaySettings {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    GatewaySettings {
        announced,
        shards: u16::try_from(cores).unwrap_or(u16::MAX),
        router: Router::Bind,
        no_worker: NoWorker::Hold,
        hold_bytes_max: 64 << 10,
        pending_bytes_max: 256 << 20,
        clients_bytes_max: 512 << 20,
        forward_bytes_max: 64 << 20,
        // Pipes are not refused for their number.
        connections_max: 100_000,
        handshakes_max: HANDSHAKES_MAX,
        handshakes_per_address_max: HANDSHAKES_PER_ADDRESS_MAX,
        close: CLOSE,
        shutdown: CLOSE,
        reconnect: (RECONNECT_MIN, RECONNECT_MAX),
        late_event: Duration::from_secs(10),
        second_custodian,
        hub: HubLimits::default(),
        link: LINK,
        listeners: vec![lines(announced)],
    }
}

fn lines(announced: SocketAddrV4) -> ListenerSettings {
    ListenerSettings {
        name: "pipes".into(),
        tenant: "default".into(),
        // Nobody listens there: whoever connects has a pipe.
        address: announced.into(),
        transport: Transport::TextLines,
        static_folder: None,
        health_path: None,
        path: None,
        origins: vec![],
        subprotocols: vec![],
        ping_interval: Duration::ZERO,
        ping_not_response_limit: 2,
        ping_data: None,
        web_socket_ping: false,
        pong_counts: true,
        message_bytes_max: 1 << 20,
        handshake: Duration::from_secs(10),
        handshakes_per_address_max: 1_024,
        handshake_bytes_max: 16 << 10,
        connections_max: usize::MAX,
        queue_bytes_max: 1 << 20,
        queue_policy: QueuePolicy::Close,
        newlines: Newlines::Refuse,
    }
}
