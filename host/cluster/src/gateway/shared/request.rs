//! A call from outside, on its way to the shard that will be its home.

use bytes::Bytes;
use tidegate_fair as fair;
use tidegate_wire::Name;
use tidegate_wire::query::RequestError;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a caller gets.
pub(in crate::gateway) type Replied = Result<Bytes, RequestError>;

/// A call on its way to the shard that will be its home.
#[derive(Debug)]
pub(in crate::gateway) struct Request {
    pub(in crate::gateway) tenant: Name,
    pub(in crate::gateway) name: Name,
    pub(in crate::gateway) payload: Bytes,
    pub(in crate::gateway) deadline: Instant,
    pub(in crate::gateway) reply: oneshot::Sender<Replied>,
    /// Whether the reply is told also after the deadline.
    pub(in crate::gateway) kept: bool,
    pub(in crate::gateway) place: RequestPlace,
}

/// One request's place among those that a gateway may hold; dropping it frees the place.
#[derive(Debug)]
pub(in crate::gateway) struct RequestPlace {
    pub(in crate::gateway) _one: fair::Place<Name>,
    pub(in crate::gateway) _bytes: Option<fair::Place<Name>>,
}
