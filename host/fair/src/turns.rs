//! A queue that many share by turns: each key has a queue of its own, and the keys take turns, one
//! value at a time.
//!
//! Guarantees: values of one key come out in the order in which they went in; a key that has values
//! gets its turn after each other key has had at most one.

use std::collections::VecDeque;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// So many keys without values keep their room, so that a key that comes and goes costs no
/// allocation.
const IDLE_KEYS_KEPT: usize = 1024;
/// A queue of a key without values that grew beyond this is given back.
const IDLE_VALUES_KEPT: usize = 64;

/// Queues by key, and the order of their turns.
#[derive(Debug)]
pub struct Turns<K, V> {
    queues: FxHashMap<K, VecDeque<V>>,
    /// The keys that have values, each once.
    ring: VecDeque<K>,
    len: usize,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self {
            queues: FxHashMap::default(),
            ring: VecDeque::new(),
            len: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, V> Turns<K, V> {
    /// How many values wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The keys that have values, in the order of their turns.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.ring.iter().copied()
    }

    /// Whether this key has values.
    #[must_use]
    pub fn has(&self, key: K) -> bool {
        self.of(key) > 0
    }

    /// How many values this key has.
    #[must_use]
    pub fn of(&self, key: K) -> usize {
        self.queues.get(&key).map_or(0, VecDeque::len)
    }

    /// Adds a value behind the others of its key.
    pub fn push(&mut self, key: K, value: V) {
        self.queue(key).push_back(value);
    }

    /// Puts a value back before the others of its key. The key's turn comes behind all others'.
    pub fn push_front(&mut self, key: K, value: V) {
        self.queue(key).push_front(value);
    }

    fn queue(&mut self, key: K) -> &mut VecDeque<V> {
        self.len += 1;
        let queue = self.queues.entry(key).or_default();
        if queue.is_empty() {
            self.ring.push_back(key);
        }
        queue
    }

    /// The next value, of the first key whose turn it is and that is `able`; it has its next turn
    /// behind all others. Those that are not able keep their places.
    pub fn next(&mut self, mut able: impl FnMut(K) -> bool) -> Option<(K, V)> {
        let place = self.ring.iter().position(|key| able(*key))?;
        let key = self.ring.remove(place)?;
        let value = self.pop(key)?;
        Some((key, value))
    }

    /// The next value of this key, which has its next turn behind all others.
    pub fn next_of(&mut self, key: K) -> Option<V> {
        if !self.has(key) {
            return None;
        }
        self.leave_ring(key);
        self.pop(key)
    }

    /// Takes a value of a key that is not in the ring.
    fn pop(&mut self, key: K) -> Option<V> {
        let queue = self.queues.get_mut(&key)?;
        let value = queue.pop_front()?;
        self.len -= 1;
        if queue.is_empty() {
            queue.shrink_to(IDLE_VALUES_KEPT);
            self.sweep();
        } else {
            self.ring.push_back(key);
        }
        Some(value)
    }

    /// Takes all values of one key, in their order.
    pub fn take_all(&mut self, key: K) -> VecDeque<V> {
        let Some(queue) = self.queues.remove(&key) else {
            return VecDeque::new();
        };
        if !queue.is_empty() {
            self.leave_ring(key);
            self.len -= queue.len();
        }
        queue
    }

    /// Takes everything: the values of each key in their order.
    pub fn drain(&mut self) -> Vec<V> {
        let mut all = Vec::with_capacity(self.len);
        for key in std::mem::take(&mut self.ring) {
            all.extend(self.queues.remove(&key).into_iter().flatten());
        }
        self.len = 0;
        all
    }

    /// Keeps only these values.
    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        for queue in self.queues.values_mut() {
            queue.retain(&mut keep);
        }
        let queues = &self.queues;
        self.ring
            .retain(|key| queues.get(key).is_some_and(|queue| !queue.is_empty()));
        self.len = queues.values().map(VecDeque::len).sum();
    }

    fn leave_ring(&mut self, key: K) {
        if let Some(place) = self.ring.iter().position(|other| *other == key) {
            self.ring.remove(place);
        }
    }

    /// Forgets keys without values when there are more of them than of others: each pays for one.
    fn sweep(&mut self) {
        if self.queues.len() > 2 * self.ring.len() + IDLE_KEYS_KEPT {
            self.queues.retain(|_, queue| !queue.is_empty());
        }
    }
}

#[cfg(test)]
mod tests;
