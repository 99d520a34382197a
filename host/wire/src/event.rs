//! What happens to clients, on its way from the home to a handler.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::effect_id::EffectId;
use crate::handshake::SignIn;
use crate::http::HttpCall;
use crate::id::{ClientId, EventId};
use crate::payload::{Carry, Payload};
use crate::task::TaskId;
use crate::timer::TimerId;

/// What a client sends and receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// UTF-8 text. Whoever makes one has checked the bytes.
    Text(Payload),
    /// Any bytes.
    Binary(Payload),
}

impl Message {
    /// The bytes of either kind.
    #[must_use]
    pub const fn payload(&self) -> &Payload {
        match self {
            Self::Text(payload) | Self::Binary(payload) => payload,
        }
    }
}

impl Carry for Message {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        visit(self.payload());
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Text(payload) | Self::Binary(payload) => visit(payload),
        }
    }
}

/// How a client is connected: the scheme of its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// `ws`
    WebSocket,
    /// `tcp`: bytes as they come
    Tcp,
    /// `text`: one line a message
    TextLines,
    /// `frame`: u32 big-endian total length, then the message
    LengthPrefixed,
}

/// Who is at the other end, as seen when it connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The client's address.
    pub address: SocketAddr,
    /// How it is connected.
    pub transport: Transport,
    /// The listener's name.
    pub listener: Name,
    /// Whether the connection is encrypted.
    pub secure: bool,
}

/// How a client came. It stays the same as long as the client is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Who is at the other end.
    pub peer: Peer,
    /// When it connected, in milliseconds since 1970.
    pub connected_at_ms: u64,
    /// The WebSocket subprotocol that was agreed on.
    pub subprotocol: Option<Name>,
}

/// The HTTP request that opened a WebSocket. Header names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// The path, still percent-encoded.
    pub path: String,
    /// Query pairs, decoded.
    pub query: Vec<(String, String)>,
    /// Headers, in order.
    pub headers: Vec<(String, String)>,
    /// Cookies, decoded.
    pub cookies: Vec<(String, String)>,
}

/// Why a client closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseReason {
    /// The client closed or vanished.
    Client,
    /// A handler or an operator closed it.
    Server,
    /// Silent for too long, or no answer to pings.
    Idle,
    /// It did not read what it was sent.
    Slow,
    /// It broke the protocol or a limit.
    Protocol,
    /// Its gateway is going away.
    GoingAway,
    /// Its gateway was lost; told by its custodian.
    GatewayLost,
}

/// The most bytes of the reason in a close frame: a control frame has 125, two of them for the code.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// A WebSocket close frame (RFC 6455, section 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseFrame {
    /// The status code of section 7.4.
    pub code: u16,
    /// At most [`CLOSE_REASON_BYTES_MAX`].
    pub reason: String,
}

impl CloseFrame {
    /// What a handler or an application may close a client with: the code 1000, or one of 3000 to
    /// 4999, which are theirs.
    ///
    /// # Errors
    /// What would be right.
    pub fn of_application(code: u16, reason: &str) -> Result<Self, String> {
        if code != 1000 && !(3000..=4999).contains(&code) {
            return Err(format!(
                "the close code {code} is not for applications: use 1000, or one of 3000 to 4999"
            ));
        }
        if reason.len() > CLOSE_REASON_BYTES_MAX {
            return Err(format!(
                "the reason of a close may have {CLOSE_REASON_BYTES_MAX} bytes, this one has {}",
                reason.len()
            ));
        }
        let reason = reason.to_owned();
        Ok(Self { code, reason })
    }
}

/// What a client was when it closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// The close frame that the client sent, if it ended a WebSocket by one with a code.
    pub frame: Option<CloseFrame>,
    /// Its uid, if it had one.
    pub uid: Option<Name>,
    /// Its groups, sorted.
    pub groups: Vec<Name>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The client is there and may be sent to.
    Connect {
        /// How it came.
        arrival: Arc<Arrival>,
        /// The upgrade request of a WebSocket.
        request: Option<Box<HttpRequest>>,
    },
    /// The client sent a message.
    Message(Message),
    /// The client is gone.
    Close(Box<Closed>),
    /// A call from outside, which waits for the reply. It has a lane of its own; the client id of
    /// its delivery names no client.
    Request {
        /// What is called.
        name: Name,
        /// The argument.
        payload: Payload,
    },
    /// A timer has run out. One that is no client's has a lane of its own, as a request has.
    Timer {
        /// Which.
        timer: Box<TimerId>,
        /// What it was set with.
        payload: Payload,
    },
    /// So much waits to be written to the client that it may be in trouble soon.
    BufferFull {
        /// Bytes that wait.
        bytes: u64,
    },
    /// All that waited for such a client is written.
    BufferDrain,
    /// Somebody wants to become a client. As a request it has a lane of its own, and a reply.
    Handshake {
        /// How it comes.
        arrival: Arc<Arrival>,
        /// What it says.
        said: SignIn,
    },
    /// Work beside the lanes of clients, in a lane of its own, as a request.
    Task {
        /// Which.
        task: Box<TaskId>,
        /// What it works on.
        payload: Payload,
        /// So many steps of it are committed; what it asks for before it has come so far again is not.
        committed: u32,
    },
    /// A task has ended. Its client hears of it among its other events; if that is gone, or it was no
    /// client's, it has a lane of its own.
    TaskFinished {
        /// Which.
        task: Box<TaskId>,
        /// Whether it is an event of the task's client.
        of_client: bool,
        /// What the handler gave, or why it gave nothing.
        outcome: Result<Payload, String>,
    },
    /// Somebody asks by HTTP, at a listener for WebSockets. As a request it has a lane of its own, and a
    /// reply.
    Http {
        /// How it came.
        arrival: Arc<Arrival>,
        /// What is asked.
        call: Box<HttpCall>,
    },
}

