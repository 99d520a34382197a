//! What is known about clients, uids, groups and gateways. `missing` names gateways that gave
//! nothing in time; empty means that the answer is whole.

use serde::{Deserialize, Serialize};

use super::SessionEntries;

/// A part of what is known about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// Address, transport, listener.
    Peer,
    /// The uid.
    Uid,
    /// The groups.
    Groups,
    /// The session.
    Session,
    /// When it connected and when its last message came.
    Times,
    /// Bytes in and out.
    Traffic,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Peer,
        Self::Uid,
        Self::Groups,
        Self::Session,
        Self::Times,
        Self::Traffic,
    ];

    /// The name as it stands in JSON and in queries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Uid => "uid",
            Self::Groups => "groups",
            Self::Session => "session",
            Self::Times => "times",
            Self::Traffic => "traffic",
        }
    }
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
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

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Peer {
    /// The client's address with its port.
    pub address: String,
    /// How it is connected.
    pub transport: Transport,
    /// The listener's name.
    pub listener: String,
    /// Whether the connection is encrypted.
    pub secure: bool,
}

/// Why a client closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
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
    /// Its gateway was lost.
    GatewayLost,
}

/// One client. What was not asked for is null or empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientInfo {
    /// Its id: 20 hex digits.
    pub client: String,
    /// The announced address of its gateway.
    pub gateway: String,
    /// Its number on that gateway.
    pub connection: u32,
    /// Who is at the other end.
    #[serde(default)]
    pub peer: Option<Peer>,
    /// Its uid.
    #[serde(default)]
    pub uid: Option<String>,
    /// Its groups, sorted.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Its session.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub session: SessionEntries,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub connected_at: Option<u64>,
    /// Milliseconds since 1970; null before the first message.
    #[serde(default)]
    pub last_message_at: Option<u64>,
    /// Payload bytes of its messages.
    #[serde(default)]
    pub bytes_in: Option<u64>,
    /// Bytes written to it or waiting to be.
    #[serde(default)]
    pub bytes_out: Option<u64>,
}

/// A part of a list. Another call with `next` as `after` goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The entries, in order.
    pub items: Vec<T>,
    /// Where the list goes on; null at its end.
    pub next: Option<String>,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
}

/// A count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Count {
    /// How many.
    pub count: u64,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
}

/// A uid and its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UidState {
    /// The uid.
    pub uid: String,
    /// Whether it has a client.
    pub online: bool,
    /// How many.
    pub clients: u64,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
}

/// A group with its counts, in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupInfo {
    /// The group.
    pub group: String,
    /// Its members.
    pub clients: u64,
    /// Distinct uids of its members.
    pub uids: u64,
}

/// One group with its counts; 0 when nobody is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupState {
    /// The group.
    pub group: String,
    /// Its members.
    pub clients: u64,
    /// Distinct uids of its members.
    pub uids: u64,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
}

/// A group and one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupClient {
    /// The group.
    pub group: String,
    /// The member.
    pub client: String,
}

/// A group and the uid of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupUid {
    /// The group.
    pub group: String,
    /// The uid.
    pub uid: String,
}

/// The live gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Gateways {
    /// Announced addresses, in order.
    pub gateways: Vec<String>,
    /// The one that answers.
    pub answering: String,
}

/// A client's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientRef {
    /// 20 hex digits.
    pub client: String,
}

/// The cluster as this tenant sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// The gateway that answers.
    pub gateway: String,
    /// The token's tenant.
    pub tenant: String,
    /// The gateway's version of Tidegate.
    pub version: String,
    /// The live gateways.
    pub gateways: Vec<String>,
    /// The tenant's clients.
    pub clients: u64,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
    /// Why the gateway that answers has no worker for the tenant's events, if it has none: nobody runs
    /// the tenant's plugin, or nobody who does has its `worker-tags`. A gateway of a version before
    /// tells nothing.
    #[serde(default)]
    pub unserved: Option<String>,
    /// What at the gateway that answers failed in the last minutes for a reason of its own, a codec of
    /// the tenant's listeners: a sentence each. A gateway of a version before tells nothing.
    #[serde(default)]
    pub failing: Vec<String>,
    /// Why the gateway that answers sends events where `bind` does and not where the tenant's `[[router]]`
    /// would: it fails, and with what. A gateway of a version before tells nothing.
    #[serde(default)]
    pub router_fault: Option<String>,
}
