//! One authenticated connection between two nodes: frames in, frames out, in order.
//!
//! Guarantees: nothing but a bounded handshake is read before both ends have proved that they know
//! the cluster secret; the outgoing queue is bounded in bytes; heartbeats go both ways and a peer
//! that is silent for a lease ends the link. It knows nothing of gateways or workers, does not
//! reconnect and does not resend. In one process [`pair`] hands the same values over a queue.

mod handshake;
mod local;
mod portions;
mod queue;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_watchdog::watched;
use tidegate_wire::Name;
use tidegate_wire::frame::{Frame, FrameError};
use tidegate_wire::hello::Refusal;
use tidegate_wire::membership::Node;
use tokio::time::{Instant, timeout};

use crate::net::stream::Duplex;

pub use handshake::{Identity, Secret};
use local::LocalReceiver;
use queue::Queue;
use stream::StreamReceiver;

/// Times and bounds of a link.
#[derive(Clone, Copy, Debug)]
pub struct LinkSettings {
    /// How often a sign of life is sent.
    pub heartbeat: Duration,
    /// How long the peer may be silent.
    pub lease: Duration,
    /// How long connecting and the handshake may take.
    pub handshake: Duration,
    /// How many bytes may wait to be written; more means that the peer does not read.
    pub queue_bytes_max: usize,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            lease: Duration::from_secs(10),
            handshake: Duration::from_secs(5),
            queue_bytes_max: 64 << 20,
        }
    }
}

/// Why no link came about.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens there, or the connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Too slow.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Others wanted its place while it had not proved anything.
    #[error("too many others connect at once")]
    Crowded,
    /// The bytes are not those of a Tidegate node.
    #[error("the other end does not speak Tidegate's protocol")]
    NotTidegate,
    /// This node's own hello is too long.
    #[error("this node's hello cannot be sent, shorten its name or tags: {0}")]
    Frame(#[from] FrameError),
    /// The acceptor does not know the secret.
    #[error("the other end could not prove that it knows the cluster secret")]
    Unproven,
    /// One end refused.
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The peer closed it.
    #[error("the peer closed the link")]
    Closed,
    /// This end closed it.
    #[error("closed here")]
    ClosedHere,
    /// The peer was silent for a lease.
    #[error("the peer was silent for {0} ms")]
    Silent(u64),
    /// The peer does not read: the outgoing queue is full.
    #[error("the peer does not read: {0} bytes wait")]
    Overflow(usize),
    /// The peer sent something that is not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The peer said why.
    #[error("the peer said goodbye: {0}")]
    Goodbye(Refusal),
    /// The socket failed.
    #[error("{0}")]
    Io(String),
}

impl LinkEnd {
    /// Whether this end ended the link: what the peer still sends is not read then.
    const fn is_ours(&self) -> bool {
        match self {
            Self::ClosedHere | Self::Overflow(_) | Self::Frame(_) => true,
            Self::Closed | Self::Silent(_) | Self::Goodbye(_) | Self::Io(_) => false,
        }
    }
}

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    /// The node at the other end, as it announced itself.
    pub peer: Node,
    /// The way out.
    pub sender: LinkSender,
    /// The way in. Dropping it closes the link.
    pub receiver: LinkReceiver,
}

/// The way out of a link. Clones share one queue.
#[derive(Clone, Debug)]
pub struct LinkSender {
    queue: Arc<Queue>,
    /// The peer itself reads the queue, on a thread of its own; else it is a task beside the sender's.
    is_local: bool,
}

impl LinkSender {
    /// Queues a frame. Never waits: a queue over its bound ends the link.
    ///
    /// # Errors
    /// When the link has ended.
    pub fn send(&self, frame: impl Into<Frame>) -> Result<(), LinkEnd> {
        self.queue.push(frame.into())
    }

    /// Queues a frame. Where another thread reads the queue it is not woken: true if that is to be done,
    /// by [`Self::wake`], before long. Whoever has many frames so wakes it once.
    ///
    /// # Errors
    /// When the link has ended.
    pub fn send_quietly(&self, frame: impl Into<Frame>) -> Result<bool, LinkEnd> {
        if self.is_local {
            return self.queue.push_quietly(frame.into());
        }
        self.send(frame).map(|()| false)
    }

    /// Wakes who reads the queue.
    pub fn wake(&self) {
        self.queue.tell(true);
    }

    /// Queues a frame that answers what the peer sent within a window: it never ends the link. See
    /// [`Self::queued_bytes`].
    ///
    /// # Errors
    /// When the link has ended.
    pub fn send_answer(&self, frame: impl Into<Frame>) -> Result<(), LinkEnd> {
        self.queue.push_answer(frame.into())
    }

    /// Queues a frame that counts as this tenant's until it is written; see [`Self::has_room_for`].
    ///
    /// # Errors
    /// When the link has ended.
    pub fn send_for(&self, tenant: &Name, frame: impl Into<Frame>) -> Result<(), LinkEnd> {
        self.queue.push_for(tenant, frame.into())
    }

    /// Whether this tenant may have more on the link, on which so many tenants share so many bytes
    /// for what may be given up. The first call says how many.
    #[must_use]
    pub fn has_room_for(&self, tenant: &Name, bytes_max: usize, tenants: usize) -> bool {
        self.queue.has_room_for(tenant, bytes_max, tenants)
    }

    /// Says why and closes once what is queued is written.
    pub fn refuse(&self, reason: Refusal) {
        // A link that has ended needs no reason any more.
        let _ = self.queue.push(Frame::Goodbye(reason));
        self.queue.finish(LinkEnd::ClosedHere);
    }

