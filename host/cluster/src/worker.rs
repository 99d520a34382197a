//! A worker: takes events from every gateway, hands them to the handlers, sends the commits home.
//!
//! Guarantees: a commit goes home over the link that its event came over, or not at all; the
//! events of a client reach the handlers in the order in which the gateway sent them; the close of
//! each client in this worker's custody is told once when its gateway is lost; a drain gives
//! nothing up that a gateway waits for. It does not know what handlers are: see [`Handlers`].

mod adoption;
mod announce;
mod chores;
mod custody;
mod drain;
mod gateway_link;
mod gateways;
mod lane;
mod lane_state;
mod link;
mod meters;
mod questions;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_link::membership::Members;
use tidegate_link::{Identity, Link, LinkSettings};
use tidegate_watchdog::watched;
use tidegate_wire::Name;
use tidegate_wire::event::Delivery;
use tidegate_wire::frame::Serving;
use tidegate_wire::id::EventId;
use tidegate_wire::peers::PeerMessage;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use adoption::Adoptions;
use custody::CustodyTable;
use gateways::Dialers;
use meters::Meters;
use tidegate_hub::closes::Closes;

pub use lane::Lane;

/// How often it is looked for what is over, in a lease.
const LOOKS_PER_LEASE: u32 = 4;
/// However short a lease is, it is not looked more often.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// Times and bounds of a worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// How many events each gateway may have uncommitted here.
    pub window_events: u32,
    /// How many payload bytes each gateway may have uncommitted here.
    pub window_bytes: u64,
    /// How often load is told.
    pub load_interval: Duration,
    /// The shortest pause before a gateway is dialled again.
    pub reconnect_min: Duration,
    /// The longest pause before a gateway is dialled again.
    pub reconnect_max: Duration,
    /// How long a drain may take.
    pub shutdown: Duration,
    /// The links.
    pub link: LinkSettings,
}

/// What runs the handlers.
pub trait Handlers: Send + Sync + 'static {
    /// The tenants that are served, with their versions; changes are announced.
    fn serving(&self) -> watch::Receiver<Arc<Vec<Serving>>>;

    /// Runs an event. Never blocks. Calls [`Lane::commit`] exactly once for each delivery, in
    /// order for each client.
    fn dispatch(&self, tenant: &Name, delivery: Box<Delivery>, lane: Arc<Lane>);

    /// Ends this attempt at a task soon, if it waits or runs: nobody wants what comes of it. It is
    /// committed all the same.
    fn cancel_task(&self, tenant: &Name, event: EventId, attempt: u8);

    /// Hands a message of one instance to all others of the tenant here. Never blocks; what there is no
    /// room for is dropped.
    fn tell_peers(&self, tenant: &Name, message: PeerMessage);

    /// Payload bytes of events that wait or run.
    fn queued_bytes(&self) -> u64;
}

/// A worker. Clones are the same worker.
#[derive(Clone, Debug)]
pub struct Worker {
    inner: Arc<WorkerInner>,
}

struct WorkerInner {
    identity: Identity,
    settings: WorkerSettings,
    /// How long the drain may take, in milliseconds.
    shutdown_ms: AtomicU64,
    handlers: Arc<dyn Handlers>,
    phase: watch::Sender<Phase>,
    links: watch::Sender<usize>,
    /// Numbers links.
    links_made: AtomicU64,
    /// Numbers the closes told here.
    told: AtomicU64,
    table: Mutex<CustodyTable>,
    /// Told when a link has ended.
    parted: Notify,
    /// Told when something may be over for which a drain waits.
    settled: Arc<Notify>,
    adoptions: Arc<Adoptions>,
    /// Closes of lost gateways that others have told, who name no tenants.
    told_elsewhere: Closes<()>,
    /// Tenants that were served in this life: gateways may be given closes of theirs.
    served: Mutex<BTreeSet<Name>>,
    meters: Arc<Meters>,
    /// Tasks of links and those that dial.
    tasks: TaskTracker,
    /// Tasks that tell the closes of lost gateways.
    tellers: TaskTracker,
}

/// What a worker is doing. Only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Closing,
}

impl Worker {
    /// A worker without links.
    #[must_use]
    pub fn new(identity: Identity, settings: WorkerSettings, handlers: Arc<dyn Handlers>) -> Self {
        let inner = WorkerInner {
            identity,
            shutdown_ms: AtomicU64::new(drain::millis(settings.shutdown)),
            settings,
            handlers,
            phase: watch::Sender::new(Phase::Serving),
            links: watch::Sender::new(0),
            links_made: AtomicU64::new(0),
            told: AtomicU64::new(0),
            table: Mutex::default(),
            parted: Notify::new(),
            settled: Arc::default(),
            adoptions: Arc::default(),
            told_elsewhere: Closes::new(1),
            served: Mutex::default(),
            meters: Arc::new(Meters::new()),
            tasks: TaskTracker::new(),
            tellers: TaskTracker::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Serves a link in a task of its own on the current runtime. Refused once a drain has begun.
    /// Its gateway is not dialled as long as the link lives.
    pub fn attach(&self, link: Link) {
        let inner = self.inner.clone();
        if let Some(begun) = gateways::begin(&inner, link) {
            let serve = async move { gateways::serve(&inner, begun).await };
            self.inner
                .tasks
                .spawn(watched("the link to the own gateway", serve));
        }
    }

    /// Dials the gateways of the view and tells the closes of lost ones, until `stop`; returns
    /// after the drain.
    pub async fn run(&self, mut members: watch::Receiver<Arc<Members>>, stop: CancellationToken) {
        let inner = &self.inner;
        let mut dialers = Dialers::default();
        let mut look = interval((inner.settings.link.lease / LOOKS_PER_LEASE).max(LOOK_MIN));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A gateway may be lost during the drain too.
        let drain = async {
            stop.cancelled().await;
            self.drain().await;
        };
        tokio::pin!(drain);
        let (mut following, mut looked) = (true, false);
        loop {
            let view = members.borrow_and_update().clone();
            inner.review(&view, looked);
            if inner.may_link() {
                dialers.follow(inner, &members, &view);
            }
            looked = tokio::select! {
                biased;
                () = &mut drain => return,
                changed = members.changed(), if following => {
                    following = changed.is_ok();
                    false
                }
                () = inner.parted.notified() => false,
                _ = look.tick() => true,
            };
        }
    }

    /// The number of live links.
    #[must_use]
    pub fn links(&self) -> watch::Receiver<usize> {
        self.inner.links.subscribe()
    }
}

impl WorkerInner {
    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let forward = *current < phase;
            *current = (*current).max(phase);
            forward
        });
    }

    /// Notes what is served; gives all that was served in this life.
    fn served(&self, serving: &[Serving]) -> BTreeSet<Name> {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.extend(serving.iter().map(|it| it.tenant.clone()));
        self.adoptions.share_among(served.len());
        served.clone()
    }

    /// Whether gateways are dialled: also during a drain, as long as effects of closes wait for one.
    fn may_link(&self) -> bool {
        match *self.phase.borrow() {
            Phase::Serving => true,
            Phase::Draining => !self.adoptions.are_settled(),
            Phase::Closing => false,
        }
    }
}

impl fmt::Debug for WorkerInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.identity.node.name)
            .field("phase", &*self.phase.borrow())
            .field("links", &*self.links.borrow())
            .finish_non_exhaustive()
    }
}
