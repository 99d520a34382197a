//! Lanes: each client's events, kept until they are committed. Pure.
//!
//! Guarantees, whoever calls what: the events of a lane are sent and committed in order; only the
//! current attempt from the lane's own worker commits; a lane changes its worker only when nothing
//! of it is under way or the worker is lost; an event that was under way at a lost worker is sent
//! again with the next attempt. An event whose worker lacks the right session, or is to be told what
//! others changed, waits until the lane is idle, so that what goes with it is whole.

pub(crate) mod ages;
mod attempts;
mod custody;
mod looks;
mod tasks;

use custody::Known;
pub use custody::Which;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tidegate_fair::Shares;
use tidegate_wire::effect_id::EffectId;
use tidegate_wire::event::{Arrival, ClientSnapshot, Closed, EventKind, EventType};
use tidegate_wire::payload::Carry;

use crate::give_back::give_back;
use ages::Ages;
use tasks::Resting;

/// A worker's link, numbered by this gateway.
pub type WorkerKey = u32;

/// What an event counts besides its payload.
const EVENT_BYTES: usize = 128;

/// How many events of one lane may be under way at once.
const PIPELINE_MAX: usize = 128;

/// Places for events that a lane without events keeps.
const EVENTS_KEPT: usize = 32;
/// The seats of custodians: the first, who under `bind` is the lane's worker, and the second.
const FIRST: usize = 0;
const SECOND: usize = 1;

/// One event that waits or is under way.
#[derive(Debug)]
struct WaitingEvent {
    sequence: u64,
    attempt: u8,
    losses: u8,
    bytes: u32,
    /// What it counts in its worker's window.
    counted: u32,
    /// When it came, on the clock of [`Lanes::tick`].
    at_us: u64,
    /// When it was sent last.
    sent_us: u64,
    kind: EventKind,
}

impl WaitingEvent {
    /// It is sent again with the next attempt. Says what it counted in its worker's window.
    const fn take_back(&mut self) -> usize {
        self.attempt = self.attempt.saturating_add(1);
        std::mem::replace(&mut self.counted, 0) as usize
    }
}

/// The events of one client.
#[derive(Debug, Default)]
pub struct Lane {
    tenant: u16,
    /// Where the events that are under way are, and under `bind` the next ones go.
    worker: Option<WorkerKey>,
    /// The worker whose mirror of the session is right.
    mirror: Option<WorkerKey>,
    /// The workers that would tell the close if this gateway were lost: the first, and one on
    /// another host.
    seats: [CustodianSlot; 2],
    /// Workers beside them that know the client.
    others: Vec<WorkerKey>,
    /// How many workers had linked when the lane was opened.
    epoch: u32,
    /// It counts among those of whom it is not certain that somebody knows them.
    doubted: bool,
    /// It counts among those whom one worker alone knows.
    single: bool,
    events: VecDeque<WaitingEvent>,
    under_way: usize,
    bytes: usize,
    /// How its client came; none of a request.
    arrival: Option<Arc<Arrival>>,
    /// The last session of a client that is no longer in the hub.
    last_session: Option<Box<ClientSnapshot>>,
    /// The lane is in the caller's queue of lanes that wait for a worker.
    queued: bool,
    /// The worker that is to be told more once no event of the lane is under way there: what it is told
    /// before may cross their commits.
    postponed: Option<WorkerKey>,
    /// Nothing is sent before.
    rests_until_us: u64,
}

/// Who would tell a client's close.
#[derive(Debug, Default)]
struct CustodianSlot {
    now: Option<Custodian>,
    /// Who takes the place once it has said that it knows the client: the other is leaving.
    next: Option<Custodian>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Custodian {
    worker: WorkerKey,
    heard: Heard,
}

/// What a custodian has heard of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It waits to be told.
    Nothing,
    /// It was told, or sent what makes it the custodian.
    Told,
    /// It has confirmed that.
    Confirmed,
}

impl Lane {
    /// Whether this is the lane of an event that is no client's: it has no other one.
    fn is_of_nobody(&self) -> bool {
        let first = self.events.front();
        first.is_some_and(|event| !event.kind.is_of_client())
    }

    /// Whether this is the lane's oldest event, at its current attempt, at this worker.
    fn is_current(&self, worker: WorkerKey, sequence: u64, attempt: u8) -> bool {
        let is_it = |event: &WaitingEvent| event.sequence == sequence && event.attempt == attempt;
        self.under_way > 0 && self.worker == Some(worker) && self.events.front().is_some_and(is_it)
    }
}

