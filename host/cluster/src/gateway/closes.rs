//! Closes whose effects have been applied here.
//!
//! A close may be told more than once: by a custodian that lost its link and by the one that was
//! named after it, or by the home just before it was lost. Each gateway applies the effects of a
//! close the first time that they reach it. What is remembered is bounded, the oldest is forgotten
//! first: what tells a close twice does so within a few leases.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashSet;
use tidegate_wire::id::CloseId;

/// How many are remembered.
const CLOSES_MAX: usize = 1 << 17;

/// A bounded set of closes.
#[derive(Debug, Default)]
pub(crate) struct Closes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: FxHashSet<CloseId>,
    oldest_first: VecDeque<CloseId>,
}

impl Closes {
    /// Whether this close is known.
    pub(crate) fn contains(&self, close: CloseId) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.contains(&close)
    }

    /// Whether this close is new. It is known from then on.
    pub(crate) fn is_new(&self, close: CloseId) -> bool {
        // Plain data: whoever panicked while holding the lock left it usable.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.known.insert(close) {
            return false;
        }
        state.oldest_first.push_back(close);
        if state.oldest_first.len() > CLOSES_MAX
            && let Some(oldest) = state.oldest_first.pop_front()
        {
            state.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::id::{ClientId, Incarnation};

    use super::*;

    #[test]
    fn a_close_is_new_once_and_the_oldest_is_forgotten_first() {
        let closes = Closes::default();
        let close = |connection| CloseId {
            home: Incarnation(1),
            client: ClientId {
                ip: 1,
                port: 1,
                connection,
            },
        };
        for connection in 0..=CLOSES_MAX as u32 {
            assert!(closes.is_new(close(connection)));
            assert!(!closes.is_new(close(connection)));
        }
        assert!(!closes.is_new(close(1)), "known");
        assert!(closes.is_new(close(0)), "forgotten");
    }
}
