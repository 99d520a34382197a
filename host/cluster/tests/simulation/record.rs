//! What happened in a run, told by its processes: the trace, and what handlers saw.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidegate_wire::id::ClientId;

#[derive(Debug, Default)]
pub(crate) struct Record {
    lines: Mutex<Vec<String>>,
    seen: Mutex<BTreeSet<ClientId>>,
    rough: AtomicBool,
    /// How often instances heard others, and what they should not have heard.
    heard: AtomicU64,
    unheard_of: Mutex<Option<String>>,
}

impl Record {
    pub(crate) fn log(&self, at_ms: u64, line: impl FnOnce() -> String) {
        let line = format!("{at_ms:>6} {}", line());
        self.lines.lock().unwrap().push(line);
    }

    /// A handler saw this client connect.
    pub(crate) fn saw(&self, client: ClientId) {
        self.seen.lock().unwrap().insert(client);
    }

    /// Handlers may trap on connects from now on, or no longer.
    pub(crate) fn set_rough(&self, rough: bool) {
        self.rough.store(rough, Ordering::Relaxed);
    }

    pub(crate) fn is_rough(&self) -> bool {
        self.rough.load(Ordering::Relaxed)
    }

    /// An instance heard another one; `wrong` if that should not be.
    pub(crate) fn heard(&self, wrong: Option<String>) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        if let Some(wrong) = wrong {
            self.unheard_of.lock().unwrap().get_or_insert(wrong);
        }
    }

    /// How often instances heard others, or what is wrong with it.
    pub(crate) fn judge_heard(&self) -> Result<u64, String> {
        match self.unheard_of.lock().unwrap().clone() {
            Some(wrong) => Err(wrong),
            None => Ok(self.heard.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn has_seen(&self, client: ClientId) -> bool {
        self.seen.lock().unwrap().contains(&client)
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}
