//! Requests: calls from outside into a tenant's handler, as the caller and the shards share them.
//!
//! Bounded in number and in bytes over the whole gateway. A place is held until the request's
//! event is over, however long its caller waits.

mod replies;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::Name;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::access::RequestError;
use super::inbox::Parcel;
use super::shard::Context;
use replies::{First, Replies, Seen};

/// Requests of one gateway whose events are not over.
const REQUESTS_MAX: usize = 10_000;
/// No caller waits longer.
const WITHIN_MAX: Duration = Duration::from_secs(3600);

/// What a caller gets.
pub(super) type Replied = Result<Bytes, RequestError>;

/// A call on its way to the shard that will be its home.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) tenant: Name,
    pub(super) name: Name,
    pub(super) payload: Bytes,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Replied>,
    /// Whether the reply is told also after the deadline.
    pub(super) kept: bool,
    pub(super) place: Place,
}

/// What the requests of a gateway share.
#[derive(Debug, Default)]
pub(super) struct Requests {
    count: Arc<Count>,
    turn: AtomicUsize,
    replies: Mutex<Replies>,
}

#[derive(Debug, Default)]
struct Count {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// One request's place among those that a gateway may hold; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    count: Arc<Count>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.requests.fetch_sub(1, Ordering::AcqRel);
        self.count.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Requests {
    /// Requests whose events are not over.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.count.requests.load(Ordering::Acquire)
    }

    /// Held for a look-up, never across an await.
    fn replies(&self) -> MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, bytes: usize, bytes_max: usize) -> Result<Place, RequestError> {
        let requests = self.count.requests.fetch_add(1, Ordering::AcqRel);
        let held = self.count.bytes.fetch_add(bytes, Ordering::AcqRel);
        let place = Place {
            count: self.count.clone(),
            bytes,
        };
        if requests >= REQUESTS_MAX {
            return Err(RequestError::Overloaded(format!(
                "{REQUESTS_MAX} requests wait or run on this gateway: try again later"
            )));
        }
        if held > 0 && held.saturating_add(bytes) > bytes_max {
            return Err(RequestError::Overloaded(format!(
                "requests of {held} bytes wait or run on this gateway, {bytes_max} are allowed: try again later"
            )));
        }
        Ok(place)
    }
}

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
pub(super) async fn call(context: &Context, call: Call) -> Replied {
    let deadline = call.deadline;
    let replied = begin(context, call, false)?;
    timeout_at(deadline, wait(context, replied))
        .await
        .unwrap_or(Err(RequestError::Timeout))
}

/// The same unless it was called before under this key: then the reply of the first call is given,
/// or waited for. Call it on a shard's thread.
pub(super) fn call_once(
    context: &Arc<Context>,
    key: [u8; 32],
    request: [u8; 32],
    call: Call,
) -> impl Future<Output = Replied> + use<> {
    let deadline = call.deadline;
    let now = std::time::Instant::now();
    let seen = context
        .requests
        .replies()
        .see(&call.tenant, key, request, now);
    if let Seen::First(first, _) = &seen {
        tokio::task::spawn_local(run_first(context.clone(), first.clone(), call));
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
async fn run_first(context: Arc<Context>, first: First, call: Call) {
    let replied = match begin(&context, call, true) {
        Ok(replied) => wait(&context, replied).await,
        Err(error) => Err(error),
    };
    context.requests.replies().end(&first, replied);
}

async fn wait(context: &Context, replied: oneshot::Receiver<Replied>) -> Replied {
    tokio::select! {
        biased;
        replied = replied => replied.unwrap_or(Err(RequestError::Ending)),
        () = context.ended.cancelled() => Err(RequestError::Ending),
    }
}

/// Hands a request to the shard that will be its home. `kept`: its reply is told also after the
/// deadline.
fn begin(
    context: &Context,
    call: Call,
    kept: bool,
) -> Result<oneshot::Receiver<Replied>, RequestError> {
    let requests = &context.requests;
    if context.tenants.number(&call.tenant).is_none() {
        // Lanes belong to tenants that have listeners here; no worker is known for another one.
        return Err(RequestError::Unhandled);
    }
    let place = requests.place(call.payload.len(), context.settings.pending_bytes_max)?;
    let turn = requests.turn.fetch_add(1, Ordering::Relaxed);
    let Some(inbox) = context.inboxes.get(turn % context.inboxes.len().max(1)) else {
        return Err(RequestError::Ending);
    };
    let (reply, replied) = oneshot::channel();
    inbox.push(Parcel::Request(Box::new(Request {
        tenant: call.tenant,
        name: call.name,
        payload: call.payload,
        deadline: call.deadline,
        reply,
        kept,
        place,
    })));
    Ok(replied)
}

#[cfg(test)]
mod tests;
