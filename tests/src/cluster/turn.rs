//! How many clusters run at a time: the machine is small, and a test that waits for its turn is
//! better than ten that wait for the processor.

use std::sync::{Condvar, Mutex, PoisonError};

const CLUSTERS_MAX: usize = 3;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run one cluster.
#[derive(Debug)]
pub(crate) struct Turn;

impl Turn {
    /// Waits for its turn. It blocks the thread: each test has a thread of its own and starts its
    /// cluster before anything else.
    pub(crate) fn take() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = ENDED
            .wait_while(running, |running| *running >= CLUSTERS_MAX)
            .unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}
