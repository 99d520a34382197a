//! What waits for one watcher: in order, bounded in number and bytes, filled by any thread, taken
//! by one task. What finds it full is counted in its place.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_wire::feed::{Change, Happening};
use tokio::sync::Notify;

/// What the names of waiting changes may take.
const BYTES_MAX: usize = 1 << 20;
/// What any change counts besides its names.
const HAPPENING_BYTES: usize = 128;

/// Changes that followed each other, and how many were dropped before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Stretch {
    pub(in crate::gateway) missed: u64,
    pub(in crate::gateway) happenings: Vec<Happening>,
}

#[derive(Debug)]
pub(in crate::gateway) struct Queue {
    state: Mutex<WatcherQueueState>,
    /// One task waits, so that a permit is enough.
    filled: Notify,
    happenings_max: usize,
}

#[derive(Debug, Default)]
struct WatcherQueueState {
    stretches: Vec<Stretch>,
    happenings: usize,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(in crate::gateway) fn new(happenings_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            happenings_max,
        }
    }

    /// The state is plain data: whoever panicked while holding the lock left it usable.
    fn state(&self) -> MutexGuard<'_, WatcherQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a change, or counts it as missed.
    pub(in crate::gateway) fn push(&self, happening: Happening) {
        let mut state = self.state();
        let was_empty = state.stretches.is_empty();
        state.push(happening, self.happenings_max);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Adds what another gateway told.
    pub(in crate::gateway) fn push_all(&self, stretch: Stretch) {
        let mut state = self.state();
        state.miss(stretch.missed);
        for happening in stretch.happenings {
            state.push(happening, self.happenings_max);
        }
        let filled = !state.stretches.is_empty();
        drop(state);
        if filled {
            self.filled.notify_one();
        }
    }

    /// Waits until something is there; false when nothing more will be. Cancel safe.
    pub(in crate::gateway) async fn filled(&self) -> bool {
        loop {
            {
                let state = self.state();
                if state.closed || !state.stretches.is_empty() {
                    return !state.closed;
                }
            }
            self.filled.notified().await;
        }
    }

    /// All that is there.
    pub(in crate::gateway) fn take(&self) -> Vec<Stretch> {
        let mut state = self.state();
        state.happenings = 0;
        state.bytes = 0;
        std::mem::take(&mut state.stretches)
    }

    /// Nobody will take what comes.
    pub(in crate::gateway) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.stretches = Vec::new();
        drop(state);
        self.filled.notify_one();
    }
}

impl WatcherQueueState {
    fn push(&mut self, happening: Happening, happenings_max: usize) {
        if self.closed {
            return;
        }
        let bytes = weight(&happening);
        let full = self.happenings >= happenings_max
            || (self.happenings > 0 && self.bytes + bytes > BYTES_MAX);
        if full {
            return self.miss(1);
        }
        self.happenings += 1;
        self.bytes += bytes;
        match self.stretches.last_mut() {
            Some(last) => last.happenings.push(happening),
            None => self.stretches.push(Stretch {
                missed: 0,
                happenings: vec![happening],
            }),
        }
    }

    fn miss(&mut self, missed: u64) {
        if missed == 0 || self.closed {
            return;
        }
        match self.stretches.last_mut() {
            Some(last) if last.happenings.is_empty() => {
                last.missed = last.missed.saturating_add(missed);
            }
            Some(_) | None => self.stretches.push(Stretch {
                missed,
                happenings: Vec::new(),
            }),
        }
    }
}

fn weight(happening: &Happening) -> usize {
    let names = match &happening.what {
        Change::Connected(peer) => peer.listener.len(),
        Change::Closed(_, groups) => groups.iter().map(|group| 32 + group.len()).sum(),
        Change::Joined(name) | Change::Left(name) | Change::Bound(name) | Change::Unbound(name) => {
            name.len()
        }
    };
    HAPPENING_BYTES + names + happening.uid.as_ref().map_or(0, |uid| uid.len())
}

#[cfg(test)]
mod tests {
    use tidegate_wire::event::CloseReason;
    use tidegate_wire::id::ClientId;

    use super::*;

    fn happening(connection: u32, groups: usize) -> Happening {
        let client = ClientId {
            ip: 1,
            port: 2,
            connection,
        };
        let groups = vec!["g".repeat(200).into(); groups];
        Happening {
            at_ms: 0,
            client,
            uid: None,
            what: Change::Closed(CloseReason::Client, groups),
        }
    }

    fn taken(queue: &Queue) -> Vec<(u64, Vec<u32>)> {
        let stretch = |stretch: Stretch| {
            let connections = stretch.happenings.iter().map(|it| it.client.connection);
            (stretch.missed, connections.collect())
        };
        queue.take().into_iter().map(stretch).collect()
    }

    #[test]
    fn what_finds_the_queue_full_is_counted_in_its_place() {
        let queue = Queue::new(2);
        for connection in 1..=5 {
            queue.push(happening(connection, 0));
        }
        assert_eq!(taken(&queue), [(0, vec![1, 2]), (3, vec![])]);
        queue.push_all(Stretch {
            missed: 7,
            happenings: vec![happening(6, 0), happening(7, 0), happening(8, 0)],
        });
        queue.push(happening(9, 0));
        assert_eq!(taken(&queue), [(7, vec![6, 7]), (2, vec![])]);
        assert_eq!(taken(&queue), []);
    }

    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let queue = Queue::new(1_000_000);
        for connection in 0..100 {
            queue.push(happening(connection, 100));
        }
        let waiting = taken(&queue);
        assert!((40..50).contains(&waiting[0].1.len()), "{waiting:?}");
        assert_eq!(waiting[1].0 as usize, 100 - waiting[0].1.len());
    }

    #[tokio::test]
    async fn a_closed_queue_takes_nothing_more() {
        let queue = Queue::new(2);
        queue.close();
        queue.push(happening(1, 0));
        assert!(!queue.filled().await);
        assert_eq!(taken(&queue), []);
    }
}
