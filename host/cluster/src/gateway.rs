//! The gateway: owns client connections and their uid, groups and session; has no business logic.
//!
//! One thread per shard, or all as tasks of one. [`Gateway::start`] starts them, [`Gateway::run`] accepts clients and nodes
//! until it is told to stop and then ends in order: it stops accepting and reading, lets handlers
//! finish, tells the clients, and waits until their closes are committed.

pub mod access;
mod client;
pub mod commands;
mod feed;
#[cfg(test)]
mod fuzz;
mod gather;
mod handshake;
mod host;
mod inbox;
mod links;
mod listener;
mod memory;
mod metrics;
mod peers;
mod refusals;
mod requests;
#[cfg(test)]
mod rig;
pub mod settings;
mod shard;
mod slowness;
mod standing;
mod timers;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_watchdog::{vital, watched};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use client::socket::LocalClient;
use inbox::{Arrival, Inbox, Parcel};
use settings::GatewaySettings;
use shard::{Context, Shard, Status};
pub use standing::Standing;
use tidegate_hub::tenants::Tenants;
use tidegate_link::membership::Members;
use tidegate_link::net::admission::{AdmissionLimits, Admissions};
use tidegate_link::{Identity, Link};

/// How often the end looks whether everything is done.
const LOOK: Duration = Duration::from_millis(5);

/// So long before the end of a gateway the ends of its clients are over, so that what was cut can be
/// counted and told.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// A gateway that runs.
pub struct Gateway {
    context: Arc<Context>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    turn: AtomicUsize,
}

impl Gateway {
    /// Starts the shards of a gateway without commands. To be called on the runtime that serves
    /// the gateway.
    ///
    /// # Errors
    /// When a thread or its event loop cannot be had.
    pub fn start(identity: Identity, settings: GatewaySettings) -> io::Result<Self> {
        Self::start_with(identity, settings, Arc::new(commands::NoCommands))
    }

    /// The same, with what runs custom commands, on the runtime of the caller.
    ///
    /// # Errors
    /// As above.
    pub fn start_with(
        identity: Identity,
        settings: GatewaySettings,
        commands: Arc<dyn commands::Commands>,
    ) -> io::Result<Self> {
        memory::map_large_buffers();
        let context = Self::context(identity, settings, commands)?;
        let threads = (0..context.settings.shards)
            .map(|index| start_shard(context.clone(), index))
            .collect::<io::Result<_>>()?;
        Ok(Self::of(context, threads))
    }

    /// Starts the shards as tasks of the current [`LocalSet`] instead of threads of their own: the
    /// whole gateway ends when that is dropped.
    ///
    /// # Errors
    /// When there is no runtime.
    pub fn start_here(identity: Identity, settings: GatewaySettings) -> io::Result<Self> {
        let context = Self::context(identity, settings, Arc::new(commands::NoCommands))?;
        for index in 0..context.settings.shards {
            tokio::task::spawn_local(shard::run(Shard::new(context.clone(), index)));
        }
        Ok(Self::of(context, Vec::new()))
    }

    fn of(context: Arc<Context>, threads: Vec<JoinHandle<()>>) -> Self {
        Self {
            context,
            threads: Mutex::new(threads),
            turn: AtomicUsize::new(0),
        }
    }

