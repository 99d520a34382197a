//! Which gateway begins the task of a tick: what one gateway knows of its schedules and of the others, and what
//! follows from it. Plain data: what is heard and what time it is goes in, what is to be done comes out.
//!
//! A schedule has an order of the gateways that look after it, from a hash of both. When it is due, the first of
//! them claims the tick at all others and begins its task once nobody objects; when the task has ended it says that the tick is
//! over. So a schedule has one task at a time, and its ticks are begun in order.
//!
//! Guarantees: of gateways that hear each other one begins a tick, whatever their views of the cluster are at
//! the moment. A gateway that leaves the view before its tick is over is stood in for by the next one. One
//! that others cannot reach is waited for until it leaves the view. A clock that differs from those of the others
//! begins nothing early: half of the clocks must have come to the time.
//! Does not keep anything beyond the lives of all gateways: what was over then is what [`Book::restore`] is told.

mod claims;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use tidegate_wire::Name;
use tidegate_wire::id::Incarnation;
use tidegate_wire::schedule::{KnownSchedule, ScheduleSaid, Tick, TickVerdict};
use tidegate_wire::sketch::stable_hash;

use crate::Schedule;

/// How long a gateway that has just come into the view is waited for until it has said what it knows.
const GREETING_MS: u64 = 5_000;
/// A gateway that is not in the view is remembered for so long after it has spoken.
const UNLISTED_MS: u64 = 10_000;
/// A clock that was set back by more was wrong before: time is counted from the new one.
const CLOCK_WRONG_S: i64 = 3 * 3_600;

/// What time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// By the wall clock, in milliseconds since 1970: what is due.
    pub wall_ms: i64,
    /// By a clock that nobody sets, in milliseconds: how long something takes.
    pub steady_ms: u64,
}

impl Now {
    const fn wall_s(self) -> i64 {
        self.wall_ms.div_euclid(1_000)
    }
}

/// What is to be done. Schedules are named by their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Say this to another gateway, on the link that this one has dialled.
    Say(Incarnation, ScheduleSaid),
    /// Begin the task of this tick; tell [`Book::ended`] what became of it.
    Begin {
        /// Of which schedule.
        schedule: usize,
        /// Its time, in seconds since 1970.
        at_s: i64,
        /// How many ticks before it were left out.
        missed: u64,
    },
    /// So many ticks were left out, and none is begun for them.
    Missed(usize, u64),
    /// Ticks up to this time were over, which is far ahead: the clock was set back, and counts from now.
    ClockSetBack(usize, i64),
    /// The clocks of other gateways have not come to this time of a tick: it waits for them.
    ClockAhead(usize, i64),
}

/// A schedule as people see it. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleStatus {
    /// Whose.
    pub tenant: Name,
    /// Its name.
    pub name: Name,
    /// Its expression.
    pub cron: String,
    /// Where that is meant.
    pub time_zone: String,
    /// The last tick whose task has ended, as far as is known.
    pub last_s: Option<i64>,
    /// When it is due next.
    pub next_s: Option<i64>,
    /// The tick whose task has not ended.
    pub open_s: Option<i64>,
}

/// What is over of a schedule, to be kept beyond the life of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSchedule {
    /// Whose.
    pub tenant: Name,
    /// Its name.
    pub schedule: Name,
    /// Ticks up to this one are over, in seconds since 1970.
    pub over_s: i64,
    /// The last tick whose task has ended, likewise.
    pub last_s: Option<i64>,
}

/// The schedules of one gateway.
#[derive(Debug)]
pub struct Book {
    own: Incarnation,
    address: SocketAddrV4,
    entries: Vec<Entry>,
    peers: BTreeMap<Incarnation, Peer>,
    /// This gateway is in the view.
    joined: bool,
    ended: bool,
    acts: Vec<Act>,
    /// How often something was over that was not before.
    changes: u64,
}

/// Another gateway.
#[derive(Debug)]
struct Peer {
    /// Where it is, once it is in the view.
    address: Option<SocketAddrV4>,
    /// Since when it is in the view, or when it was heard last.
    since_ms: u64,
    linked: bool,
    /// It has said what it knows.
    heard: bool,
    looks_after: BTreeSet<(Name, Name)>,
}

/// One schedule.
#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    /// Ticks up to this one are over.
    over_s: i64,
    /// Somebody has said so; else it is since when this gateway, or one that it has heard, looks after it.
    told: bool,
    last_s: Option<i64>,
    /// The next tick.
    next: Next,
    turn: Turn,
    /// What another gateway has begun or is about to.
    open: Option<Open>,
    /// No claim before that time.
    pause_until_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Unknown,
    Never,
    At(i64),
}

