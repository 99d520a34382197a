//! What a handler asked for during one event.

use std::net::SocketAddrV4;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::event::{CloseFrame, Message, SessionEntries};
use crate::handshake::{Accepted, Rejected};
use crate::http::HttpAnswer;
use crate::id::{ClientId, EventId};
use crate::payload::{Carry, Payload};
use crate::peers::PeerMessage;
use crate::task::TaskId;
use crate::timer::TimerId;

/// Whom a send is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recipients {
    /// One client.
    Client(ClientId),
    /// These clients.
    Clients(Vec<ClientId>),
    /// All clients of each uid.
    Uids(Vec<Name>),
    /// All members of each group.
    Groups(Vec<Name>),
    /// All clients of the tenant.
    Everyone,
    /// The union of these, each client once.
    AnyOf {
        /// These clients.
        clients: Vec<ClientId>,
        /// All clients of each uid.
        uids: Vec<Name>,
        /// All members of each group.
        groups: Vec<Name>,
    },
}

/// A change of one client's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionChange {
    /// Sets one key to a JSON text.
    Set {
        /// The key.
        key: Name,
        /// The JSON text.
        value: String,
    },
    /// Sets one key; if the old and the new value are objects they are merged key by key.
    Merge {
        /// The key.
        key: Name,
        /// The JSON text.
        value: String,
    },
    /// Removes one key.
    Remove {
        /// The key.
        key: Name,
    },
    /// Replaces the whole session.
    Replace(SessionEntries),
    /// Removes every key.
    Clear,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Sends a message.
    Send {
        /// To whom.
        to: Recipients,
        /// What.
        message: Message,
        /// Clients that are left out.
        except: Vec<ClientId>,
    },
    /// Sends bytes as they are, without the listener's framing.
    SendRaw {
        /// To whom.
        to: Recipients,
        /// What.
        bytes: Payload,
        /// Clients that are left out.
        except: Vec<ClientId>,
    },
    /// Sends the farewell, flushes what is queued, then closes.
    Close {
        /// Whom.
        client: ClientId,
        /// A last message.
        farewell: Option<Message>,
        /// What a WebSocket is closed with; none: 1000 without a reason.
        frame: Option<Box<CloseFrame>>,
    },
    /// The same for all clients of a uid.
    CloseUid {
        /// Whom.
        uid: Name,
        /// A last message.
        farewell: Option<Message>,
        /// What WebSockets are closed with; none: 1000 without a reason.
        frame: Option<Box<CloseFrame>>,
    },
    /// Closes at once and drops what is queued.
    Destroy {
        /// Whom.
        client: ClientId,
    },
    /// Gives a client a uid.
    BindUid {
        /// Whom.
        client: ClientId,
        /// The uid.
        uid: Name,
    },
    /// Takes a client's uid away.
    UnbindUid {
        /// Whom.
        client: ClientId,
    },
    /// Adds a client to a group.
    JoinGroup {
        /// Whom.
        client: ClientId,
        /// The group.
        group: Name,
    },
    /// Takes a client out of a group.
    LeaveGroup {
        /// Whom.
        client: ClientId,
        /// The group.
        group: Name,
    },
    /// Removes every member of a group.
    Ungroup {
        /// The group.
        group: Name,
    },
    /// Changes a client's session.
    Session {
        /// Whose.
        client: ClientId,
        /// How.
        change: SessionChange,
    },
    /// Starts a custom command beside the hub of these gateways; nobody waits for it.
    Command {
        /// Announced addresses; none: all gateways.
        gateways: Option<Vec<SocketAddrV4>>,
        /// Which command.
        name: Name,
        /// Its argument.
        payload: Payload,
    },
    /// Sends a message that takes the place of what still waits for a client under the same key.
    SendLatest {
        /// To whom.
        to: Recipients,
        /// What the message tells the newest of.
        key: Name,
        /// What.
        message: Message,
        /// Clients that are left out.
        except: Vec<ClientId>,
    },
    /// Sets a timer: a client's at its home, any other one at the shard that takes the commit.
    SetTimer {
        /// Which.
        timer: Box<TimerId>,
        /// When it runs out, from the time when this is applied.
        delay_ms: u64,
        /// Whether it runs out again, each time after as long.
        repeats: bool,
        /// What its event brings.
        payload: Payload,
    },
    /// Ends a timer, if there is one of this id.
    CancelTimer {
        /// Which.
        timer: Box<TimerId>,
    },
    /// Begins a task: a client's at its home, any other one at the shard that takes the commit.
    SubmitTask {
        /// Which.
        task: Box<TaskId>,
        /// What it is to work on.
        payload: Payload,
    },
    /// Ends a task, if there is one of this id.
    CancelTask {
        /// Which.
        task: Box<TaskId>,
    },
    /// Says something to the other instances of the tenant's handler, at most once to each.
    PeerMessage(Box<PeerMessage>),
}

