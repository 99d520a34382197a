//! The gateway: owns client connections and their uid, groups and session; has no business logic.
//!
//! One thread per shard, or all as tasks of one. [`Gateway::start`] starts them, [`Gateway::run`] accepts clients and nodes
//! until it is told to stop and then ends in order: it stops accepting and reading, lets handlers
//! finish, tells the clients, and waits until their closes are committed.

pub mod access;
mod clients;
pub mod codecs;
pub mod commands;
mod end;
mod feed;
#[cfg(test)]
mod fuzz;
mod health;
mod peers;
mod questions;
mod requests;
#[cfg(test)]
mod rig;
pub mod routers;
mod schedules;
mod services;
pub mod settings;
mod shard;
mod shared;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tidegate_watchdog::{vital, watched};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::gateway::shared::inbox::{Incoming, Parcel};
pub use health::GatewayHealth;
use services::Services;
use settings::GatewaySettings;
use shard::Shard;
use shared::Context;
pub use shared::socket::LocalClient;
use tidegate_link::membership::Members;
use tidegate_link::{Identity, Link};

/// A gateway that runs.
pub struct Gateway {
    services: Arc<Services>,
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
        let commands = Arc::new(commands::NoCommands);
        Self::start_with(identity, settings, commands, Arc::new(routers::NoRouters))
    }

    /// The same, with what runs custom commands and routers, on the runtime of the caller.
    ///
    /// # Errors
    /// As above.
    pub fn start_with(
        identity: Identity,
        settings: GatewaySettings,
        commands: Arc<dyn commands::Commands>,
        routers: Arc<dyn routers::Routers>,
    ) -> io::Result<Self> {
        clients::memory::map_large_buffers();
        let services = Services::new(Context::new(identity, settings)?, commands, routers);
        let threads = (0..services.context.settings.shards)
            .map(|index| start_shard(services.clone(), index))
            .collect::<io::Result<_>>()?;
        Ok(Self::of(services, threads))
    }

    /// Starts the shards as tasks of the current [`LocalSet`] instead of threads of their own: the
    /// whole gateway ends when that is dropped.
    ///
    /// # Errors
    /// When there is no runtime.
    pub fn start_here(identity: Identity, settings: GatewaySettings) -> io::Result<Self> {
        let services = Services::new(
            Context::new(identity, settings)?,
            Arc::new(commands::NoCommands),
            Arc::new(routers::NoRouters),
        );
        for index in 0..services.context.settings.shards {
            tokio::task::spawn_local(shard::run(Shard::new(services.clone(), index)));
        }
        Ok(Self::of(services, Vec::new()))
    }

    fn of(services: Arc<Services>, threads: Vec<JoinHandle<()>>) -> Self {
        Self {
            services,
            threads: Mutex::new(threads),
            turn: AtomicUsize::new(0),
        }
    }

    fn context(&self) -> &Arc<Context> {
        &self.services.context
    }

    /// The way in for whoever serves the Client API.
    #[must_use]
    pub fn access(&self) -> access::Access {
        access::Access::new(self.services.clone())
    }

    /// Clients that a handler knows and of whom it is not certain that their custodians know them.
    #[must_use]
    pub fn unguarded(&self) -> usize {
        let statuses = self.context().statuses.iter();
        statuses
            .map(|it| it.unguarded.load(Ordering::Acquire))
            .sum()
    }

    /// How many workers have a link and have said what they serve.
    #[must_use]
    pub fn workers(&self) -> watch::Receiver<usize> {
        self.context().announced.count()
    }

    /// Whether it can do what it is there for.
    #[must_use]
    pub fn health(&self) -> GatewayHealth {
        GatewayHealth(self.context().clone())
    }

    /// Serves a link that is authenticated: a worker in the same process.
    pub fn attach(&self, link: Link) {
        self.arrive(Incoming::Link(Box::new(link)));
    }

    /// This life was declared lost: custodians tell the closes of its clients. Ends its links and its
    /// clients' connections and tells no handler, whose effects nobody would take. Call it before the
    /// stop of [`Self::run`].
    pub fn lose(&self) {
        self.context().lose();
    }

    /// Whether this life was declared lost: by [`Self::lose`], or a worker said so.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.context().lost.is_cancelled()
    }

    /// Connects a client of this process to a listener, as if it came from `address`.
    #[must_use]
    pub fn connect(&self, listener: usize, address: SocketAddr) -> LocalClient {
        let (client, socket) = LocalClient::pair();
        if let Some(count) = self.context().connections.get(listener) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        self.arrive(Incoming::Local {
            socket,
            listener,
            address,
        });
        client
    }

    fn arrive(&self, incoming: Incoming) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let place = turn % self.context().inboxes.len();
        if let Some(inbox) = self.context().inboxes.get(place) {
            inbox.push(Parcel::Incoming(incoming));
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
            let accept = clients::listener::clients(
                self.context().clone(),
                listener,
                index,
                accepting.clone(),
            );
            let name = format!("the listener {index} for clients");
            tokio::spawn(vital(name, accepting.clone(), accept));
        }
        // Workers may come until the very end: somebody must take the last closes.
        let nodes = CancellationToken::new();
        if let Some(lan) = lan {
            let accept = clients::listener::nodes(self.context().clone(), lan, nodes.clone());
            tokio::spawn(vital("the listener for nodes", nodes.clone(), accept));
        }
        let follow = peers::follow(self.services.clone(), members);
        let peers = tokio::spawn(watched("the links to other gateways", follow));
        let schedules = schedules::run(self.services.schedules.clone());
        tokio::spawn(watched("the schedules", schedules));
        tokio::select! {
            biased;
            () = self.context().lost.cancelled() => accepting.cancel(),
            () = stop.cancelled() => {}
        }
        self.end().await;
        peers.abort();
        nodes.cancel();
        self.context().all(|| Parcel::Stop);
        self.context().ended.cancel();
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
}

fn start_shard(services: Arc<Services>, index: u16) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                shard::run(Shard::new(services, index)).await;
            });
        })
}
