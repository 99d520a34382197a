//! The tenant's clients on this one gateway, for a command that runs beside its hub. Answered at
//! once, and never partial. In a handler these calls are refused when it is loaded:
//! [`directory`] asks the whole cluster.

use crate::backend::hub as backend;
use crate::directory::{self, ClientInfo, Fields, List, Selection};
use crate::error::Result;

/// The announced address of this gateway.
#[must_use]
pub fn gateway_address() -> String {
    backend::gateway_address()
}

/// How many of these clients are here; [`directory::everyone`] counts all of them.
pub fn count(of: &Selection) -> Result<u64> {
    Ok(backend::client_count(of.selectors())?)
}

/// Those of these clients that are here, ordered by id.
pub fn infos(of: Selection, fields: Fields) -> List<ClientInfo> {
    List::new(move |after, limit| backend::infos(of.selectors(), fields, after, limit))
}

pub use directory::{
    everyone, in_all_groups, in_group, in_groups, of_clients, with_uid, with_uids,
};
