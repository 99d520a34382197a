//! The tables of the services: log, admin, API, register, link, gateway and worker.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use tidegate_wire::Name;

use super::address::Authority;
use super::section::section;
use super::types::{CacheDir, Choice, LogFormat, NoWorker, Router, Secret};

/// From one millisecond to one day.
pub(crate) const TIME: RangeInclusive<u64> = 1..=86_400_000;
/// The same, and 0 for "off" or "none".
pub(crate) const TIME_OR_OFF: RangeInclusive<u64> = 0..=86_400_000;
/// In seconds, up to one day; 0 has a meaning of its own.
pub(crate) const SECONDS: RangeInclusive<u64> = 0..=86_400;
/// From one KiB to one TiB.
pub(crate) const BYTES: RangeInclusive<u64> = 1_024..=1 << 40;
/// How many of something.
pub(crate) const COUNT: RangeInclusive<u64> = 1..=16_777_216;
/// Threads or instances, and 0 for "one per core".
pub(crate) const PARALLEL: RangeInclusive<u64> = 0..=1_024;

fn registers() -> Vec<Authority> {
    "127.0.0.1:1236".parse().into_iter().collect()
}

section! {
    /// What is logged, and where to. Nothing waits for the log: a line that cannot be written is
    /// dropped and counted.
    pub struct Log {
        /// Which levels: `error`, `warn`, `info`, `debug`, `trace`, also per part, like
        /// `info,tidegate_cluster=debug`. The parts are `tidegate`, `tidegate_link`,
        /// `tidegate_deploy`, `tidegate_cluster`, `tidegate_runtime` and `tidegate_api`.
        level: String = "info".to_owned();
        /// `text` for people, `json` for programs.
        format: LogFormat = LogFormat::Text;
        /// A file to write to the end of. Not set: standard error. SIGHUP opens it anew, for those
        /// who rename it away.
        file: Option<PathBuf> = None;
    }
}

section! {
    /// Whether the threads and tasks on which everybody depends still turn.
    pub struct Watchdog {
        /// Whoever has not turned for so long makes `/healthz` fail, which then names it.
        stuck_ms: u64 = 5_000 => 1_000..=3_600_000;
        /// Whoever has not turned for so long ends the process, with exit code 70, so that its
        /// supervisor starts it again; 0 for never.
        end_ms: u64 = 30_000 => TIME_OR_OFF;
    }
}

section! {
    /// Health, readiness and metrics over HTTP.
    pub struct Admin {
        /// Where `/healthz`, `/readyz` and `/metrics` are served. Not set: nowhere. They need no
        /// password, so keep the address inside.
        listen: Option<SocketAddr> = None;
    }
}

section! {
    /// The Client API of a gateway, for outside applications.
    pub struct Api {
        /// Where it is served over HTTP, with its document at `/v1/openapi.json` and a page to try
        /// it at `/docs`. Not set: nowhere. Who may call says [[api-token]].
        listen: Option<SocketAddr> = None;
        /// How long a question may take before its answer is partial.
        query_ms: u64 = 2_000 => 1..=60_000;
    }
}

section! {
    /// Who may call the Client API: a token reaches its tenant only. A tenant may have several. SIGHUP
    /// takes up tokens that came, changed or went.
    pub struct ApiToken {
        /// Whom it reaches.
        tenant: Name = "default".into();
        /// The token: 16 or more printable ASCII characters without spaces. Better not in this
        /// file: give `token-file`, or set TIDEGATE_API_TOKEN__0__TOKEN.
        token: Option<Secret> = None;
        /// A file that holds the token and nothing else, instead of `token`. SIGHUP reads it again.
        token_file: Option<PathBuf> = None;
        /// Whom the history of deploys names when this token was used.
        name: Name = "token".into();
        /// Whether it may deploy handlers of its tenant, and roll them back.
        deploy: bool = false;
    }
}

section! {
    /// Deploys over the cluster: `tidegate deploy` and the Client API.
    pub struct Deploy {
        /// The folder in which this node keeps what was deployed, the components too, so that it
        /// is served again after a restart. Each command has its own folder in it, like `worker`.
        /// Not set: in memory only.
        state_dir: Option<PathBuf> = None;
    }
}

section! {
    /// The register, which tells nodes about each other.
    pub struct Register {
        /// Where nodes connect.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1236));
        /// The longest lease that a node gets: so long after its last heartbeat it is dropped.
        lease_ms: u64 = 10_000 => TIME;
        /// So long after its start a register does not yet say that an absent node is gone.
        grace_ms: u64 = 5_000 => TIME_OR_OFF;
        /// How many nodes may be connected.
        nodes_max: usize = 1_024 => 1..=65_536;
        /// So long may a connection take to prove that it knows the secret.
        handshake_timeout_ms: u64 = 5_000 => TIME;
    }
}

section! {
    /// Connections between nodes.
    pub struct Link {
        /// How often each end says that it is alive.
        heartbeat_ms: u64 = 2_000 => TIME;
        /// So long may the other end be silent; at least twice the heartbeat.
        lease_ms: u64 = 10_000 => TIME;
        /// So long may dialing and the proof of the secret take.
        handshake_timeout_ms: u64 = 5_000 => TIME;
        /// How much may wait to be written to one link.
        queue_bytes_max: usize = 64 << 20 => 1_048_576..=1 << 40;
        /// The first pause before dialing again; it doubles, with jitter.
        reconnect_ms_min: u64 = 50 => TIME;
        /// The longest pause before dialing again; with the handshake shorter than
        /// `register.grace-ms`, so that a node is back before a restarted register misses it.
        reconnect_ms_max: u64 = 2_000 => TIME;
    }
}

