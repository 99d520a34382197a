//! How a new version does in its first time, against its bounds.
//!
//! One client's bad input says nothing about a version that serves others well: what one client alone
//! suffers counts only as long as nobody else is served.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_wire::id::ClientId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::settings::Bounds;

/// Events before a share of errors means anything.
const EVENTS_FOR_ERRORS: u64 = 20;
/// Bad events that are enough for a share once the time is over: a version under which each event takes
/// seconds never comes to as many as the others ask for.
const BAD_AT_END: u64 = 2;
/// Events before the slowest hundredth means anything.
const EVENTS_FOR_LATENCY: u64 = 100;
/// So many slow ones mean the same before: a version that is slow for all takes long to get there.
const SLOW_AT_ONCE: u64 = 10;

/// What the events of one version came to since it was given clients.
#[derive(Debug)]
pub(super) struct Tally {
    bounds: Bounds,
    events: AtomicU64,
    errors: AtomicU64,
    traps: AtomicU64,
    slow: AtomicU64,
    suffered: Clients,
    served: Clients,
    worse: Notify,
    closed: AtomicBool,
    over: CancellationToken,
}

/// Who did, of all clients: nobody, one, or several.
#[derive(Debug, Default)]
struct Clients {
    first: OnceLock<ClientId>,
    several: AtomicBool,
}

impl Clients {
    fn add(&self, client: ClientId) {
        if *self.first.get_or_init(|| client) != client {
            self.several.store(true, Ordering::Relaxed);
        }
    }

    /// Something that is no client's.
    fn add_all(&self) {
        self.several.store(true, Ordering::Relaxed);
    }

    /// The one, if it is one.
    fn only(&self) -> Option<ClientId> {
        let first = self.first.get().copied();
        first.filter(|_| !self.several.load(Ordering::Relaxed))
    }

    /// Whether there is another than this one.
    fn has_other(&self, client: ClientId) -> bool {
        let several = self.several.load(Ordering::Relaxed);
        several || self.first.get().is_some_and(|first| *first != client)
    }
}

/// A bound that was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    Traps { count: u64, bound: u64 },
    Errors { percent: u64, bound: u64 },
    Latency { bound_ms: u64 },
}

impl Violation {
    /// As a label of metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Traps { .. } => "traps",
            Self::Errors { .. } => "errors",
            Self::Latency { .. } => "latency",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Traps { count, bound } => {
                write!(f, "its instances broke {count} times, {bound} is the bound")
            }
            Self::Errors { percent, bound } => write!(
                f,
                "{percent} percent of its events failed, {bound} is the bound"
            ),
            Self::Latency { bound_ms } => write!(
                f,
                "more than one event in a hundred took longer than {bound_ms} ms"
            ),
        }
    }
}

