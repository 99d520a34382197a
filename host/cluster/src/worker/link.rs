//! The task of one link to a gateway: announces, hands events to the handlers, keeps the lanes.
//!
//! Owns the table of lanes. Frames come in batches; an event costs one look-up and no allocation
//! here. A gateway that breaks the protocol or goes far beyond the window loses its link.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tidegate_hub::give_back::give_back;
use tidegate_link::{LinkEnd, LinkReceiver};
use tidegate_wire::Name;
use tidegate_wire::event::Delivery;
use tidegate_wire::frame::{
    Announcement, Custody, CustodyChange, Frame, GatewayFrame, Load, WorkerFrame,
};
use tidegate_wire::id::{ClientId, Incarnation};
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::query::{Answer, Answered, AskError};
use tracing::{debug, warn};

use super::announce::{Pace, Places};
use super::chores::{Chore, Chores, next_chore};
use super::gateway_link::GatewayLink;
use super::lane::{Lane, payload_bytes, returned};
use super::{Phase, WorkerInner};

/// How many times the window a gateway may send before its link is closed.
const WINDOW_TOLERANCE: u32 = 2;
/// A gateway of this many shards may be one message a shard beyond the window.
const SHARDS_MAX: u64 = 64;
/// After this many frames the other tasks of the thread get a turn.
const FRAMES_PER_TURN: usize = 256;
/// A batch buffer that grew beyond this is given back.
const FRAMES_KEPT: usize = 4096;

/// Why a link to a gateway was over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    #[error(transparent)]
    End(#[from] LinkEnd),
    #[error(
        "{events} events of {bytes} bytes are uncommitted, far beyond the announced window of {window_events} events and {window_bytes} bytes"
    )]
    BeyondWindow {
        events: u32,
        bytes: u64,
        window_events: u32,
        window_bytes: u64,
    },
    #[error("the gateway sent a frame that is not for workers")]
    Unexpected,
}

/// An event that was accepted and is not yet with the handlers.
type WaitingDelivery = (Name, Box<Delivery>, Arc<Lane>);

pub(super) struct LinkTask {
    inner: Arc<WorkerInner>,
    home: Arc<GatewayLink>,
    lanes: FxHashMap<u32, Arc<Lane>>,
    /// Events that wait until the link has room for their commits; bounded by the window.
    waiting: VecDeque<WaitingDelivery>,
    /// Whether the link had room for more commits when this batch of frames came.
    has_room: bool,
    places: Places,
    pace: Pace,
    /// One warning about bad deliveries a look is enough.
    warned: bool,
}

impl LinkTask {
    /// Queues the announcement, which must be the first frame.
    pub(super) fn new(inner: Arc<WorkerInner>, home: Arc<GatewayLink>) -> Self {
        let serving = inner.handlers.serving().borrow().clone();
        let mut task = Self {
            inner,
            home,
            lanes: FxHashMap::default(),
            waiting: VecDeque::new(),
            has_room: true,
            places: Places::default(),
            pace: Pace::default(),
            warned: false,
        };
        task.places.update(&serving);
        let served = task.inner.served(&serving);
        task.places.remember(served);
        task.announce();
        task
    }

    /// The lanes, once the link is over.
    pub(super) fn into_lanes(mut self) -> Vec<Arc<Lane>> {
        // Every event that came reaches the handlers, so that whoever waits for its end sees it.
        for waiting in std::mem::take(&mut self.waiting) {
            self.dispatch(waiting);
        }
        // The gateway sends its tasks to another worker, or is gone.
        for lane in self.lanes.values() {
            if let Some((event, attempt)) = lane.task_under_way() {
                self.inner
                    .handlers
                    .cancel_task(lane.tenant(), event, attempt);
            }
        }
        self.lanes.into_values().collect()
    }

    /// Serves the link until it is over.
    pub(super) async fn run(&mut self, mut receiver: LinkReceiver) -> Over {
        let chore = next_chore(Chores::new(&self.inner));
        tokio::pin!(chore);
        let mut frames = Vec::new();
        let mut frames_in_turn = 0;
        let sender = self.home.sender.clone();
        let queue_bytes_max = self.queue_bytes_max();
        loop {
            // Frames come last, so that a busy link cannot starve the rest.
            tokio::select! {
                biased;
                (chores, what) = &mut chore => {
                    if let Some(over) = self.do_chore(&what) {
                        return over;
                    }
                    chore.set(next_chore(chores));
                }
                received = receiver.recv(&mut frames) => {
                    if let Err(end) = received {
                        return end.into();
                    }
                    frames_in_turn += frames.len();
                    if let Err(over) = self.take(&mut frames) {
                        return over;
                    }
                }
                () = sender.at_most_queued(queue_bytes_max), if !self.waiting.is_empty() => {}
            }
            self.dispatch_waiting();
            if frames_in_turn >= FRAMES_PER_TURN {
                frames_in_turn = 0;
                frames.shrink_to(FRAMES_KEPT);
                tokio::task::yield_now().await;
            }
        }
    }

