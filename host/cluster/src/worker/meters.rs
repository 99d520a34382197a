//! What a worker counts. Handles are registered once.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use metrics::{Counter, Gauge};

pub(super) struct Meters {
    pub(super) commits: Counter,
    pub(super) links: Gauge,
    lanes: Gauge,
    /// The same as `lanes`, to be read back for the load.
    clients: AtomicU32,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            commits: metrics::counter!("tidegate_worker_commits_total"),
            links: metrics::gauge!("tidegate_worker_links"),
            lanes: metrics::gauge!("tidegate_worker_lanes"),
            clients: AtomicU32::new(0),
        }
    }

    pub(super) fn lane_made(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
        self.lanes.increment(1);
    }

    pub(super) fn lane_dropped(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
        self.lanes.decrement(1);
    }

    pub(super) fn clients(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters")
            .field("clients", &self.clients())
            .finish_non_exhaustive()
    }
}
