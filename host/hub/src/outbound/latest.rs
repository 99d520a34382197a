//! Where in a queue the newest message under each key waits. Pure bookkeeping: parts are numbered in
//! the order in which they came, so that a place is found by one look-up however many wait.

use rustc_hash::FxHashMap;
use tidegate_wire::Name;

/// Keys beyond those of twice as many parts as wait are of parts that are gone: they are forgotten.
const GONE_KEYS_KEPT: usize = 16;

/// The keys of one queue.
#[derive(Debug, Default)]
pub(super) struct Latest {
    /// The number of the part at the front.
    front: u64,
    /// The number of each key's newest part, which may be gone.
    numbers: FxHashMap<Name, u64>,
}

impl Latest {
    /// Where the newest part under this key waits, if it does.
    pub(super) fn place(&self, key: &Name) -> Option<usize> {
        let number = self.numbers.get(key)?;
        usize::try_from(number.checked_sub(self.front)?).ok()
    }

    /// The part at this place is the newest under this key; so many wait.
    pub(super) fn set(&mut self, key: Name, place: usize, parts: usize) {
        self.numbers.insert(key, self.front + place as u64);
        if self.numbers.len() > 2 * parts + GONE_KEYS_KEPT {
            let front = self.front;
            self.numbers.retain(|_, number| *number >= front);
        }
    }

    /// So many parts at the front are gone.
    pub(super) const fn gone(&mut self, parts: usize) {
        self.front += parts as u64;
    }
}
