//! Events that were set aside because their handler broke twice: what is kept of them, and the
//! bounded list. Payloads are not kept.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tidegate_wire::Name;
use tidegate_wire::id::{ClientId, EventId};

/// Letters kept per deployment; the oldest goes first.
const LETTERS_MAX: usize = 256;

/// One event that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which event.
    pub event: EventId,
    /// Whose.
    pub client: ClientId,
    /// `connect`, `message` or `close`.
    pub kind: &'static str,
    /// Bytes of its payload.
    pub bytes: usize,
    /// The version that broke.
    pub version: Name,
    /// Why it broke the second time.
    pub reason: String,
}

/// The last dead letters of a deployment.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    letters: Mutex<VecDeque<DeadLetter>>,
}

impl DeadLetters {
    /// Keeps a letter and says so in the log.
    pub(crate) fn add(&self, tenant: &str, letter: DeadLetter) {
        tracing::error!(
            tenant,
            version = &*letter.version,
            event = %letter.event,
            client = %letter.client,
            kind = letter.kind,
            bytes = letter.bytes,
            reason = letter.reason,
            "an event is set aside: its handler broke twice"
        );
        self.keep(letter);
    }

    /// Keeps a letter of a message that was not run, since so many of its client's broke before. They
    /// are many, and were announced by those.
    pub(crate) fn add_unheard(&self, mut letter: DeadLetter) {
        letter.reason = "not run: its client is closed, whose events broke".to_owned();
        self.keep(letter);
    }

    fn keep(&self, letter: DeadLetter) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if letters.len() >= LETTERS_MAX {
            letters.pop_front();
        }
        letters.push_back(letter);
    }

    /// All kept letters, oldest first.
    pub(crate) fn list(&self) -> Vec<DeadLetter> {
        let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.iter().cloned().collect()
    }
}
