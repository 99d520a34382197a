//! A client's session: keys with JSON texts, and how changes of it are applied. The home, the
//! worker's mirror and the handler's own view all apply the same changes with this code.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Name;
use crate::effect::SessionChange;
use crate::event::SessionEntries;

/// Keys and JSON texts, ordered by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    entries: BTreeMap<Name, String>,
}

impl Session {
    /// The JSON text of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    /// Every key with its JSON text, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.entries
            .iter()
            .map(|(key, value)| (key, value.as_str()))
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The size that limits count: bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum()
    }

    /// Applies one change.
    pub fn apply(&mut self, change: &SessionChange) {
        match change {
            SessionChange::Set { key, value } => {
                self.entries.insert(key.clone(), value.clone());
            }
            SessionChange::Merge { key, value } => {
                let merged = match self.entries.get(key) {
                    Some(old) => merge_texts(old, value),
                    None => value.clone(),
                };
                self.entries.insert(key.clone(), merged);
            }
            SessionChange::Remove { key } => {
                self.entries.remove(key);
            }
            SessionChange::Replace(entries) => {
                self.entries = entries.iter().cloned().collect();
            }
            SessionChange::Clear => self.entries.clear(),
        }
    }
}

impl From<SessionEntries> for Session {
    fn from(entries: SessionEntries) -> Self {
        Self {
            entries: entries.into_iter().collect(),
        }
    }
}

impl From<&Session> for SessionEntries {
    fn from(session: &Session) -> Self {
        session
            .entries
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// Whether two JSON texts have the same value. What does not parse is equal only to itself.
#[must_use]
pub fn same_json(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    match (
        serde_json::from_str::<Value>(one),
        serde_json::from_str::<Value>(other),
    ) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn merge_texts(old: &str, new: &str) -> String {
    match (serde_json::from_str(old), serde_json::from_str(new)) {
        (Ok(mut old), Ok(new)) => {
            merge_values(&mut old, new);
            old.to_string()
        }
        _ => new.to_owned(),
    }
}

/// Objects are merged key by key, in depth; anything else is replaced. The parser bounds the depth.
fn merge_values(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                match old.get_mut(&key) {
                    Some(slot) => merge_values(slot, value),
                    None => {
                        old.insert(key, value);
                    }
                }
            }
        }
        (old, new) => *old = new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(old: &str, new: &str) -> String {
        let mut session = Session::from(vec![("k".into(), old.to_owned())]);
        session.apply(&SessionChange::Merge {
            key: "k".into(),
            value: new.to_owned(),
        });
        session.get("k").unwrap().to_owned()
    }

    #[test]
    fn objects_are_merged_in_depth_and_other_values_replaced() {
        assert_eq!(
            merged(r#"{"a":{"b":1}}"#, r#"{"a":{"c":2}}"#),
            r#"{"a":{"b":1,"c":2}}"#
        );
        assert_eq!(merged(r#"{"a":[1]}"#, r#"{"a":[2]}"#), r#"{"a":[2]}"#);
        assert_eq!(merged("1", r#"{"a":1}"#), r#"{"a":1}"#);
    }

    #[test]
    fn json_is_compared_by_value() {
        assert!(same_json(r#"{"a":1,"b":[2]}"#, r#"{ "b": [2], "a": 1 }"#));
        assert!(!same_json("[1,2]", "[2,1]"));
        assert!(same_json("not json", "not json") && !same_json("{", "[1"));
    }

    #[test]
    fn writers_of_different_keys_both_win() {
        let mut session = Session::default();
        session.apply(&SessionChange::Set {
            key: "a".into(),
            value: "1".into(),
        });
        session.apply(&SessionChange::Set {
            key: "b".into(),
            value: "2".into(),
        });
        session.apply(&SessionChange::Remove { key: "c".into() });
        let entries = SessionEntries::from(&session);
        assert_eq!(
            entries,
            vec![("a".into(), "1".to_owned()), ("b".into(), "2".to_owned())]
        );
        assert_eq!(session.bytes(), 4);
    }
}
