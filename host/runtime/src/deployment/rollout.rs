//! From one version to the next, and back. One change at a time; whoever waits for a change may
//! stop waiting, it goes on to its end.

use std::sync::Arc;

use tokio::sync::{SemaphorePermit, oneshot};

use super::Shared;
use super::seat::Order;
use super::starting::start_instances;
use super::versions::VersionState;
use crate::plugin::{Plugin, PluginError};
use crate::version::Version;

impl Shared {
    /// Goes over to a new version.
    pub(super) async fn swap(self: Arc<Self>, plugin: Plugin) -> Result<(), PluginError> {
        let turn = self.turn(plugin.source()).await?;
        let result = self.replace(&turn, &plugin, VersionState::Replaced).await;
        self.common.meters.reload(result.is_ok());
        result
    }

    /// Goes back to a kept version, or to the one before.
    pub(super) async fn roll_back(
        self: Arc<Self>,
        to: Option<String>,
        reason: &'static str,
    ) -> Result<(), PluginError> {
        let turn = self.turn(&self.settings.tenant).await?;
        let target = self.target(to)?;
        let before = self.version.borrow().clone();
        let state = VersionState::RolledBack {
            reason: reason.to_owned(),
        };
        self.replace(&turn, &target, state).await?;
        self.common.meters.rollback("manual");
        tracing::warn!(
            tenant = &*self.settings.tenant,
            old = &*before,
            new = &**target.version(),
            reason,
            "an older version serves again"
        );
        Ok(())
    }

    fn target(&self, to: Option<String>) -> Result<Plugin, PluginError> {
        let versions = self.versions();
        match to {
            None => versions.previous().ok_or_else(|| PluginError::NoPrevious {
                tenant: self.settings.tenant.to_string(),
            }),
            Some(version) => versions.kept(&version).ok_or_else(|| PluginError::NotKept {
                version,
                kept: versions.all_kept(),
            }),
        }
    }

    /// Gives every seat an instance of this version; all are started before the first is given.
    async fn replace(
        &self,
        _turn: &SemaphorePermit<'_>,
        plugin: &Plugin,
        before: VersionState,
    ) -> Result<(), PluginError> {
        plugin.handler()?;
        let version = Version::new(plugin.clone(), &self.settings.whose());
        let started = start_instances(&self.common.runtime, &version, self.seats.len()).await;
        let started = started.inspect_err(|error| {
            self.versions().failed(plugin, error.to_string());
        })?;
        let started = started.into_iter().map(Some).chain(std::iter::once(None));
        let stopped = || stopped(plugin.source());
        let mut taken = Vec::with_capacity(self.seats.len() + 1);
        for (seat, started) in self.all_seats().zip(started) {
            let (done, taken_over) = oneshot::channel();
            let order = Order::TakeOver {
                version: Arc::clone(&version),
                started: started.map(Box::new),
                done,
            };
            seat.orders.send(order).await.map_err(|_| stopped())?;
            taken.push(taken_over);
        }
        for taken_over in taken {
            taken_over.await.map_err(|_| stopped())?;
        }
        self.versions().activate(plugin, before);
        self.version.send_replace(plugin.version().clone());
        Ok(())
    }

    /// Waits for the change under way.
    async fn turn(&self, name: &str) -> Result<SemaphorePermit<'_>, PluginError> {
        self.swaps.acquire().await.map_err(|_| stopped(name))
    }
}

pub(super) fn stopped(name: &str) -> PluginError {
    PluginError::Stopped {
        name: name.to_owned(),
    }
}
