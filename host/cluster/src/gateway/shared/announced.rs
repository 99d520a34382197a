//! The workers that have said what they serve.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tidegate_hub::lanes::WorkerKey;
use tokio::sync::watch;

/// The workers that have said what they serve.
#[derive(Debug)]
pub(in crate::gateway) struct Announced {
    /// Whether each serves a tenant of this gateway.
    workers: Mutex<BTreeMap<WorkerKey, bool>>,
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
    pub(in crate::gateway) fn says(&self, worker: WorkerKey, serves: bool) {
        self.change(|workers| {
            workers.insert(worker, serves);
        });
    }

    pub(in crate::gateway) fn is_gone(&self, worker: WorkerKey) {
        self.change(|workers| {
            workers.remove(&worker);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<WorkerKey, bool>)) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut workers);
        self.count.send_replace(workers.len());
    }

    /// How many there are.
    pub(in crate::gateway) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    pub(in crate::gateway) fn serves_any(&self) -> bool {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.values().any(|serves| *serves)
    }
}
