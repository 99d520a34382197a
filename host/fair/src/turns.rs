//! A queue that many share by turns: each key has a queue of its own, and the keys take turns, one
//! value at a time.
//!
//! Guarantees: values of one key come out in the order in which they went in; a key that has values
//! gets its turn after each other key has had at most one; a turn costs the same however many keys
//! wait, besides those that are asked whether they are able.

mod ring;
mod values;

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use ring::Ring;
use rustc_hash::FxHashMap;
use values::Values;

/// So many keys without values keep their room, so that a key that comes and goes costs no
/// allocation.
const IDLE_KEYS_KEPT: usize = 1024;
/// A queue of a key without values that grew beyond this is given back.
const IDLE_VALUES_KEPT: usize = 64;

/// Queues by key, and the order of their turns.
#[derive(Debug)]
pub struct Turns<K, V> {
    /// The place of each key's queue.
    places: FxHashMap<K, usize>,
    /// The queues; those with values are in the ring.
    ring: Ring<KeyQueue<K, V>>,
    len: usize,
}

#[derive(Debug)]
struct KeyQueue<K, V> {
    key: K,
    values: Values<V>,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self {
            places: FxHashMap::default(),
            ring: Ring::new(),
            len: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V> Turns<K, V> {
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
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.ring.iter().map(|(_, queue)| &queue.key)
    }

    /// Whether this key has values.
    #[must_use]
    pub fn has(&self, key: &K) -> bool {
        self.of(key) > 0
    }

    /// How many values this key has.
    #[must_use]
    pub fn of(&self, key: &K) -> usize {
        let queue = self.places.get(key).and_then(|it| self.ring.get(*it));
        queue.map_or(0, |queue| queue.values.len())
    }

    /// The first value of this key.
    #[must_use]
    pub fn first_of(&self, key: &K) -> Option<&V> {
        let queue = self.ring.get(*self.places.get(key)?)?;
        queue.values.front()
    }

    /// Adds a value behind the others of its key.
    pub fn push(&mut self, key: K, value: V) {
        if let Some(values) = self.queue(key) {
            values.push_back(value);
        }
    }

    /// Puts a value back before the others of its key. The key's turn comes behind all others'.
    pub fn push_front(&mut self, key: K, value: V) {
        if let Some(values) = self.queue(key) {
            values.push_front(value);
        }
    }

    fn queue(&mut self, key: K) -> Option<&mut Values<V>> {
        let place = match self.places.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let (key, values) = (new.key().clone(), Values::new());
                *new.insert(self.ring.insert(KeyQueue { key, values }))
            }
        };
        if self.ring.get(place)?.values.is_empty() {
            self.ring.join(place);
        }
        self.len += 1;
        Some(&mut self.ring.get_mut(place)?.values)
    }

    /// The next value, of the first key whose turn it is and that is `able` to have it; it has its
    /// next turn behind all others. Those that are not able keep their places.
    pub fn next(&mut self, able: impl FnMut(&K, &V) -> bool) -> Option<(K, V)> {
        self.next_among(usize::MAX, able)
    }

    /// The same, but only so many keys are asked, the first ones.
    pub fn next_among(
        &mut self,
        keys: usize,
        mut able: impl FnMut(&K, &V) -> bool,
    ) -> Option<(K, V)> {
        let first = self.ring.iter().take(keys);
        let mut first = first.map(|(place, queue)| (place, &queue.key, queue.values.front()));
        let found = first.find(|(_, key, value)| value.is_some_and(|value| able(key, value)));
        let (place, key) = found.map(|(place, key, _)| (place, key.clone()))?;
        drop(first);
        Some((key, self.pop(place)?))
    }

    /// The next value of this key, which has its next turn behind all others.
    pub fn next_of(&mut self, key: &K) -> Option<V> {
        let place = *self.places.get(key)?;
        self.pop(place)
    }

    fn pop(&mut self, place: usize) -> Option<V> {
        let values = &mut self.ring.get_mut(place)?.values;
        let value = values.pop_front(IDLE_VALUES_KEPT)?;
        let is_last = values.is_empty();
        self.len -= 1;
        self.ring.leave(place);
        if is_last {
            self.sweep();
        } else {
            self.ring.join(place);
        }
        Some(value)
    }

    /// Takes all values of one key, in their order.
    pub fn take_all(&mut self, key: &K) -> VecDeque<V> {
        let place = self.places.remove(key);
        let queue = place.and_then(|place| self.ring.remove(place));
        let values = queue.map_or_else(VecDeque::new, |queue| queue.values.into_all());
        self.len -= values.len();
        values
    }

    /// Takes everything: the values of each key in their order.
    pub fn drain(&mut self) -> Vec<V> {
        let mut all = Vec::with_capacity(self.len);
        let keys: Vec<K> = self.keys().cloned().collect();
        for key in keys {
            all.extend(self.take_all(&key));
        }
        all
    }

    /// Keeps only these values.
    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        let mut emptied = Vec::new();
        let mut len = 0;
        for (place, queue) in self.ring.values_mut() {
            queue.values.retain(&mut keep);
            len += queue.values.len();
            if queue.values.is_empty() {
                emptied.push(place);
            }
        }
        for place in emptied {
            self.ring.leave(place);
        }
        self.len = len;
    }

    /// Forgets keys without values when there are more of them than of others: each pays for one.
    fn sweep(&mut self) {
        if self.places.len() > 2 * self.ring.len() + IDLE_KEYS_KEPT {
            let ring = &mut self.ring;
            self.places.retain(|_, place| {
                let has_values = ring.get(*place).is_some_and(|it| !it.values.is_empty());
                if !has_values {
                    ring.remove(*place);
                }
                has_values
            });
        }
    }
}

#[cfg(test)]
mod tests;
