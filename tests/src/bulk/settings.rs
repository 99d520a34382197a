//! The settings of a gateway within this process: what `tidegate gateway` has by default (`tidegate
//! config --default` prints it), and one listener for lines without pings.

use std::net::SocketAddrV4;
use std::time::Duration;

use tidegate_cluster::gateway::settings::{GatewaySettings, ListenerSettings};
use tidegate_link::LinkSettings;
use tidegate_link::membership::MembershipSettings;
use tidegate_wire::event::Transport;

/// Its place in the cluster.
pub(super) fn membership() -> MembershipSettings {
    MembershipSettings {
        link: LinkSettings::default(),
        lease: Duration::from_secs(10),
        reconnect_min: Duration::from_millis(50),
        reconnect_max: Duration::from_secs(2),
    }
}

/// The gateway, one shard for each core. Pipes are not refused for their number, and nobody listens at
/// the listener's address: whoever connects has a pipe.
pub(super) fn gateway(announced: SocketAddrV4, second_custodian: bool) -> GatewaySettings {
    let (tenant, address) = ("default".into(), announced.into());
    GatewaySettings {
        second_custodian,
        listeners: vec![ListenerSettings::new(
            "pipes",
            tenant,
            address,
            Transport::TextLines,
        )],
        ..GatewaySettings::new(announced)
    }
}
