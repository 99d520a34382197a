//! Gateway's side: skeleton.

use bytes::Bytes;
use tidegate_wire::Name;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{DeployError, DeployOrder, DeploySettings, Desired, Desks, Overview, Progress, Store};
use crate::link::Identity;

/// Gives orders. Clones share the links. Lives until `stop`.
#[derive(Clone, Debug)]
pub struct Operator {}

impl Operator {
    /// Connects to the registers; never waits. `identity` is the gateway's.
    #[must_use]
    pub fn start(
        desks: Desks,
        identity: Identity,
        store: Store,
        settings: DeploySettings,
        stop: CancellationToken,
    ) -> Self {
        let _ = (desks, identity, store, settings, stop);
        Self {}
    }

    /// Progress until the last, which is `Done` or `Failed`. Dropping the receiver does not undo.
    #[must_use]
    pub fn deploy(&self, order: DeployOrder, component: Bytes) -> mpsc::Receiver<Progress> {
        let _ = (order, component);
        mpsc::channel(1).1
    }

    /// Back to an earlier release: the one before, or the one whose version begins with `to`. With
    /// a canary under way and no `to`: gives that up.
    #[must_use]
    pub fn rollback(&self, tenant: Name, to: Option<String>, by: Name) -> mpsc::Receiver<Progress> {
        let _ = (tenant, to, by);
        mpsc::channel(1).1
    }

    /// The canary under way serves everybody.
    #[must_use]
    pub fn promote(&self, tenant: Name, by: Name) -> mpsc::Receiver<Progress> {
        let _ = (tenant, by);
        mpsc::channel(1).1
    }

    /// Forgets the tenant's deploy: at their next start workers use their configured file.
    #[must_use]
    pub fn withdraw(&self, tenant: Name, by: Name) -> mpsc::Receiver<Progress> {
        let _ = (tenant, by);
        mpsc::channel(1).1
    }

    /// What is to be and what is, as the first register knows it.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn overview(&self) -> Result<Overview, DeployError> {
        Err(DeployError::Stopping)
    }

    /// What is to be, as the first register knows it: state and history.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn desired(&self) -> Result<Desired, DeployError> {
        Ok(self.overview().await?.desired)
    }
}