    fn do_chore(&mut self, what: &Chore) -> Option<Over> {
        match what {
            Chore::Phase(Phase::Serving) => {}
            Chore::Phase(Phase::Draining) => self.send(WorkerFrame::Drain),
            Chore::Phase(Phase::Closing) => return Some(LinkEnd::ClosedHere.into()),
            Chore::Serving(serving) => {
                self.inner.served(serving);
                if self.places.update(serving) {
                    self.announce();
                }
            }
            Chore::Look(passed) => self.look(*passed),
        }
        None
    }

    fn announce(&self) {
        let settings = &self.inner.settings;
        self.send(WorkerFrame::Announce(Announcement {
            serving: self.places.all(),
            window_events: settings.window_events,
            window_bytes: settings.window_bytes,
        }));
    }

    fn look(&mut self, passed: Duration) {
        self.warned = false;
        self.forget_lanes();
        let load = Load {
            clients: self.inner.meters.clients(),
            queued_bytes: self.inner.handlers.queued_bytes(),
        };
        if self
            .pace
            .is_due(load, passed, self.inner.settings.load_interval)
        {
            self.send(WorkerFrame::Load(load));
        }
    }

    fn take(&mut self, frames: &mut Vec<Frame>) -> Result<(), Over> {
        self.forget_lanes();
        self.look_at_room();
        for frame in frames.drain(..) {
            let Frame::ToWorker(frame) = frame else {
                return Err(Over::Unexpected);
            };
            match frame {
                GatewayFrame::Deliver(delivery) => self.deliver(delivery)?,
                GatewayFrame::Custody(list) => {
                    list.into_iter().for_each(|custody| self.learn(custody))
                }
                GatewayFrame::CustodyChanged(list) => {
                    list.into_iter().for_each(|it| self.learn_change(it))
                }
                GatewayFrame::CustodyRank(list) => self.set_rank(&list),
                GatewayFrame::Told(closes) => self.inner.told_by_others(&closes),
                GatewayFrame::Release(clients) => self.release(&clients),
                GatewayFrame::Drained => self.home.set_drained(),
                GatewayFrame::Recognised => self.inner.recognised(self.home.gateway),
                GatewayFrame::Confirm { shard, number } => {
                    self.send(WorkerFrame::Confirmed { shard, number })
                }
                GatewayFrame::Adopted { sequence } => {
                    self.inner.adoptions.taken(self.home.link, sequence);
                    self.inner.settled.notify_one();
                }
                GatewayFrame::Answered { number, answer } => self.answered(number, *answer),
                GatewayFrame::CancelTask {
                    tenant,
                    event,
                    attempt,
                } => {
                    if let Some(serving) = self.places.tenant(tenant) {
                        let handlers = &self.inner.handlers;
                        handlers.cancel_task(&serving.tenant, event, attempt);
                    }
                }
                GatewayFrame::PeerMessage { tenant, message } => self.tell_peers(tenant, *message),
            }
        }
        Ok(())
    }

    fn deliver(&mut self, mut delivery: Box<Delivery>) -> Result<(), Over> {
        let Some(serving) = self.places.get(delivery.tenant) else {
            self.give_back(&delivery, "its tenant is not served here");
            return Ok(());
        };
        let connection = delivery.client.connection;
        let known = self
            .lanes
            .get(&connection)
            .filter(|lane| lane.client() == delivery.client);
        // A closed lane that is not swept yet does not stand in the way of a new client.
        let known = known.filter(|lane| delivery.session.is_none() || !lane.is_closed());
        let lane = match known {
            Some(lane) => lane.clone(),
            None if delivery.session.is_some() => {
                let lane = Arc::new(Lane::new(
                    delivery.client,
                    serving.tenant.clone(),
                    delivery.tenant,
                    self.home.clone(),
                ));
                self.lanes.insert(connection, lane.clone());
                lane
            }
            None => {
                self.give_back(&delivery, "no session came with it and none is known here");
                return Ok(());
            }
        };
        let bytes = self.enter_window(payload_bytes(&*delivery))?;
        if !lane.accept(&mut delivery, bytes) {
            self.home.leave(bytes);
            debug!(event = %delivery.event, "sent before an event of its lane came back: dropped");
            return Ok(());
        }
        if self.has_room && self.waiting.is_empty() {
            self.inner
                .handlers
                .dispatch(&serving.tenant, delivery, lane);
        } else {
            let tenant = serving.tenant.clone();
            self.waiting.push_back((tenant, delivery, lane));
        }
        Ok(())
    }

    /// Of a tenant that is served no longer nobody is here.
    fn tell_peers(&self, tenant: u16, message: PeerMessage) {
        if let Some(serving) = self.places.get(tenant) {
            self.inner.handlers.tell_peers(&serving.tenant, message);
        }
    }

    /// With more commits on the link that is slower than the handlers.
    fn queue_bytes_max(&self) -> usize {
        self.inner.settings.link.queue_bytes_max / 2
    }

