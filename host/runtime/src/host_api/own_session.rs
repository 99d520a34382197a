//! The session of the client whose event is handled, as the handler reads it: what is committed,
//! with the event's own changes over it. Pure.
//!
//! What is committed is shared with the lane and never copied for a change: a change costs what it
//! touches, however large the rest of the session is.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_wire::Name;
use tidegate_wire::effect::SessionChange;
use tidegate_wire::json::merged;
use tidegate_wire::session::{Session, TooLarge};

/// Values by key; none: the key is removed.
type Changed = BTreeMap<Name, Option<String>>;

/// A session under changes.
#[derive(Debug, Default)]
pub(super) struct OwnSession {
    committed: Arc<Session>,
    changed: Changed,
    /// Nothing that is committed shows.
    cleared: bool,
    /// Of all keys and values that show.
    bytes: usize,
}

/// What a change has replaced.
#[derive(Debug)]
pub(super) struct Replaced {
    old: Old,
    bytes: usize,
}

#[derive(Debug)]
enum Old {
    /// What stood over the committed value of one key, if anything did.
    Entry(Name, Option<Option<String>>),
    All(Changed, bool),
}

impl OwnSession {
    pub(super) fn new(committed: Arc<Session>) -> Self {
        Self {
            bytes: committed.bytes(),
            committed,
            ..Self::default()
        }
    }

    /// The JSON text of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        match self.changed.get(key) {
            Some(changed) => changed.as_deref(),
            None if self.cleared => None,
            None => self.committed.get(key),
        }
    }

    /// Every key with its JSON text, ordered by key.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Name, &str)> {
        let committed = self.committed.iter().filter(|_| !self.cleared);
        let mut all: BTreeMap<&Name, Option<&str>> =
            committed.map(|(key, value)| (key, Some(value))).collect();
        all.extend(
            self.changed
                .iter()
                .map(|(key, value)| (key, value.as_deref())),
        );
        all.into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
    }

    /// Applies one change unless the session would be larger than `bytes_max` with it. What only
    /// removes may leave a session that others made too large.
    pub(super) fn apply(
        &mut self,
        change: &SessionChange,
        bytes_max: usize,
    ) -> Result<Replaced, TooLarge> {
        match change {
            SessionChange::Set { key, value } => self.put(key, Some(value.clone()), bytes_max),
            SessionChange::Merge { key, value } => {
                let value = merged(self.get(key), value);
                self.put(key, Some(value), bytes_max)
            }
            SessionChange::Remove { key } => self.put(key, None, usize::MAX),
            SessionChange::Replace(entries) => {
                let entries = entries.iter().cloned();
                self.replace(
                    entries.map(|(key, value)| (key, Some(value))).collect(),
                    bytes_max,
                )
            }
            SessionChange::Clear => self.replace(Changed::new(), usize::MAX),
        }
    }

    /// Takes back the last change that was applied.
    pub(super) fn undo(&mut self, replaced: Replaced) {
        self.bytes = replaced.bytes;
        match replaced.old {
            Old::Entry(key, Some(old)) => drop(self.changed.insert(key, old)),
            Old::Entry(key, None) => drop(self.changed.remove(&key)),
            Old::All(changed, cleared) => (self.changed, self.cleared) = (changed, cleared),
        }
    }

    /// What is committed was changed at this key, under the event's own changes, which are given in
    /// order.
    pub(super) fn swapped<'a>(
        &mut self,
        key: &Name,
        change: &SessionChange,
        own: impl Iterator<Item = &'a SessionChange>,
    ) {
        let before = self.shown_bytes(key);
        Arc::make_mut(&mut self.committed).apply(change);
        if self.changed.contains_key(key) {
            // A merge has used what was committed.
            let mut value = self.committed.get(key).map(str::to_owned);
            own.for_each(|change| replay(&mut value, key, change));
            self.changed.insert(key.clone(), value);
        }
        self.bytes = self.bytes - before + self.shown_bytes(key);
    }

    fn shown_bytes(&self, key: &Name) -> usize {
        self.get(key).map_or(0, |value| key.len() + value.len())
    }

    fn put(
        &mut self,
        key: &Name,
        value: Option<String>,
        bytes_max: usize,
    ) -> Result<Replaced, TooLarge> {
        let added = value.as_ref().map_or(0, |value| key.len() + value.len());
        let bytes = self.bytes - self.shown_bytes(key) + added;
        if bytes > bytes_max {
            return Err(TooLarge);
        }
        let old = Old::Entry(key.clone(), self.changed.insert(key.clone(), value));
        let bytes = std::mem::replace(&mut self.bytes, bytes);
        Ok(Replaced { old, bytes })
    }

    fn replace(&mut self, changed: Changed, bytes_max: usize) -> Result<Replaced, TooLarge> {
        let length = |(key, value): (&Name, &Option<String>)| {
            key.len() + value.as_ref().map_or(0, String::len)
        };
        let bytes = changed.iter().map(length).sum();
        if bytes > bytes_max {
            return Err(TooLarge);
        }
        let changed = std::mem::replace(&mut self.changed, changed);
        let old = Old::All(changed, std::mem::replace(&mut self.cleared, true));
        let bytes = std::mem::replace(&mut self.bytes, bytes);
        Ok(Replaced { old, bytes })
    }
}

