//! What a connection needs of the shard that owns it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::event::{Arrival, CloseReason, EventKind, HttpRequest, Message};
use tidegate_wire::handshake::{Accepted, Rejected};
use tidegate_wire::query::RequestError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Connection;
use super::codec::Codec;
use crate::gateway::clients::memory::Memory;
use crate::gateway::settings::ListenerSettings;
use crate::gateway::shared::Context;
use crate::gateway::shared::request::Replied;
use crate::gateway::shared::socket::Socket;

/// Somebody who becomes a client.
pub(in crate::gateway) struct Newcomer {
    /// How it comes.
    pub(in crate::gateway) arrival: Arrival,
    /// The request for its WebSocket.
    pub(in crate::gateway) request: Option<Box<HttpRequest>>,
    /// What the handler has made of it before its connect.
    pub(in crate::gateway) accepted: Option<Accepted>,
}

/// The shard, as its clients' tasks see it. Never waits.
pub(in crate::gateway) trait Home {
    /// What all shards share.
    fn context(&self) -> &Arc<Context>;
    /// The account of what clients make the shard keep.
    fn memory(&self) -> Rc<Memory>;
    /// Whether a worker serves this tenant.
    fn is_served(&self, tenant: &Name) -> bool;
    /// Whether the handler of this tenant takes requests by HTTP, as a worker has said last.
    fn takes_http(&self, tenant: &Name) -> bool;
    /// Asks the handler: an event of nobody, for whose reply somebody waits so long.
    fn ask_handler(
        &self,
        tenant: &Name,
        kind: EventKind,
        within: Duration,
    ) -> Result<oneshot::Receiver<Replied>, RequestError>;
    /// Somebody has become a client and, for a WebSocket, its upgrade is done; `early` is what it sent
    /// behind the request.
    fn client_connected(
        &self,
        socket: Socket,
        listener: &Rc<ListenerSettings>,
        newcomer: Newcomer,
        early: &Bytes,
    ) -> (Rc<Connection>, Codec);
    /// The handler has said whether a stranger may become a client.
    fn signed_in(&self, connection: &Rc<Connection>, verdict: Result<Accepted, Rejected>);
    /// A client sent a message.
    fn message(&self, connection: &Rc<Connection>, message: Message);
    /// A client's task has written what was left in its queue.
    fn written(&self, connection: &Connection);
    /// A client has left, or sends no more.
    fn client_left(&self, connection: &Connection);
    /// Whether all that a client sent is handled.
    fn is_answered(&self, connection: &Connection) -> bool;
    /// A client's task has ended.
    fn client_ended(&self, connection: &Rc<Connection>, reason: CloseReason);
    /// Until when a client that is to be closed now may take to close.
    fn end_of_client(&self) -> Instant;
    /// A client's connection is over.
    fn client_gone(&self, connection: &Connection);
    /// The settings of a listener.
    fn listener(&self, index: usize) -> Option<Rc<ListenerSettings>>;
    /// The clients of one slot of a listener's ping wheel have their turn.
    fn ping(&self, listener: usize);
}