    /// Closes the link once what is queued is written.
    pub fn close(&self) {
        self.queue.finish(LinkEnd::ClosedHere);
    }

    /// Whether the link has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.is_finished()
    }

    /// Waits until the link has ended.
    pub async fn closed(&self) {
        self.queue.finished().await;
    }

    /// Waits until the link has ended and nothing of it is left to write: after an orderly end the
    /// peer has read everything or was given a lease to do so.
    pub async fn flushed(&self) {
        self.queue.flushed().await;
    }

    /// Waits until at most so many bytes wait to be written or are being written, or the link has
    /// ended.
    pub async fn at_most_queued(&self, bytes: usize) {
        self.queue.at_most(bytes).await;
    }

    /// Bytes that wait to be written or are being written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }
}

/// The way in of a link.
#[derive(Debug)]
pub struct LinkReceiver {
    source: Source,
    outgoing: Arc<Queue>,
    end: Option<LinkEnd>,
}

#[derive(Debug)]
enum Source {
    Local(LocalReceiver),
    Stream(StreamReceiver),
}

impl LinkReceiver {
    /// Appends at least one frame to `frames`: all that have arrived. Heartbeats are not shown.
    /// Cancel safe, and a cancelled call does not lengthen the lease.
    ///
    /// # Errors
    /// When the link has ended and every frame that the peer sent before that was handed out. A
    /// link that this end closed hands out nothing more.
    pub async fn recv(&mut self, frames: &mut Vec<Frame>) -> Result<(), LinkEnd> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let received = match &mut self.source {
            Source::Local(receiver) => receiver.recv(frames, &self.outgoing).await,
            Source::Stream(receiver) => receiver.recv(frames, &self.outgoing).await,
        };
        if let Err(end) = &received {
            self.outgoing.finish(end.clone());
            self.end = Some(end.clone());
        }
        received
    }

    /// When the peer last gave a sign of life, as far as [`Self::recv`] has read.
    #[must_use]
    pub fn heard(&self) -> Instant {
        match &self.source {
            Source::Local(_) => Instant::now(),
            Source::Stream(receiver) => receiver.heard(),
        }
    }
}

impl Drop for LinkReceiver {
    fn drop(&mut self) {
        self.outgoing.finish(LinkEnd::ClosedHere);
        if let Source::Local(receiver) = &self.source {
            receiver.close();
        }
    }
}

/// A link inside one process between `left` and `right`: the first end is `left`'s, whose peer is
/// `right`. Values pass as they are.
#[must_use]
pub fn pair(left: Node, right: Node, settings: &LinkSettings) -> (Link, Link) {
    let to_right = Arc::new(Queue::new(settings.queue_bytes_max));
    let to_left = Arc::new(Queue::new(settings.queue_bytes_max));
    // Nothing is written: what is queued is with the peer already.
    to_right.done();
    to_left.done();
    let end = |peer, out: &Arc<Queue>, source: &Arc<Queue>| Link {
        peer,
        sender: LinkSender {
            queue: out.clone(),
            is_local: true,
        },
        receiver: LinkReceiver {
            source: Source::Local(LocalReceiver::new(source.clone())),
            outgoing: out.clone(),
            end: None,
        },
    };
    (
        end(right, &to_right, &to_left),
        end(left, &to_left, &to_right),
    )
}

/// Connects to `address` and authenticates.
///
/// # Errors
/// See [`LinkError`].
pub async fn dial(
    address: SocketAddr,
    identity: &Identity,
    settings: &LinkSettings,
) -> Result<Link, LinkError> {
    let handshake = async {
        let mut stream = identity.net.connect(address).await?;
        stream.begin()?;
        let peer = handshake::dial(&mut stream, identity).await?;
        Ok::<_, LinkError>((stream, peer))
    };
    let (stream, peer) = timeout(settings.handshake, handshake)
        .await
        .map_err(|_| LinkError::Timeout(settings.handshake))??;
    Ok(start(stream, peer, settings))
}

/// Authenticates a peer that has connected.
///
/// # Errors
/// See [`LinkError`].
pub async fn accept(
    stream: impl Duplex,
    identity: &Identity,
    settings: &LinkSettings,
) -> Result<Link, LinkError> {
    accept_with(stream, identity, settings, || {}).await
}

/// The same; `heard` is called once its hello is there.
pub(crate) async fn accept_with(
    mut stream: impl Duplex,
    identity: &Identity,
    settings: &LinkSettings,
    heard: impl Fn(),
) -> Result<Link, LinkError> {
    stream.begin()?;
    let peer = handshake::accept(&mut stream, identity, heard);
    let peer = timeout(settings.handshake, peer)
        .await
        .map_err(|_| LinkError::Timeout(settings.handshake))??;
    Ok(start(Box::new(stream), peer, settings))
}

/// Starts the writer's task on the current runtime; the reader is the receiver itself.
fn start(stream: Box<dyn Duplex>, peer: Node, settings: &LinkSettings) -> Link {
    let (read, write) = stream.halves();
    let queue = Arc::new(Queue::new(settings.queue_bytes_max));
    let writer = stream::write(write, queue.clone(), *settings);
    tokio::spawn(watched(format!("the link to {}", peer.name), writer));
    let receiver = StreamReceiver::new(read, settings.lease);
    Link {
        peer,
        sender: LinkSender {
            queue: queue.clone(),
            is_local: false,
        },
        receiver: LinkReceiver {
            source: Source::Stream(receiver),
            outgoing: queue,
            end: None,
        },
    }
}