/// What a change makes of the value of one key.
fn replay(value: &mut Option<String>, key: &Name, change: &SessionChange) {
    match change {
        SessionChange::Set {
            key: set,
            value: new,
        } if set == key => *value = Some(new.clone()),
        SessionChange::Merge {
            key: set,
            value: new,
        } if set == key => {
            *value = Some(merged(value.as_deref(), new));
        }
        SessionChange::Remove { key: removed } if removed == key => *value = None,
        SessionChange::Replace(entries) => {
            let entry = entries.iter().rfind(|(name, _)| name == key);
            *value = entry.map(|(_, value)| value.clone());
        }
        SessionChange::Clear => *value = None,
        SessionChange::Set { .. } | SessionChange::Merge { .. } | SessionChange::Remove { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn entries(session: &OwnSession) -> Vec<(String, String)> {
        let entries = session.entries();
        entries
            .map(|(key, value)| (key.to_string(), value.to_owned()))
            .collect()
    }

    fn change(rng: &mut StdRng) -> SessionChange {
        let key: Name = format!("k{}", rng.random_range(0..4)).into();
        let value = match rng.random_range(0..3) {
            0 => format!("{{\"a{}\":1}}", rng.random_range(0..3)),
            1 => "1".repeat(rng.random_range(1..30)),
            _ => "null".to_owned(),
        };
        match rng.random_range(0..12) {
            0 => SessionChange::Clear,
            1 => SessionChange::Replace(vec![(key.clone(), value.clone()), (key, value)]),
            2 | 3 => SessionChange::Remove { key },
            4..8 => SessionChange::Merge { key, value },
            _ => SessionChange::Set { key, value },
        }
    }

    /// Whatever is changed, refused, undone or swapped below, it reads as a session would that had
    /// been copied and changed.
    #[test]
    #[allow(clippy::print_stdout, reason = "the seed of a failure")]
    fn changes_over_a_shared_session_read_as_changes_of_a_copy() {
        const BYTES_MAX: usize = 60;
        let seed = rand::random();
        eprintln!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..2000 {
            let mut committed = Session::default();
            (0..rng.random_range(0..5)).for_each(|_| committed.apply(&change(&mut rng)));
            let shared = Arc::new(committed.clone());
            let mut own = OwnSession::new(shared.clone());
            let mut changes: Vec<SessionChange> = Vec::new();
            for _ in 0..rng.random_range(0..12) {
                let change = change(&mut rng);
                let mut model = committed.clone();
                changes.iter().for_each(|it| model.apply(it));
                let before = entries(&own);
                if rng.random_ratio(1, 6) {
                    let swap = SessionChange::Set {
                        key: "k1".into(),
                        value: "{\"s\":2}".to_owned(),
                    };
                    committed.apply(&swap);
                    own.swapped(&"k1".into(), &swap, changes.iter());
                } else {
                    let taken = own.apply(&change, BYTES_MAX);
                    assert_eq!(
                        taken.is_ok(),
                        model.apply_within(&change, BYTES_MAX).is_ok(),
                        "{change:?}"
                    );
                    match taken {
                        Ok(replaced) if rng.random_ratio(1, 3) => {
                            own.undo(replaced);
                            assert_eq!(entries(&own), before);
                        }
                        Ok(_) => changes.push(change),
                        Err(TooLarge) => assert_eq!(entries(&own), before),
                    }
                }
                let mut model = committed.clone();
                changes.iter().for_each(|it| model.apply(it));
                let expected: Vec<(String, String)> = model
                    .iter()
                    .map(|(key, value)| (key.to_string(), value.to_owned()))
                    .collect();
                assert_eq!(entries(&own), expected);
                assert_eq!(own.bytes, model.bytes());
                assert!(model.iter().all(|(key, value)| own.get(key) == Some(value)));
            }
        }
    }

    #[test]
    fn a_change_does_not_copy_what_is_committed() {
        let big = (0..1000).map(|n| (format!("k{n}").into(), "1".repeat(60)));
        let shared = Arc::new(Session::from(big.collect::<Vec<(Name, String)>>()));
        let mut own = OwnSession::new(shared.clone());
        for n in 0..100 {
            let change = SessionChange::Set {
                key: format!("k{n}").into(),
                value: "2".to_owned(),
            };
            own.apply(&change, 1 << 20).unwrap();
        }
        assert!(Arc::ptr_eq(&own.committed, &shared));
        assert_eq!(own.changed.len(), 100);
    }
}
