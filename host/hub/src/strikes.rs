//! Clients whose events were set aside of late: one with too many dead letters is closed. Pure;
//! bounded by the clients, each of whom leaves with its close.

use std::time::Instant;

use rustc_hash::FxHashMap;
use tidegate_wire::effect::{DEAD_LETTERS_MAX, DEAD_LETTERS_WITHIN};

use crate::give_back::give_back;

/// The dead letters of each client that has any, and when the last one came.
#[derive(Debug, Default)]
pub struct Strikes {
    clients: FxHashMap<u32, (u8, Instant)>,
}

impl Strikes {
    /// An event of a client was set aside; whether the client is to be closed.
    pub fn dead_letter(&mut self, connection: u32, now: Instant) -> bool {
        let (count, last) = self.clients.entry(connection).or_insert((0, now));
        if now.saturating_duration_since(*last) >= DEAD_LETTERS_WITHIN {
            *count = 0;
        }
        *count = count.saturating_add(1);
        *last = now;
        *count >= DEAD_LETTERS_MAX
    }

    /// The client is gone.
    pub fn forget(&mut self, connection: u32) {
        if self.clients.remove(&connection).is_some() {
            give_back(&mut self.clients);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_closed_after_so_many_dead_letters_in_a_row() {
        let (mut strikes, now) = (Strikes::default(), Instant::now());
        for _ in 1..DEAD_LETTERS_MAX {
            assert!(!strikes.dead_letter(1, now) && !strikes.dead_letter(2, now));
        }
        assert!(strikes.dead_letter(1, now));
        strikes.forget(1);
        assert!(
            !strikes.dead_letter(1, now),
            "another client of this number"
        );
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (mut strikes, now) = (Strikes::default(), Instant::now());
        for _ in 0..100 {
            assert!(!strikes.dead_letter(1, now));
            strikes.forget(2);
            strikes.clients.get_mut(&1).unwrap().1 -= DEAD_LETTERS_WITHIN;
        }
    }
}
