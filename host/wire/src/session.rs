//! A client's session: keys with JSON texts, and how changes of it are applied. The home, the
//! worker's mirror and the handler's own view all apply the same changes with this code.
//!
//! A change costs what it touches, however large the rest of the session is: its size is counted
//! along, a change that would be too large is refused before it is made, and one that was made can
//! be taken back from what it replaced.

use std::collections::BTreeMap;

use crate::Name;
use crate::effect::SessionChange;
use crate::event::SessionEntries;
use crate::json::merged;

/// Keys and JSON texts, ordered by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    entries: BTreeMap<Name, String>,
    /// Of all keys and values.
    bytes: usize,
}

/// The change would have made the session larger than allowed; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// What a change has replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced(Old);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Old {
    /// The value of one key, if it had one.
    Entry(Name, Option<String>),
    /// Everything.
    All(Session),
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
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Applies one change, whatever the size.
    pub fn apply(&mut self, change: &SessionChange) {
        // Nothing is larger than that.
        let _ = self.apply_within(change, usize::MAX);
    }

    /// Applies one change unless the session would be larger than `bytes_max` with it. What only
    /// removes may leave a session that others made too large. Gives back what it has replaced.
    ///
    /// # Errors
    /// [`TooLarge`]
    pub fn apply_within(
        &mut self,
        change: &SessionChange,
        bytes_max: usize,
    ) -> Result<Replaced, TooLarge> {
        match change {
            SessionChange::Set { key, value } => self.set(key, value.clone(), bytes_max),
            SessionChange::Merge { key, value } => {
                let old = self.entries.get(key).map(String::as_str);
                self.set(key, merged(old, value), bytes_max)
            }
            SessionChange::Remove { key } => {
                let old = self.take(key);
                Ok(Replaced(Old::Entry(key.clone(), old)))
            }
            SessionChange::Replace(entries) => {
                let new = Self::from(entries.clone());
                if new.bytes > bytes_max {
                    return Err(TooLarge);
                }
                Ok(Replaced(Old::All(std::mem::replace(self, new))))
            }
            SessionChange::Clear => Ok(Replaced(Old::All(std::mem::take(self)))),
        }
    }

    /// Takes back the last change that was applied.
    pub fn undo(&mut self, replaced: Replaced) {
        match replaced.0 {
            Old::Entry(key, Some(old)) => drop(self.set(&key, old, usize::MAX)),
            Old::Entry(key, None) => drop(self.take(&key)),
            Old::All(old) => *self = old,
        }
    }

    fn set(&mut self, key: &Name, value: String, bytes_max: usize) -> Result<Replaced, TooLarge> {
        let known = self.entries.get(key);
        let freed = known.map_or(0, |old| key.len() + old.len());
        let bytes = self.bytes - freed + key.len() + value.len();
        if bytes > bytes_max {
            return Err(TooLarge);
        }
        self.bytes = bytes;
        let old = self.entries.insert(key.clone(), value);
        Ok(Replaced(Old::Entry(key.clone(), old)))
    }

    fn take(&mut self, key: &Name) -> Option<String> {
        let old = self.entries.remove(key)?;
        self.bytes -= key.len() + old.len();
        Some(old)
    }
}

impl From<SessionEntries> for Session {
    fn from(entries: SessionEntries) -> Self {
        let entries: BTreeMap<Name, String> = entries.into_iter().collect();
        let bytes = entries.iter().map(|(key, value)| key.len() + value.len());
        Self {
            bytes: bytes.sum(),
            entries,
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_change_that_would_be_too_large_changes_nothing_and_one_that_removes_never_is() {
        let mut session = Session::from(vec![("k".into(), "1234567890".to_owned())]);
        let before = session.clone();
        let set = |key: &str, value: &str| SessionChange::Set {
            key: key.into(),
            value: value.to_owned(),
        };
        assert_eq!(session.apply_within(&set("l", "1"), 5), Err(TooLarge));
        assert_eq!(session.apply_within(&set("k", "12345"), 5), Err(TooLarge));
        let replace = SessionChange::Replace(vec![("k".into(), "12345".to_owned())]);
        assert_eq!(session.apply_within(&replace, 5), Err(TooLarge));
        assert_eq!(session, before);
        // Another key stays, though the session is over the limit.
        let remove = SessionChange::Remove { key: "l".into() };
        assert!(session.apply_within(&remove, 5).is_ok());
        assert_eq!(session, before);
    }

    #[test]
    fn whatever_is_applied_is_counted_and_can_be_taken_back() {
        let keys = ["a", "b", "c"];
        let mut session = Session::default();
        for step in 0..500_usize {
            let key: Name = keys[step * 7 % 3].into();
            let value = "1".repeat(step * 31 % 17);
            let change = match step * 13 % 11 {
                0 => SessionChange::Clear,
                1 => SessionChange::Replace(vec![(key.clone(), value.clone()), (key, value)]),
                2..=4 => SessionChange::Remove { key },
                5..=7 => SessionChange::Merge { key, value },
                _ => SessionChange::Set { key, value },
            };
            let before = session.clone();
            let replaced = session.apply_within(&change, usize::MAX).unwrap();
            let counted = session.iter().map(|(key, value)| key.len() + value.len());
            assert_eq!(session.bytes(), counted.sum::<usize>());
            let after = session.clone();
            session.undo(replaced);
            assert_eq!(session, before);
            session = after;
        }
    }
}