#[derive(Debug)]
struct Open {
    by: Incarnation,
    at_s: i64,
    heard_ms: u64,
}

/// What this gateway does for a schedule.
#[derive(Debug)]
enum Turn {
    Idle,
    Asking {
        at_s: i64,
        missed: u64,
        since_ms: u64,
        verdicts: BTreeMap<Incarnation, TickVerdict>,
    },
    Begun {
        at_s: i64,
    },
}

impl Entry {
    fn is(&self, tenant: &Name, name: &Name) -> bool {
        self.schedule.tenant == *tenant && self.schedule.name == *name
    }

    fn tick(&self, at_s: i64) -> Tick {
        Tick {
            tenant: self.schedule.tenant.clone(),
            schedule: self.schedule.name.clone(),
            at_s,
        }
    }

    /// The tick that this gateway has begun or is about to begin.
    const fn own_s(&self) -> Option<i64> {
        match self.turn {
            Turn::Idle => None,
            Turn::Asking { at_s, .. } | Turn::Begun { at_s } => Some(at_s),
        }
    }

    fn next_s(&mut self) -> Option<i64> {
        if self.next == Next::Unknown {
            let next = self.schedule.timetable.next(self.over_s);
            self.next = next.map_or(Next::Never, Next::At);
        }
        match self.next {
            Next::At(at_s) => Some(at_s),
            Next::Unknown | Next::Never => None,
        }
    }

    /// Ticks up to this one are over. Says whether that is news.
    fn over(&mut self, at_s: i64) -> bool {
        if self.told && at_s <= self.over_s {
            return false;
        }
        self.over_s = at_s;
        self.told = true;
        self.next = Next::Unknown;
        true
    }

    /// The place of a gateway among those that look after the schedule: higher goes first.
    fn rank(&self, incarnation: Incarnation, address: SocketAddrV4) -> (u64, Incarnation) {
        let mut bytes = self.schedule.tenant.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(self.schedule.name.as_bytes());
        bytes.push(0);
        bytes.extend(address.ip().octets());
        bytes.extend(address.port().to_be_bytes());
        (stable_hash(&bytes), incarnation)
    }
}

impl Book {
    /// Of a gateway that starts now. Ticks before that are none of its business, unless others know better.
    #[must_use]
    pub fn new(
        own: Incarnation,
        address: SocketAddrV4,
        schedules: Vec<Schedule>,
        now: Now,
    ) -> Self {
        let entry = |schedule| Entry {
            schedule,
            over_s: now.wall_s(),
            told: false,
            last_s: None,
            next: Next::Unknown,
            turn: Turn::Idle,
            open: None,
            pause_until_ms: 0,
        };
        Self {
            own,
            address,
            entries: schedules.into_iter().map(entry).collect(),
            peers: BTreeMap::new(),
            joined: false,
            ended: false,
            acts: Vec::new(),
            changes: 0,
        }
    }

    /// Takes what was kept of an earlier life.
    pub fn restore(&mut self, kept: &[KeptSchedule]) {
        for it in kept {
            if let Some(entry) = self.entry_mut(&it.tenant, &it.schedule) {
                entry.over(it.over_s);
                entry.last_s = it.last_s;
            }
        }
    }

    /// What is to be kept beyond this life.
    #[must_use]
    pub fn kept(&self) -> Vec<KeptSchedule> {
        let kept = self.entries.iter().filter(|it| it.told);
        let kept = kept.map(|it| KeptSchedule {
            tenant: it.schedule.tenant.clone(),
            schedule: it.schedule.name.clone(),
            over_s: it.over_s,
            last_s: it.last_s,
        });
        kept.collect()
    }

    /// A number that changes with [`Self::kept`].
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The schedule at this place.
    #[must_use]
    pub fn schedule(&self, place: usize) -> Option<&Schedule> {
        self.entries.get(place).map(|it| &it.schedule)
    }

    /// What is to be done since the last call.
    #[must_use]
    pub fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// Until when nothing is to be done unless something is heard, by the wall clock.
    pub fn next_ms(&mut self) -> Option<i64> {
        let idle = self.entries.iter_mut();
        let idle = idle.filter(|it| it.open.is_none() && matches!(it.turn, Turn::Idle));
        let next_s = idle.filter_map(Entry::next_s).min();
        next_s.map(|at_s| at_s.saturating_mul(1_000))
    }

