//! Whether this process can do its work: named conditions, each met or not, with a text for
//! people. Cheap to change from anywhere, read by `/readyz`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
struct Condition {
    met: bool,
    text: String,
}

/// The conditions of one process. Clones share them.
#[derive(Clone, Debug, Default)]
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
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, Condition { met, text });
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
        for (name, condition) in conditions.iter().filter(|(_, condition)| !condition.met) {
            let _ = writeln!(missing, "{name}: {}", condition.text);
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(missing),
        }
    }
}
