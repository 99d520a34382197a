//! The queue into a shard: whatever other threads have for it, taken in batches.
//!
//! Bounded by its sources: links wait for [`Inbox::room`] before they read on; what shards send
//! each other is bounded by the windows of the events that caused it.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_hub::lanes::WorkerKey;
use tidegate_link::membership::Members;
use tidegate_link::net::admission::Admitted;
use tidegate_link::{Link, LinkSender};
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect};
use tidegate_wire::frame::Load;
use tidegate_wire::id::{CloseId, Incarnation};
use tidegate_wire::query::{Answer, Answered, AskError, Question};
use tidegate_wire::task::Step;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::gateway::shared::gather::{Asked, Gather};
use crate::gateway::shared::life::Life;
use crate::gateway::shared::request::Request;
use crate::gateway::shared::socket::LocalSocket;
use crate::gateway::shared::tick::BeginTick;
use crate::gateway::shared::watcher::Watcher;
use crate::gateway::shared::worker_link::WorkerLink;

/// Parcels that may wait before links stop reading.
const ROOM: usize = 8192;

/// Somebody who has connected.
#[derive(Debug)]
pub(in crate::gateway) enum Incoming {
    /// A client, at this listener; a stranger until its handshake is over, if there is one.
    Client {
        socket: TcpStream,
        listener: usize,
        stranger: Option<Admitted>,
    },
    /// A client of this process, at this listener.
    Local {
        socket: LocalSocket,
        listener: usize,
        address: SocketAddr,
    },
    /// A node that must be authenticated.
    Node(TcpStream, Admitted),
    /// A link that is authenticated, of this process.
    Link(Box<Link>),
}

/// Effects of a close whose home is lost. The worker is answered with the sequence once they have
/// arrived.
#[derive(Debug)]
pub(in crate::gateway) struct AdoptClose {
    pub(in crate::gateway) tenant: Name,
    pub(in crate::gateway) effects: Vec<Effect>,
    pub(in crate::gateway) close: CloseId,
    pub(in crate::gateway) link: LinkSender,
    pub(in crate::gateway) sequence: u64,
}

/// Something for a shard.
#[derive(Debug)]
pub(in crate::gateway) enum Parcel {
    /// Somebody has connected.
    Incoming(Incoming),
    /// A worker is there, or serves other tenants than before.
    Worker(Arc<WorkerLink>),
    /// How busy a worker is.
    Load(WorkerKey, Load),
    /// A worker takes no more events; each shard counts itself off when nothing is under way.
    Draining(WorkerKey),
    /// A worker has taken all that it was told before this number.
    Confirmed(WorkerKey, u64),
    /// A worker's link has ended.
    WorkerLost(WorkerKey),
    /// Commits of this shard's events.
    Commits(WorkerKey, Vec<Commit>),
    /// A step of a task of this shard.
    Step(WorkerKey, Box<Step>),
    /// Effects of other shards and gateways.
    Effects {
        tenant: Name,
        effects: Arc<Vec<Effect>>,
    },
    /// Effects of a command: this shard applies and forwards them.
    Adopt { tenant: Name, effects: Vec<Effect> },
    /// Effects of a close whose home is lost, likewise.
    AdoptClose(Box<AdoptClose>),
    /// A call from outside: this shard is its home.
    Request(Box<Request>),
    /// A schedule is due: the task lives in this shard.
    Tick(Box<BeginTick>),
    /// A router has chosen this worker for the next event of a lane, or leaves it to `bind`.
    Routed {
        number: u32,
        asked: u64,
        worker: Option<WorkerKey>,
    },
    /// Somebody watches.
    Watch(Arc<Watcher>),
    /// The watcher of this number is gone.
    Unwatch(u64),
    /// There is a link to another gateway.
    PeerUp {
        incarnation: Incarnation,
        sender: LinkSender,
        life: Arc<Life>,
    },
    /// Another gateway has this shard's forwards up to this number.
    PeerAck {
        incarnation: Incarnation,
        sequence: u64,
    },
    /// The link to another gateway has ended.
    PeerDown(Incarnation),
    /// A handler asks during an event of this shard.
    Question(WorkerKey, LinkSender, Box<Question>),
    /// Somebody outside asks.
    Call {
        asked: Box<Asked>,
        caller: oneshot::Sender<Result<Answered, AskError>>,
    },
    /// Somebody outside acts: this shard applies and forwards the effects, then says so.
    Act {
        tenant: Name,
        effects: Vec<Effect>,
        done: oneshot::Sender<()>,
    },
    /// A question to this shard about its clients.
    Ask(Arc<Gather>),
    /// What the other shards have answered to this one's round.
    Part {
        number: u64,
        answer: Result<Answer, AskError>,
    },
    /// What another gateway has answered to it.
    PeerPart {
        incarnation: Incarnation,
        number: u64,
        answer: Box<Result<Answer, AskError>>,
    },
    /// The view has changed.
    Members(Arc<Members>),
    /// This life was declared lost.
    Lost,
    /// Read no more from clients.
    Quiesce,
    /// Close all clients; their ends have time until then.
    GoAway(Instant),
    /// The end.
    Stop,
}

/// The queue into one shard.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Inbox {
    parcels: Mutex<Vec<Parcel>>,
    closed: AtomicBool,
    filled: Notify,
    emptied: Notify,
}

impl Inbox {
    /// A parcel for a shard that has ended is dropped, and with it whoever waits for its answer
    /// learns that.
    pub(in crate::gateway) fn push(&self, parcel: Parcel) {
        let mut parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let was_empty = parcels.is_empty();
        parcels.push(parcel);
        drop(parcels);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// The shard has ended.
    pub(in crate::gateway) fn close(&self) {
        let mut parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Relaxed);
        let lost = std::mem::take(&mut *parcels);
        drop(parcels);
        drop(lost);
        self.emptied.notify_waiters();
    }

    fn len(&self) -> usize {
        self.parcels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Waits until a source may add more.
    pub(in crate::gateway) async fn room(&self) {
        while self.len() >= ROOM {
            let emptied = self.emptied.notified();
            if self.len() < ROOM {
                return;
            }
            emptied.await;
        }
    }

    /// Swaps all that waits into `parcels`, which must be empty; waits for at least one.
    pub(in crate::gateway) async fn take(&self, parcels: &mut Vec<Parcel>) {
        loop {
            {
                let mut waiting = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut *waiting, parcels);
            }
            if !parcels.is_empty() {
                self.emptied.notify_waiters();
                return;
            }
            self.filled.notified().await;
        }
    }
}
