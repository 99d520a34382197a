//! The order that is being carried out: written down before workers prepare, so that one that is lost
//! with its register has a line in the history once that is back.

use serde::{Deserialize, Serialize};
use tidegate_wire::Name;

/// What was to be served, as the history names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::deploy) struct Intent {
    pub(in crate::deploy) tenant: Name,
    pub(in crate::deploy) version: Name,
    pub(in crate::deploy) source: Name,
    pub(in crate::deploy) bytes: u64,
    pub(in crate::deploy) by: Name,
    /// The generation before it.
    pub(in crate::deploy) generation: u64,
}
