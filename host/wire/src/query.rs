//! Questions about clients, uids, groups and sessions, and their answers.
//!
//! One gateway coordinates a question: it asks its own shards and the other gateways that can
//! matter, and merges their parts. Lists are ordered by client id or by the bytes of a name, so
//! that parts merge and a page goes on behind any key, also one that is gone.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::effect::Effect;
use crate::event::{Peer, SessionEntries};
use crate::id::{ClientId, EventId};
use crate::payload::{Carry, Payload};
use crate::task::TaskId;
use crate::timer::TimerId;

/// The most entries of one page, and the most names or ids of one list in a query.
pub const LIMIT_MAX: u32 = 1000;

/// Which clients a query is about. Several selectors mean their union; none means nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// All clients of the tenant.
    Everyone,
    /// These clients.
    Clients(Vec<ClientId>),
    /// All clients of each uid.
    Uids(Vec<Name>),
    /// All members of each group.
    Groups(Vec<Name>),
    /// Members of every one of these groups; an empty list selects nobody.
    AllOfGroups(Vec<Name>),
}

/// Which parts of a client are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent flags, each named as in the contract"
)]
pub struct ClientFields {
    /// Address, transport, listener.
    pub peer: bool,
    /// The uid.
    pub uid: bool,
    /// The groups, sorted.
    pub groups: bool,
    /// The session.
    pub session: bool,
    /// When it connected and when its last message came.
    pub times: bool,
    /// Bytes in and out.
    pub traffic: bool,
}

/// One client; what was not asked for is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Which client.
    pub client: ClientId,
    /// Who is at the other end.
    pub peer: Option<Box<Peer>>,
    /// Its uid.
    pub uid: Option<Name>,
    /// Its groups, sorted.
    pub groups: Vec<Name>,
    /// Its session, ordered by key.
    pub session: SessionEntries,
    /// Milliseconds since 1970.
    pub connected_at_ms: Option<u64>,
    /// Milliseconds since 1970; none before the first message.
    pub last_message_at_ms: Option<u64>,
    /// Payload bytes of its messages.
    pub bytes_in: Option<u64>,
    /// Bytes written to it or waiting to be.
    pub bytes_out: Option<u64>,
}

impl ClientInfo {
    /// A client of which nothing else is known.
    #[must_use]
    pub const fn new(client: ClientId) -> Self {
        Self {
            client,
            peer: None,
            uid: None,
            groups: Vec::new(),
            session: Vec::new(),
            connected_at_ms: None,
            last_message_at_ms: None,
            bytes_in: None,
            bytes_out: None,
        }
    }
}

/// One group with its counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// The group.
    pub group: Name,
    /// Its members.
    pub clients: u64,
    /// Distinct uids of its members.
    pub uids: u64,
    /// Several shards have members of it, so that `uids` may count a uid more than once. Never set
    /// in the answer to whoever asked.
    pub uids_may_repeat: bool,
}

/// A timer that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerInfo {
    /// Which.
    pub timer: TimerId,
    /// Until it runs out.
    pub due_in_ms: u64,
    /// How long after that it does so again, if it repeats.
    pub period_ms: Option<u64>,
    /// What its event brings.
    pub payload: Payload,
}

/// A task that waits or is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Which.
    pub task: TaskId,
    /// A worker may have it; else it waits for its turn.
    pub under_way: bool,
    /// How many attempts at it have been made before this one.
    pub attempt: u8,
    /// How many of its steps are committed.
    pub steps: u32,
    /// Since it was submitted.
    pub age_ms: u64,
}

