//! What a gateway is told at its start. Complete and checked before anything is bound.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use tidegate_link::LinkSettings;
use tidegate_link::net::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use tidegate_schedule::Schedule;
use tidegate_wire::Name;
use tidegate_wire::event::Transport;

use super::codecs::ListenerCodec;
use tidegate_hub::hub::HubLimits;
use tidegate_hub::outbound::{Newlines, QueuePolicy};
use tidegate_hub::routing::Routings;

/// What happens to messages while no worker serves their tenant. Connects and closes always wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoWorker {
    /// They wait; at the limit the client's socket is not read.
    #[default]
    Hold,
    /// They are dropped and counted.
    Drop,
    /// The client is closed.
    Close,
}

/// One gateway.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// What nodes are told and what stands in client ids.
    pub announced: SocketAddrV4,
    /// Threads that own connections; at least one.
    pub shards: u16,
    /// How the events of each tenant find their workers.
    pub routings: Routings,
    /// What happens when there is none.
    pub no_worker: NoWorker,
    /// Bytes of one client's events that may wait before its socket is no longer read.
    pub hold_bytes_max: usize,
    /// The same for all clients of this gateway.
    pub pending_bytes_max: usize,
    /// Bytes that all clients together may make this gateway keep: unfinished messages, events that
    /// wait or are under way, and what waits to be written.
    pub clients_bytes_max: usize,
    /// Bytes that all timers together may keep.
    pub timer_bytes_max: usize,
    /// Bytes that all tasks together may keep.
    pub task_bytes_max: usize,
    /// Tasks of one tenant that may be under way at workers at a time.
    pub tasks_under_way_max: usize,
    /// Bytes that may wait for one other gateway's acknowledgement.
    pub forward_bytes_max: usize,
    /// Client connections.
    pub connections_max: usize,
    /// Nodes that may be in their handshake at once; beyond it the oldest of them goes.
    pub handshakes_max: usize,
    /// The same for one address.
    pub handshakes_per_address_max: usize,
    /// How long a client's end may take, whoever ends it: what is queued, the farewell, the close
    /// frame and the client's answer; and the answers for who has only ended its own side.
    pub close: Duration,
    /// How long the end may take. At it the ends of clients have all of this time and not more.
    pub shutdown: Duration,
    /// How long this gateway waits before it dials another one again, at least and at most.
    pub reconnect: (Duration, Duration),
    /// A tenant whose oldest event is older is named in the log; zero: none is.
    pub late_event: Duration,
    /// Whether each client has a second custodian on another machine.
    pub second_custodian: bool,
    /// Bounds of the hub.
    pub hub: HubLimits,
    /// Links to workers and other gateways.
    pub link: LinkSettings,
    /// Where clients connect.
    pub listeners: Vec<ListenerSettings>,
    /// Schedules; those of tenants without a listener here are left to others.
    pub schedules: Vec<Schedule>,
    /// Where what is over of them is kept; none: nowhere.
    pub schedules_file: Option<PathBuf>,
}

impl GatewaySettings {
    /// One without listeners, with the defaults of the configuration and one shard for each core.
    #[must_use]
    pub fn new(announced: SocketAddrV4) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            announced,
            shards: u16::try_from(cores).unwrap_or(u16::MAX),
            routings: Routings::default(),
            no_worker: NoWorker::default(),
            hold_bytes_max: 64 << 10,
            pending_bytes_max: 256 << 20,
            clients_bytes_max: 512 << 20,
            timer_bytes_max: 64 << 20,
            task_bytes_max: 64 << 20,
            tasks_under_way_max: 64,
            forward_bytes_max: 64 << 20,
            connections_max: 100_000,
            handshakes_max: HANDSHAKES_MAX,
            handshakes_per_address_max: HANDSHAKES_PER_ADDRESS_MAX,
            close: Duration::from_secs(10),
            shutdown: Duration::from_secs(10),
            reconnect: (Duration::from_millis(50), Duration::from_secs(2)),
            late_event: Duration::from_secs(10),
            second_custodian: true,
            hub: HubLimits::default(),
            link: LinkSettings::default(),
            listeners: Vec::new(),
            schedules: Vec::new(),
            schedules_file: None,
        }
    }
}

