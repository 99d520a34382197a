//! What a router that is a component is asked and answers, at the gateway. Nothing of it is in a frame.

use std::sync::Arc;

use crate::Name;
use crate::event::{EventType, Message, Peer};
use crate::id::ClientId;

/// An event that is to go to a worker.
#[derive(Clone, Debug)]
pub struct RouteCall {
    /// Of which kind.
    pub kind: EventType,
    /// Whose it is; none of a request and its like.
    pub client: Option<ClientId>,
    /// Who is at the other end.
    pub peer: Option<Peer>,
    /// The client's uid.
    pub uid: Option<Name>,
    /// Some of its session: keys and JSON texts.
    pub session: Vec<(Name, String)>,
    /// What came with it.
    pub payload: Option<Message>,
    /// The workers that may get it.
    pub candidates: Arc<Vec<RouteCandidate>>,
}

/// A worker that may get an event.
#[derive(Clone, Debug)]
pub struct RouteCandidate {
    /// Its name in its configuration.
    pub name: Name,
    /// Its tags there.
    pub tags: Vec<Name>,
    /// Clients that it has.
    pub clients: u32,
    /// Bytes of events that wait there.
    pub queued_bytes: u64,
}

/// Why a router was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterPassed {
    /// It trapped, ran into a limit, could not be built or has chosen nobody of those who were there.
    Failed,
    /// Too many wait for it, or it is ending.
    Overloaded,
    /// It has failed again and again and is left alone for a while.
    Paused,
}

impl RouterPassed {
    /// A short name for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Overloaded => "overloaded",
            Self::Paused => "paused",
        }
    }
}

/// An index into the candidates, or none for `bind`; or why the router was passed over.
pub type Routed = Result<Option<usize>, RouterPassed>;
