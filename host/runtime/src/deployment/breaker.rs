//! When an instance that broke is built again: at once, unless it keeps breaking. Before it comes to
//! that, while it breaks often, whoever comes anew is not let near it.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Failures within [`WINDOW`] after which rebuilding waits.
const FAILURES_MAX: usize = 10;
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Failures within [`WINDOW`] after which who comes anew runs alone: somebody may come again and
/// again to break it.
const FAILURES_GUARDED: usize = 6;
const DELAY_MIN_MS: u64 = 20;
const DELAY_MAX_MS: u64 = 1_000;

/// The failures of one seat's instances.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    recent: VecDeque<Instant>,
    /// Doublings of the delay.
    doublings: u32,
}

impl Breaker {
    /// Whether it broke so often of late that who comes anew must run alone.
    pub(super) fn guards(&self) -> bool {
        self.recent.len() >= FAILURES_GUARDED
    }

    /// An instance broke or did not start; gives how long to wait before the next is built.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        while let Some(first) = self.recent.front()
            && now.saturating_duration_since(*first) > WINDOW
        {
            self.recent.pop_front();
        }
        if self.recent.len() < FAILURES_MAX {
            self.recent.push_back(now);
            self.doublings = 0;
            return Duration::ZERO;
        }
        self.recent.pop_front();
        self.recent.push_back(now);
        let delay_ms = DELAY_MIN_MS
            .saturating_mul(1 << self.doublings)
            .min(DELAY_MAX_MS);
        self.doublings = (self.doublings + 1).min(10);
        // Half of it at random, so that the instances of a deployment do not come back in step.
        let jitter = RandomState::new().hash_one(now) % (delay_ms / 2 + 1);
        Duration::from_millis(delay_ms / 2 + jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rebuilding_waits_only_after_many_failures_and_never_over_a_second() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        for _ in 0..FAILURES_MAX {
            assert_eq!(breaker.failed(start), Duration::ZERO);
        }
        for _ in 0..30 {
            let delay = breaker.failed(start);
            assert!(delay > Duration::ZERO && delay <= Duration::from_secs(1));
        }
        assert!(breaker.guards());
        let later = start + WINDOW + Duration::from_secs(1);
        assert_eq!(breaker.failed(later), Duration::ZERO);
        assert!(!breaker.guards());
    }
}
