//! How much one worker may have of one shard's events, and which lanes wait for room. Pure.
//!
//! Tenants share the window: each has a part of its own, so that one whose handlers are slow waits
//! alone. Within a tenant, a lane may have as many events under way as it leaves room for others',
//! so that one that is slow does not stop those that could run. When room comes back, tenants take
//! turns, and the lanes of a tenant do, one event at a time; who comes then stands behind them.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tidegate_fair::{Shares, Turns};

/// So many tenants are looked at for whom an event of another may have made room. A tenant that
/// waits has events under way, and its turn at the end of each of them.
const LOOKS_MAX: usize = 16;

/// A place of a tenant among those of the gateway.
type Tenant = u16;

/// One shard's share of a worker.
#[derive(Debug)]
pub struct Window {
    events: Shares<Tenant>,
    bytes: Shares<Tenant>,
    /// Lanes that wait for room.
    waiting: Turns<Tenant, u32>,
    /// Tenants that have had lanes waiting without a break, and since when.
    since: FxHashMap<Tenant, Instant>,
}

impl Window {
    /// A window of so many events and bytes for so many tenants.
    pub fn new(events: usize, bytes: usize, tenants: usize) -> Self {
        Self {
            events: Shares::new(events, tenants),
            bytes: Shares::new(bytes, tenants),
            waiting: Turns::default(),
            since: FxHashMap::default(),
        }
    }

    /// The worker announced another window, or other tenants.
    pub fn resize(&mut self, events: usize, bytes: usize, tenants: usize) {
        self.events.resize(events, tenants);
        self.bytes.resize(bytes, tenants);
    }

    /// Whether a lane that has so many events under way may have one more. A lane that waits for
    /// its turn may only when it `is_its_turn`.
    pub fn admits(&self, tenant: Tenant, under_way: usize, is_its_turn: bool) -> bool {
        (is_its_turn || !self.waiting.has(&tenant)) && self.fits(tenant, under_way)
    }

    fn fits(&self, tenant: Tenant, under_way: usize) -> bool {
        let room = self.events.room(&tenant);
        room > 0 && under_way <= room && self.bytes.has_room(&tenant)
    }

    /// Counts an event that was sent. Gives what it counts: one that is larger than the tenant's
    /// room is sent all the same, and takes that.
    pub fn sent(&mut self, tenant: Tenant, bytes: usize) -> usize {
        let counted = bytes.min(self.bytes.room(&tenant));
        self.events.take(&tenant, 1);
        self.bytes.take(&tenant, counted);
        counted
    }

    /// Counts events that came back, with what they counted.
    pub fn returned(&mut self, tenant: Tenant, events: usize, counted: usize) {
        self.events.give(&tenant, events);
        self.bytes.give(&tenant, counted);
    }

    /// Whether nothing is under way.
    pub const fn is_idle(&self) -> bool {
        self.events.total() == 0
    }

    /// A lane waits for room.
    pub fn wait(&mut self, tenant: Tenant, lane: u32, now: Instant) {
        self.waiting.push(tenant, lane);
        self.since.entry(tenant).or_insert(now);
    }

    /// How much of what this tenant may have it has, in millionths.
    pub fn fill(&self, tenant: Tenant) -> u64 {
        let of = |shares: &Shares<Tenant>| {
            let (used, room) = (shares.used(&tenant) as u64, shares.room(&tenant) as u64);
            used.saturating_mul(1_000_000) / (used + room).max(1)
        };
        of(&self.events).max(of(&self.bytes))
    }

    /// The next lane that may send one event, after one of this tenant came back.
    pub fn next(&mut self, tenant: Tenant) -> Option<u32> {
        if self.waiting.is_empty() {
            return None;
        }
        // Its own share has certainly grown. Whether the lane has too much under way to have more is
        // asked when its event is sent.
        if self.waiting.has(&tenant) && self.fits(tenant, 0) {
            return self.waiting.next_of(&tenant);
        }
        let (events, bytes) = (&self.events, &self.bytes);
        let next = self.waiting.next_among(LOOKS_MAX, |tenant, _| {
            events.has_room(tenant) && bytes.has_room(tenant)
        });
        next.map(|(_, lane)| lane)
    }

    /// How many lanes wait.
    pub const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Lets only these lanes wait on.
    pub fn retain_waiting(&mut self, keep: impl Fn(u32) -> bool) {
        self.waiting.retain(|lane| keep(*lane));
    }

    /// All lanes that wait.
    pub fn into_waiting(mut self) -> Vec<u32> {
        self.waiting.drain()
    }

    /// The tenants that have waited for so long, and how many of their lanes wait.
    pub fn long_waiting(
        &mut self,
        now: Instant,
        long: Duration,
    ) -> impl Iterator<Item = (Tenant, usize)> {
        let waiting = &self.waiting;
        self.since.retain(|tenant, _| waiting.has(tenant));
        self.since.iter().filter_map(move |(tenant, since)| {
            let is_long = now.saturating_duration_since(*since) >= long;
            is_long.then(|| (*tenant, waiting.of(tenant)))
        })
    }
}

#[cfg(test)]
mod tests;
