//! The order that is being carried out: written down before workers prepare, so that one that is lost
//! with its register has a line in the history once that is back.

use serde::{Deserialize, Serialize};
use tidegate_wire::Name;

/// What was to be served, as the history names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) tenant: Name,
    pub(crate) version: Name,
    pub(crate) source: Name,
    pub(crate) bytes: u64,
    pub(crate) by: Name,
    /// The generation before it.
    pub(crate) generation: u64,
}
