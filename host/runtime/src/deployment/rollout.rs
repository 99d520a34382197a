//! From one version to the next, and back. One change at a time.

use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::Name;
use tokio::sync::{SemaphorePermit, oneshot};

use super::DeploymentShared;
use super::prepared::Tried;
use super::probation::Probation;
use super::seat::Order;
use super::starting::Started;
use super::tally::Violation;
use super::tasks::Served;
use super::versions::VersionState;
use crate::plugin::{Plugin, PluginError};
use crate::version::Version;

/// How long until a version that could not be taken back is taken back again.
const TAKE_BACK_AGAIN: Duration = Duration::from_secs(1);

/// A version that crossed a bound: it was taken back, unless there is none to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Which.
    pub version: Name,
    /// Which bound, and by how much.
    pub reason: String,
    /// There is none to go back to: it serves on.
    pub is_first: bool,
}

/// Whoever has it changes versions, and nobody else.
pub(super) struct Turn<'a>(#[allow(dead_code, reason = "it is held")] SemaphorePermit<'a>);

impl DeploymentShared {
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
        self.activate_in(turn, ready, VersionState::Replaced).await
    }

    /// Gives some clients to a version, and watches over it.
    pub(super) async fn try_out(
        self: &Arc<Self>,
        turn: &Turn<'_>,
        version: &Arc<Version>,
        started: Vec<Started>,
        tried: Tried,
    ) -> Result<(), PluginError> {
        let probation = self.probation(version.plugin.version());
        let (percent, chosen) = (tried.percent, tried.clients.len());
        self.start_canary(turn, version, started, &tried, &probation)
            .await?;
        self.watch_canary(&probation, tried.within);
        tracing::info!(
            tenant = &*self.settings.tenant,
            version = &**version.plugin.version(),
            percent,
            chosen,
            "some clients try a new version"
        );
        Ok(())
    }

    /// Lets all clients follow those that try a version, unless that did badly by then; with
    /// `probation` only if it is still that one.
    pub(super) async fn promote(
        self: Arc<Self>,
        probation: Option<Arc<Probation>>,
    ) -> Result<(), PluginError> {
        let tenant = &self.settings.tenant;
        let turn = self.turn(tenant).await?;
        if probation.is_some_and(|it| !self.is_on_trial(&it)) {
            return Ok(());
        }
        let tried = self.routes().canary.as_ref().map(|it| it.plugin().clone());
        let plugin = tried.ok_or_else(|| PluginError::NoCanary {
            tenant: tenant.to_string(),
        })?;
        self.did_well(&plugin)?;
        // All others first, so that those who try it never see the old version again.
        let replaced = self
            .go_over(&turn, &plugin, VersionState::Replaced, true)
            .await;
        if let Err(error) = replaced {
            self.give_up(&turn, &error.to_string()).await?;
            return Err(error);
        }
        self.end_canary(&turn).await?;
        self.end_watch_of_canary();
        tracing::info!(
            tenant = &**tenant,
            version = &**plugin.version(),
            "a version that was tried serves all clients"
        );
        Ok(())
    }

    /// Refuses to let all follow to a version that did badly with some, and takes it back.
    fn did_well(self: &Arc<Self>, tried: &Plugin) -> Result<(), PluginError> {
        let Some(probation) = self.canary_trial() else {
            return Ok(());
        };
        let Some(violation) = probation.tally.violation_at_end() else {
            return Ok(());
        };
        let refusal = PluginError::DidBadly {
            version: tried.version().to_string(),
            reason: violation.to_string(),
        };
        // It waits for this turn to end.
        tokio::spawn(Arc::clone(self).condemn(probation, violation));
        Err(refusal)
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

    /// A version crossed a bound. What can take its place does so, at the first moment that it can.
    pub(super) async fn condemn(self: Arc<Self>, probation: Arc<Probation>, violation: Violation) {
        let reason = violation.to_string();
        let tenant = &self.settings.tenant;
        loop {
            let Ok(turn) = self.turn(tenant).await else {
                return;
            };
            if !self.is_on_trial(&probation) {
                return;
            }
            let result = self.take_its_place(&turn, &probation, violation).await;
            let Err(error) = result else {
                break;
            };
            tracing::error!(
                tenant = &**tenant,
                version = &*probation.version,
                reason,
                %error,
                "a version crossed a bound, and none can take its place"
            );
            if probation.before.is_none() {
                break;
            }
            drop(turn);
            tokio::time::sleep(TAKE_BACK_AGAIN).await;
        }
        // Nobody may listen.
        let _ = self.condemned.send(Condemned {
            version: probation.version.clone(),
            reason,
            is_first: probation.before.is_none(),
        });
    }

    async fn take_its_place(
        self: &Arc<Self>,
        turn: &Turn<'_>,
        probation: &Arc<Probation>,
        violation: Violation,
    ) -> Result<(), PluginError> {
        let (reason, label) = (violation.to_string(), violation.name());
        if self.is_canary(probation) {
            self.give_up(turn, &reason).await?;
            self.common.meters.rollback(label);
            return Ok(());
        }
        let target = match &probation.before {
            Some(before) => before.plugin.clone(),
            None => self.target(None)?,
        };
        self.give_up(turn, "the version beside it was taken back")
            .await?;
        self.go_back(turn, &target, &reason, label).await
    }

    /// Gives up this version if some clients try it; false if they do not.
    pub(super) async fn abandon(
        self: Arc<Self>,
        version: Name,
        reason: String,
    ) -> Result<bool, PluginError> {
        let turn = self.turn(&self.settings.tenant).await?;
        let tried = self.routes().canary.as_ref().map(|it| it.plugin().clone());
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
        self.end_watch_of_canary();
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
        let probation = (is_new && bounds.window_ms > 0).then(|| self.probation(plugin.version()));
        let stopped = || stopped(plugin.source());
        let mut taken = Vec::with_capacity(count + 1);
        let started = started.into_iter().map(Some).chain(std::iter::once(None));
        for (seat, started) in self.all_seats().zip(started) {
            let (done, taken_over) = oneshot::channel();
            let order = Order::TakeOver {
                version: Arc::clone(version),
                started: started.map(Box::new),
                probation: probation.clone(),
                done,
            };
            seat.orders.send(order).await.map_err(|_| stopped())?;
            taken.push(taken_over);
        }
        for taken_over in taken {
            taken_over.await.map_err(|_| stopped())?;
        }
        self.versions().activate(plugin, before);
        self.tasks.serve(Served {
            version: Arc::clone(version),
            probation: probation.clone(),
        });
        let within = Duration::from_millis(bounds.window_ms);
        // Whoever sees the version sees that it is on trial.
        self.watch_serving(probation.map(|it| (it, within)));
        self.version.send_replace(plugin.version().clone());
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
