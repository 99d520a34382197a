//! Whether this process can do its work: named conditions, each met or not, with a text for
//! people. Cheap to change from anywhere, read by `/readyz`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Says why a condition is not met.
type Look = Box<dyn Fn() -> Result<(), String> + Send>;

enum Condition {
    /// What was said last.
    Told { met: bool, text: String },
    /// It is looked at whenever somebody asks.
    Seen(Look),
}

/// The conditions of one process. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, Condition>>>,
}

impl Readiness {
    /// No conditions: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the condition `name` is met and why, like `("gateways", false, "no gateway is
    /// linked")`. The first call makes the condition.
    pub fn set(&self, name: &'static str, met: bool, text: impl Into<String>) {
        let text = text.into();
        self.put(name, Condition::Told { met, text });
    }

    /// The condition `name` is met when `look` says so. It must not wait.
    pub fn look(&self, name: &'static str, look: impl Fn() -> Result<(), String> + Send + 'static) {
        self.put(name, Condition::Seen(Box::new(look)));
    }

    fn put(&self, name: &'static str, condition: Condition) {
        let mut conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        conditions.insert(name, condition);
    }

    /// Ok when every condition is met.
    ///
    /// # Errors
    /// The conditions that are not met, one a line.
    pub fn check(&self) -> Result<(), String> {
        let conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut missing = String::new();
        for (name, condition) in &*conditions {
            let looked = match condition {
                Condition::Told { met: true, .. } => Ok(()),
                Condition::Told { text, .. } => Err(text.clone()),
                Condition::Seen(look) => look(),
            };
            if let Err(text) = looked {
                let _ = writeln!(missing, "{name}: {text}");
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(missing),
        }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.check()).finish()
    }
}