/// The next event of a lane, and where the lane is: all that it takes to choose a worker, in one
/// look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Whose event it is.
    pub tenant: u16,
    /// Where the lane is.
    pub worker: Option<WorkerKey>,
    /// The worker whose mirror of the session is right.
    pub mirror: Option<WorkerKey>,
    /// How many events of the lane are under way.
    pub under_way: usize,
    /// It is the close.
    pub is_close: bool,
    /// It is a task, which any worker may run.
    pub is_task: bool,
}

/// An event to be sent.
#[derive(Debug)]
pub struct Sending {
    /// Its number.
    pub sequence: u64,
    /// Which attempt.
    pub attempt: u8,
    /// How many workers were lost over it.
    pub losses: u8,
    /// What happened. Payloads are shared.
    pub kind: EventKind,
    /// Whether the session must go with it.
    pub with_session: bool,
    /// Whether this worker becomes the custodian by this event.
    pub with_custody: bool,
    /// What it weighs.
    pub bytes: usize,
    /// How long it waited for a worker, if this is the first one.
    pub waited_us: Option<u64>,
}

/// An event that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What it counted in its worker's window.
    pub counted: usize,
    /// Its kind.
    pub kind: EventType,
    /// Whether it was a client's.
    pub of_client: bool,
    /// The timer or the task whose event it was.
    pub id: Option<Box<EffectId>>,
    /// How long ago it came.
    pub took_us: u64,
}

/// An event that has waited for longer than any other of its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// Whose it is.
    pub connection: u32,
    /// What it is.
    pub kind: EventType,
    /// The worker that has it, if one has, and since how long.
    pub under_way: Option<(WorkerKey, u64)>,
    /// How long ago it came.
    pub age_us: u64,
}

/// A commit that is not of the current attempt; it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

/// All lanes of one shard.
#[derive(Debug)]
pub struct Lanes {
    lanes: FxHashMap<u32, Lane>,
    epoch: u32,
    known: Known,
    /// Lanes whose custody changes hands, by each worker concerned.
    handovers: FxHashMap<WorkerKey, usize>,
    sequence: u64,
    /// Bytes of all events that wait or are under way.
    bytes: Shares<u16>,
    events: usize,
    /// When the events of each tenant came.
    ages: Vec<Ages>,
    /// Lanes of tasks that wait before they are sent again, until when.
    resting: Resting,
    now_us: u64,
}

impl Default for Lanes {
    fn default() -> Self {
        Self::new(usize::MAX, 1)
    }
}

impl Lanes {
    /// No lanes; so many tenants share so many bytes of events.
    #[must_use]
    pub fn new(bytes_max: usize, tenants: usize) -> Self {
        Self {
            lanes: FxHashMap::default(),
            epoch: 0,
            known: Known::default(),
            handovers: FxHashMap::default(),
            sequence: 0,
            bytes: Shares::new(bytes_max, tenants),
            events: 0,
            ages: (0..tenants).map(|_| Ages::default()).collect(),
            resting: Resting::default(),
            now_us: 0,
        }
    }

    /// The time of the last tick.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// So much time has passed since the shard began. What happens until the next call happens now.
    pub fn tick(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
    }

    /// Opens the lane of a new client.
    pub fn open(&mut self, connection: u32, tenant: u16, arrival: Option<Arc<Arrival>>) {
        self.lanes.insert(
            connection,
            Lane {
                tenant,
                epoch: self.epoch,
                arrival,
                ..Lane::default()
            },
        );
    }

    /// How a client came, as long as its close is not committed.
    #[must_use]
    pub fn arrival(&self, connection: u32) -> Option<&Arc<Arrival>> {
        self.lanes.get(&connection)?.arrival.as_ref()
    }

    /// Adds an event at the end of a lane.
    pub fn push(&mut self, connection: u32, kind: EventKind) {
        let Some(lane) = self.lanes.get_mut(&connection) else {
            return;
        };
        let mut bytes = EVENT_BYTES;
        kind.carry(&mut |payload| bytes += payload.len());
        self.sequence += 1;
        self.bytes.take(&lane.tenant, bytes);
        self.events += 1;
        if let Some(ages) = self.ages.get_mut(usize::from(lane.tenant))
            && !is_task(&kind)
        {
            ages.add(self.now_us);
        }
        lane.bytes += bytes;
        lane.events.push_back(WaitingEvent {
            sequence: self.sequence,
            attempt: 0,
            losses: 0,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            counted: 0,
            at_us: self.now_us,
            sent_us: 0,
            kind,
        });
        if lane.events.len() == 1 {
            Self::weigh(&mut self.known, lane);
        }
    }

