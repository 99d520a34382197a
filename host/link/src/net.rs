//! Sockets between nodes: listening, accepting with bounds, looking up, waiting between attempts.
//!
//! Guarantees: what strangers can make this node hold is bounded in number, bytes and time. Knows
//! nothing of gateways, workers or registers.

pub mod admission;
pub mod http;
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
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::link::{self, Identity, Link, LinkError, LinkSettings};
use admission::{AdmissionLimits, Admissions, Admitted};
use stream::{Duplex, Listen};

/// How many connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// How long to wait after a failed accept, mostly for want of file descriptors.
const ACCEPT_RETRY_MIN: Duration = Duration::from_millis(10);
const ACCEPT_RETRY_MAX: Duration = Duration::from_secs(1);
/// So long may a stranger that is told to go still take for its proof.
const NOTICE: Duration = Duration::from_millis(100);

/// How many nodes may be in their handshake at one address of a register or gateway: more than
/// there usually are nodes, since all of them come back at once after a failure.
pub const HANDSHAKES_MAX: usize = 1024;
/// The same for one address from which they come.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 256;

/// Bounds of an accept loop.
#[derive(Clone, Copy, Debug)]
pub struct AcceptSettings {
    /// How many sockets may be in their handshake; beyond it the oldest of them goes.
    pub handshakes_max: usize,
    /// The same for one address.
    pub handshakes_per_address_max: usize,
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
    let strangers = Admissions::new(AdmissionLimits {
        connections_max: bounds.handshakes_max,
        strangers_per_address_max: bounds.handshakes_per_address_max,
        idle_per_address_max: 0,
    });
    let seed = door.identity.node.incarnation.0;
    let mut backoff = Backoff::new(ACCEPT_RETRY_MIN, ACCEPT_RETRY_MAX, seed);
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = listener.accept() => next,
        };
        match next {
            Ok((stream, address)) => {
                backoff.reset();
                let stranger = strangers.admit(address.ip());
                tokio::spawn(door.clone().admit(stream, address, stranger, serve.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a node could not be accepted");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = sleep(backoff.next()) => {}
                }
            }
        }
    }
}

/// Tells why whoever connected from there has no link.
pub fn not_admitted(address: SocketAddr, error: &LinkError) {
    match error {
        LinkError::Refused(_)
        | LinkError::Unproven
        | LinkError::Frame(_)
        | LinkError::NotTidegate => {
            tracing::warn!(%address, %error, "a node was not admitted");
        }
        // Health checks, and nodes that end.
        LinkError::Io(_) | LinkError::Timeout(_) | LinkError::Crowded => {
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
        stranger: Admitted,
        serve: F,
    ) where
        S: Duplex,
        F: Fn(Link) -> Fut,
        Fut: Future<Output = ()> + Send,
    {
        let accepted = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            accepted = tolerate(admit(stream, &self.identity, &self.settings, &stranger)) => accepted,
        };
        drop(stranger);
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

/// Authenticates a peer that has connected, unless it is told to go and still is not done after a
/// short notice.
///
/// # Errors
/// See [`LinkError`].
pub async fn admit(
    stream: impl Duplex,
    identity: &Identity,
    settings: &LinkSettings,
    stranger: &Admitted,
) -> Result<Link, LinkError> {
    let notice = async {
        stranger.told_to_go().await;
        sleep(NOTICE).await;
    };
    tokio::select! {
        biased;
        accepted = link::accept_with(stream, identity, settings, || stranger.heard()) => accepted,
        () = notice => Err(LinkError::Crowded),
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
