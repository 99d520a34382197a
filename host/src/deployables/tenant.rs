//! One tenant of this worker: what serves it, what is held for it, and the file that it began with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_deploy::{CanaryPlan, Coming, Component, Serving, Step, TakenBack};
use tidegate_runtime::{
    Condemned, Deployment, DeploymentSettings, PluginError, PluginKind, Runtime, Tried,
};
use tidegate_wire::Name;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::slot::{Held, Slot};
use crate::bridge::Bridge;
use crate::config::Plugin;
use crate::tenants;

/// A tenant and its plugin.
pub(super) struct Tenant {
    plugin: Plugin,
    settings: DeploymentSettings,
    runtime: Runtime,
    bridge: Arc<Bridge>,
    slot: Slot,
    /// Ends the following of the file; none while the cluster says what serves.
    following: Mutex<Option<CancellationToken>>,
    /// What served of the file when the cluster took over.
    of_file: Mutex<Option<Name>>,
    /// What the cluster asks for and what a version brings upon itself happen one after the other.
    changes: tokio::sync::Mutex<()>,
    taken_back: mpsc::Sender<TakenBack>,
}

impl Tenant {
    pub(super) fn new(
        plugin: Plugin,
        settings: DeploymentSettings,
        runtime: Runtime,
        bridge: Arc<Bridge>,
        taken_back: mpsc::Sender<TakenBack>,
    ) -> Self {
        Self {
            plugin,
            settings,
            runtime,
            bridge,
            slot: Slot::new(),
            following: Mutex::default(),
            of_file: Mutex::default(),
            changes: tokio::sync::Mutex::default(),
            taken_back,
        }
    }

    fn name(&self) -> &Name {
        &self.plugin.tenant
    }

    /// Serves the configured file and follows it.
    pub(super) async fn start_configured(self: &Arc<Self>) -> anyhow::Result<()> {
        let Some(file) = &self.plugin.file else {
            tracing::info!(tenant = %self.name(), "no plugin file: nothing serves until a deploy");
            return Ok(());
        };
        tracing::info!(tenant = %self.name(), file = %file.display(),
            "the plugin is being loaded, which takes a while when it was not compiled before");
        let loaded = self.runtime.load(file).await?;
        let deployment = Deployment::start(&self.runtime, loaded, self.settings.clone()).await?;
        tracing::info!(tenant = %self.name(), file = %file.display(),
            version = %*deployment.version().borrow(), instances = self.settings.instances,
            "plugin runs");
        self.serve(deployment.clone());
        self.follow(deployment);
        Ok(())
    }

    /// Takes each new version of the file, until the cluster says what serves.
    fn follow(&self, deployment: Deployment) {
        let stop = CancellationToken::new();
        *self.following() = Some(stop.clone());
        tenants::follow(&self.plugin, &self.runtime, deployment, stop);
    }

