//! Order within a key, turns among keys, and nothing is lost.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use proptest::prelude::*;

use super::Turns;

fn all(turns: &mut Turns<u8, u32>) -> Vec<(u8, u32)> {
    std::iter::from_fn(|| turns.next(|_, _| true)).collect()
}

#[test]
fn a_key_with_much_waits_behind_one_with_little() {
    let mut turns = Turns::default();
    for value in 0..3 {
        turns.push(1, value);
    }
    turns.push(2, 10);
    assert_eq!(all(&mut turns), [(1, 0), (2, 10), (1, 1), (1, 2)]);
}

#[test]
fn what_is_put_back_comes_first_of_its_key_and_last_of_all() {
    let mut turns = Turns::default();
    for value in [0, 1] {
        turns.push(1, value);
        turns.push(2, value + 10);
    }
    let (key, value) = turns.next(|_, _| true).unwrap();
    turns.push_front(key, value);
    assert_eq!(all(&mut turns), [(2, 10), (1, 0), (2, 11), (1, 1)]);
}

#[test]
fn who_is_not_able_keeps_its_place() {
    let mut turns = Turns::default();
    for key in 1..4 {
        turns.push(key, u32::from(key));
    }
    assert_eq!(turns.next(|key, _| *key == 2), Some((2, 2)));
    assert_eq!(turns.next(|key, _| *key == 2), None);
    assert_eq!(all(&mut turns), [(1, 1), (3, 3)]);
}

#[test]
fn keys_that_are_gone_leave_nothing_behind() {
    let mut turns = Turns::default();
    for key in 0..100_000_u32 {
        turns.push(key, ());
        assert!(turns.next(|_, _| true).is_some());
    }
    assert!(turns.places.len() <= super::IDLE_KEYS_KEPT + 1);
    assert!(turns.ring.places() <= super::IDLE_KEYS_KEPT + 2);
    assert!(turns.ring.len() == 0 && turns.is_empty());
}

#[test]
fn what_is_kept_stays_in_order_and_keys_without_values_have_no_turn() {
    let mut turns = Turns::default();
    for value in 0..6 {
        turns.push(1, value);
        turns.push(2, value * 2);
    }
    turns.retain(|value| value % 2 == 1);
    assert_eq!(turns.len(), 3);
    assert_eq!(all(&mut turns), [(1, 1), (1, 3), (1, 5)]);
    turns.push(2, 7);
    assert_eq!(all(&mut turns), [(2, 7)]);
}

#[test]
fn only_so_many_keys_are_asked() {
    let mut turns = Turns::default();
    for key in 0..100_u32 {
        turns.push(key, key);
    }
    let mut asked = Vec::new();
    let next = turns.next_among(3, |key, _| {
        asked.push(*key);
        *key == 3
    });
    assert_eq!((next, asked), (None, vec![0, 1, 2]));
    assert_eq!(turns.next_among(4, |key, _| *key == 3), Some((3, 3)));
}

thread_local! {
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// A key that counts how often keys are compared.
#[derive(Clone, Copy, Debug, Eq)]
struct Counted(usize);

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

#[test]
fn the_turn_of_one_key_costs_the_same_however_many_wait() {
    const KEYS: usize = 1_000;
    let mut turns = Turns::default();
    for key in 0..KEYS {
        turns.push(Counted(key), 0);
        turns.push(Counted(key), 1);
    }
    COMPARED.set(0);
    // Each turn is that of the last key.
    for key in (0..KEYS).rev() {
        assert_eq!(turns.next_of(&Counted(key)), Some(0));
    }
    assert!(COMPARED.get() <= 3 * KEYS, "{} keys", COMPARED.get());
    assert!(turns.take_all(&Counted(KEYS / 2)) == [1]);
    assert_eq!(turns.len(), KEYS - 1);
}

proptest! {
    #[test]
    fn order_is_kept_and_between_two_turns_of_a_key_every_other_has_at_most_one(
        steps in prop::collection::vec((0_u8..6, 0_u8..12), 1..300),
    ) {
        let mut turns = Turns::default();
        let mut model: BTreeMap<u8, VecDeque<u32>> = BTreeMap::new();
        // Turns that others had since a key that waits had its last.
        let mut since: BTreeMap<u8, BTreeMap<u8, u32>> = BTreeMap::new();
        let mut number = 0;
        for (key, step) in steps {
            match step {
                0..=5 => {
                    number += 1;
                    turns.push(key, number);
                    model.entry(key).or_default().push_back(number);
                }
                6 => {
                    let all = turns.take_all(&key);
                    prop_assert_eq!(all, model.remove(&key).unwrap_or_default());
                    since.remove(&key);
                }
                7 => {
                    let value = turns.next_of(&key);
                    prop_assert_eq!(value, model.entry(key).or_default().pop_front());
                    since.remove(&key);
                }
                _ => {
                    if let Some((key, value)) = turns.next(|_, _| true) {
                        prop_assert_eq!(model.entry(key).or_default().pop_front(), Some(value));
                        since.remove(&key);
                        for (other, queue) in &model {
                            if *other != key && !queue.is_empty() {
                                let turns = since.entry(*other).or_default().entry(key).or_default();
                                *turns += 1;
                                prop_assert!(*turns <= 1, "{} twice before {}", key, other);
                            }
                        }
                    } else {
                        prop_assert!(model.values().all(VecDeque::is_empty));
                    }
                }
            }
            model.retain(|_, queue| !queue.is_empty());
            since.retain(|key, _| model.contains_key(key));
            prop_assert_eq!(turns.len(), model.values().map(VecDeque::len).sum::<usize>());
        }
        let rest: usize = model.values().map(VecDeque::len).sum();
        prop_assert_eq!(turns.drain().len(), rest);
    }
}