/// What is asked. Some act at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Clients, ordered by id. Answer: [`Answer::Clients`]
    Clients {
        /// Which.
        of: Vec<Selector>,
        /// What of each.
        fields: ClientFields,
        /// Only those behind this id.
        after: Option<ClientId>,
        /// At most so many.
        limit: u32,
    },
    /// How many clients. Answer: [`Answer::Count`]
    ClientCount {
        /// Which.
        of: Vec<Selector>,
    },
    /// Clients of each of these uids. Answer: [`Answer::Counts`], in the order asked.
    UidCounts(Vec<Name>),
    /// Members of each of these groups. Answer: [`Answer::Counts`], in the order asked.
    GroupCounts(Vec<Name>),
    /// Distinct uids of clients, ordered. Answer: [`Answer::Names`]
    Uids {
        /// Of which clients.
        of: Vec<Selector>,
        /// Only those behind this one.
        after: Option<Name>,
        /// At most so many.
        limit: u32,
    },
    /// How many distinct uids, exactly; the coordinator pages through them. Answer:
    /// [`Answer::Count`]
    UidCount {
        /// Of which clients.
        of: Vec<Selector>,
    },
    /// About how many distinct uids there are, in one round. Answer: [`Answer::Count`]; between
    /// gateways [`Answer::Sketch`].
    UidEstimate,
    /// Groups that have members, ordered. Answer: [`Answer::Names`]
    Groups {
        /// Only those behind this one.
        after: Option<Name>,
        /// At most so many.
        limit: u32,
    },
    /// Groups with their exact counts, ordered. Answer: [`Answer::Groups`]
    GroupInfos {
        /// Only those behind this one.
        after: Option<Name>,
        /// At most so many.
        limit: u32,
    },
    /// Every pair of a group and a member, ordered. Answer: [`Answer::GroupClients`]
    GroupClients {
        /// Only those behind this pair.
        after: Option<(Name, ClientId)>,
        /// At most so many pairs.
        limit: u32,
    },
    /// Every pair of a group and a distinct uid of its members, ordered. Answer:
    /// [`Answer::GroupUids`]
    GroupUids {
        /// Only those behind this pair.
        after: Option<(Name, Name)>,
        /// At most so many pairs.
        limit: u32,
    },
    /// The announced addresses of the live gateways. Answer: [`Answer::Gateways`]
    Gateways,
    /// Sets one session key if its committed value is the expected one. Acts at once. Answer:
    /// [`Answer::Swapped`]
    CompareAndSet {
        /// Whose session.
        client: ClientId,
        /// Which key.
        key: Name,
        /// The JSON text that it must have; none: it must be absent. Texts are compared as JSON
        /// values.
        expected: Option<String>,
        /// The JSON text that it gets; none: it is removed.
        new: Option<String>,
        /// Counts the compare-and-sets of one try at an event, from 0: a further try that asks the
        /// same again gets the result that is remembered. 0 outside an event.
        nth: u32,
    },
    /// Runs a custom command beside the hub of these gateways and waits. Acts at once. Answer:
    /// [`Answer::Commands`]
    Command {
        /// Announced addresses; none: all gateways.
        gateways: Option<Vec<SocketAddrV4>>,
        /// Which command.
        name: Name,
        /// Its argument.
        payload: Payload,
    },
    /// Applies effects unless this key was seen before. Asked only by the Client API of the
    /// gateway that remembers the key. Answer: [`Answer::Applied`]
    Once {
        /// Hash of the caller's idempotency key.
        key: [u8; 32],
        /// Hash of the request.
        request: [u8; 32],
        /// What to apply.
        effects: Vec<Effect>,
    },
    /// Calls the tenant's handler, unless that was done before under this key, and waits for the
    /// reply. Asked only by the Client API of the gateway that remembers the key. Acts at once.
    /// Answer: [`Answer::Replied`]
    Request {
        /// Hash of the caller's idempotency key.
        key: [u8; 32],
        /// Hash of the request.
        request: [u8; 32],
        /// What is called.
        name: Name,
        /// Its argument.
        payload: Payload,
    },
    /// Timers that wait, ordered by id. Answer: [`Answer::Timers`]
    Timers {
        /// Whose; none: those of the tenant that are no client's.
        of: Option<ClientId>,
        /// Only those behind this one.
        after: Option<Box<TimerId>>,
        /// At most so many.
        limit: u32,
    },
    /// Tasks of the tenant that wait or are under way, ordered by id. Answer: [`Answer::Tasks`]
    Tasks {
        /// Only those behind this one.
        after: Option<Box<TaskId>>,
        /// At most so many.
        limit: u32,
    },
}

