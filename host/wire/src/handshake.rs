//! Who may come: what a handler is asked before somebody becomes a client, and what it says to that.

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::event::{HttpRequest, Message, SessionEntries};
use crate::payload::{Carry, Payload};

/// What somebody says who wants to become a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignIn {
    /// The request for a WebSocket.
    Request(Box<HttpRequest>),
    /// The first message over another transport.
    Message(Message),
}

impl Carry for SignIn {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Request(_) => {}
            Self::Message(message) => message.carry(visit),
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Request(_) => {}
            Self::Message(message) => message.carry_mut(visit),
        }
    }
}

/// What somebody is who becomes a client, before its connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its session.
    pub session: SessionEntries,
    /// Its uid.
    pub uid: Option<Name>,
    /// Its groups.
    pub groups: Vec<Name>,
    /// The subprotocol of a WebSocket; none: the first of the listener's that was offered.
    pub subprotocol: Option<Name>,
    /// Further headers of the answer 101.
    pub headers: Vec<(String, String)>,
}

/// What somebody is told who does not become a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The status of the answer to the request.
    pub status: u16,
    /// Further headers of it.
    pub headers: Vec<(String, String)>,
    /// Its body; over another transport the last message.
    pub body: Payload,
}