    fn context(
        identity: Identity,
        settings: GatewaySettings,
        commands: Arc<dyn commands::Commands>,
    ) -> io::Result<Arc<Context>> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let tenants = settings.listeners.iter().map(|l| l.tenant.clone());
        let tenants = Tenants::new(tenants.collect());
        let shards = usize::from(settings.shards.max(1));
        let number = tenants.count();
        let slowness = slowness::Slowness::new(&tenants, shards);
        Ok(Arc::new(Context {
            identity,
            tenants,
            inboxes: (0..shards).map(|_| Inbox::default()).collect(),
            statuses: (0..shards).map(|_| Status::default()).collect(),
            received: std::sync::Mutex::default(),
            closes: tidegate_hub::closes::Closes::new(number),
            lost: CancellationToken::new(),
            requests: requests::Requests::new(settings.pending_bytes_max, number),
            commands: commands::Runner::new(commands, number),
            feed: feed::Feed::new(number),
            runtime,
            ended: CancellationToken::new(),
            waiting_named: shard::Named::default(),
            late_named: shard::Named::default(),
            slowness,
            next_worker: AtomicU32::new(0),
            nodes: Admissions::new(AdmissionLimits {
                connections_max: settings.handshakes_max,
                strangers_per_address_max: settings.handshakes_per_address_max,
                idle_per_address_max: 0,
            }),
            connections: settings
                .listeners
                .iter()
                .map(|_| AtomicUsize::new(0))
                .collect(),
            strangers: settings
                .listeners
                .iter()
                .map(|listener| {
                    Admissions::new(AdmissionLimits {
                        connections_max: listener.connections_max,
                        strangers_per_address_max: listener.handshakes_per_address_max,
                        idle_per_address_max: listener.handshakes_per_address_max,
                    })
                })
                .collect(),
            announced: standing::Announced::default(),
            answers: Arc::new(Semaphore::new(refusals::ANSWERS_MAX)),
            settings: GatewaySettings {
                shards: settings.shards.max(1),
                ..settings
            },
        }))
    }

    /// The way in for whoever serves the Client API.
    #[must_use]
    pub fn access(&self) -> access::Access {
        access::Access::new(self.context.clone())
    }

    /// Clients that a handler knows and of whom it is not certain that their custodians know them.
    #[must_use]
    pub fn unguarded(&self) -> usize {
        let statuses = self.context.statuses.iter();
        statuses
            .map(|it| it.unguarded.load(Ordering::Acquire))
            .sum()
    }

    /// How many workers have a link and have said what they serve.
    #[must_use]
    pub fn workers(&self) -> watch::Receiver<usize> {
        self.context.announced.count()
    }

    /// Whether it can do what it is there for.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing(self.context.clone())
    }

    /// Serves a link that is authenticated: a worker in the same process.
    pub fn attach(&self, link: Link) {
        self.arrive(Arrival::Link(Box::new(link)));
    }

    /// This life was declared lost: custodians tell the closes of its clients. Ends its links and its
    /// clients' connections and tells no handler, whose effects nobody would take. Call it before the
    /// stop of [`Self::run`].
    pub fn lose(&self) {
        self.context.lose();
    }

    /// Whether this life was declared lost: by [`Self::lose`], or a worker said so.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.context.lost.is_cancelled()
    }

    /// Connects a client of this process to a listener, as if it came from `address`.
    #[must_use]
    pub fn connect(&self, listener: usize, address: SocketAddr) -> LocalClient {
        let (client, socket) = LocalClient::pair();
        if let Some(count) = self.context.connections.get(listener) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        self.arrive(Arrival::Local {
            socket,
            listener,
            address,
        });
        client
    }

    fn arrive(&self, arrival: Arrival) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let place = turn % self.context.inboxes.len();
        if let Some(inbox) = self.context.inboxes.get(place) {
            inbox.push(Parcel::Arrival(arrival));
        }
    }

    /// Accepts clients on `listeners`, in the order of the settings, and nodes on `lan`, until
    /// `stop` or until this life is lost; then ends in order, within the time of the settings.
    pub async fn run(
        &self,
        listeners: Vec<TcpListener>,
        lan: Option<TcpListener>,
        members: watch::Receiver<Arc<Members>>,
        stop: CancellationToken,
    ) {
        let accepting = stop.child_token();
        for (index, listener) in listeners.into_iter().enumerate() {
            let accept =
                listener::clients(self.context.clone(), listener, index, accepting.clone());
            let name = format!("the listener {index} for clients");
            tokio::spawn(vital(name, accepting.clone(), accept));
        }
        // Workers may come until the very end: somebody must take the last closes.
        let nodes = CancellationToken::new();
        if let Some(lan) = lan {
            let accept = listener::nodes(self.context.clone(), lan, nodes.clone());
            tokio::spawn(vital("the listener for nodes", nodes.clone(), accept));
        }
        let follow = peers::follow(self.context.clone(), members);
        let peers = tokio::spawn(watched("the links to other gateways", follow));
        tokio::select! {
            biased;
            () = self.context.lost.cancelled() => accepting.cancel(),
            () = stop.cancelled() => {}
        }
        self.end().await;
        peers.abort();
        nodes.cancel();
        self.context.all(|| Parcel::Stop);
        self.context.ended.cancel();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return;
        }
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| {
                if thread.join().is_err() {
                    tracing::error!("a shard's thread panicked");
                }
            });
        });
        // The threads stop at their next turn.
        let _ = joined.await;
    }

    async fn end(&self) {
        let deadline = Instant::now() + self.context.settings.shutdown;
        let half = Instant::now() + self.context.settings.shutdown / 2;
        self.context.all(|| Parcel::Quiesce);
        self.until(half, |status| status.events.load(Ordering::Acquire) == 0)
            .await;
        self.context
            .all(|| Parcel::GoAway(deadline - LAST_WORDS.min(self.context.settings.shutdown / 2)));
        // What the last events did must have reached the other gateways, which take nothing more
        // from this one once it has left.
        self.until(deadline, |status| {
            status.lanes.load(Ordering::Acquire) == 0
                && status.forwards.load(Ordering::Acquire) == 0
                && status.sockets.load(Ordering::Acquire) == 0
        })
        .await;
        let left: usize = self
            .context
            .statuses
            .iter()
            .map(|status| status.lanes.load(Ordering::Acquire))
            .sum();
        if left > 0 {
            tracing::warn!(
                clients = left,
                "the end came before these closes were committed"
            );
        }
    }

    async fn until(&self, deadline: Instant, done: impl Fn(&Status) -> bool) {
        // The parcels before must have been taken: a shard says so by its status after the turn.
        sleep(LOOK).await;
        while Instant::now() < deadline && !self.context.statuses.iter().all(&done) {
            sleep(LOOK).await;
        }
    }
}

fn start_shard(context: Arc<Context>, index: u16) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                shard::run(Shard::new(context, index)).await;
            });
        })
}
