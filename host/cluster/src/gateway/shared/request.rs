//! A call from outside or a handshake, on its way to the shard that will be its home.

use tidegate_fair as fair;
use tidegate_wire::Name;
use tidegate_wire::effect::Reply;
use tidegate_wire::event::EventKind;
use tidegate_wire::query::RequestError;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What the handler gave back: neither failed nor unhandled.
pub(in crate::gateway) type Replied = Result<Reply, RequestError>;

/// An event of nobody that somebody waits for.
#[derive(Debug)]
pub(in crate::gateway) struct Request {
    pub(in crate::gateway) tenant: Name,
    pub(in crate::gateway) kind: EventKind,
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
