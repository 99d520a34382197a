//! One listener for clients, `[[gateway.listener]]`, and what gateways do for one tenant, `[[tenant]]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tidegate_wire::Name;
use tidegate_wire::event::Transport;

use super::address::ListenUrl;
use super::section::section;
use super::services::{BYTES, COUNT, TIME, TIME_OR_OFF};
use super::types::{Newlines, QueuePolicy, Router, RouterKey, SignIn};

/// The largest message or event that still fits a frame of a link with its header.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 24 << 20;

section! {
    /// A listener for clients. There may be many.
    pub struct Listener {
        /// How and where: `ws://` (WebSocket), `tcp://` (bytes as they come), `text://` (one line a
        /// message) or `frame://` (four bytes of length, big-endian, that counts itself, then the
        /// message), with an IP address and a port. Port 0 takes any free one.
        listen: ListenUrl = ListenUrl {
            transport: Transport::WebSocket,
            address: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7272),
        };
        /// Its name, as plugins see it. Not set: its URL.
        name: Option<Name> = None;
        /// Whose clients connect here.
        tenant: Name = "default".into();
        /// A folder of files that are served over HTTP (ws only). Names that begin with a dot are
        /// not, and links that lead out of the folder neither.
        static_dir as "static": Option<PathBuf> = None;
        /// The path that answers health checks of load balancers (ws only); empty for none.
        health_path: String = "/healthz".to_owned() => 0..=1_024;
        /// The only path where clients may upgrade (ws only). Not set: any.
        path: Option<String> = None => 1..=1_024;
        /// The WebSocket subprotocols that are offered, the best first (ws only).
        subprotocols: Vec<String> = Vec::new() => 1..=255;
        /// The origins from which browsers may connect (ws only), like `https://example.org`.
        /// Empty: any. Programs that are no browsers send no origin and may always connect.
        origins: Vec<String> = Vec::new() => 1..=1_024;
        /// How often a silent client is pinged; 0 for never.
        ping_interval_ms: u64 = 25_000 => TIME_OR_OFF;
        /// How many pings a client may leave without answer before it is closed; 0 for any number.
        ping_not_response_limit: u32 = 2 => 0..=1_000;
        /// A message that is sent as the ping; empty for none.
        ping_data: String = String::new() => 0..=65_536;
        /// Whether the ping is also a WebSocket ping (ws only).
        websocket_ping: bool = true;
        /// Whether an answer to a WebSocket ping counts as a sign of life (ws only); otherwise only
        /// messages do.
        pong_counts: bool = true;
        /// The largest message that a client may send.
        message_bytes_max: usize = 1 << 20 => 1..=MESSAGE_BYTES_MAX;
        /// So long may a client take to finish its handshake (ws only); for its first byte half of
        /// it, but at most 5 s.
        handshake_ms: u64 = 10_000 => TIME;
        /// How many connections of one address may be without a finished handshake, and how many
        /// may wait for their next request (ws only); one more, and the oldest of them is closed.
        /// A proxy in front is one address.
        handshakes_per_address_max: usize = 1_024 => COUNT;
        /// The largest handshake (ws only).
        handshake_bytes_max: usize = 16 << 10 => 1_024..=1_048_576;
        /// Whether the handler is asked who may become a client (`handshake-events`): `off` lets
        /// everybody in, `reject` and `accept` ask it, and say what happens while no worker can be
        /// asked or its version does not decide that.
        sign_in: SignIn = SignIn::Off;
        /// How long the handler may take to say who may come; but for ws so long may the first
        /// message take, too.
        sign_in_ms: u64 = 5_000 => TIME;
        /// The largest body of an HTTP request that the handler answers (ws only); a larger one is told
        /// 413. The largest head is that of a handshake.
        http_body_bytes_max: usize = 1 << 20 => 0..=MESSAGE_BYTES_MAX;
        /// So long may an HTTP request that the handler answers take (ws only): 408 if its body is not
        /// there by then, 503 if nobody could be asked, else 504.
        http_ms: u64 = 30_000 => TIME;
        /// How many HTTP requests of this listener may wait for the handler's answer (ws only); one more
        /// is told 503. 0: the handler is not asked.
        http_requests_max: usize = 256 => 0..=65_536;
        /// How many clients of this listener may be connected. Not set: as many as the gateway
        /// takes.
        connections_max: Option<usize> = None => COUNT;
        /// How many bytes may wait to be written to one client.
        queue_bytes_max: usize = 1 << 20 => BYTES;
        /// What happens when they are more: `close` closes the client, `drop-new` drops the new
        /// message, `drop-old` the oldest ones.
        queue_policy: QueuePolicy = QueuePolicy::Close;
        /// What happens to a message with a newline in it (text only), since one message is one
        /// line: `refuse` does not send it and counts it, `split` sends it as it is, so that it
        /// becomes several messages, `escape` writes newline, carriage return and backslash as
        /// `\\n`, `\\r` and `\\\\` in every message.
        newlines: Newlines = Newlines::Refuse;
        /// The `name` of the `[[codec]]` that makes messages of its clients' bytes and bytes of
        /// messages (tcp only). Not set: bytes are messages as they come.
        codec: Option<Name> = None;
    }
}

section! {
    /// What gateways do for one tenant. A tenant has at most one of these tables, and what it does
    /// not set is as for all.
    pub struct Tenant {
        /// Which tenant.
        name: Name = "default".into();
        /// How the worker for an event of its clients is chosen, as in `[gateway]`. Not set: as
        /// `gateway.router` says.
        router: Option<Router> = None;
        /// What `hash` goes by: `uid`, or `session:KEY` for what stands under that key of the session,
        /// like `session:room`.
        router_key: RouterKey = RouterKey::Uid;
        /// Only workers that have all of these among their `worker.tags` get its events. Empty: any.
        /// While none is there that has, `gateway.no-worker` says what happens.
        worker_tags: Vec<Name> = Vec::new();
    }
}

/// Keys that mean something to `ws` only.
pub(crate) const WS_ONLY: [&str; 13] = [
    "static",
    "health-path",
    "path",
    "subprotocols",
    "origins",
    "websocket-ping",
    "pong-counts",
    "handshake-ms",
    "handshakes-per-address-max",
    "handshake-bytes-max",
    "http-body-bytes-max",
    "http-ms",
    "http-requests-max",
];

impl Listener {
    /// Its name, or else its URL.
    #[must_use]
    pub fn label(&self) -> Name {
        match &self.name {
            Some(name) => name.clone(),
            None => self.listen.to_string().into(),
        }
    }
}
