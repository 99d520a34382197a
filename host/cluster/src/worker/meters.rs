//! What a worker counts. Handles are registered once.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use metrics::{Counter, Gauge};

pub(super) struct Meters {
    pub(super) commits: Counter,
    pub(super) links: Gauge,
    clients: Count,
    lanes: Count,
}

/// A gauge that can be read back.
struct Count {
    gauge: Gauge,
    value: AtomicU32,
}

impl Count {
    fn new(gauge: Gauge) -> Self {
        let value = AtomicU32::new(0);
        Self { gauge, value }
    }

    fn add(&self) {
        self.value.fetch_add(1, Ordering::Relaxed);
        self.gauge.increment(1);
    }

    fn subtract(&self) {
        self.value.fetch_sub(1, Ordering::Relaxed);
        self.gauge.decrement(1);
    }

    fn get(&self) -> u32 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            commits: metrics::counter!("tidegate_worker_commits_total"),
            links: metrics::gauge!("tidegate_worker_links"),
            clients: Count::new(metrics::gauge!("tidegate_worker_clients")),
            lanes: Count::new(metrics::gauge!("tidegate_worker_lanes")),
        }
    }

    pub(super) fn lane_made(&self) {
        self.lanes.add();
    }

    pub(super) fn lane_dropped(&self) {
        self.lanes.subtract();
    }

    /// A client has its events handled here from now on.
    pub(super) fn client_came(&self) {
        self.clients.add();
    }

    /// It has not any more.
    pub(super) fn client_went(&self) {
        self.clients.subtract();
    }

    /// Clients whose events are handled here.
    pub(super) fn clients(&self) -> u32 {
        self.clients.get()
    }

    /// Lanes that are kept: theirs, and those of clients whose close may be left to this worker.
    pub(super) fn lanes(&self) -> u32 {
        self.lanes.get()
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters")
            .field("clients", &self.clients())
            .field("lanes", &self.lanes())
            .finish_non_exhaustive()
    }
}