    /// The lane's next event, if it may be sent now, given a worker. Where its tenant `binds`, events
    /// follow each other to one worker without waiting for commits.
    #[must_use]
    pub fn next(&self, connection: u32, binds: impl Fn(u16) -> bool) -> Option<Next> {
        let lane = self.lanes.get(&connection)?;
        let next = lane.events.get(lane.under_way)?;
        if lane.rests_until_us > self.now_us {
            return None;
        }
        let is_close = matches!(next.kind, EventKind::Close(_));
        if lane.under_way > 0 {
            let alone = is_close || next.losses > 0;
            let told = lane.mirror == lane.worker && lane.postponed != lane.worker;
            let stays = binds(lane.tenant) && told;
            if !stays || alone || lane.under_way >= PIPELINE_MAX {
                return None;
            }
        }
        Some(Next {
            tenant: lane.tenant,
            worker: lane.worker,
            mirror: lane.mirror,
            under_way: lane.under_way,
            is_close,
            is_task: is_task(&next.kind),
        })
    }

    /// The next event of a lane that is not under way.
    #[must_use]
    pub fn next_kind(&self, connection: u32) -> Option<&EventKind> {
        let lane = self.lanes.get(&connection)?;
        Some(&lane.events.get(lane.under_way)?.kind)
    }

    /// What a client that is no longer in the hub was, with its last session.
    #[must_use]
    pub fn closing(&self, connection: u32) -> Option<(&Closed, &ClientSnapshot)> {
        let lane = self.lanes.get(&connection)?;
        let session = lane.last_session.as_deref()?;
        match &lane.events.back()?.kind {
            EventKind::Close(closed) => Some((closed, session)),
            EventKind::Connect { .. }
            | EventKind::Message(_)
            | EventKind::Request { .. }
            | EventKind::Timer { .. }
            | EventKind::BufferFull { .. }
            | EventKind::BufferDrain
            | EventKind::Handshake { .. }
            | EventKind::Http { .. }
            | EventKind::Task { .. }
            | EventKind::TaskFinished { .. } => None,
        }
    }

    /// Completes the close that is next, once: what the client was, and its last session.
    pub fn complete_close(
        &mut self,
        connection: u32,
        complete: impl FnOnce(&mut Closed) -> ClientSnapshot,
    ) {
        let Some(lane) = self.lanes.get_mut(&connection) else {
            return;
        };
        if lane.last_session.is_some() {
            return;
        }
        let next = lane
            .events
            .get_mut(lane.under_way)
            .map(|waiting| &mut waiting.kind);
        if let Some(EventKind::Close(closed)) = next {
            lane.last_session = Some(Box::new(complete(closed)));
        }
    }

    /// The last session of a client whose close is complete.
    #[must_use]
    pub fn last_session(&self, connection: u32) -> Option<&ClientSnapshot> {
        self.lanes.get(&connection)?.last_session.as_deref()
    }

    /// The session was changed by somebody else than the lane's own event: the mirror is stale.
    pub fn session_changed(&mut self, connection: u32) {
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.mirror = None;
        }
    }

    /// Notes that the lane stands in the caller's queue, or no longer does. True if that is new.
    pub fn set_queued(&mut self, connection: u32, queued: bool) -> bool {
        match self.lanes.get_mut(&connection) {
            Some(lane) if lane.queued != queued => {
                lane.queued = queued;
                true
            }
            _ => false,
        }
    }

    /// Ends a lane and says which workers know the client.
    pub fn remove(&mut self, connection: u32) -> Vec<WorkerKey> {
        let Some(lane) = self.lanes.remove(&connection) else {
            return Vec::new();
        };
        give_back(&mut self.lanes);
        self.bytes.give(&lane.tenant, lane.bytes);
        self.events -= lane.events.len();
        if let Some(ages) = self.ages.get_mut(usize::from(lane.tenant)) {
            let aging = lane.events.iter().filter(|event| !is_task(&event.kind));
            aging.for_each(|event| ages.take(event.at_us));
        }
        self.unweigh(&lane);
        let mut workers = lane.others;
        let seats = lane.seats.iter().flat_map(CustodianSlot::both);
        workers.extend(seats.map(|it| it.worker));
        workers.sort_unstable();
        workers.dedup();
        workers
    }
}

/// Tasks may take long: they are no event that is late.
const fn is_task(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Task { .. })
}

#[cfg(test)]
mod tests;