section! {
    /// The gateway, which owns the clients' connections.
    pub struct Gateway {
        /// The registers; a node registers with all of them.
        registers: Vec<Authority> = registers();
        /// Its name, for people.
        name: Name = "gateway".into();
        /// Its tags.
        tags: Vec<Name> = Vec::new();
        /// The address that it announces: other nodes connect here, and client ids contain it.
        /// Port 0 announces the port that was bound.
        lan: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2000);
        /// The address that it binds instead, if the announced one is not its own (containers,
        /// NAT).
        lan_bind: Option<SocketAddr> = None;
        /// Threads that own connections; 0 is one per core.
        shards: usize = 0 => PARALLEL;
        /// How it chooses the worker for an event: `bind` keeps a client with its worker, `rand`
        /// may take another for every event, `hash` takes the same for all clients with the same
        /// uid, or what the `router-key` of their `[[tenant]]` says, which may have another router.
        router: Router = Router::Bind;
        /// How `bind` chooses for a new client, and `hash` for one that has no key yet: `load` takes
        /// the less loaded of two workers, `random` any.
        choice: Choice = Choice::Load;
        /// How many clients may be connected.
        connections_max: usize = 100_000 => COUNT;
        /// What happens to messages while no worker is there: `hold` keeps them up to the limits
        /// and then stops reading sockets, `drop` drops and counts them, `close` closes their
        /// clients.
        no_worker: NoWorker = NoWorker::Hold;
        /// How many bytes of one client's messages may wait for a worker before its socket is not
        /// read.
        hold_bytes_max: usize = 64 << 10 => BYTES;
        /// How many bytes of all clients' messages may wait or be under way.
        pending_bytes_max: usize = 256 << 20 => BYTES;
        /// How many bytes all clients together may make the gateway keep: messages that are not
        /// complete, messages that wait or are under way, and what waits to be written. At the limit
        /// who has something unfinished is not read, then the largest and oldest are closed (1013).
        clients_bytes_max: usize = 512 << 20 => BYTES;
        /// How many bytes all timers of handlers may keep on this gateway: of each its payload and 320
        /// more. Beyond it they are not set, and counted as refused effects.
        timer_bytes_max: usize = 64 << 20 => BYTES;
        /// How many bytes all tasks of handlers may keep on this gateway: of each its payload and 512
        /// more. Beyond it they are not begun, and counted as refused effects. Each shard has its part,
        /// 2 MiB at least.
        task_bytes_max: usize = 64 << 20 => BYTES;
        /// How many tasks of one tenant this gateway gives to workers at a time; the others wait. Each
        /// shard has its part, one at least.
        tasks_under_way_max: usize = 64 => 1..=65_536;
        /// How many bytes of effects for one other gateway may wait for its acknowledgement.
        forward_bytes_max: usize = 64 << 20 => BYTES;
        /// How many groups a client may be in.
        groups_per_client_max: usize = 1_000 => 1..=65_536;
        /// How large a session may become, keys and values together.
        session_bytes_max: usize = 64 << 10 => 1_024..=8_388_608;
        /// A tenant whose oldest event has waited and run for longer is named in the log with the
        /// reason, once a minute; 0 for never.
        late_event_ms: u64 = 10_000 => TIME_OR_OFF;
        /// Whether each client has a second custodian on another machine than the first one, so that
        /// its close is told also when a gateway and a worker are lost together. Machines are known
        /// by address, or by a tag `host=NAME` of gateways and workers; on one machine nothing is
        /// sent.
        second_custodian: bool = true;
        /// So long may a client take to close, whoever ends it and why: to be written what waits, the
        /// farewell and the close frame, and to answer. A client that has only ended its own side
        /// (half-closed) has so long to get its answers. What is left then is dropped, counted and
        /// told in the log.
        close_ms: u64 = 10_000 => TIME;
        /// So long may clients take to close and their last events to be handled when the gateway
        /// is told to stop. Then clients have all of this time to close and not more, whatever
        /// `close-ms` says.
        shutdown_ms: u64 = 10_000 => TIME;
    }
}

section! {
    /// The worker, which runs plugins.
    pub struct Worker {
        /// The registers; a node registers with all of them.
        registers: Vec<Authority> = registers();
        /// Its name, for people and for plugins.
        name: Name = "worker".into();
        /// Its tags.
        tags: Vec<Name> = Vec::new();
        /// Instances of each plugin; 0 is one per core.
        instances: usize = 0 => PARALLEL;
        /// How many events of one gateway may be under way here.
        window_events: u32 = 4_096 => 1..=1_048_576;
        /// How many bytes of one gateway's events may be under way here.
        window_bytes: u64 = 32 << 20 => 1_048_576..=1 << 40;
        /// So long may events that are under way take when the worker is told to stop, and closes of a
        /// gateway that has just died wait for its lease: longer than `register.lease-ms`. In `serve`
        /// the time of the gateway counts.
        shutdown_ms: u64 = 15_000 => TIME;
        /// Where compiled plugins are kept: `platform` is the user's cache folder, `off` nowhere,
        /// anything else a path.
        cache_dir: CacheDir = CacheDir::Platform;
        /// How many MiB of compiled plugins are kept there; the least lately used goes first.
        cache_mib: u64 = 512 => 1..=1 << 20;
        /// Whether memory for instances is reserved at the start, which makes them faster to
        /// build. Without enough address space the worker does without.
        pooling: bool = true;
    }
}