/// Where an effect must be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Only at the home of this client.
    Client(ClientId),
    /// At the homes of these clients.
    Clients(&'a [ClientId]),
    /// At every shard of every gateway.
    Everywhere,
    /// At the shard that takes the commit alone.
    Here,
    /// Once at each of these gateways; none: at all of them.
    Gateways(Option<&'a [SocketAddrV4]>),
}

impl Effect {
    /// Whether a question of the same event can see what it does. Sends, commands, timers, tasks and messages
    /// to other instances change nothing that can be asked for.
    #[must_use]
    pub const fn is_visible_to_questions(&self) -> bool {
        match self {
            Self::Send { .. }
            | Self::SendRaw { .. }
            | Self::SendLatest { .. }
            | Self::Command { .. }
            | Self::SetTimer { .. }
            | Self::CancelTimer { .. }
            | Self::SubmitTask { .. }
            | Self::CancelTask { .. }
            | Self::PeerMessage(_) => false,
            Self::Close { .. }
            | Self::CloseUid { .. }
            | Self::Destroy { .. }
            | Self::BindUid { .. }
            | Self::UnbindUid { .. }
            | Self::JoinGroup { .. }
            | Self::LeaveGroup { .. }
            | Self::Ungroup { .. }
            | Self::Session { .. } => true,
        }
    }

    /// Where it must be applied.
    #[must_use]
    pub fn scope(&self) -> Scope<'_> {
        match self {
            Self::Send { to, .. } | Self::SendRaw { to, .. } | Self::SendLatest { to, .. } => {
                match to {
                    Recipients::Client(client) => Scope::Client(*client),
                    Recipients::Clients(clients) => Scope::Clients(clients),
                    Recipients::Uids(_)
                    | Recipients::Groups(_)
                    | Recipients::Everyone
                    | Recipients::AnyOf { .. } => Scope::Everywhere,
                }
            }
            Self::Close { client, .. }
            | Self::Destroy { client }
            | Self::BindUid { client, .. }
            | Self::UnbindUid { client }
            | Self::JoinGroup { client, .. }
            | Self::LeaveGroup { client, .. }
            | Self::Session { client, .. } => Scope::Client(*client),
            Self::CloseUid { .. } | Self::Ungroup { .. } => Scope::Everywhere,
            Self::Command { gateways, .. } => Scope::Gateways(gateways.as_deref()),
            Self::SetTimer { timer: id, .. } | Self::SubmitTask { task: id, .. } => {
                id.client.map_or(Scope::Here, Scope::Client)
            }
            // Where one that is no client's lives, its id does not say: a close that custodians tell
            // is taken by whatever gateway they reach.
            Self::CancelTimer { timer: id } | Self::CancelTask { task: id } => {
                id.client.map_or(Scope::Everywhere, Scope::Client)
            }
            // Every worker has a link to every gateway.
            Self::PeerMessage(_) => Scope::Here,
        }
    }
}

