//! What the API needs of a gateway. [`Access`] and [`DeployClient`] are the real ones; tests script
//! their own.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidegate_cluster::gateway::access::{Access, RequestError, ScheduleStatus, Told};
use tidegate_deploy::{DeployClient, DeployError, DeployOrder, Overview, Progress, Teller};
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::feed::Filter;
use tidegate_wire::query::{Answered, AskError, Once, Query};
use tokio::sync::mpsc;

/// The hashes of an idempotency key and of the call that was made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceKey {
    /// Of the key.
    pub key: [u8; 32],
    /// Of method, path, query and body.
    pub request: [u8; 32],
}

/// The cluster, through one gateway; see [`Access`] for what each call promises.
#[expect(
    missing_docs,
    reason = "the same calls as those of Access, which has their documentation"
)]
pub trait Cluster: Send + Sync + 'static {
    fn ask<'a>(
        &'a self,
        tenant: &'a Name,
        query: Query,
        within: Duration,
    ) -> BoxFuture<'a, Result<Answered, AskError>>;

    fn act<'a>(
        &'a self,
        tenant: &'a Name,
        effects: Vec<Effect>,
    ) -> BoxFuture<'a, Result<(), AskError>>;

    fn act_once<'a>(
        &'a self,
        tenant: &'a Name,
        once: OnceKey,
        effects: Vec<Effect>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Once, AskError>>;

    fn request<'a>(
        &'a self,
        tenant: &'a Name,
        name: Name,
        payload: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>>;

    fn request_once<'a>(
        &'a self,
        tenant: &'a Name,
        once: OnceKey,
        name: Name,
        payload: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>>;

    fn watch(&self, tenant: &Name, filter: Filter) -> Result<mpsc::Receiver<Told>, AskError>;

    fn unserved(&self, tenant: &Name) -> Option<String>;

    fn schedules(&self, tenant: &Name) -> Vec<ScheduleStatus>;

    fn failing(&self, tenant: &Name) -> Vec<String>;

    fn router_fault(&self, tenant: &Name) -> Option<String>;
}

/// Deploys over the cluster; see [`DeployClient`] for what each call promises.
#[expect(
    missing_docs,
    reason = "the same calls as those of DeployClient, which has their documentation"
)]
pub trait Deploys: Send + Sync + 'static {
    fn deploy(&self, order: DeployOrder, component: Bytes) -> mpsc::Receiver<Progress>;
    fn rollback(&self, tenant: Name, to: Option<String>, by: Name) -> mpsc::Receiver<Progress>;
    fn promote(&self, tenant: Name, by: Name) -> mpsc::Receiver<Progress>;
    fn withdraw(&self, tenant: Name, by: Name) -> mpsc::Receiver<Progress>;
    fn overview(&self) -> BoxFuture<'_, Result<Overview, DeployError>>;

    /// The same, at once: as far as it can be had, and who told it.
    fn look(&self) -> BoxFuture<'_, Result<(Overview, Teller), DeployError>> {
        Box::pin(async { Ok((self.overview().await?, Teller::First)) })
    }
}

impl Deploys for DeployClient {
    fn deploy(&self, order: DeployOrder, component: Bytes) -> mpsc::Receiver<Progress> {
        Self::deploy(self, order, component)
    }

    fn rollback(&self, tenant: Name, to: Option<String>, by: Name) -> mpsc::Receiver<Progress> {
        Self::rollback(self, tenant, to, by)
    }

    fn promote(&self, tenant: Name, by: Name) -> mpsc::Receiver<Progress> {
        Self::promote(self, tenant, by)
    }

    fn withdraw(&self, tenant: Name, by: Name) -> mpsc::Receiver<Progress> {
        Self::withdraw(self, tenant, by)
    }

    fn overview(&self) -> BoxFuture<'_, Result<Overview, DeployError>> {
        Box::pin(Self::overview(self))
    }

    fn look(&self) -> BoxFuture<'_, Result<(Overview, Teller), DeployError>> {
        Box::pin(async { Ok(Self::look(self).await) })
    }
}

impl Cluster for Access {
    fn ask<'a>(
        &'a self,
        tenant: &'a Name,
        query: Query,
        within: Duration,
    ) -> BoxFuture<'a, Result<Answered, AskError>> {
        Box::pin(Self::ask(self, tenant, query, within))
    }

    fn act<'a>(
        &'a self,
        tenant: &'a Name,
        effects: Vec<Effect>,
    ) -> BoxFuture<'a, Result<(), AskError>> {
        Box::pin(Self::act(self, tenant, effects))
    }

    fn act_once<'a>(
        &'a self,
        tenant: &'a Name,
        once: OnceKey,
        effects: Vec<Effect>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Once, AskError>> {
        Box::pin(Self::act_once(
            self,
            tenant,
            once.key,
            once.request,
            effects,
            within,
        ))
    }

    fn request<'a>(
        &'a self,
        tenant: &'a Name,
        name: Name,
        payload: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>> {
        Box::pin(Self::request(self, tenant, name, payload, within))
    }

    fn request_once<'a>(
        &'a self,
        tenant: &'a Name,
        once: OnceKey,
        name: Name,
        payload: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>> {
        let (key, request) = (once.key, once.request);
        Box::pin(Self::request_once(
            self, tenant, key, request, name, payload, within,
        ))
    }

    fn watch(&self, tenant: &Name, filter: Filter) -> Result<mpsc::Receiver<Told>, AskError> {
        Self::watch(self, tenant, filter)
    }

    fn unserved(&self, tenant: &Name) -> Option<String> {
        Self::unserved(self, tenant)
    }

    fn schedules(&self, tenant: &Name) -> Vec<ScheduleStatus> {
        Self::schedules(self, tenant)
    }

    fn failing(&self, tenant: &Name) -> Vec<String> {
        Self::failing(self, tenant)
    }

    fn router_fault(&self, tenant: &Name) -> Option<String> {
        Self::router_fault(self, tenant)
    }
}
