//! ◆ Incarnations that are gone for good.

use std::collections::{BTreeSet, VecDeque};

use tidegate_wire::id::Incarnation;

/// How many are remembered; the oldest are forgotten first.
const LOST_MAX: usize = 4096;

/// A bounded set of incarnations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    known: BTreeSet<Incarnation>,
    oldest_first: VecDeque<Incarnation>,
}

impl Lost {
    /// Whether this incarnation is one of them.
    #[must_use]
    pub fn contains(&self, incarnation: Incarnation) -> bool {
        self.known.contains(&incarnation)
    }

    /// It is lost; at the limit the one that was lost first is forgotten.
    pub fn insert(&mut self, incarnation: Incarnation) {
        if !self.known.insert(incarnation) {
            return;
        }
        self.oldest_first.push_back(incarnation);
        if self.oldest_first.len() > LOST_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// It is not lost.
    pub fn remove(&mut self, incarnation: Incarnation) {
        if self.known.remove(&incarnation) {
            self.oldest_first.retain(|known| *known != incarnation);
        }
    }

    /// Takes all out, the oldest first.
    pub fn take(&mut self) -> VecDeque<Incarnation> {
        self.known.clear();
        std::mem::take(&mut self.oldest_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut lost = Lost::default();
        for n in 0..=LOST_MAX as u64 {
            lost.insert(Incarnation(n));
            lost.insert(Incarnation(n));
        }
        assert!(!lost.contains(Incarnation(0)));
        assert!(lost.contains(Incarnation(1)));
        assert!(lost.contains(Incarnation(LOST_MAX as u64)));
        lost.remove(Incarnation(1));
        assert_eq!(lost.take().len(), LOST_MAX - 1);
        assert!(!lost.contains(Incarnation(2)));
    }
}
