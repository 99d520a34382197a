//! Requests: calls from outside into a tenant's handler, as the caller and the shards share them.
//!
//! Bounded in number and in bytes over the whole gateway. A place is held until the request's
//! event is over, however long its caller waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::Name;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::access::RequestError;
use super::inbox::Parcel;
use super::shard::Context;

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
    pub(super) place: Place,
}

/// What the requests of a gateway share.
#[derive(Debug, Default)]
pub(super) struct Requests {
    count: Arc<Count>,
    turn: AtomicUsize,
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

/// Calls the tenant's handler and waits for its reply.
pub(super) async fn call(
    context: &Context,
    tenant: &Name,
    name: Name,
    payload: Bytes,
    within: Duration,
) -> Replied {
    let requests = &context.requests;
    if context.tenants.number(tenant).is_none() {
        // Lanes belong to tenants that have listeners here; no worker is known for another one.
        return Err(RequestError::Unhandled);
    }
    let place = requests.place(payload.len(), context.settings.pending_bytes_max)?;
    let turn = requests.turn.fetch_add(1, Ordering::Relaxed);
    let Some(inbox) = context.inboxes.get(turn % context.inboxes.len().max(1)) else {
        return Err(RequestError::Ending);
    };
    let deadline = Instant::now() + within.min(WITHIN_MAX);
    let (reply, replied) = oneshot::channel();
    inbox.push(Parcel::Request(Box::new(Request {
        tenant: tenant.clone(),
        name,
        payload,
        deadline,
        reply,
        place,
    })));
    let waiting = async {
        tokio::select! {
            biased;
            replied = replied => replied.unwrap_or(Err(RequestError::Ending)),
            () = context.ended.cancelled() => Err(RequestError::Ending),
        }
    };
    timeout_at(deadline, waiting)
        .await
        .unwrap_or(Err(RequestError::Timeout))
}

#[cfg(test)]
mod tests;
