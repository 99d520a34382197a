//! What handlers keep for clients: large session values, groups with long names, and keys that others
//! set; and what a close must say of all that. Values and names are made of numbers, so that a close
//! shows which changes it knows of, and whether one of them is torn.

use std::collections::BTreeSet;

use tidegate_wire::Name;
use tidegate_wire::session::Session;

/// The key of a client's large value.
pub(crate) const VALUE: &str = "value";
/// Before the number of the client that set a key.
const GIFT: &str = "gift-";
/// Groups from here on are dissolved now and then.
pub(crate) const VOLATILE: u64 = 100;
/// Nothing is kept, or nothing is there.
pub(crate) const NOTHING: &str = "-";
const TORN: &str = "torn";
const NAME_BYTES_MAX: u64 = 255;

/// The large value that a line asked for: JSON text of so many bytes, or a few more.
pub(crate) fn value(number: u64, bytes: usize) -> String {
    let letter = char::from(b'a' + (number % 26) as u8);
    let mut text = format!("\"{number}:");
    let fill = bytes.saturating_sub(text.len() + 1);
    text.extend(std::iter::repeat_n(letter, fill));
    text.push('"');
    text
}

/// Which line asked for the large value of a session.
pub(crate) fn value_of(session: &Session) -> String {
    let Some(text) = session.get(VALUE) else {
        return NOTHING.to_owned();
    };
    let number = text.strip_prefix('"').and_then(|it| it.split_once(':'));
    let number = number.and_then(|(number, _)| number.parse().ok());
    match number.filter(|number| value(*number, text.len()) == text) {
        Some(number) => number.to_string(),
        None => TORN.to_owned(),
    }
}

/// The name of a group; its length follows from its number.
pub(crate) fn group(number: u64) -> Name {
    let mut name = format!("g{number}.");
    let bytes = number * 53 % NAME_BYTES_MAX + 1;
    let fill = bytes.saturating_sub(name.len() as u64) as usize;
    name.extend(std::iter::repeat_n('x', fill));
    name.as_str().into()
}

/// The numbers of lasting and of volatile groups among these names.
pub(crate) fn groups_of(names: &[Name]) -> (String, String) {
    let (mut lasting, mut volatile) = (BTreeSet::new(), BTreeSet::new());
    for name in names {
        let number = name.strip_prefix('g').and_then(|it| it.split_once('.'));
        let number = number.and_then(|(number, _)| number.parse().ok());
        match number.filter(|number| group(*number) == *name) {
            Some(number) if number < VOLATILE => lasting.insert(number),
            Some(number) => volatile.insert(number),
            // Another kind of group.
            None => false,
        };
    }
    (joined(&lasting), joined(&volatile))
}

fn joined(numbers: &BTreeSet<u64>) -> String {
    let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
    if numbers.is_empty() {
        NOTHING.to_owned()
    } else {
        numbers.join("+")
    }
}

/// The key that a client sets in the session of another one.
pub(crate) fn gift(from: &str) -> String {
    format!("{GIFT}{from}")
}

/// What others have set, as `FROM=NUMBER`, sorted as text.
pub(crate) fn gifts_of(session: &Session) -> String {
    let keys = session.iter();
    let mut gifts: Vec<String> = keys
        .filter_map(|(key, value)| Some(format!("{}={value}", key.strip_prefix(GIFT)?)))
        .collect();
    gifts.sort_unstable();
    if gifts.is_empty() {
        NOTHING.to_owned()
    } else {
        gifts.join(",")
    }
}

/// What a client has asked its handlers to keep, by the number of the commit that does it.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    changes: Vec<(u64, Change)>,
}

#[derive(Debug)]
enum Change {
    Value(u64),
    NoValue,
    Join(u64),
    Leave(u64),
}

impl Holdings {
    /// Notes what a line asks for; `number` is the line's, `commit` counts those that succeed.
    pub(crate) fn note(&mut self, number: u64, commit: u64, what: &str) {
        let mut words = what.split(' ');
        let kind = words.next().unwrap_or_default();
        let mut note = |change| self.changes.push((commit, change));
        match kind {
            "fill" => note(match words.next() {
                Some("0") | None => Change::NoValue,
                Some(_) => Change::Value(number),
            }),
            "join" | "part" => {
                for group in words.filter_map(|word| word.parse().ok()) {
                    note(if kind == "join" {
                        Change::Join(group)
                    } else {
                        Change::Leave(group)
                    });
                }
            }
            _ => {}
        }
    }

    /// The large value and the lasting groups after so many commits, as a close says them.
    pub(crate) fn after(&self, commits: u64) -> (String, String) {
        let (mut value, mut groups) = (NOTHING.to_owned(), BTreeSet::new());
        for (_, change) in self.changes.iter().filter(|(at, _)| *at <= commits) {
            match change {
                Change::Value(number) => value = number.to_string(),
                Change::NoValue => NOTHING.clone_into(&mut value),
                Change::Join(group) => drop(groups.insert(*group)),
                Change::Leave(group) => drop(groups.remove(group)),
            }
        }
        groups.retain(|group| *group < VOLATILE);
        (value, joined(&groups))
    }

    /// The groups that it is in, with all that it has asked for.
    pub(crate) fn groups(&self) -> BTreeSet<u64> {
        let mut groups = BTreeSet::new();
        for (_, change) in &self.changes {
            match change {
                Change::Join(group) => drop(groups.insert(*group)),
                Change::Leave(group) => drop(groups.remove(group)),
                Change::Value(_) | Change::NoValue => {}
            }
        }
        groups
    }
}
