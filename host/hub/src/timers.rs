//! Timers of one shard: who has set which, and which have run out. Pure: the caller says what time it is.
//!
//! Guarantees: a timer that does not repeat runs out once; one that repeats does so once for each
//! period, but not while its last event is not committed: a period that ends meanwhile is left out, so
//! that a slow handler has one event of each timer and no more. A client's timers end with it. What
//! all timers keep is bounded in bytes, shared among the tenants; what one client has, in number.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rustc_hash::FxHashMap;
use tidegate_fair::Shares;
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::payload::Payload;
use tidegate_wire::query::TimerInfo;
use tidegate_wire::timer::TimerId;

use crate::answer::Page;
use crate::give_back::give_back;

/// What a timer counts besides its payload: about what the tables keep of it.
pub const TIMER_BYTES: usize = 320;
/// How many timers a client may have at a time.
pub const TIMERS_OF_CLIENT_MAX: usize = 1_000;

/// Why a timer is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerRefused {
    /// The client has as many as it may have.
    TooMany,
    /// Those of the tenant keep as many bytes as they may keep.
    NoRoom,
}

/// What a timer is set to.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Whose it is.
    pub tenant: u16,
    /// When it runs out, from now.
    pub delay_ms: u64,
    /// Whether it does so again, each time after as long.
    pub repeats: bool,
    /// What its event brings.
    pub payload: Payload,
}

/// A timer that has run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOut {
    /// Which.
    pub timer: TimerId,
    /// Whose.
    pub tenant: u16,
    /// What its event brings.
    pub payload: Payload,
    /// How long ago that should have been noticed.
    pub late_us: u64,
}

/// The timers of one shard.
#[derive(Debug)]
pub struct Timers {
    /// By tenant, then by id: a client's stand together, and those that are no client's before all.
    timers: BTreeMap<(u16, TimerId), Timer>,
    due: BTreeSet<(u64, u16, TimerId)>,
    /// How many each client has that has any.
    of_client: FxHashMap<u32, usize>,
    bytes: Shares<u16>,
}

#[derive(Debug)]
struct Timer {
    at_us: u64,
    /// Zero: it does not repeat.
    period_us: u64,
    /// Its last event is not committed.
    under_way: bool,
    payload: Payload,
}

impl Timer {
    fn bytes(&self) -> usize {
        TIMER_BYTES + self.payload.len()
    }
}

