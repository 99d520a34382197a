//! Timers of one shard: who has set which, and which have run out. Pure: the caller says what time it is.
//!
//! Guarantees: a timer that does not repeat runs out once; one that repeats does so once for each
//! period, but not while its last event is not committed: a period that ends meanwhile is left out, so
//! that a slow handler has one event of each timer and no more. A client's timers end with it. What
//! all timers keep is bounded in bytes, shared among the tenants; what one client has, in number.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use tidegate_fair::Shares;
use tidegate_wire::payload::Payload;
use tidegate_wire::timer::TimerId;

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
    timers: FxHashMap<TimerId, Timer>,
    due: BTreeSet<(u64, TimerId)>,
    of_client: FxHashMap<u32, Vec<TimerId>>,
    bytes: Shares<u16>,
}

#[derive(Debug)]
struct Timer {
    tenant: u16,
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
            timers: FxHashMap::default(),
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
        if self.timers.contains_key(&timer) {
            return Ok(());
        }
        let delay_us = setting.delay_ms.saturating_mul(1_000);
        let set = Timer {
            tenant: setting.tenant,
            at_us: now_us.saturating_add(delay_us),
            // Once a millisecond is the most often that anything here is looked at.
            period_us: delay_us.max(1_000) * u64::from(setting.repeats),
            under_way: false,
            payload: setting.payload,
        };
        let bytes = set.bytes();
        if bytes > self.bytes.room(&set.tenant) {
            return Err(TimerRefused::NoRoom);
        }
        if let Some(client) = timer.client {
            let timers = self.of_client.entry(client.connection).or_default();
            if timers.len() >= TIMERS_OF_CLIENT_MAX {
                return Err(TimerRefused::TooMany);
            }
            timers.push(timer);
        }
        self.bytes.take(&set.tenant, bytes);
        self.due.insert((set.at_us, timer));
        self.timers.insert(timer, set);
        Ok(())
    }

    /// Ends a timer of this tenant, if there is one.
    pub fn cancel(&mut self, tenant: u16, timer: &TimerId) {
        if self.timers.get(timer).is_some_and(|it| it.tenant == tenant) {
            self.remove(timer);
        }
    }

    /// A client is gone, and its timers with it.
    pub fn end_client(&mut self, connection: u32) {
        for timer in self.of_client.remove(&connection).unwrap_or_default() {
            self.forget(&timer);
        }
        give_back(&mut self.of_client);
    }

    /// An event of this timer is committed.
    pub fn committed(&mut self, timer: &TimerId) {
        if let Some(timer) = self.timers.get_mut(timer) {
            timer.under_way = false;
        }
    }

    /// When the next one runs out.
    #[must_use]
    pub fn next_us(&self) -> Option<u64> {
        self.due.first().map(|(at_us, _)| *at_us)
    }

    /// The next one that has run out by now.
    pub fn run_out(&mut self, now_us: u64) -> Option<RunOut> {
        while let Some(&(at_us, id)) = self.due.first()
            && at_us <= now_us
        {
            self.due.pop_first();
            let Some(timer) = self.timers.get_mut(&id) else {
                continue;
            };
            let (tenant, payload) = (timer.tenant, timer.payload.clone());
            let was_under_way = timer.under_way;
            if let Some(periods) = (now_us - at_us).checked_div(timer.period_us) {
                timer.under_way = true;
                // Never more than one event for all the periods that nobody looked.
                let passed = timer.period_us.saturating_mul(periods + 1);
                timer.at_us = at_us.saturating_add(passed);
                self.due.insert((timer.at_us, id));
            } else {
                self.remove(&id);
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
        for (_, timer) in std::mem::take(&mut self.timers) {
            self.bytes.give(&timer.tenant, timer.bytes());
        }
    }

    fn remove(&mut self, timer: &TimerId) {
        if let Some(client) = timer.client
            && let Some(timers) = self.of_client.get_mut(&client.connection)
        {
            timers.retain(|it| it != timer);
            if timers.is_empty() {
                self.of_client.remove(&client.connection);
                give_back(&mut self.of_client);
            }
        }
        self.forget(timer);
    }

    fn forget(&mut self, timer: &TimerId) {
        if let Some(gone) = self.timers.remove(timer) {
            self.due.remove(&(gone.at_us, *timer));
            self.bytes.give(&gone.tenant, gone.bytes());
        }
        give_back(&mut self.timers);
    }
}

#[cfg(test)]
mod tests;
