//! One link to a gateway, as the lanes see it: where commits go, and how much is under way.
//!
//! Shared by the link's task and by the lanes, which commit on the tasks of instances. Counters
//! are atomic; the one lock is taken only when a lane ends.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect};
use tidegate_wire::frame::WorkerFrame;
use tidegate_wire::id::{ClientId, CloseId, Incarnation};
use tidegate_wire::task::Step;
use tokio::sync::Notify;

use super::adoption::Adoptions;
use super::meters::Meters;
use super::questions::Questions;

#[derive(Debug)]
pub(super) struct GatewayLink {
    /// The worker's number of this link.
    pub(super) link: u64,
    /// The gateway at the other end.
    pub(super) gateway: Incarnation,
    pub(super) sender: LinkSender,
    ended: AtomicBool,
    drained: AtomicBool,
    uncommitted: AtomicU32,
    uncommitted_bytes: AtomicU64,
    /// Lanes that ended since the link's task looked, and whether there are any.
    forgotten: Mutex<Vec<u32>>,
    any_forgotten: AtomicBool,
    /// Questions that wait for their answers.
    pub(super) questions: Questions,
    adoptions: Arc<Adoptions>,
    meters: Arc<Meters>,
    /// Told when a drain may have nothing more to wait for here.
    settled: Arc<Notify>,
}

impl GatewayLink {
    pub(super) fn new(
        link: u64,
        gateway: Incarnation,
        sender: LinkSender,
        adoptions: Arc<Adoptions>,
        meters: Arc<Meters>,
        settled: Arc<Notify>,
    ) -> Self {
        Self {
            link,
            gateway,
            sender,
            ended: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            uncommitted: AtomicU32::new(0),
            uncommitted_bytes: AtomicU64::new(0),
            forgotten: Mutex::default(),
            any_forgotten: AtomicBool::new(false),
            questions: Questions::default(),
            adoptions,
            meters,
            settled,
        }
    }

    /// Sends a commit. If the link has ended it is dropped: the gateway sends the event elsewhere.
    pub(super) fn commit(&self, commit: Commit) {
        self.meters.commits.increment(1);
        let _ = self.sender.send_answer(WorkerFrame::Commit(commit));
    }

    /// Sends a step of a task; false if the link has ended.
    pub(super) fn step(&self, step: Step) -> bool {
        let frame = WorkerFrame::Step(Box::new(step));
        self.sender.send_answer(frame).is_ok()
    }

    /// Gives effects of a close to a live gateway, this one being lost.
    pub(super) fn adopt(&self, tenant: Name, effects: Vec<Effect>, client: ClientId) {
        let home = self.gateway;
        let close = CloseId { home, client };
        self.adoptions.add(tenant, effects, close);
    }

    /// An event came. Returns how many events and bytes are under way with it.
    pub(super) fn enter(&self, bytes: u64) -> (u32, u64) {
        let events = self.uncommitted.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.uncommitted_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (events, bytes)
    }

    /// An event ended.
    pub(super) fn leave(&self, bytes: u64) {
        self.uncommitted_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let left = self.uncommitted.fetch_sub(1, Ordering::SeqCst) - 1;
        // Together with `set_drained`: whichever comes second tells.
        if left == 0 && self.drained.load(Ordering::SeqCst) {
            self.settled.notify_one();
        }
    }

    /// Lets the link's task forget a lane at its next turn.
    pub(super) fn forget(&self, connection: u32) {
        let mut forgotten = self
            .forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        forgotten.push(connection);
        self.any_forgotten.store(true, Ordering::Release);
    }

    /// The lanes to be forgotten. Costs one load when there are none.
    pub(super) fn take_forgotten(&self) -> Vec<u32> {
        if !self.any_forgotten.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut forgotten = self
            .forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.any_forgotten.store(false, Ordering::Release);
        std::mem::take(&mut *forgotten)
    }

    /// From now on no lane of this link commits.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.questions.end();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether the link's queue has ended, which its task may not know yet.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The gateway has answered the drain.
    pub(super) fn set_drained(&self) {
        self.drained.store(true, Ordering::SeqCst);
        self.settled.notify_one();
    }

    /// Whether the gateway has answered the drain and all its events are committed.
    pub(super) fn is_drained(&self) -> bool {
        self.is_released() && self.uncommitted() == 0
    }

    /// Whether the gateway has answered the drain.
    pub(super) fn is_released(&self) -> bool {
        self.drained.load(Ordering::SeqCst)
    }

    /// Events that came and have not ended.
    pub(super) fn uncommitted(&self) -> u32 {
        self.uncommitted.load(Ordering::SeqCst)
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }
}