    fn serve(self: &Arc<Self>, deployment: Deployment) {
        let mut condemned = deployment.condemned();
        self.bridge.add(self.name(), deployment);
        let tenant = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let told = match condemned.recv().await {
                    Ok(told) => told,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                };
                let Some(tenant) = tenant.upgrade() else {
                    return;
                };
                // A version of the file is this worker's own affair.
                if tenant.following().is_none() {
                    tenant.take_back(told).await;
                }
            }
        });
    }

    /// A version of the cluster has crossed a bound here. The runtime has gone back to the one before
    /// it, if there was one.
    async fn take_back(self: &Arc<Self>, told: Condemned) {
        let back = TakenBack {
            tenant: self.name().clone(),
            version: told.version.clone(),
            reason: told.reason.clone(),
        };
        // Closed only when the process ends.
        let _ = self.taken_back.send(back).await;
        if told.is_first
            && let Err(error) = self.give_up(&told.version, told.reason).await
        {
            tracing::error!(tenant = %self.name(), version = %told.version, error,
                "a version that crossed a bound serves on");
        }
    }

    pub(super) fn serving(&self) -> Serving {
        let deployment = self.bridge.deployment(self.name());
        Serving {
            tenant: self.name().clone(),
            serving: deployment.as_ref().map(|it| it.version().borrow().clone()),
            trial: deployment.as_ref().is_some_and(Deployment::is_on_trial),
            failing: deployment.as_ref().and_then(Deployment::canary_failing),
            canary: deployment.and_then(|it| it.canary()),
        }
    }

    pub(super) async fn prepare(
        &self,
        component: Component,
        canary: Option<CanaryPlan>,
        steps: mpsc::Sender<Step>,
    ) -> Result<(), String> {
        let given_up = self.slot.begin(&component.version);
        let made = tokio::select! {
            made = self.make_ready(component, canary, steps) => made,
            () = given_up.cancelled() => return Err(discarded()),
        };
        let held = made.inspect_err(|_| self.slot.failed(&given_up))?;
        match self.slot.hold(held, &given_up) {
            true => Ok(()),
            false => Err(discarded()),
        }
    }

    async fn make_ready(
        &self,
        component: Component,
        canary: Option<CanaryPlan>,
        steps: mpsc::Sender<Step>,
    ) -> Result<Held, String> {
        let deployment = self.bridge.deployment(self.name());
        let kept = deployment.as_ref();
        let plugin = match kept.and_then(|it| it.kept(&component.version)) {
            Some(plugin) => plugin,
            None => {
                let bytes = component.bytes.to_vec();
                let loading = self.runtime.load_bytes(&component.source, bytes);
                loading.await.map_err(text)?
            }
        };
        plugin.expect_kind(PluginKind::Handler).map_err(text)?;
        // Progress is for people; nobody may look.
        let _ = steps.send(Step::Compiled).await;
        let held = match (deployment, canary) {
            (Some(deployment), canary) => {
                let prepared = deployment.prepare(plugin, canary.map(tried)).await;
                Held::Next(prepared.map_err(text)?)
            }
            (None, Some(_)) => {
                return Err(format!(
                    "nothing serves the tenant `{}` here yet, beside which some clients could try \
                     a version: deploy one for all clients first",
                    self.name()
                ));
            }
            (None, None) => {
                let started = Deployment::start_first(&self.runtime, plugin, self.settings.clone());
                Held::First(started.await.map_err(text)?)
            }
        };
        let _ = steps.send(Step::Started).await;
        Ok(held)
    }

    pub(super) async fn activate(
        self: &Arc<Self>,
        version: &Name,
        coming: Coming,
    ) -> Result<(), String> {
        let _turn = self.changes.lock().await;
        let Some(held) = self.slot.take(version) else {
            return Err(format!("the version {version} is not held here"));
        };
        self.take_over();
        match held {
            Held::Next(prepared) => match coming {
                Coming::New(_) => prepared.activate().await.map_err(text)?,
                Coming::Again(reason) => prepared.return_to(reason).await.map_err(text)?,
            },
            Held::First(_) if self.bridge.deployment(self.name()).is_some() => {
                held.discard();
                return Err("another version began to serve meanwhile".to_owned());
            }
            Held::First(deployment) => {
                deployment.serve_first(self.trial_left(&coming));
                self.serve(deployment);
            }
        }
        tracing::info!(tenant = %self.name(), %version, "a version of the cluster serves");
        Ok(())
    }

    /// For how long a version that nothing stands before is on trial.
    fn trial_left(&self, coming: &Coming) -> Option<Duration> {
        let trial = Duration::from_millis(self.settings.rollout.bounds.window_ms);
        match coming {
            Coming::New(age) => trial.checked_sub(*age),
            Coming::Again(_) => None,
        }
    }

    /// From here on the cluster says what serves.
    fn take_over(&self) {
        if let Some(following) = self.following().take() {
            following.cancel();
            let serving = self.bridge.deployment(self.name());
            *self.of_file() = serving.map(|it| it.version().borrow().clone());
            if let Some(file) = &self.plugin.file {
                tracing::info!(tenant = %self.name(), file = %file.display(),
                    "the cluster says which version serves; the file is not followed any more");
            }
        }
    }

    pub(super) fn discard(&self, version: &Name) {
        self.slot.discard(Some(version));
    }

    pub(super) async fn promote(&self, version: &Name) -> Result<(), String> {
        let _turn = self.changes.lock().await;
        let deployment = self.bridge.deployment(self.name());
        let deployment = deployment.ok_or("nothing serves the tenant here")?;
        if deployment.canary().as_ref() == Some(version) {
            return deployment.promote().await.map_err(text);
        }
        match *deployment.version().borrow() == *version {
            true => Ok(()),
            false => Err(format!("no client tries the version {version} here")),
        }
    }

    pub(super) async fn give_up(
        self: &Arc<Self>,
        version: &Name,
        reason: String,
    ) -> Result<(), String> {
        let _turn = self.changes.lock().await;
        self.slot.discard(Some(version));
        let Some(deployment) = self.bridge.deployment(self.name()) else {
            return Ok(());
        };
        let was_tried = deployment
            .abandon(version, reason.clone())
            .await
            .map_err(text)?;
        if was_tried || *deployment.version().borrow() != *version {
            return Ok(());
        }
        match self.go_back_to_file(&deployment, version, &reason).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.serve_nothing(deployment, version, &reason).await;
                Ok(())
            }
            Err(error) => {
                tracing::error!(tenant = %self.name(), error,
                    "the file of the configuration cannot take the place of a version that is given up");
                self.serve_nothing(deployment, version, &reason).await;
                Ok(())
            }
        }
    }

    /// False if no file is configured, or the file is what is given up.
    async fn go_back_to_file(
        &self,
        deployment: &Deployment,
        version: &Name,
        reason: &str,
    ) -> Result<bool, String> {
        let Some(file) = &self.plugin.file else {
            return Ok(false);
        };
        let plugin = self.runtime.load(file).await.map_err(text)?;
        if plugin.version() == version {
            return Ok(false);
        }
        let prepared = deployment.prepare(plugin, None).await.map_err(text)?;
        let returned = prepared.return_to(reason.to_owned()).await;
        returned.map_err(text)?;
        tracing::warn!(tenant = %self.name(), given_up = %version, reason, file = %file.display(),
            "the cluster names no version; the file of the configuration serves");
        self.follow(deployment.clone());
        Ok(true)
    }

    /// The cluster names no version. Where the runtime has gone back to what the file had, by itself,
    /// the file is followed again; what was withdrawn serves on until the next start.
    pub(super) fn unnamed(&self) {
        let of_file = self.of_file().clone();
        let (Some(of_file), Some(deployment)) = (of_file, self.bridge.deployment(self.name()))
        else {
            return;
        };
        if self.following().is_none() && *deployment.version().borrow() == of_file {
            tracing::info!(tenant = %self.name(), version = %of_file,
                "the cluster names no version; the file of the configuration is followed again");
            self.follow(deployment);
        }
    }

    /// What waits is given back, and waits at the gateways or is refused, as they are told.
    async fn serve_nothing(&self, deployment: Deployment, version: &Name, reason: &str) {
        drop(self.bridge.remove(self.name()));
        tracing::error!(tenant = %self.name(), given_up = %version, reason,
            "NOTHING SERVES this tenant here: its version is given up, and there is none to go back \
             to; deploy one that works");
        deployment.stop(Duration::ZERO).await;
    }

    /// Follows the file no longer and drops what is held.
    pub(super) fn end(&self) {
        if let Some(following) = &*self.following() {
            following.cancel();
        }
        self.slot.discard(None);
    }

    fn of_file(&self) -> std::sync::MutexGuard<'_, Option<Name>> {
        self.of_file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn following(&self) -> std::sync::MutexGuard<'_, Option<CancellationToken>> {
        self.following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn tried(plan: CanaryPlan) -> Tried {
    Tried {
        percent: plan.percent,
        clients: plan.clients,
        // The cluster promotes it everywhere at once.
        within: None,
    }
}

fn discarded() -> String {
    "it was discarded while it was prepared".to_owned()
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "it stands in map_err, which gives the value"
)]
fn text(error: PluginError) -> String {
    error.to_string()
}