    /// Looks whether so many commits wait on the link that it is slower than the handlers.
    fn look_at_room(&mut self) {
        self.has_room = self.home.sender.queued_bytes() <= self.queue_bytes_max();
    }

    /// Hands events that wait to the handlers, in order, while the link has room for their commits.
    fn dispatch_waiting(&mut self) {
        while !self.waiting.is_empty() {
            self.look_at_room();
            if !self.has_room {
                return;
            }
            if let Some(waiting) = self.waiting.pop_front() {
                self.dispatch(waiting);
            }
        }
    }

    fn dispatch(&self, (tenant, delivery, lane): WaitingDelivery) {
        self.inner.handlers.dispatch(&tenant, delivery, lane);
    }

    /// Counts an event in the window, which a gateway may overshoot a little, since it learns late what
    /// was committed. Each of its shards may send one message of any size beyond its share, so a single
    /// message counts at most a share of the window. Gives the bytes that were counted.
    fn enter_window(&self, bytes: u64) -> Result<u64, Over> {
        let settings = &self.inner.settings;
        let own = bytes.min(settings.window_bytes / SHARDS_MAX);
        let (events, total) = self.home.enter(own);
        let events_max = settings.window_events.saturating_mul(WINDOW_TOLERANCE);
        let bytes_max = settings
            .window_bytes
            .saturating_mul(WINDOW_TOLERANCE.into());
        if events > events_max || total > bytes_max {
            self.home.leave(own);
            return Err(Over::BeyondWindow {
                events,
                bytes: total,
                window_events: settings.window_events,
                window_bytes: settings.window_bytes,
            });
        }
        Ok(own)
    }

    fn give_back(&mut self, delivery: &Delivery, reason: &'static str) {
        if self.warned {
            debug!(event = %delivery.event, client = %delivery.client, reason, "event given back");
        } else {
            self.warned = true;
            warn!(event = %delivery.event, client = %delivery.client, tenant = delivery.tenant, reason, "event given back");
        }
        self.send(returned(delivery));
    }

    fn learn(&mut self, custody: Custody) {
        let Some(serving) = self.places.tenant(custody.tenant) else {
            warn!(client = %custody.client, tenant = custody.tenant, "custody for a tenant that was never announced: ignored");
            return;
        };
        let known = self.lanes.get(&custody.client.connection);
        let lane = match known.filter(|lane| lane.client() == custody.client) {
            // What crossed the commit of a close is of no use.
            Some(lane) if lane.is_closed() => return,
            Some(lane) => lane.clone(),
            None => {
                let lane = Arc::new(Lane::new(
                    custody.client,
                    serving.tenant.clone(),
                    custody.tenant,
                    self.home.clone(),
                ));
                self.lanes.insert(custody.client.connection, lane.clone());
                lane
            }
        };
        lane.learn(custody);
    }

    fn learn_change(&self, change: CustodyChange) {
        let known = self.lanes.get(&change.client.connection);
        match known.filter(|lane| lane.client() == change.client) {
            // What crossed the commit of a close is of no use.
            Some(lane) if lane.is_closed() => {}
            Some(lane) => lane.learn_change(change),
            None => {
                debug!(client = %change.client, "a change of a client that is not known here: ignored")
            }
        }
    }

    fn set_rank(&self, list: &[(ClientId, Option<Incarnation>)]) {
        for (client, behind) in list {
            let known = self.lanes.get(&client.connection);
            if let Some(lane) = known.filter(|lane| lane.client() == *client) {
                lane.set_rank(*behind);
            }
        }
    }

    fn release(&mut self, clients: &[ClientId]) {
        for client in clients {
            let known = self.lanes.get(&client.connection);
            if known.is_some_and(|lane| lane.client() == *client && lane.release()) {
                self.lanes.remove(&client.connection);
                give_back(&mut self.lanes);
            }
        }
    }

    /// A lane's mirror has what its own compare-and-set did before whoever asked knows of it, and
    /// before a snapshot that comes later.
    fn answered(&self, number: u64, answer: Result<Answered, AskError>) {
        let Some(waiting) = self.home.questions.take(number) else {
            return debug!(number, "an answer that nobody waits for: dropped");
        };
        if let Some((connection, change)) = &waiting.swap
            && matches!(&answer, Ok(found) if found.answer == Answer::Swapped(Ok(())))
            && let Some(lane) = self.lanes.get(connection)
        {
            lane.swapped(change);
        }
        waiting.tell(answer);
    }

    fn forget_lanes(&mut self) {
        for connection in self.home.take_forgotten() {
            // It may have been delivered to again, or belong to another client by now.
            if self
                .lanes
                .get(&connection)
                .is_some_and(|lane| lane.is_forgettable())
            {
                self.lanes.remove(&connection);
                give_back(&mut self.lanes);
            }
        }
    }

    /// A link that has ended is noticed by the loop.
    fn send(&self, frame: WorkerFrame) {
        let _ = self.home.sender.send(frame);
    }
}
