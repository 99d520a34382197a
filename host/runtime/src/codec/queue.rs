//! Jobs of connections that wait for an instance: in the order in which they came, bounded by the
//! places that they hold.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::{CodecJob, CodecOutcome};

/// One job, and who waits for it.
pub(super) struct Waiting {
    pub(super) job: CodecJob,
    pub(super) tell: oneshot::Sender<(CodecOutcome, OwnedSemaphorePermit)>,
    /// Held until whoever waits has the outcome.
    pub(super) place: OwnedSemaphorePermit,
}

/// What waits for one of the instances.
#[derive(Default)]
pub(super) struct JobQueue {
    jobs: Mutex<VecDeque<Waiting>>,
    filled: Notify,
}

impl JobQueue {
    /// Plain data: whoever panicked while holding the lock left it usable.
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, waiting: Waiting) {
        self.jobs().push_back(waiting);
        self.filled.notify_one();
    }

    fn pop(&self) -> Option<Waiting> {
        let mut jobs = self.jobs();
        let next = jobs.pop_front();
        if jobs.is_empty() && jobs.capacity() > 256 {
            *jobs = VecDeque::new();
        }
        next
    }

    /// The next one; those that nobody waits for are left out. Whoever finds one at once has not
    /// waited: a batch is taken without going to sleep.
    pub(super) async fn next(&self) -> Waiting {
        loop {
            while let Some(waiting) = self.pop() {
                if !waiting.tell.is_closed() {
                    return waiting;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Drops what waits: its callers learn that nobody will do it.
    pub(super) fn clear(&self) {
        self.jobs().clear();
    }
}