/// Why a compare-and-set changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapRefusal {
    /// No such client is connected.
    Offline,
    /// The value is not the expected one.
    Conflict,
    /// The session would be too large.
    TooLarge,
}

/// Why a custom command gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandError {
    /// The tenant has no command component on this gateway.
    Absent,
    /// The command returned an error.
    Failed(String),
    /// It trapped or ran into a limit; the text names which.
    Broken(String),
    /// Too many run or wait.
    Overloaded,
    /// Not done by the deadline.
    Timeout,
}

/// Why a request got no reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RequestError {
    /// The handler returned an error.
    #[error("{0}")]
    Failed(String),
    /// The tenant's plugin takes no requests.
    #[error("the tenant's plugin does not export `request-events`")]
    Unhandled,
    /// The handler trapped or ran into a limit twice.
    #[error("the handler broke twice: the request was set aside")]
    DeadLettered,
    /// Not done in time; it may still be.
    #[error("no answer within the deadline; the request may still be handled")]
    Timeout,
    /// Too many requests wait.
    #[error("{0}")]
    Overloaded(String),
    /// The gateway is ending.
    #[error("the gateway is ending")]
    Ending,
    /// Its idempotency key was used for another call: nothing happened.
    #[error("this idempotency key was used for another call: take a new one")]
    Reused,
    /// It was handled before under the same key: nothing happened now.
    #[error("done before under this idempotency key; its reply is not kept any more")]
    Forgotten,
}

/// What one gateway's command gave.
pub type CommandOutcome = Result<Payload, CommandError>;

/// Whether an idempotency key was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Once {
    /// It was: the effects are applied.
    First,
    /// The same request was applied before: nothing happened.
    Again,
    /// Another request had this key: nothing happened.
    Reused,
}

/// What was found. In a page `more` says that something may be behind the last entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Clients, ordered by id.
    Clients {
        /// The page.
        page: Vec<ClientInfo>,
        /// Whether there may be more.
        more: bool,
    },
    /// A count.
    Count(u64),
    /// Counts, in the order asked.
    Counts(Vec<u64>),
    /// Names, ordered.
    Names {
        /// The page.
        page: Vec<Name>,
        /// Whether there may be more.
        more: bool,
    },
    /// Groups, ordered by name.
    Groups {
        /// The page.
        page: Vec<GroupInfo>,
        /// Whether there may be more.
        more: bool,
    },
    /// Pairs of group and member.
    GroupClients {
        /// The page.
        page: Vec<(Name, ClientId)>,
        /// Whether there may be more.
        more: bool,
    },
    /// Pairs of group and uid.
    GroupUids {
        /// The page.
        page: Vec<(Name, Name)>,
        /// Whether there may be more.
        more: bool,
    },
    /// A sketch of a set of uids, see [`crate::sketch`].
    Sketch(Vec<u8>),
    /// Gateways, ordered.
    Gateways(Vec<SocketAddrV4>),
    /// What became of a compare-and-set.
    Swapped(Result<(), SwapRefusal>),
    /// What each gateway's command gave, ordered by address.
    Commands(Vec<(SocketAddrV4, CommandOutcome)>),
    /// What became of effects with an idempotency key.
    Applied(Once),
    /// What a request with an idempotency key gave.
    Replied(Result<Payload, RequestError>),
    /// Timers, ordered by id.
    Timers {
        /// The page.
        page: Vec<TimerInfo>,
        /// Whether there may be more.
        more: bool,
    },
    /// Tasks, ordered by id.
    Tasks {
        /// How many of the tenant wait for their turn.
        waiting: u64,
        /// How many are under way.
        under_way: u64,
        /// Since the oldest of all of them was submitted; 0 if there is none.
        oldest_ms: u64,
        /// The page.
        page: Vec<TaskInfo>,
        /// Whether there may be more.
        more: bool,
    },
}