impl Carry for Effect {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Send { message, .. } | Self::SendLatest { message, .. } => message.carry(visit),
            Self::SendRaw { bytes, .. } => visit(bytes),
            Self::Command { payload, .. }
            | Self::SetTimer { payload, .. }
            | Self::SubmitTask { payload, .. } => visit(payload),
            Self::PeerMessage(message) => visit(&message.payload),
            Self::Close { farewell, .. } | Self::CloseUid { farewell, .. } => farewell.carry(visit),
            Self::Destroy { .. }
            | Self::BindUid { .. }
            | Self::UnbindUid { .. }
            | Self::JoinGroup { .. }
            | Self::LeaveGroup { .. }
            | Self::Ungroup { .. }
            | Self::Session { .. }
            | Self::CancelTimer { .. }
            | Self::CancelTask { .. } => {}
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Send { message, .. } | Self::SendLatest { message, .. } => {
                message.carry_mut(visit);
            }
            Self::SendRaw { bytes, .. } => visit(bytes),
            Self::Command { payload, .. }
            | Self::SetTimer { payload, .. }
            | Self::SubmitTask { payload, .. } => visit(payload),
            Self::PeerMessage(message) => visit(&mut message.payload),
            Self::Close { farewell, .. } | Self::CloseUid { farewell, .. } => {
                farewell.carry_mut(visit);
            }
            Self::Destroy { .. }
            | Self::BindUid { .. }
            | Self::UnbindUid { .. }
            | Self::JoinGroup { .. }
            | Self::LeaveGroup { .. }
            | Self::Ungroup { .. }
            | Self::Session { .. }
            | Self::CancelTimer { .. }
            | Self::CancelTask { .. } => {}
        }
    }
}

/// So many dead letters of one client, with no more than [`DEAD_LETTERS_WITHIN`] between two of them,
/// and its gateway closes it (1011); its worker runs no more of its messages.
pub const DEAD_LETTERS_MAX: u8 = 5;

/// After so long without a dead letter the earlier ones of a client are forgotten.
pub const DEAD_LETTERS_WITHIN: Duration = Duration::from_secs(60);

/// How an event ended at the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The handler returned ok: the effects are valid.
    Done,
    /// The handler returned an error: no effects.
    Failed,
    /// The handler trapped or timed out twice: no effects, the event is set aside.
    DeadLettered,
    /// The worker did not run it and gives it back.
    Returned,
}

/// What the handler of a request, of a handshake, of a task or of a request by HTTP gave back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It returned ok with these bytes.
    Ok(Payload),
    /// It returned an error.
    Failed(String),
    /// The plugin takes no such events.
    Unhandled,
    /// To a handshake: it becomes a client.
    Accepted(Box<Accepted>),
    /// To a handshake: it does not.
    Rejected(Box<Rejected>),
    /// To a request by HTTP.
    Http(Box<HttpAnswer>),
}

impl Carry for Reply {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Ok(payload) => visit(payload),
            Self::Rejected(rejected) => visit(&rejected.body),
            Self::Http(answer) => answer.carry(visit),
            Self::Failed(_) | Self::Unhandled | Self::Accepted(_) => {}
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Ok(payload) => visit(payload),
            Self::Rejected(rejected) => visit(&mut rejected.body),
            Self::Http(answer) => answer.carry_mut(visit),
            Self::Failed(_) | Self::Unhandled | Self::Accepted(_) => {}
        }
    }
}

/// The effects of one event, on their way home in one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Which event.
    pub event: EventId,
    /// Which attempt at it.
    pub attempt: u8,
    /// Whose event.
    pub client: ClientId,
    /// How it ended.
    pub outcome: Outcome,
    /// What the handler asked for, in order; empty unless `outcome` is done.
    pub effects: Vec<Effect>,
    /// The answer to a request, the result of a task; none for other events.
    pub reply: Option<Box<Reply>>,
}

impl Carry for Commit {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        self.effects.carry(visit);
        if let Some(reply) = self.reply.as_deref() {
            reply.carry(visit);
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        self.effects.carry_mut(visit);
        if let Some(reply) = self.reply.as_deref_mut() {
            reply.carry_mut(visit);
        }
    }
}
