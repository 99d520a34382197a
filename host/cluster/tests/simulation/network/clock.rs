//! Clocks: each process has its own, which moves only while the process is stepped. One whose machine
//! was suspended goes on as if no time had passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The clock of one process.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    base: Instant,
    started_ms: u64,
    /// What it has slept through.
    lag_ms: Arc<AtomicU64>,
}

impl Clock {
    /// Of the current runtime, which is made at this time of the world.
    pub(crate) fn start(started_ms: u64) -> Self {
        Self {
            base: Instant::now(),
            started_ms,
            lag_ms: Arc::default(),
        }
    }

    /// The time of the world as it was when the process last ran; inside its runtime only.
    pub(crate) fn now_ms(&self) -> u64 {
        self.missed_ms() + self.base.elapsed().as_millis() as u64
    }

    pub(crate) fn instant(&self, ms: u64) -> Instant {
        self.base + Duration::from_millis(ms.saturating_sub(self.missed_ms()))
    }

    /// So much of the world's time has passed and the process never knows.
    pub(crate) fn sleep_through(&self, ms: u64) {
        self.lag_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn missed_ms(&self) -> u64 {
        self.started_ms + self.lag_ms.load(Ordering::Relaxed)
    }
}