impl Tally {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            events: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            traps: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            suffered: Clients::default(),
            served: Clients::default(),
            worse: Notify::new(),
            closed: AtomicBool::new(false),
            over: CancellationToken::new(),
        }
    }

    /// Nothing is counted any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.over.cancel();
    }

    /// Resolves once nothing is counted any more.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Whether a share of errors is a bound.
    pub(super) const fn counts_errors(&self) -> bool {
        self.bounds.errors_percent > 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// An event ended.
    pub(super) fn ended(&self, client: ClientId, took: Duration, failed: bool) {
        if self.count(took, failed) {
            self.suffered.add(client);
            self.worse.notify_one();
        } else {
            self.served.add(client);
        }
    }

    /// A message of another instance was taken, for which no client can be blamed.
    pub(super) fn heard(&self, took: Duration, failed: bool) {
        if self.count(took, failed) {
            self.suffered.add_all();
            self.worse.notify_one();
        }
    }

    /// Such a message broke an instance.
    pub(super) fn broken_by_peer(&self) {
        self.suffered.add_all();
        self.not_built();
    }

    /// Counts one call; says whether it was worse than it should be.
    fn count(&self, took: Duration, failed: bool) -> bool {
        self.events.fetch_add(1, Ordering::Relaxed);
        let slow = took > Duration::from_millis(self.bounds.latency_ms);
        self.errors.fetch_add(failed.into(), Ordering::Relaxed);
        self.slow.fetch_add(slow.into(), Ordering::Relaxed);
        failed || slow
    }

    /// An event was set aside.
    pub(super) fn failed(&self, client: ClientId) {
        self.ended(client, Duration::ZERO, true);
    }

    /// A client's event broke its instance.
    pub(super) fn trapped(&self, client: ClientId) {
        self.suffered.add(client);
        self.not_built();
    }

    /// An instance broke, or could not be built.
    pub(super) fn not_built(&self) {
        self.traps.fetch_add(1, Ordering::Relaxed);
        self.worse.notify_one();
    }

    /// Resolves once a bound is crossed.
    pub(super) async fn violated(&self) -> Violation {
        loop {
            let worse = self.worse.notified();
            if let Some(violation) = self.violation() {
                return violation;
            }
            worse.await;
        }
    }

    /// Whether one client alone suffers while others are served.
    fn is_one_clients(&self) -> bool {
        let only = self.suffered.only();
        only.is_some_and(|client| self.served.has_other(client))
    }

    fn violation(&self) -> Option<Violation> {
        self.judged(
            |events, _| events >= EVENTS_FOR_ERRORS,
            |events, slow| events >= EVENTS_FOR_LATENCY || slow >= SLOW_AT_ONCE,
        )
    }

    /// The same once the time is over: what was counted has to do, however little it is.
    pub(super) fn violation_at_end(&self) -> Option<Violation> {
        let is_enough = |_, bad| bad >= BAD_AT_END;
        self.judged(is_enough, is_enough)
    }

    /// Whether so many events, and those among them that failed or were slow, are enough to go by their
    /// share.
    fn judged(
        &self,
        enough_failed: impl FnOnce(u64, u64) -> bool,
        enough_slow: impl FnOnce(u64, u64) -> bool,
    ) -> Option<Violation> {
        if self.is_one_clients() {
            return None;
        }
        let Bounds {
            traps: traps_bound,
            errors_percent,
            latency_ms,
            ..
        } = self.bounds;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (events, traps) = (read(&self.events), read(&self.traps));
        if traps_bound > 0 && traps >= traps_bound {
            return Some(Violation::Traps {
                count: traps,
                bound: traps_bound,
            });
        }
        let errors = read(&self.errors);
        let percent = errors.saturating_mul(100) / events.max(1);
        let bound = u64::from(errors_percent);
        if bound > 0 && enough_failed(events, errors) && percent >= bound {
            return Some(Violation::Errors { percent, bound });
        }
        let slow = read(&self.slow);
        let enough = latency_ms > 0 && enough_slow(events, slow);
        let too_slow = enough && slow.saturating_mul(100) > events;
        too_slow.then_some(Violation::Latency {
            bound_ms: latency_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally::new(Bounds {
            traps: 3,
            errors_percent: 50,
            latency_ms: 10,
            window_ms: 1,
        })
    }

    fn client(connection: u32) -> ClientId {
        ClientId {
            ip: 1,
            port: 1,
            connection,
        }
    }

    #[test]
    fn what_one_client_suffers_alone_condemns_nobody_who_serves_others() {
        let tally = tally();
        tally.ended(client(2), FAST, false);
        for _ in 0..100 {
            tally.trapped(client(1));
            tally.failed(client(1));
        }
        assert_eq!(tally.violation(), None);
        tally.trapped(client(3));
        assert_eq!(tally.violation().unwrap().name(), "traps");
    }

    #[test]
    fn what_messages_of_other_instances_break_or_fail_counts_though_clients_are_served() {
        let traps = tally();
        traps.ended(client(1), FAST, false);
        (0..3).for_each(|_| traps.broken_by_peer());
        assert_eq!(traps.violation().unwrap().name(), "traps");
        let errors = tally();
        errors.ended(client(1), FAST, false);
        (0..EVENTS_FOR_ERRORS).for_each(|_| errors.heard(FAST, true));
        assert_eq!(errors.violation().unwrap().name(), "errors");
        let well = tally();
        (0..1000).for_each(|_| well.heard(FAST, false));
        assert_eq!(well.violation(), None);
    }

    #[test]
    fn what_the_only_client_suffers_counts() {
        let tally = tally();
        tally.ended(client(1), FAST, false);
        (0..3).for_each(|_| tally.trapped(client(1)));
        assert_eq!(tally.violation().unwrap().name(), "traps");
    }

    const FAST: Duration = Duration::from_millis(1);
    const SLOW: Duration = Duration::from_millis(11);

    #[test]
    fn traps_count_from_the_first_and_shares_only_after_some_events() {
        let traps = tally();
        traps.trapped(client(1));
        traps.trapped(client(1));
        assert_eq!(traps.violation(), None);
        traps.trapped(client(1));
        let violation = traps.violation().unwrap();
        assert_eq!(violation, Violation::Traps { count: 3, bound: 3 });

        let errors = tally();
        for _ in 0..EVENTS_FOR_ERRORS - 1 {
            errors.ended(client(1), FAST, true);
        }
        assert_eq!(errors.violation(), None, "too few to judge");
        for _ in 0..EVENTS_FOR_ERRORS {
            errors.ended(client(1), FAST, false);
        }
        assert_eq!(errors.violation(), None, "less than half");
        errors.ended(client(1), FAST, true);
        assert_eq!(errors.violation().unwrap().name(), "errors");
    }

    #[test]
    fn once_the_time_is_over_few_events_are_enough_to_judge_by() {
        let tally = tally();
        tally.failed(client(1));
        assert_eq!(tally.violation_at_end(), None, "one says nothing");
        tally.failed(client(2));
        assert_eq!(tally.violation(), None);
        assert_eq!(tally.violation_at_end().unwrap().name(), "errors");
        for _ in 0..3 {
            tally.ended(client(1), FAST, false);
        }
        assert_eq!(tally.violation_at_end(), None, "less than half");
        for number in 0..2 {
            tally.ended(client(number), SLOW, false);
        }
        assert_eq!(tally.violation(), None);
        assert_eq!(tally.violation_at_end().unwrap().name(), "latency");
    }

    #[test]
    fn the_slowest_hundredth_may_be_slow_and_no_more() {
        let tally = tally();
        for _ in 0..199 {
            tally.ended(client(1), FAST, false);
        }
        tally.ended(client(1), SLOW, false);
        tally.ended(client(1), SLOW, false);
        assert_eq!(tally.violation(), None);
        tally.ended(client(1), SLOW, false);
        assert_eq!(tally.violation().unwrap().name(), "latency");
    }

    #[test]
    fn a_bound_of_zero_is_none() {
        let tally = Tally::new(Bounds::NONE);
        for _ in 0..1000 {
            tally.ended(client(1), SLOW, true);
            tally.trapped(client(1));
        }
        assert_eq!(tally.violation(), None);
    }
}
