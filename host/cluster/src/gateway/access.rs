//! The gateway as seen from outside the clients' connections: whoever serves the Client API asks
//! and acts for a tenant through this gateway, about the whole cluster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use tidegate_schedule::book::ScheduleStatus;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::feed::Filter;
use tidegate_wire::payload::Payload;
pub use tidegate_wire::query::RequestError;
use tidegate_wire::query::{Answer, Answered, AskError, Once, Query};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::requests::Call;
use super::services::Services;
use super::{feed, requests};
use crate::gateway::shared::gather::{Asked, shard_of_tenant};
use crate::gateway::shared::inbox::{Inbox, Parcel};

pub use super::feed::Told;

/// A way into a running gateway. Clones are the same way. Calls of one tenant through one gateway
/// take effect in the order in which they are made, and a query sees the calls before it.
#[derive(Clone)]
pub struct Access {
    services: Arc<Services>,
}

impl Access {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    /// Asks about the clients of a tenant, cluster-wide. Returns within `within`, with what was
    /// found by then.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(
        &self,
        tenant: &Name,
        query: Query,
        within: Duration,
    ) -> Result<Answered, AskError> {
        let (caller, answer) = oneshot::channel();
        let asked = Box::new(Asked {
            tenant: tenant.clone(),
            effects: Vec::new(),
            query,
            within: share(within),
        });
        let asking = async {
            let inbox = self.inbox(tenant).await?;
            inbox.push(Parcel::Call { asked, caller });
            answer.await.unwrap_or(Err(AskError::Gone))
        };
        timeout(within, asking)
            .await
            .unwrap_or(Err(AskError::Timeout))
    }

    /// Why no worker gets the events of the tenant's clients at this gateway, if none does: a part of a
    /// sentence. None also for a tenant that has no listener here.
    #[must_use]
    pub fn unserved(&self, tenant: &Name) -> Option<String> {
        let context = &self.services.context;
        context.unserved(context.tenants.number(tenant)?)
    }

    /// How it stands with the schedules of the tenant that this gateway looks after, in the order of the
    /// configuration.
    #[must_use]
    pub fn schedules(&self, tenant: &Name) -> Vec<ScheduleStatus> {
        self.services.schedules.status(tenant)
    }

    /// What of the tenant's listeners at this gateway fails for a reason of its own: sentences.
    #[must_use]
    pub fn failing(&self, tenant: &Name) -> Vec<String> {
        self.services.context.failing(tenant)
    }

    /// Why events of the tenant's clients at this gateway do not go where its router sends them, if that is
    /// a component that fails.
    #[must_use]
    pub fn router_fault(&self, tenant: &Name) -> Option<String> {
        self.services.routers.fault(tenant)
    }

    /// The queue into the shard that serves the tenant's calls, once it has room.
    async fn inbox(&self, tenant: &Name) -> Result<&Inbox, AskError> {
        let shard = shard_of_tenant(&self.services.context, tenant);
        let inbox = self
            .services
            .context
            .inboxes
            .get(shard)
            .ok_or(AskError::Gone)?;
        inbox.room().await;
        Ok(inbox)
    }

    /// Applies effects as one commit. Returns when they are applied to the clients of this
    /// gateway and are on their way to the others.
    ///
    /// # Errors
    /// [`AskError::Gone`] when the gateway is ending. While it is full the call waits.
    pub async fn act(&self, tenant: &Name, effects: Vec<Effect>) -> Result<(), AskError> {
        let (done, applied) = oneshot::channel();
        let inbox = self.inbox(tenant).await?;
        inbox.push(Parcel::Act {
            tenant: tenant.clone(),
            effects,
            done,
        });
        applied.await.map_err(|_| AskError::Gone)
    }

    /// The same, but not again for a key that was seen before, whichever gateway is asked. `key`
    /// and `request` are hashes of the caller's idempotency key and of the whole request. A query
    /// right behind it may not see it yet when another gateway remembers the key. A key is
    /// remembered as [`once`](tidegate_hub::idempotency) says.
    ///
    /// # Errors
    /// As above, and [`AskError::Timeout`] when the gateway that remembers the key did not answer:
    /// the effects may or may not be applied, and the call may be repeated.
    pub async fn act_once(
        &self,
        tenant: &Name,
        key: [u8; 32],
        request: [u8; 32],
        effects: Vec<Effect>,
        within: Duration,
    ) -> Result<Once, AskError> {
        let query = Query::Once {
            key,
            request,
            effects,
        };
        let answered = self.ask(tenant, query, within).await?;
        if let Answer::Applied(once) = answered.answer {
            Ok(once)
        } else {
            Err(AskError::Timeout)
        }
    }

    /// Calls the tenant's handler and waits for its reply.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(
        &self,
        tenant: &Name,
        name: Name,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, RequestError> {
        let call = Call::new(tenant, name, payload, within);
        requests::call(&self.services.requests, call).await
    }

    /// The same, but not again for a key that was seen before, whichever gateway is asked: whoever
    /// comes again gets the reply of the first, or waits for it. Keys are those of
    /// [`act_once`](Self::act_once); the handler runs for the gateway that remembers the key.
    ///
    /// # Errors
    /// See [`RequestError`]. What was refused with `Overloaded` or `Ending` was not done, and the
    /// key is free again; after `Timeout` the call may be repeated.
    pub async fn request_once(
        &self,
        tenant: &Name,
        key: [u8; 32],
        request: [u8; 32],
        name: Name,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, RequestError> {
        let query = Query::Request {
            key,
            request,
            name,
            payload: payload.into(),
        };
        let answered = self.ask(tenant, query, within).await;
        let answered = answered.map_err(|error| match error {
            AskError::Gone => RequestError::Ending,
            AskError::Timeout => RequestError::Timeout,
            AskError::Invalid(text) => RequestError::Failed(text),
            AskError::Overloaded(text) => RequestError::Overloaded(text),
        })?;
        if let Answer::Replied(replied) = answered.answer {
            replied.map(Payload::into_bytes)
        } else {
            Err(RequestError::Timeout)
        }
    }

    /// Watches what happens to the clients of a tenant, cluster-wide, until the receiver is
    /// dropped. Bounded: a watcher that does not take what it is told misses some of it and is
    /// told how much.
    ///
    /// # Errors
    /// [`AskError::Overloaded`] when there are too many watchers, [`AskError::Invalid`] when the
    /// filter has too many names, [`AskError::Gone`] when the gateway has ended.
    pub fn watch(&self, tenant: &Name, filter: Filter) -> Result<mpsc::Receiver<Told>, AskError> {
        feed::watch(&self.services.feed, tenant, filter)
    }
}

/// What of a caller's time the shard may use, so that its answer is back in time, also a partial
/// one.
fn share(within: Duration) -> Duration {
    within - (within / 20).min(Duration::from_millis(50))
}
