//! What was wrong with a codec itself, for whoever asks how it is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a fault is told.
const LATELY: Duration = Duration::from_secs(300);
/// How much of its text is kept.
const TEXT_BYTES_MAX: usize = 256;

/// The last fault, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Last>>);

#[derive(Debug)]
struct Last {
    at: Instant,
    faults: u64,
    text: String,
}

impl Trouble {
    pub(super) fn note(&self, text: &str) {
        self.note_at(Instant::now(), text);
    }

    fn note_at(&self, now: Instant, text: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.take().filter(|it| now - it.at < LATELY);
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        *last = Some(Last {
            at: now,
            faults: before.map_or(0, |it| it.faults).saturating_add(1),
            text: text.get(..end).unwrap_or_default().to_owned(),
        });
    }

    /// What there was lately.
    pub(super) fn lately(&self) -> Option<String> {
        self.lately_at(Instant::now())
    }

    fn lately_at(&self, now: Instant) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref()?;
        let ago = now.saturating_duration_since(last.at);
        (ago < LATELY).then(|| {
            let times = match last.faults {
                1 => "once".to_owned(),
                faults => format!("{faults} times"),
            };
            let ago = ago.as_secs();
            format!("it failed {times} lately, {ago} s ago: {}", last.text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_for_a_while_and_counted_with_those_before() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        assert_eq!(trouble.lately_at(start), None);
        trouble.note_at(start, "a trap");
        trouble.note_at(start + LATELY / 2, &"é".repeat(TEXT_BYTES_MAX));
        let told = trouble.lately_at(start + LATELY).unwrap();
        assert!(
            told.starts_with("it failed 2 times lately, 150 s ago: éé"),
            "{told}"
        );
        assert!(told.len() < TEXT_BYTES_MAX + 64);
        assert_eq!(trouble.lately_at(start + 2 * LATELY), None);
        trouble.note_at(start + 2 * LATELY, "again");
        let told = trouble.lately_at(start + 2 * LATELY).unwrap();
        assert_eq!(told, "it failed once lately, 0 s ago: again");
    }
}