impl Timers {
    /// No timers; so many tenants share so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize, tenants: usize) -> Self {
        Self {
            timers: BTreeMap::new(),
            due: BTreeSet::new(),
            of_client: FxHashMap::default(),
            bytes: Shares::new(bytes_max, tenants),
        }
    }

    /// Sets a timer. One that is set already stays as it is.
    ///
    /// # Errors
    /// A limit.
    pub fn set(
        &mut self,
        timer: TimerId,
        setting: Setting,
        now_us: u64,
    ) -> Result<(), TimerRefused> {
        let tenant = setting.tenant;
        if self.timers.contains_key(&(tenant, timer)) {
            return Ok(());
        }
        let delay_us = setting.delay_ms.saturating_mul(1_000);
        let set = Timer {
            at_us: now_us.saturating_add(delay_us),
            // Once a millisecond is the most often that anything here is looked at.
            period_us: delay_us.max(1_000) * u64::from(setting.repeats),
            under_way: false,
            payload: setting.payload,
        };
        let bytes = set.bytes();
        if bytes > self.bytes.room(&tenant) {
            return Err(TimerRefused::NoRoom);
        }
        if let Some(client) = timer.client {
            let count = self.of_client.entry(client.connection).or_default();
            if *count >= TIMERS_OF_CLIENT_MAX {
                return Err(TimerRefused::TooMany);
            }
            *count += 1;
        }
        self.bytes.take(&tenant, bytes);
        self.due.insert((set.at_us, tenant, timer));
        self.timers.insert((tenant, timer), set);
        Ok(())
    }

    /// Ends a timer of this tenant, if there is one.
    pub fn cancel(&mut self, tenant: u16, timer: &TimerId) {
        let Some(gone) = self.timers.remove(&(tenant, *timer)) else {
            return;
        };
        self.due.remove(&(gone.at_us, tenant, *timer));
        self.bytes.give(&tenant, gone.bytes());
        if let Some(client) = timer.client
            && let Some(count) = self.of_client.get_mut(&client.connection)
        {
            *count -= 1;
            if *count == 0 {
                self.of_client.remove(&client.connection);
                give_back(&mut self.of_client);
            }
        }
    }

    /// A client is gone, and its timers with it.
    pub fn end_client(&mut self, tenant: u16, client: ClientId) {
        if !self.of_client.contains_key(&client.connection) {
            return;
        }
        let ids = self.of(tenant, Some(client), None).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            self.cancel(tenant, &id);
        }
    }

    /// An event of this timer is committed.
    pub fn committed(&mut self, tenant: u16, timer: &TimerId) {
        if let Some(timer) = self.timers.get_mut(&(tenant, *timer)) {
            timer.under_way = false;
        }
    }

    /// When the next one runs out.
    #[must_use]
    pub fn next_us(&self) -> Option<u64> {
        self.due.first().map(|(at_us, ..)| *at_us)
    }

    /// The next one that has run out by now.
    pub fn run_out(&mut self, now_us: u64) -> Option<RunOut> {
        while let Some(&(at_us, tenant, id)) = self.due.first()
            && at_us <= now_us
        {
            let Some(timer) = self.timers.get_mut(&(tenant, id)) else {
                self.due.pop_first();
                continue;
            };
            let payload = timer.payload.clone();
            let was_under_way = timer.under_way;
            if let Some(periods) = (now_us - at_us).checked_div(timer.period_us) {
                timer.under_way = true;
                // Never more than one event for all the periods that nobody looked.
                let passed = timer.period_us.saturating_mul(periods + 1);
                timer.at_us = at_us.saturating_add(passed);
                let next_us = timer.at_us;
                self.due.pop_first();
                self.due.insert((next_us, tenant, id));
            } else {
                self.cancel(tenant, &id);
            }
            if !was_under_way {
                return Some(RunOut {
                    timer: id,
                    tenant,
                    payload,
                    late_us: now_us - at_us,
                });
            }
        }
        None
    }

    /// A page of a client's timers, or of those that are no client's: ordered by id, bounded in number
    /// and bytes. Says whether there are more.
    #[must_use]
    pub fn page(
        &self,
        tenant: u16,
        of: Option<ClientId>,
        after: Option<&TimerId>,
        limit: u32,
        now_us: u64,
    ) -> (Vec<TimerInfo>, bool) {
        let info = |(id, timer): (&TimerId, &Timer)| TimerInfo {
            timer: *id,
            due_in_ms: timer.at_us.saturating_sub(now_us).div_ceil(1_000),
            period_ms: (timer.period_us > 0).then_some(timer.period_us / 1_000),
            payload: timer.payload.clone(),
        };
        let weight = |info: &TimerInfo| info.payload.len();
        Page::new(limit, weight).fill(self.of(tenant, of, after).map(info))
    }

    /// Those of a client, or of nobody, behind this one.
    fn of<'a>(
        &'a self,
        tenant: u16,
        client: Option<ClientId>,
        after: Option<&TimerId>,
    ) -> impl Iterator<Item = (&'a TimerId, &'a Timer)> + use<'a> {
        let start = match after {
            Some(after) => Bound::Excluded((tenant, *after)),
            None => Bound::Included((tenant, first_of(client))),
        };
        let behind = self.timers.range((start, Bound::Unbounded));
        let own = behind.take_while(move |((of, id), _)| *of == tenant && id.client == client);
        own.map(|((_, id), timer)| (id, timer))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// Ends all.
    pub fn clear(&mut self) {
        self.due.clear();
        self.of_client = FxHashMap::default();
        for ((tenant, _), timer) in std::mem::take(&mut self.timers) {
            self.bytes.give(&tenant, timer.bytes());
        }
    }
}

/// No timer of a client, or of nobody, has an id before this one.
const fn first_of(client: Option<ClientId>) -> TimerId {
    TimerId {
        client,
        event: EventId {
            gateway: Incarnation(0),
            shard: 0,
            sequence: 0,
        },
        nth: 0,
    }
}

#[cfg(test)]
mod tests;
