//! A version that is ready beside the one that serves: its instances run, and nobody sees them yet.
//!
//! Whatever can go wrong with a version goes wrong here, so that going over to it later cannot fail
//! but by the deployment's end. What is dropped without going over leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::Name;
use tidegate_wire::id::ClientId;
use tokio::task::JoinSet;

use super::rollout::{Turn, stopped};
use super::starting::{Started, start_instances};
use super::versions::VersionState;
use super::{Deployment, DeploymentShared, on_its_own};
use crate::plugin::{Plugin, PluginError};
use crate::version::Version;

/// Who tries a version before all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Of a hundred clients so many.
    pub percent: u8,
    /// These too.
    pub clients: Vec<ClientId>,
    /// How long, before all others follow; without it until [`Deployment::promote`].
    pub within: Option<Duration>,
}

/// A version that was started for a deployment and waits to serve.
pub struct Prepared {
    shared: Arc<DeploymentShared>,
    ready: Ready,
}

/// A version with the instances that it needs.
pub(super) struct Ready {
    pub(super) version: Arc<Version>,
    pub(super) tried: Option<Tried>,
    /// None if it serves already.
    pub(super) started: Option<Vec<Started>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("tenant", &self.shared.settings.tenant)
            .field("version", self.version())
            .finish_non_exhaustive()
    }
}

impl Deployment {
    /// Starts all instances of another version and keeps them until it is activated or discarded.
    /// A version that serves already is ready as it is.
    ///
    /// # Errors
    /// If any of them does not start; nothing is left running.
    pub async fn prepare(
        &self,
        plugin: Plugin,
        tried: Option<Tried>,
    ) -> Result<Prepared, PluginError> {
        let shared = Arc::clone(&self.shared);
        if shared.routes().stopped {
            return Err(stopped(plugin.source()));
        }
        let ready = shared.make_ready(&plugin, tried).await?;
        Ok(Prepared { shared, ready })
    }
}

impl Prepared {
    /// Which version.
    #[must_use]
    pub fn version(&self) -> &Name {
        self.ready.version.plugin.version()
    }

    /// Goes over to it, or begins to let some clients try it. Goes on to its end even if the caller
    /// stops waiting. A canary that is under way gives place to it.
    ///
    /// # Errors
    /// If the deployment has stopped.
    pub async fn activate(self) -> Result<(), PluginError> {
        let Self { shared, ready } = self;
        let name = ready.version.plugin.source().to_string();
        on_its_own(name, shared.activate(ready, VersionState::Replaced)).await
    }

    /// The same for a version that comes back in the place of one that was taken back, for this
    /// reason: it is not on trial, and what it replaces is never gone back to.
    ///
    /// # Errors
    /// If the deployment has stopped.
    pub async fn return_to(self, reason: String) -> Result<(), PluginError> {
        let Self { shared, ready } = self;
        let name = ready.version.plugin.source().to_string();
        let before = VersionState::RolledBack { reason };
        on_its_own(name, shared.activate(ready, before)).await
    }

    /// Ends its instances, each after its on-stop.
    pub async fn discard(self) {
        let mut stopping = JoinSet::new();
        for started in self.ready.started.into_iter().flatten() {
            stopping.spawn(started.instance.stop());
        }
        while stopping.join_next().await.is_some() {}
    }
}

impl DeploymentShared {
    /// Starts what a version needs; what does not start is told in the history.
    pub(super) async fn make_ready(
        &self,
        plugin: &Plugin,
        tried: Option<Tried>,
    ) -> Result<Ready, PluginError> {
        plugin.handler()?;
        let version = Version::new(plugin.clone(), &self.settings.whose());
        if *self.version.borrow() == *plugin.version() {
            return Ok(Ready {
                version,
                tried,
                started: None,
            });
        }
        // A canary's are numbered behind the deployment's own, and its quarantine.
        let seats = self.seats.len();
        let (first, count) = match &tried {
            Some(tried) => (seats + 1, super::routes::seats_of(tried.percent, seats)),
            None => (0, seats),
        };
        let started = self.start_all(&version, first, count).await?;
        Ok(Ready {
            version,
            tried,
            started: Some(started),
        })
    }

    pub(super) async fn start_all(
        &self,
        version: &Arc<Version>,
        first: usize,
        count: usize,
    ) -> Result<Vec<Started>, PluginError> {
        let started = start_instances(&self.common.runtime, version, first, count).await;
        started.inspect_err(|error| {
            self.versions().failed(&version.plugin, error.to_string());
        })
    }

    /// Goes over to a version that is ready; what becomes of the one that serves is given.
    async fn activate(
        self: Arc<Self>,
        ready: Ready,
        before: VersionState,
    ) -> Result<(), PluginError> {
        let turn = self.turn(ready.version.plugin.source()).await?;
        let result = self.activate_in(&turn, ready, before).await;
        self.common.meters.reload(result.is_ok());
        result
    }

    pub(super) async fn activate_in(
        self: &Arc<Self>,
        turn: &Turn<'_>,
        ready: Ready,
        before: VersionState,
    ) -> Result<(), PluginError> {
        self.give_up(turn, "another version came").await?;
        let Ready {
            version,
            tried,
            started,
        } = ready;
        let is_new = before == VersionState::Replaced;
        let started = match started {
            Some(started) => started,
            None if *self.version.borrow() == *version.plugin.version() => return Ok(()),
            // It served when it was made ready, and was rolled back since.
            None => self.start_all(&version, 0, self.seats.len()).await?,
        };
        match tried {
            Some(tried) => self.try_out(turn, &version, started, tried).await,
            None => self.replace(turn, &version, started, before, is_new).await,
        }
    }
}