/// Whether the handler is asked who may become a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignInPolicy {
    /// It is not: everybody may.
    #[default]
    Off,
    /// It is; while nobody can be asked, nobody may.
    Reject,
    /// It is; while nobody can be asked, everybody may.
    Accept,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Its name, told to handlers.
    pub name: Name,
    /// Whose clients connect here.
    pub tenant: Name,
    /// Where it listens.
    pub address: SocketAddr,
    /// How clients speak.
    pub transport: Transport,
    /// `ws`: a folder whose files are served.
    pub static_folder: Option<PathBuf>,
    /// `ws`: answers 200 when asked by GET.
    pub health_path: Option<String>,
    /// `ws`: the only path that upgrades; none: every path.
    pub path: Option<String>,
    /// `ws`: origins that may upgrade; empty: all.
    pub origins: Vec<String>,
    /// `ws`: subprotocols, the first that the client offers too is taken.
    pub subprotocols: Vec<String>,
    /// How often a silent client is pinged; zero: never.
    pub ping_interval: Duration,
    /// Pings that may stay without any answer before the client is closed; zero: never.
    pub ping_not_response_limit: u16,
    /// The message that is sent as a ping; none: no message.
    pub ping_data: Option<String>,
    /// `ws`: whether WebSocket pings are sent as well.
    pub web_socket_ping: bool,
    /// `ws`: whether a WebSocket pong, or a ping from the client, counts as an answer.
    pub pong_counts: bool,
    /// The largest message, in bytes.
    pub message_bytes_max: usize,
    /// How long the HTTP request may take.
    pub handshake: Duration,
    /// `ws`: connections of one address whose handshake is not over, and those that are idle between
    /// two requests; beyond it the oldest of them goes.
    pub handshakes_per_address_max: usize,
    /// The largest HTTP request head, in bytes.
    pub handshake_bytes_max: usize,
    /// Connections of this listener.
    pub connections_max: usize,
    /// Bytes that may wait to be sent to one client.
    pub queue_bytes_max: usize,
    /// What happens when they are more.
    pub queue_policy: QueuePolicy,
    /// Whether the handler is asked who may come, and what happens if it cannot be.
    pub sign_in: SignInPolicy,
    /// How long the handler may take for that; over other transports than WebSocket so long may the
    /// first message take too.
    pub sign_in_time: Duration,
    /// `ws`: the largest body of a request that the handler answers, in bytes.
    pub http_body_bytes_max: usize,
    /// `ws`: how long such a request may take, from its head to its answer.
    pub http_time: Duration,
    /// `ws`: how many of them may wait for their answers; zero: the handler gets none.
    pub http_requests_max: usize,
    /// `text`: what happens to a message with a newline in it.
    pub newlines: Newlines,
    /// `tcp`: what makes messages of bytes; none: bytes are messages as they come.
    pub codec: Option<ListenerCodec>,
}

impl ListenerSettings {
    /// A listener for the clients of a tenant, with the defaults of the configuration but for pings,
    /// of which it sends none.
    #[must_use]
    pub fn new(name: &str, tenant: Name, address: SocketAddr, transport: Transport) -> Self {
        Self {
            name: name.into(),
            tenant,
            address,
            transport,
            static_folder: None,
            health_path: None,
            path: None,
            origins: Vec::new(),
            subprotocols: Vec::new(),
            ping_interval: Duration::ZERO,
            ping_not_response_limit: 0,
            ping_data: None,
            web_socket_ping: false,
            pong_counts: true,
            message_bytes_max: 1 << 20,
            handshake: Duration::from_secs(10),
            handshakes_per_address_max: 1_024,
            handshake_bytes_max: 16 << 10,
            connections_max: usize::MAX,
            queue_bytes_max: 1 << 20,
            sign_in: SignInPolicy::default(),
            sign_in_time: Duration::from_secs(5),
            http_body_bytes_max: 1 << 20,
            http_time: Duration::from_secs(30),
            http_requests_max: 256,
            queue_policy: QueuePolicy::default(),
            newlines: Newlines::default(),
            codec: None,
        }
    }
}
