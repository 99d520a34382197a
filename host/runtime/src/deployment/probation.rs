//! A version on trial: how it does, which version stood there before, and whom that one serves
//! meanwhile.
//!
//! What breaks under the version on trial, or fails where failures count, is run by the one before,
//! so that nothing is lost by a bad version. A client to whom that happens twice in a short time is
//! moved back: the version before runs its events. Now and then one is tried under the new one again,
//! so that what is wrong goes on being counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_wire::Name;
use tidegate_wire::id::ClientId;

use super::settings::Bounds;
use super::tally::Tally;
use crate::version::Version;

/// Rescues of one client within [`SHORT`] after which it is moved back.
const RESCUES_MAX: u8 = 2;
const SHORT: Duration = Duration::from_secs(10);
/// For how long after the last rescue.
const BACK_FOR: Duration = Duration::from_secs(2);
/// Clients that are remembered. Beyond that nobody more is moved back: each event is tried.
const CLIENTS_MAX: usize = 4096;

/// What all seats know of a version on trial.
pub(super) struct Probation {
    pub(super) version: Name,
    pub(super) tally: Tally,
    /// Runs what this one cannot; none if nothing served before it.
    pub(super) before: Option<Arc<Version>>,
    pub(super) moved: Moved,
}

impl Probation {
    pub(super) fn new(version: &Name, bounds: Bounds, before: Option<Arc<Version>>) -> Arc<Self> {
        Arc::new(Self {
            version: version.clone(),
            tally: Tally::new(bounds),
            before,
            moved: Moved::default(),
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.tally.is_closed()
    }
}

#[derive(Clone, Copy, Debug)]
struct Rescued {
    times: u8,
    last: Instant,
}

impl Rescued {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= SHORT
    }

    fn is_back(&self, now: Instant) -> bool {
        self.times >= RESCUES_MAX && now.saturating_duration_since(self.last) < BACK_FOR
    }
}

/// Clients whose events the version before had to run. Almost always empty, and then not looked at.
#[derive(Debug, Default)]
pub(super) struct Moved {
    count: AtomicUsize,
    clients: Mutex<HashMap<ClientId, Rescued>>,
}

impl Moved {
    /// The table is plain data: whoever panicked while holding the lock left it usable.
    fn clients(&self) -> MutexGuard<'_, HashMap<ClientId, Rescued>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// An event of the client broke or failed, and the version before ran it well.
    pub(super) fn rescued(&self, client: ClientId, now: Instant) {
        let mut clients = self.clients();
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(&client) {
            clients.retain(|_, it| !it.is_over(now));
            if clients.len() >= CLIENTS_MAX {
                return;
            }
        }
        let entry = clients.entry(client).or_insert(Rescued {
            times: 0,
            last: now,
        });
        if entry.is_over(now) {
            entry.times = 0;
        }
        entry.times = entry.times.saturating_add(1);
        entry.last = now;
        self.count.store(clients.len(), Ordering::Release);
    }

    /// Whether the version before runs the client's events now.
    pub(super) fn is_back(&self, client: ClientId) -> bool {
        self.any()
            && self
                .clients()
                .get(&client)
                .is_some_and(|it| it.is_back(Instant::now()))
    }

    /// Whether anybody had to be moved back of late.
    pub(super) fn is_anyone_back(&self) -> bool {
        let now = Instant::now();
        let is_back = |it: &Rescued| it.times >= RESCUES_MAX && !it.is_over(now);
        self.any() && self.clients().values().any(is_back)
    }

    /// The client is gone.
    pub(super) fn forget(&self, client: ClientId) {
        if self.any() {
            let mut clients = self.clients();
            clients.remove(&client);
            self.count.store(clients.len(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(connection: u32) -> ClientId {
        ClientId {
            ip: 1,
            port: 1,
            connection,
        }
    }

    #[test]
    fn two_rescues_in_a_short_time_move_a_client_back_for_a_while() {
        let (moved, now) = (Moved::default(), Instant::now());
        moved.rescued(client(1), now);
        assert!(!moved.is_back(client(1)));
        moved.rescued(client(1), now);
        assert!(moved.is_back(client(1)) && moved.is_anyone_back());
        assert!(!moved.is_back(client(2)));
        moved.forget(client(1));
        assert!(!moved.is_back(client(1)) && !moved.is_anyone_back());
    }

    #[test]
    fn two_rescues_far_apart_and_those_of_long_ago_do_not() {
        let (moved, now) = (Moved::default(), Instant::now());
        let Some(long_ago) = now.checked_sub(SHORT) else {
            return;
        };
        moved.rescued(client(1), long_ago);
        moved.rescued(client(1), now);
        assert!(!moved.is_back(client(1)));
        (0..2).for_each(|_| moved.rescued(client(2), long_ago));
        assert!(!moved.is_back(client(2)) && !moved.is_anyone_back());
    }

    #[test]
    fn who_was_moved_back_is_tried_again_and_moved_back_at_once_if_that_is_no_better() {
        let (moved, now) = (Moved::default(), Instant::now());
        let Some(a_while_ago) = now.checked_sub(BACK_FOR) else {
            return;
        };
        (0..2).for_each(|_| moved.rescued(client(1), a_while_ago));
        assert!(!moved.is_back(client(1)) && moved.is_anyone_back());
        moved.rescued(client(1), now);
        assert!(moved.is_back(client(1)));
    }

    #[test]
    fn no_more_are_remembered_than_the_bound() {
        let (moved, now) = (Moved::default(), Instant::now());
        let most = u32::try_from(CLIENTS_MAX).unwrap();
        for number in 0..most + 100 {
            (0..2).for_each(|_| moved.rescued(client(number), now));
        }
        assert_eq!(moved.clients().len(), CLIENTS_MAX);
        assert!(moved.is_back(client(0)) && !moved.is_back(client(most)));
    }
}