/// An answer with those who had no part in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// What was found.
    pub answer: Answer,
    /// Announced addresses of gateways that could matter and gave no answer in time, ordered.
    /// Empty: the answer is whole.
    pub missing: Vec<SocketAddrV4>,
}

/// Why there is no answer at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AskError {
    /// The event is no longer under way there, or the gateway is ending.
    #[error("the gateway that owns the event no longer waits for it")]
    Gone,
    /// The one gateway that could answer did not, in time.
    #[error("no answer within the deadline")]
    Timeout,
    /// The query breaks a rule; the text names it.
    #[error("{0}")]
    Invalid(String),
    /// A bound is reached; the text names it.
    #[error("{0}")]
    Overloaded(String),
}

/// A question of a handler, on its way home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The worker's count of questions on this link.
    pub number: u64,
    /// During which event.
    pub event: EventId,
    /// Which attempt at it.
    pub attempt: u8,
    /// Whose event.
    pub client: ClientId,
    /// The event's changes so far: those that a query can see, without sends.
    pub effects: Vec<Effect>,
    /// What is asked.
    pub query: Query,
    /// How long the answer may take.
    pub within_ms: u32,
}

/// A question of one gateway's shard to another gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The shard that asks.
    pub shard: u16,
    /// The shard's count of questions.
    pub number: u64,
    /// Whose clients.
    pub tenant: Name,
    /// Changes to be seen by the query, and by nobody else.
    pub effects: Vec<Effect>,
    /// What is asked.
    pub query: Query,
    /// How long the answer may take.
    pub within_ms: u32,
}

impl Carry for Query {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Command { payload, .. } | Self::Request { payload, .. } => visit(payload),
            Self::Once { effects, .. } => effects.carry(visit),
            Self::Clients { .. }
            | Self::ClientCount { .. }
            | Self::UidCounts(_)
            | Self::GroupCounts(_)
            | Self::Uids { .. }
            | Self::UidCount { .. }
            | Self::UidEstimate
            | Self::Groups { .. }
            | Self::GroupInfos { .. }
            | Self::GroupClients { .. }
            | Self::GroupUids { .. }
            | Self::Gateways
            | Self::Timers { .. }
            | Self::Tasks { .. }
            | Self::CompareAndSet { .. } => {}
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Command { payload, .. } | Self::Request { payload, .. } => visit(payload),
            Self::Once { effects, .. } => effects.carry_mut(visit),
            Self::Clients { .. }
            | Self::ClientCount { .. }
            | Self::UidCounts(_)
            | Self::GroupCounts(_)
            | Self::Uids { .. }
            | Self::UidCount { .. }
            | Self::UidEstimate
            | Self::Groups { .. }
            | Self::GroupInfos { .. }
            | Self::GroupClients { .. }
            | Self::GroupUids { .. }
            | Self::Gateways
            | Self::Timers { .. }
            | Self::Tasks { .. }
            | Self::CompareAndSet { .. } => {}
        }
    }
}

impl Carry for Answer {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        if let Self::Commands(outcomes) = self {
            for (_, outcome) in outcomes {
                if let Ok(payload) = outcome {
                    visit(payload);
                }
            }
        }
        if let Self::Replied(Ok(payload)) = self {
            visit(payload);
        }
        if let Self::Timers { page, .. } = self {
            page.iter().for_each(|timer| visit(&timer.payload));
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        if let Self::Timers { page, .. } = self {
            page.iter_mut().for_each(|timer| visit(&mut timer.payload));
        }
        if let Self::Commands(outcomes) = self {
            for (_, outcome) in outcomes {
                if let Ok(payload) = outcome {
                    visit(payload);
                }
            }
        }
        if let Self::Replied(Ok(payload)) = self {
            visit(payload);
        }
    }
}

impl Carry for Question {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        self.effects.carry(visit);
        self.query.carry(visit);
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        self.effects.carry_mut(visit);
        self.query.carry_mut(visit);
    }
}

impl Carry for Ask {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        self.effects.carry(visit);
        self.query.carry(visit);
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        self.effects.carry_mut(visit);
        self.query.carry_mut(visit);
    }
}
