//! From one version to the next, and back. One change at a time.

use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::Name;
use tokio::sync::{SemaphorePermit, oneshot};

use super::Shared;
use super::prepared::Tried;
use super::seat::Order;
use super::starting::Started;
use super::tally::{Tally, Violation};
use super::trial::Then;
use super::versions::VersionState;
use crate::plugin::{Plugin, PluginError};
use crate::version::Version;

/// A version that crossed a bound: it was taken back, unless there is none to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Which.
    pub version: Name,
    /// Which bound, and by how much.
    pub reason: String,
}

/// Whoever has it changes versions, and nobody else.
pub(super) struct Turn<'a>(#[allow(dead_code, reason = "it is held")] SemaphorePermit<'a>);

impl Shared {
    /// Goes over to a new version, or begins to.
    pub(super) async fn swap(self: Arc<Self>, plugin: Plugin) -> Result<(), PluginError> {
        let turn = self.turn(plugin.source()).await?;
        let result = self.swap_in(&turn, &plugin).await;
        self.common.meters.reload(result.is_ok());
        result
    }

    async fn swap_in(
        self: &Arc<Self>,
        turn: &Turn<'_>,
        plugin: &Plugin,
    ) -> Result<(), PluginError> {
        let ready = self
            .make_ready(plugin, self.settings.rollout.tried())
            .await?;
        self.activate_in(turn, ready).await
    }

    /// Gives some clients to a version, and watches over it.
    pub(super) async fn try_out(
        self: &Arc<Self>,
        turn: &Turn<'_>,
        version: &Arc<Version>,
        started: Vec<Started>,
        tried: Tried,
    ) -> Result<(), PluginError> {
        let tally = Arc::new(Tally::new(self.settings.rollout.bounds));
        let (percent, chosen) = (tried.percent, tried.clients.len());
        self.start_canary(turn, version, started, &tried, &tally)
            .await?;
        self.watch_over(&tally, tried.within, Then::Promote);
        tracing::info!(
            tenant = &*self.settings.tenant,
            version = &**version.plugin.version(),
            percent,
            chosen,
            "some clients try a new version"
        );
        Ok(())
    }

    /// Lets all clients follow those that try a version; with `tally` only if it is still that one.
    pub(super) async fn promote(
        self: Arc<Self>,
        tally: Option<Arc<Tally>>,
    ) -> Result<(), PluginError> {
        let tenant = &self.settings.tenant;
        let turn = self.turn(tenant).await?;
        if tally.is_some_and(|tally| !self.is_on_trial(&tally)) {
            return Ok(());
        }
        let tried = self.routes().canary.as_ref().map(|it| it.plugin.clone());
        let plugin = tried.ok_or_else(|| PluginError::NoCanary {
            tenant: tenant.to_string(),
        })?;
        // All others first, so that those who try it never see the old version again.
        let replaced = self
            .go_over(&turn, &plugin, VersionState::Replaced, true)
            .await;
        if let Err(error) = replaced {
            self.give_up(&turn, &error.to_string()).await?;
            return Err(error);
        }
        self.end_canary(&turn).await?;
        tracing::info!(
            tenant = &**tenant,
            version = &**plugin.version(),
            "a version that was tried serves all clients"
        );
        Ok(())
    }

    /// Goes back to a kept version, or gives up the one that is tried, or goes back to the one
    /// before.
    pub(super) async fn roll_back(self: Arc<Self>, to: Option<String>) -> Result<(), PluginError> {
        const REASON: &str = "told to";
        let turn = self.turn(&self.settings.tenant).await?;
        let target = match &to {
            Some(to) => Some(self.target(Some(to))?),
            None => None,
        };
        let was_tried = self.give_up(&turn, REASON).await?;
        if was_tried {
            self.common.meters.rollback("manual");
        }
        let serving = self.version.borrow().clone();
        if was_tried && to.is_none_or(|to| *to == *serving) {
            return Ok(());
        }
        let target = match target {
            Some(target) => target,
            None => self.target(None)?,
        };
        self.go_back(&turn, &target, REASON, "manual").await
    }

