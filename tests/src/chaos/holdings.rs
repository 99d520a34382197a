//! What clients have kept for them: groups with long names and large session values. The recorder
//! guest makes the same names and values of the same numbers, and says at a close which it finds.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;

/// There are so many groups.
const GROUPS: u64 = 60;
/// A client is in so many of them at most.
const GROUPS_MAX: usize = 20;
/// The bytes of a session value.
const VALUE_BYTES: std::ops::Range<usize> = 1 << 10..60 << 10;

/// The name of a group; how long it is follows from its number.
#[must_use]
pub(super) fn group(number: u64) -> String {
    let head = format!("g{number}.");
    let bytes = usize::try_from(number * 53 % 255 + 1)
        .unwrap_or(1)
        .max(head.len());
    format!("{head:x<bytes$}")
}

/// The groups that a client joins.
pub(super) fn draw_groups(rng: &mut StdRng) -> BTreeSet<u64> {
    let count = rng.random_range(1..=GROUPS_MAX);
    (0..count).map(|_| rng.random_range(0..GROUPS)).collect()
}

/// How many bytes a session value has.
pub(super) fn draw_bytes(rng: &mut StdRng) -> usize {
    rng.random_range(VALUE_BYTES)
}

/// These groups as a close says them: sorted by their whole names.
pub(super) fn told(groups: &BTreeSet<u64>) -> String {
    let mut all: Vec<_> = groups.iter().map(|it| (group(*it), it)).collect();
    all.sort_unstable();
    let all: Vec<_> = all.iter().map(|(_, number)| format!("g{number}")).collect();
    all.join("+")
}

/// The session values of one client: by the number of the message that set each.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(Vec<u64>);

impl Values {
    /// The message that makes the session count so many sets one.
    pub(super) fn set(&mut self, count: u64) {
        self.0.push(count);
    }

    /// The value of a session that counts so many, as a close says it.
    pub(super) fn at(&self, count: u64) -> String {
        let last = self.0.iter().rev().find(|it| **it <= count);
        last.map_or_else(String::new, u64::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_255_bytes_and_tell_their_number() {
        let names: Vec<_> = (0..GROUPS).map(group).collect();
        let lengths: BTreeSet<_> = names.iter().map(String::len).collect();
        assert!(lengths.last() > Some(&250) && lengths.last() <= Some(&255));
        assert!(lengths.first() < Some(&10));
        assert!(
            names
                .iter()
                .zip(0..)
                .all(|(name, it)| name.starts_with(&format!("g{it}.")))
        );
    }

    #[test]
    fn a_session_has_the_value_that_was_set_last() {
        let mut values = Values::default();
        values.set(1);
        values.set(7);
        assert_eq!(
            [0, 1, 6, 7, 9].map(|count| values.at(count)),
            ["", "1", "1", "7", "7"]
        );
    }
}