/// Which kind an event is of, without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// A client connected.
    Connect,
    /// A client sent a message.
    Message,
    /// A client's connection is closed.
    Close,
    /// Somebody outside asks.
    Request,
    /// A timer has run out.
    Timer,
    /// Much waits for a client.
    BufferFull,
    /// Nothing waits for it any more.
    BufferDrain,
    /// Somebody wants to become a client.
    Handshake,
    /// Work beside the lanes.
    Task,
    /// A task has ended.
    TaskFinished,
    /// Somebody asks by HTTP.
    Http,
}

impl EventType {
    /// A short name for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Message => "message",
            Self::Close => "close",
            Self::Request => "request",
            Self::Timer => "timer",
            Self::BufferFull => "buffer-full",
            Self::BufferDrain => "buffer-drain",
            Self::Handshake => "handshake",
            Self::Task => "task",
            Self::TaskFinished => "task-finished",
            Self::Http => "http",
        }
    }
}

impl EventKind {
    /// Which kind it is.
    #[must_use]
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::Connect { .. } => EventType::Connect,
            Self::Message(_) => EventType::Message,
            Self::Close(_) => EventType::Close,
            Self::Request { .. } => EventType::Request,
            Self::Timer { .. } => EventType::Timer,
            Self::BufferFull { .. } => EventType::BufferFull,
            Self::BufferDrain => EventType::BufferDrain,
            Self::Handshake { .. } => EventType::Handshake,
            Self::Task { .. } => EventType::Task,
            Self::TaskFinished { .. } => EventType::TaskFinished,
            Self::Http { .. } => EventType::Http,
        }
    }

    /// Whether it happened to a client. The client id of another one's delivery names no client, and
    /// its lane has no other event.
    #[must_use]
    pub const fn is_of_client(&self) -> bool {
        match self {
            Self::Request { .. }
            | Self::Handshake { .. }
            | Self::Task { .. }
            | Self::Http { .. } => false,
            Self::Timer { timer, .. } => timer.client.is_some(),
            Self::TaskFinished { of_client, .. } => *of_client,
            Self::Connect { .. }
            | Self::Message(_)
            | Self::Close(_)
            | Self::BufferFull { .. }
            | Self::BufferDrain => true,
        }
    }

    /// The timer that has run out, or the task that is to run, if that is what happened.
    #[must_use]
    pub fn into_id(self) -> Option<Box<EffectId>> {
        match self {
            Self::Timer { timer: id, .. } | Self::Task { task: id, .. } => Some(id),
            Self::Connect { .. }
            | Self::Message(_)
            | Self::Close(_)
            | Self::Request { .. }
            | Self::BufferFull { .. }
            | Self::BufferDrain
            | Self::Handshake { .. }
            | Self::TaskFinished { .. }
            | Self::Http { .. } => None,
        }
    }

    /// A short name for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.event_type().name()
    }
}

impl Carry for EventKind {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Message(message) => message.carry(visit),
            Self::Request { payload, .. }
            | Self::Timer { payload, .. }
            | Self::Task { payload, .. } => visit(payload),
            Self::TaskFinished { outcome, .. } => {
                if let Ok(result) = outcome {
                    visit(result);
                }
            }
            Self::Handshake { said, .. } => said.carry(visit),
            Self::Http { call, .. } => call.carry(visit),
            Self::Connect { .. } | Self::Close(_) | Self::BufferFull { .. } | Self::BufferDrain => {
            }
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Message(message) => message.carry_mut(visit),
            Self::Request { payload, .. }
            | Self::Timer { payload, .. }
            | Self::Task { payload, .. } => visit(payload),
            Self::TaskFinished { outcome, .. } => {
                if let Ok(result) = outcome {
                    visit(result);
                }
            }
            Self::Handshake { said, .. } => said.carry_mut(visit),
            Self::Http { call, .. } => call.carry_mut(visit),
            Self::Connect { .. } | Self::Close(_) | Self::BufferFull { .. } | Self::BufferDrain => {
            }
        }
    }
}

/// Key and JSON text of each entry, ordered by key.
pub type SessionEntries = Vec<(Name, String)>;

/// What a worker must know of a client to run its events: its whole session, as its home has it, and how
/// it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSnapshot {
    /// Counts the home's changes of this session.
    pub version: u64,
    /// Its entries.
    pub entries: SessionEntries,
    /// None for a request, and with a connect, which says it itself.
    pub arrival: Option<Arc<Arrival>>,
}

/// One event on its way to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which event.
    pub event: EventId,
    /// Which attempt at it, from 0.
    pub attempt: u8,
    /// How many workers were lost while this event was under way; from 2 on it runs alone.
    pub losses: u8,
    /// Index into the tenants of the worker's announcement.
    pub tenant: u16,
    /// Whose event.
    pub client: ClientId,
    /// The session, when the worker's mirror of it is missing or stale; else the mirror is right.
    pub session: Option<Box<ClientSnapshot>>,
    /// What happened.
    pub kind: EventKind,
}

impl Carry for Delivery {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        self.kind.carry(visit);
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        self.kind.carry_mut(visit);
    }
}
