//! The plugins of this worker, as deploys over the cluster change them: a version is prepared beside
//! what serves, held, and then serves or goes away.
//!
//! A tenant begins with the file of its `[[plugin]]`, if it has one. From its first deploy on the file
//! is not followed any more. A version that crosses a bound is taken back by the runtime and told to
//! the cluster.

mod slot;
mod tenant;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_deploy::{
    Boxed, CanaryPlan, Coming, Component, Deployables, Desired, Serving, Step, TakenBack,
};
use tidegate_runtime::Runtime;
use tidegate_wire::Name;
use tokio::sync::mpsc;

use crate::bridge::Bridge;
use crate::config::Config;
use crate::tenants;

use tenant::Tenant;

/// Versions that were taken back and not yet told.
const TAKEN_BACK_MAX: usize = 64;

/// All plugins of a worker. Clones are handles to the same.
#[derive(Clone)]
pub struct Plugins {
    tenants: Arc<BTreeMap<Name, Arc<Tenant>>>,
    taken_back: Arc<Mutex<Option<mpsc::Receiver<TakenBack>>>>,
}

impl Plugins {
    /// Those of the configuration; none serves yet.
    ///
    /// # Errors
    /// When a limit does not fit this machine.
    pub fn new(config: &Config, runtime: &Runtime, bridge: &Arc<Bridge>) -> anyhow::Result<Self> {
        let (tell, told) = mpsc::channel(TAKEN_BACK_MAX);
        let mut all = BTreeMap::new();
        for plugin in &config.plugins {
            let tenant = Tenant::new(
                plugin.clone(),
                tenants::settings(config, plugin)?,
                runtime.clone(),
                Arc::clone(bridge),
                tell.clone(),
            );
            all.insert(plugin.tenant.clone(), Arc::new(tenant));
        }
        Ok(Self {
            tenants: Arc::new(all),
            taken_back: Arc::new(Mutex::new(Some(told))),
        })
    }

    /// Starts what the configuration names, for all tenants for which the cluster names nothing.
    ///
    /// # Errors
    /// When a file is refused; the text names it and says what would be right.
    pub async fn start(&self, desired: &Desired) -> anyhow::Result<()> {
        for (name, tenant) in &*self.tenants {
            match desired.current(name) {
                Some(release) => tracing::info!(
                    tenant = %name,
                    version = %release.version,
                    source = %release.source,
                    "the cluster names the version; the file of the configuration is not used"
                ),
                None => tenant.start_configured().await?,
            }
        }
        Ok(())
    }

    /// Follows no file any more and drops what is held.
    pub fn end(&self) {
        for tenant in self.tenants.values() {
            tenant.end();
        }
    }

    /// Does something for a tenant on a task of its own, so that it is never left half done.
    fn with<F>(&self, name: &Name, work: impl FnOnce(Arc<Tenant>) -> F) -> Boxed<Result<(), String>>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let Some(tenant) = self.tenants.get(name) else {
            let text = format!("this worker has no [[plugin]] for the tenant `{name}`");
            return Box::pin(std::future::ready(Err(text)));
        };
        let work = tokio::spawn(work(Arc::clone(tenant)));
        Box::pin(async move { work.await.unwrap_or_else(|error| Err(error.to_string())) })
    }
}

impl Deployables for Plugins {
    fn tenants(&self) -> Vec<Serving> {
        self.tenants
            .values()
            .map(|tenant| tenant.serving())
            .collect()
    }

    fn prepare(
        &self,
        tenant: Name,
        component: Component,
        canary: Option<CanaryPlan>,
        steps: mpsc::Sender<Step>,
    ) -> Boxed<Result<(), String>> {
        self.with(&tenant, |it| async move {
            it.prepare(component, canary, steps).await
        })
    }

    fn activate(&self, tenant: Name, version: Name, coming: Coming) -> Boxed<Result<(), String>> {
        self.with(
            &tenant,
            |it| async move { it.activate(&version, coming).await },
        )
    }

    fn discard(&self, tenant: Name, version: Name) {
        if let Some(it) = self.tenants.get(&tenant) {
            it.discard(&version);
        }
    }

    fn promote(&self, tenant: Name, version: Name) -> Boxed<Result<(), String>> {
        self.with(&tenant, |it| async move { it.promote(&version).await })
    }

    fn give_up(&self, tenant: Name, version: Name, reason: String) -> Boxed<Result<(), String>> {
        self.with(
            &tenant,
            |it| async move { it.give_up(&version, reason).await },
        )
    }

    fn unnamed(&self, tenant: Name) {
        if let Some(it) = self.tenants.get(&tenant) {
            it.unnamed();
        }
    }

    fn taken_back(&self) -> mpsc::Receiver<TakenBack> {
        let mut told = self
            .taken_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        told.take().unwrap_or_else(|| mpsc::channel(1).1)
    }
}
