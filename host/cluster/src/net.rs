//! Sockets between nodes: listening, accepting with bounds, looking up, waiting between attempts.
//!
//! Guarantees: what strangers can make this node hold is bounded in number, bytes and time. Knows
//! nothing of gateways, workers or registers.

pub mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_watchdog::{tolerate, watched};
use tidegate_wire::hello::Refusal;
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::link::{self, Identity, Link, LinkError, LinkSettings};
use stream::{Duplex, Listen};

/// How many connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// How long to wait after a failed accept, mostly for want of file descriptors.
const ACCEPT_RETRY_MIN: Duration = Duration::from_millis(10);
const ACCEPT_RETRY_MAX: Duration = Duration::from_secs(1);

/// Bounds of an accept loop.
#[derive(Clone, Copy, Debug)]
pub struct AcceptSettings {
    /// How many sockets may be in their handshake; more wait in the kernel's backlog.
    pub handshakes_max: usize,
    /// How many links there may be; more are refused after their handshake.
    pub links_max: usize,
}

/// Accepts until `stop`. Each socket is authenticated in a task of its own and its link handed to
/// `serve`, whose future ends when the link ends. At `stop` the listener and unfinished handshakes
/// are dropped; links are left to `serve`.
pub async fn accept_links<L, F, Fut>(
    listener: L,
    identity: Identity,
    settings: LinkSettings,
    bounds: AcceptSettings,
    stop: CancellationToken,
    serve: F,
) where
    L: Listen,
    F: Fn(Link) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let door = Arc::new(Door {
        identity,
        settings,
        links: Arc::new(Semaphore::new(clamp(bounds.links_max))),
        links_max: u32::try_from(bounds.links_max).unwrap_or(u32::MAX),
        stop: stop.clone(),
    });
    let handshakes = Arc::new(Semaphore::new(clamp(bounds.handshakes_max.max(1))));
    let seed = door.identity.node.incarnation.0;
    let mut backoff = Backoff::new(ACCEPT_RETRY_MIN, ACCEPT_RETRY_MAX, seed);
    loop {
        let next = async {
            let permit = handshakes.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = next => next,
        };
        match next {
            (Ok(permit), Ok((stream, address))) => {
                backoff.reset();
                tokio::spawn(door.clone().admit(stream, address, permit, serve.clone()));
            }
            (Ok(_), Err(error)) => {
                tracing::warn!(%error, "a node could not be accepted");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = sleep(backoff.next()) => {}
                }
            }
            // The semaphore is never closed.
            (Err(_), _) => return,
        }
    }
}

/// Tells why whoever connected from there has no link.
pub(crate) fn not_admitted(address: SocketAddr, error: &LinkError) {
    match error {
        LinkError::Refused(_)
        | LinkError::Unproven
        | LinkError::Frame(_)
        | LinkError::NotTidegate => {
            tracing::warn!(%address, %error, "a node was not admitted");
        }
        // Health checks, and nodes that end.
        LinkError::Io(_) | LinkError::Timeout(_) => {
            tracing::debug!(%address, %error, "a connection was not admitted");
        }
    }
}

/// A semaphore panics beyond its own maximum.
fn clamp(permits: usize) -> usize {
    permits.min(Semaphore::MAX_PERMITS)
}

struct Door {
    identity: Identity,
    settings: LinkSettings,
    links: Arc<Semaphore>,
    links_max: u32,
    stop: CancellationToken,
}

impl Door {
    async fn admit<S, F, Fut>(
        self: Arc<Self>,
        stream: S,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
        serve: F,
    ) where
        S: Duplex,
        F: Fn(Link) -> Fut,
        Fut: Future<Output = ()> + Send,
    {
        let accepted = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            accepted = tolerate(link::accept(stream, &self.identity, &self.settings)) => accepted,
        };
        drop(permit);
        let link = match accepted {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return not_admitted(address, &error),
            // Its panic was told.
            Err(_) => return,
        };
        let Ok(_place) = self.links.clone().try_acquire_owned() else {
            let links = self.links_max;
            tracing::warn!(%address, node = %link.peer.name, links, "no room for a node");
            link.sender.refuse(Refusal::Full(links));
            return;
        };
        let (role, peer) = (link.peer.role.name(), link.peer.name.clone());
        let span = tracing::info_span!("link", role, %peer);
        let name = format!("the link of {role} {peer}");
        watched(name, serve(link)).instrument(span).await;
    }
}

/// How long to wait between attempts: a random time below a bound that doubles up to a maximum, so
/// that nodes which lost the same peer do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    jitter: SmallRng,
    min: Duration,
    max: Duration,
    bound: Duration,
}

impl Backoff {
    /// Waits of `min` to `max`; the first is below twice `min`. `seed` tells this node from the
    /// others, and this use of it from its other ones.
    #[must_use]
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        let max = max.max(min);
        Self {
            jitter: SmallRng::seed_from_u64(seed),
            min,
            max,
            bound: min.saturating_mul(2).min(max),
        }
    }

    /// The next wait.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator could end, this cannot"
    )]
    pub fn next(&mut self) -> Duration {
        let wait = self.jitter.random_range(self.min..=self.bound);
        self.bound = self.bound.saturating_mul(2).min(self.max);
        wait
    }

    /// Starts again with short waits.
    pub fn reset(&mut self) {
        self.bound = self.min.saturating_mul(2).min(self.max);
    }
}

/// Listens on `address`.
///
/// # Errors
/// Those of the operating system, with the address in the text.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Looks up `"host:port"`; names are allowed, IPv4 comes first.
///
/// # Errors
/// When it is malformed or the name is unknown, with the address in the text.
pub async fn resolve(address: &str) -> io::Result<SocketAddr> {
    let failed = |error: io::Error| {
        let text = format!("cannot look up {address:?}, \"host:port\" is expected: {error}");
        io::Error::new(error.kind(), text)
    };
    let found: Vec<SocketAddr> = lookup_host(address).await.map_err(failed)?.collect();
    let first = found.iter().find(|address| address.is_ipv4());
    first
        .or(found.first())
        .copied()
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "it has no address")))
}

#[cfg(test)]
mod tests;
