//! Clocks: each process has its own, which moves only while the process is stepped.

use std::time::Duration;

use tokio::time::Instant;

/// The clock of one process, which stands still while the process is frozen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
    started_ms: u64,
}

impl Clock {
    /// Of the current runtime, which is made at this time of the world.
    pub(crate) fn start(started_ms: u64) -> Self {
        let base = Instant::now();
        Self { base, started_ms }
    }

    /// The time of the world as this process sees it; inside its runtime only.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started_ms + self.base.elapsed().as_millis() as u64
    }

    pub(crate) fn instant(&self, ms: u64) -> Instant {
        self.base + Duration::from_millis(ms.saturating_sub(self.started_ms))
    }
}
