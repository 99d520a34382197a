//! What the handlers of calls share: the way to the gateway, and what they answer with.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use tidegate_client::{Done, DoneStatus};
use tidegate_fair::Places;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::query::{Answered, AskError, Once, Query, RequestError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Deploys, OnceKey};
use crate::problem::ApiRefusal;
use crate::tokens::Tokens;

/// What handlers share.
pub(crate) struct ApiShared {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) deploys: Arc<dyn Deploys>,
    pub(crate) answering: SocketAddrV4,
    pub(crate) query: Duration,
    pub(crate) tokens: watch::Receiver<Tokens>,
    pub(crate) stop: CancellationToken,
    pub(crate) apart: Apart,
    /// Calls that are under way.
    pub(crate) calls: Places<Name>,
    /// Held from before a component is read until its deploy is over.
    pub(crate) uploads: Places<Name>,
}

pub(crate) type Api = Arc<ApiShared>;

/// What a handler returns.
pub(crate) type Outcome<T> = Result<Json<T>, ApiRefusal>;

impl ApiShared {
    /// Asks within the usual time.
    pub(crate) async fn ask(&self, tenant: &Name, query: Query) -> Result<Answered, ApiRefusal> {
        Ok(self.cluster.ask(tenant, query, self.query).await?)
    }

    /// Applies effects as one commit, once if there is a key.
    pub(crate) async fn act(
        &self,
        tenant: &Name,
        once: Option<OnceKey>,
        effects: Vec<Effect>,
    ) -> Outcome<Done> {
        let done = match once {
            None => self
                .cluster
                .act(tenant, effects)
                .await
                .map(|()| Once::First)?,
            Some(once) => {
                let acting = self.cluster.act_once(tenant, once, effects, self.query);
                acting.await.map_err(|error| match error {
                    AskError::Timeout => ApiRefusal::timeout(
                        "the gateway that keeps this idempotency key is silent: it may do this yet; \
                         repeat it under the same key, which does not do it twice, or without a key",
                    ),
                    AskError::Gone | AskError::Invalid(_) | AskError::Overloaded(_) => error.into(),
                })?
            }
        };
        let status = match done {
            Once::First => DoneStatus::Done,
            Once::Again => DoneStatus::Repeated,
            Once::Reused => {
                return Err(RequestError::Reused.into());
            }
        };
        Ok(Json(Done { status }))
    }
}

/// An answer that does not fit its question.
pub(crate) fn unexpected() -> ApiRefusal {
    ApiRefusal::broken("the gateway answered another question")
}

/// Why the gateway does not know the cluster yet, as long as that lasts: see [`crate::Settings::apart`].
#[derive(Clone)]
pub struct Apart(Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl Apart {
    /// Asked at each call; none once the gateway knows the cluster.
    pub fn new(why: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(why))
    }

    pub(crate) fn why(&self) -> Option<String> {
        (self.0)()
    }

    /// Of a gateway that is the whole cluster.
    #[must_use]
    pub fn never() -> Self {
        Self::new(|| None)
    }
}

impl std::fmt::Debug for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Apart").field(&self.why()).finish()
    }
}
