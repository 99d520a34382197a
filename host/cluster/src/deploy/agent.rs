//! Worker's side: skeleton.

use tokio_util::sync::CancellationToken;

use super::{Deployables, DeploySettings, Desks, Shared, Store};
use crate::link::Identity;

/// Keeps a worker at what is desired, until `stop`.
#[derive(Debug)]
pub struct Agent {}

impl Agent {
    /// Starts to follow what `store` says, then what the registers say. `identity` is the worker's.
    #[must_use]
    pub fn start(
        desks: Desks,
        identity: Identity,
        store: Store,
        deployables: Shared<dyn Deployables>,
        settings: DeploySettings,
        stop: CancellationToken,
    ) -> Self {
        let _ = (desks, identity, store, deployables, settings, stop);
        Self {}
    }

    /// Waits until every tenant that the store names a version for runs it, as far as its bytes are
    /// in the store and it starts. What is left is tried again for as long as the process runs.
    pub async fn settled(&self) {}
}
