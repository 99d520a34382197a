//! When another gateway was heard last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When another gateway last gave a sign of life.
#[derive(Debug)]
pub(in crate::gateway) struct Life {
    since: Instant,
    heard_ns: AtomicU64,
}

impl Life {
    /// It is heard of for the first time.
    pub(in crate::gateway) fn new() -> Self {
        Self {
            since: Instant::now(),
            heard_ns: AtomicU64::new(0),
        }
    }

    /// It was heard then.
    pub(in crate::gateway) fn tell(&self, heard: Instant) {
        let heard = heard.saturating_duration_since(self.since).as_nanos();
        self.heard_ns.store(heard as u64, Ordering::Relaxed);
    }

    pub(in crate::gateway) fn heard(&self) -> Instant {
        self.since + Duration::from_nanos(self.heard_ns.load(Ordering::Relaxed))
    }
}