    /// Whether a claim waits for answers.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        let mut turns = self.entries.iter().map(|it| &it.turn);
        turns.any(|turn| matches!(turn, Turn::Asking { .. }))
    }

    /// How it stands with the schedules of a tenant.
    #[must_use]
    pub fn status(&self, tenant: &Name, now: Now) -> Vec<ScheduleStatus> {
        let own = |it: &&Entry| it.schedule.tenant == *tenant;
        let status = |it: &Entry| ScheduleStatus {
            tenant: it.schedule.tenant.clone(),
            name: it.schedule.name.clone(),
            cron: it.schedule.timetable.expression().to_owned(),
            time_zone: it.schedule.timetable.zone_name().to_owned(),
            last_s: it.last_s,
            next_s: it.schedule.timetable.next(it.over_s.max(now.wall_s())),
            open_s: it.own_s().or(it.open.as_ref().map(|open| open.at_s)),
        };
        self.entries.iter().filter(own).map(status).collect()
    }

    fn entry_mut(&mut self, tenant: &Name, name: &Name) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|it| it.is(tenant, name))
    }

    fn place(&self, tick: &Tick) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|it| it.is(&tick.tenant, &tick.schedule))
    }

    /// Says something to all other gateways that have a link.
    fn say_to_all(&mut self, said: &ScheduleSaid) {
        let linked = self.peers.iter().filter(|(_, peer)| peer.linked);
        let say = linked.map(|(peer, _)| Act::Say(*peer, said.clone()));
        self.acts.extend(say);
    }
}

/// Who is there.
impl Book {
    /// The view has changed: these are the other gateways. `joined`: this one is in it.
    pub fn set_view(
        &mut self,
        others: impl Iterator<Item = (Incarnation, SocketAddrV4)>,
        joined: bool,
        now: Now,
    ) {
        self.joined |= joined;
        let others: BTreeMap<_, _> = others.filter(|(it, _)| *it != self.own).collect();
        let (before, now_ms) = (self.peers.len(), now.steady_ms);
        self.peers.retain(|incarnation, peer| match peer.address {
            Some(_) => others.contains_key(incarnation),
            None => others.contains_key(incarnation) || now_ms < peer.since_ms + 6 * UNLISTED_MS,
        });
        for (incarnation, address) in others {
            let peer = self
                .peers
                .entry(incarnation)
                .or_insert_with(|| Peer::new(now_ms));
            if peer.address.is_none() {
                peer.since_ms = now_ms;
            }
            peer.address = Some(address);
        }
        if self.peers.len() < before {
            let peers = &self.peers;
            for entry in &mut self.entries {
                entry.open.take_if(|open| !peers.contains_key(&open.by));
            }
        }
    }

    /// There is a link to another gateway.
    pub fn linked(&mut self, incarnation: Incarnation, now: Now) {
        let peer = self.peers.entry(incarnation);
        peer.or_insert_with(|| Peer::new(now.steady_ms)).linked = true;
        let known = ScheduleSaid::Known(self.known());
        self.acts.push(Act::Say(incarnation, known));
    }

    /// It has ended.
    pub fn unlinked(&mut self, incarnation: Incarnation) {
        if let Some(peer) = self.peers.get_mut(&incarnation) {
            peer.linked = false;
        }
    }

    /// This gateway ends: it begins nothing more, and is no longer one of those that may.
    pub fn end(&mut self) {
        self.ended = true;
        for place in 0..self.entries.len() {
            self.withdraw(place, 0);
        }
        self.say_to_all(&ScheduleSaid::Known(Vec::new()));
    }

    /// What this gateway knows, for another one.
    #[must_use]
    pub fn known(&self) -> Vec<KnownSchedule> {
        let entries = self.entries.iter().filter(|_| !self.ended);
        let known = entries.map(|it| KnownSchedule {
            tenant: it.schedule.tenant.clone(),
            schedule: it.schedule.name.clone(),
            over_s: it.told.then_some(it.over_s),
            since_s: it.over_s,
            last_s: it.last_s,
            open_s: it.own_s(),
        });
        known.collect()
    }
}

impl Peer {
    const fn new(now_ms: u64) -> Self {
        Self {
            address: None,
            since_ms: now_ms,
            linked: false,
            heard: false,
            looks_after: BTreeSet::new(),
        }
    }
}
