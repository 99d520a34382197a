//! Requests: calls from outside into a tenant's handler, as the caller and the shards share them.
//!
//! Bounded in number and in bytes over the whole gateway; each tenant has its share. A place is held
//! until the request's event is over, however long its caller waits.

mod replies;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_fair::Places;
use tidegate_wire::Name;
use tidegate_wire::effect::Reply;
use tidegate_wire::event::EventKind;
use tidegate_wire::query::RequestError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::shared::Context;
use super::shared::request::{self, Request, RequestPlace};
use crate::gateway::shared::inbox::Parcel;
use replies::{First, Replies, Seen};

/// Requests of one gateway whose events are not over.
const REQUESTS_MAX: usize = 10_000;
/// No caller waits longer.
const WITHIN_MAX: Duration = Duration::from_secs(3600);

/// What the requests of a gateway share.
pub(super) struct Requests {
    context: Arc<Context>,
    number: Places<Name>,
    bytes: Places<Name>,
    turn: AtomicUsize,
    replies: Mutex<Replies>,
}

impl Requests {
    pub(super) fn new(context: Arc<Context>) -> Self {
        let tenants = context.tenants.count();
        let bytes_max = context.settings.pending_bytes_max;
        Self {
            context,
            number: Places::new(REQUESTS_MAX, tenants),
            bytes: Places::new(bytes_max, tenants),
            turn: AtomicUsize::new(0),
            replies: Mutex::new(Replies::new(tenants)),
        }
    }

    /// Requests whose events are not over.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.number.taken()
    }

    /// Held for a look-up, never across an await.
    fn replies(&self) -> MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those that wait or run.
    pub(super) fn place(&self, tenant: &Name, bytes: usize) -> Result<RequestPlace, RequestError> {
        let full = |what: &str| {
            let why = format!(
                "the tenant's share of the {what} on this gateway is used up: try again later"
            );
            RequestError::Overloaded(why)
        };
        let one = self.number.take(tenant);
        let one = one.ok_or_else(|| full("requests that may wait or run"))?;
        let bytes = match bytes {
            0 => None,
            bytes => {
                let taken = self.bytes.take_many(tenant, bytes);
                Some(taken.ok_or_else(|| full("bytes of requests that may wait or run"))?)
            }
        };
        Ok(RequestPlace {
            _one: one,
            _bytes: bytes,
        })
    }
}

/// What a caller gets.
pub(in crate::gateway) type Replied = Result<Bytes, RequestError>;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub(super) struct Call {
    tenant: Name,
    name: Name,
    payload: Bytes,
    deadline: Instant,
}

impl Call {
    pub(super) fn new(tenant: &Name, name: Name, payload: Bytes, within: Duration) -> Self {
        Self {
            tenant: tenant.clone(),
            name,
            payload,
            deadline: Instant::now() + within.min(WITHIN_MAX),
        }
    }
}

/// Calls the tenant's handler and waits for its reply.
pub(super) async fn call(requests: &Requests, call: Call) -> Replied {
    let deadline = call.deadline;
    let replied = begin(requests, call, false)?;
    timeout_at(deadline, wait(&requests.context, replied))
        .await
        .unwrap_or(Err(RequestError::Timeout))
}

/// The same unless it was called before under this key: then the reply of the first call is given,
/// or waited for. Call it on a shard's thread.
pub(super) fn call_once(
    requests: &Arc<Requests>,
    key: [u8; 32],
    request: [u8; 32],
    call: Call,
) -> impl Future<Output = Replied> + use<> {
    let deadline = call.deadline;
    let now = std::time::Instant::now();
    let seen = requests.replies().see(&call.tenant, key, request, now);
    if let Seen::First(first, _) = &seen {
        tokio::task::spawn_local(run_first(requests.clone(), first.clone(), call));
    }
    async move {
        let waiting = async {
            match seen {
                Seen::First(_, reply) | Seen::UnderWay(reply) => reply.wait().await,
                Seen::Known(replied) => replied,
            }
        };
        timeout_at(deadline, waiting)
            .await
            .unwrap_or(Err(RequestError::Timeout))
    }
}

/// Goes on until the handler is done, however long its callers wait.
async fn run_first(requests: Arc<Requests>, first: First, call: Call) {
    let replied = match begin(&requests, call, true) {
        Ok(replied) => wait(&requests.context, replied).await,
        Err(error) => Err(error),
    };
    requests.replies().end(&first, replied);
}

async fn wait(context: &Context, replied: oneshot::Receiver<request::Replied>) -> Replied {
    match reply(context, replied).await? {
        Reply::Ok(payload) => Ok(payload.into_bytes()),
        Reply::Failed(_)
        | Reply::Unhandled
        | Reply::Accepted(_)
        | Reply::Rejected(_)
        | Reply::Http(_) => {
            let why = "the worker answered a request as something else";
            Err(RequestError::Failed(why.to_owned()))
        }
    }
}

async fn reply(
    context: &Context,
    replied: oneshot::Receiver<request::Replied>,
) -> request::Replied {
    tokio::select! {
        biased;
        replied = replied => replied.unwrap_or(Err(RequestError::Ending)),
        () = context.ended.cancelled() => Err(RequestError::Ending),
    }
}

/// Hands a request to the shard that will be its home. `kept`: its reply is told also after the
/// deadline.
fn begin(
    requests: &Requests,
    call: Call,
    kept: bool,
) -> Result<oneshot::Receiver<request::Replied>, RequestError> {
    let context = &requests.context;
    if context.tenants.number(&call.tenant).is_none() {
        // Lanes belong to tenants that have listeners here; no worker is known for another one.
        return Err(RequestError::Unhandled);
    }
    let place = requests.place(&call.tenant, call.payload.len())?;
    let turn = requests.turn.fetch_add(1, Ordering::Relaxed);
    let Some(inbox) = context.inboxes.get(turn % context.inboxes.len().max(1)) else {
        return Err(RequestError::Ending);
    };
    let (reply, replied) = oneshot::channel();
    inbox.push(Parcel::Request(Box::new(Request {
        tenant: call.tenant,
        kind: EventKind::Request {
            name: call.name,
            payload: call.payload.into(),
        },
        deadline: call.deadline,
        reply,
        kept,
        place,
    })));
    Ok(replied)
}

#[cfg(test)]
mod tests;
