//! Memory of tables after a burst: std's never shrink by themselves.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// A table of about so many entries is not made smaller.
const ENTRIES_KEPT: usize = 512;

/// The room that a table should have after a removal, if it may have too much: twice its entries, at
/// each power of two that their number comes down to. So at least as many entries came or went since
/// the last time as are moved now. (std's `capacity` does not tell: it leaves out places that
/// removals have spoilt.)
const fn room(len: usize) -> Option<usize> {
    if len >= ENTRIES_KEPT && len.is_power_of_two() {
        return Some(len * 2);
    }
    None
}

/// Makes a table smaller that has become sparse. To be called after each removal.
pub fn give_back<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if let Some(room) = room(map.len()) {
        map.shrink_to(room);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::DefaultHasher;
    use std::rc::Rc;

    use super::*;

    /// Counts hashes: one for each entry that is looked for or moved.
    #[derive(Clone, Default)]
    struct Counting(Rc<Cell<usize>>);

    impl BuildHasher for Counting {
        type Hasher = DefaultHasher;

        fn build_hasher(&self) -> DefaultHasher {
            self.0.set(self.0.get() + 1);
            DefaultHasher::new()
        }
    }

    /// How many entries were moved while a burst of so many came to its end.
    fn moved(burst: u32) -> usize {
        let counting = Counting::default();
        let mut map: HashMap<u32, u32, Counting> = HashMap::with_hasher(counting.clone());
        map.extend((0..burst).map(|n| (n, n)));
        let begun = counting.0.get();
        for n in 0..burst {
            map.remove(&n);
            give_back(&mut map);
        }
        assert!(map.capacity() <= 4 * ENTRIES_KEPT);
        counting.0.get() - begun - burst as usize
    }

    #[test]
    fn a_table_is_made_smaller_after_a_burst_at_a_cost_in_proportion() {
        for burst in [1 << 14, 1 << 16, 100_000] {
            let moved = moved(burst);
            assert!(moved >= ENTRIES_KEPT, "it stayed as large as it was");
            assert!(moved <= burst as usize, "{moved} moved after {burst}");
        }
        assert_eq!(moved(ENTRIES_KEPT as u32 / 2), 0);
    }

    #[test]
    fn entries_that_come_and_go_at_one_size_move_nothing() {
        let counting = Counting::default();
        let mut map: HashMap<usize, (), Counting> = HashMap::with_hasher(counting.clone());
        map.extend((0..=1024).map(|n| (n, ())));
        (0..10).for_each(|_| {
            map.remove(&1024);
            give_back(&mut map);
            map.insert(1024, ());
        });
        let before = counting.0.get();
        for _ in 0..10_000 {
            map.remove(&1024);
            give_back(&mut map);
            map.insert(1024, ());
        }
        assert_eq!(counting.0.get() - before, 20_000);
    }
}