    /// A version crossed a bound.
    pub(super) async fn condemn(self: Arc<Self>, tally: Arc<Tally>, violation: Violation) {
        let tenant = &self.settings.tenant;
        let Ok(turn) = self.turn(tenant).await else {
            return;
        };
        if !self.is_on_trial(&tally) {
            return;
        }
        let reason = violation.to_string();
        let condemned = Condemned {
            version: self.under_trial(),
            reason: reason.clone(),
        };
        let result = match self.give_up(&turn, &reason).await {
            Ok(true) => {
                self.common.meters.rollback(violation.name());
                Ok(())
            }
            Ok(false) => match self.target(None) {
                Ok(target) => {
                    self.go_back(&turn, &target, &reason, violation.name())
                        .await
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tally.close();
            tracing::error!(
                tenant = &**tenant,
                version = &**self.version.borrow(),
                reason,
                %error,
                "a version crossed a bound, and none can take its place"
            );
        }
        // Nobody may listen.
        let _ = self.condemned.send(condemned);
    }

    /// The version that is tried, or else the one that serves.
    fn under_trial(&self) -> Name {
        let routes = self.routes();
        match &routes.canary {
            Some(canary) => canary.plugin.version().clone(),
            None => self.version.borrow().clone(),
        }
    }

    /// Gives up this version if some clients try it; false if they do not.
    pub(super) async fn abandon(
        self: Arc<Self>,
        version: Name,
        reason: String,
    ) -> Result<bool, PluginError> {
        let turn = self.turn(&self.settings.tenant).await?;
        let tried = self.routes().canary.as_ref().map(|it| it.plugin.clone());
        if tried.is_none_or(|tried| *tried.version() != version) {
            return Ok(false);
        }
        self.common.meters.rollback("manual");
        self.give_up(&turn, &reason).await
    }

    /// Takes the clients back from a canary; false if there is none.
    pub(super) async fn give_up(&self, turn: &Turn<'_>, reason: &str) -> Result<bool, PluginError> {
        let Some(plugin) = self.end_canary(turn).await? else {
            return Ok(false);
        };
        *self.trial() = None;
        self.versions().give_up(reason.to_owned());
        tracing::warn!(
            tenant = &*self.settings.tenant,
            version = &**plugin.version(),
            reason,
            "the version that some clients tried is given up; they are back"
        );
        Ok(true)
    }

    async fn go_back(
        self: &Arc<Self>,
        turn: &Turn<'_>,
        target: &Plugin,
        reason: &str,
        label: &str,
    ) -> Result<(), PluginError> {
        let before = self.version.borrow().clone();
        let state = VersionState::RolledBack {
            reason: reason.to_owned(),
        };
        self.go_over(turn, target, state, false).await?;
        self.common.meters.rollback(label);
        tracing::warn!(
            tenant = &*self.settings.tenant,
            old = &*before,
            new = &**target.version(),
            reason,
            "a version is rolled back"
        );
        Ok(())
    }

    fn target(&self, to: Option<&str>) -> Result<Plugin, PluginError> {
        let versions = self.versions();
        match to {
            None => versions.previous().ok_or_else(|| PluginError::NoPrevious {
                tenant: self.settings.tenant.to_string(),
            }),
            Some(version) => versions.kept(version).ok_or_else(|| PluginError::NotKept {
                version: version.to_owned(),
                kept: versions.all_kept(),
            }),
        }
    }

    /// Starts a version on all seats and lets it serve; nothing changes if it does not start.
    async fn go_over(
        self: &Arc<Self>,
        turn: &Turn<'_>,
        plugin: &Plugin,
        before: VersionState,
        is_new: bool,
    ) -> Result<(), PluginError> {
        plugin.handler()?;
        let version = Version::new(plugin.clone(), &self.settings.whose());
        let started = self.start_all(&version, 0, self.seats.len()).await?;
        self.replace(turn, &version, started, before, is_new).await
    }

    /// Gives every seat its instance of this version.
    pub(super) async fn replace(
        self: &Arc<Self>,
        _turn: &Turn<'_>,
        version: &Arc<Version>,
        started: Vec<Started>,
        before: VersionState,
        is_new: bool,
    ) -> Result<(), PluginError> {
        let (plugin, count) = (&version.plugin, self.seats.len());
        let bounds = self.settings.rollout.bounds;
        let tally = (is_new && !bounds.is_none()).then(|| Arc::new(Tally::new(bounds)));
        let stopped = || stopped(plugin.source());
        let mut taken = Vec::with_capacity(count + 1);
        let started = started.into_iter().map(Some).chain(std::iter::once(None));
        for (seat, started) in self.all_seats().zip(started) {
            let (done, taken_over) = oneshot::channel();
            let order = Order::TakeOver {
                version: Arc::clone(version),
                started: started.map(Box::new),
                tally: tally.clone(),
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
        *self.trial() = None;
        if let Some(tally) = tally {
            let within = Duration::from_millis(bounds.window_ms);
            self.watch_over(&tally, Some(within), Then::Trust);
        }
        Ok(())
    }

    /// Waits for the change under way.
    pub(super) async fn turn(&self, name: &str) -> Result<Turn<'_>, PluginError> {
        let turn = self.changes.acquire().await;
        turn.map(Turn).map_err(|_| stopped(name))
    }
}

pub(super) fn stopped(name: &str) -> PluginError {
    PluginError::Stopped {
        name: name.to_owned(),
    }
}
