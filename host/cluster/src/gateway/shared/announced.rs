//! The workers that have said what they serve.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tidegate_hub::lanes::WorkerKey;
use tidegate_hub::routing::Standing;
use tokio::sync::watch;

/// The workers that have said what they serve.
#[derive(Debug)]
pub(in crate::gateway) struct Announced {
    /// What each is to the tenants of this gateway, by their numbers.
    workers: Mutex<BTreeMap<WorkerKey, Vec<Standing>>>,
    count: watch::Sender<usize>,
}

impl Default for Announced {
    fn default() -> Self {
        Self {
            workers: Mutex::default(),
            count: watch::channel(0).0,
        }
    }
}

impl Announced {
    /// A worker says what it serves, again or for the first time.
    pub(in crate::gateway) fn says(&self, worker: WorkerKey, standings: Vec<Standing>) {
        self.change(|workers| {
            workers.insert(worker, standings);
        });
    }

    pub(in crate::gateway) fn is_gone(&self, worker: WorkerKey) {
        self.change(|workers| {
            workers.remove(&worker);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<WorkerKey, Vec<Standing>>)) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut workers);
        self.count.send_replace(workers.len());
    }

    /// How many there are.
    pub(in crate::gateway) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// What the best of them is to a tenant.
    pub(in crate::gateway) fn standing(&self, tenant: u16) -> Standing {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let standings = workers
            .values()
            .filter_map(|it| it.get(usize::from(tenant)));
        standings.max().copied().unwrap_or(Standing::RunsNothing)
    }

    /// Whether one of them serves a tenant of this gateway.
    pub(in crate::gateway) fn serves_any(&self) -> bool {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.values().flatten().any(|it| *it == Standing::Serves)
    }
}
