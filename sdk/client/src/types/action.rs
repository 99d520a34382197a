//! What is to be done: one commit each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Command, Json, Message, Recipients};

/// A message for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// To whom.
    pub to: Recipients,
    /// What.
    #[serde(flatten)]
    pub message: Message,
    /// Ids of clients that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub except: Vec<String>,
    /// What the message tells the newest of: it takes the place of what still waits for a client under the
    /// same key. Not with `raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub latest: Option<String>,
    /// Bytes as they are, without the listener's framing: the caller makes frames itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

impl Send {
    /// This message to these clients.
    pub fn new(to: impl Into<Recipients>, message: impl Into<Message>) -> Self {
        Self {
            to: to.into(),
            message: message.into(),
            except: Vec::new(),
            latest: None,
            raw: false,
        }
    }
}

/// A last message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Farewell {
    /// What is sent before the close.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farewell: Option<Message>,
    /// The code that closes a WebSocket: 1000, or one of 3000 to 4999. Without it: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1000, maximum = 4999))]
    pub code: Option<u16>,
    /// The reason beside it, for people; at most 123 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 123))]
    pub reason: Option<String>,
}

/// Closes a client once its queue and the farewell are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// Whom.
    pub client: String,
    /// A last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farewell: Option<Message>,
    /// The code that closes a WebSocket: 1000, or one of 3000 to 4999. Without it: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1000, maximum = 4999))]
    pub code: Option<u16>,
    /// The reason beside it, for people; at most 123 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 123))]
    pub reason: Option<String>,
}

/// The same for all clients of a uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CloseUid {
    /// Whom.
    pub uid: String,
    /// A last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farewell: Option<Message>,
    /// The code that closes a WebSocket: 1000, or one of 3000 to 4999. Without it: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1000, maximum = 4999))]
    pub code: Option<u16>,
    /// The reason beside it, for people; at most 123 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 123))]
    pub reason: Option<String>,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OneClient {
    /// Its id.
    pub client: String,
}

/// A client and its uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Whom.
    pub client: String,
    /// The uid that it gets.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub uid: String,
}

/// A uid for a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Uid {
    /// The uid, 1 to 255 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub uid: String,
}

/// A client and a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Whom.
    pub client: String,
    /// The group.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub group: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name, 1 to 255 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub group: String,
}

/// A session: key and JSON value.
pub type SessionEntries = BTreeMap<String, Json>;

/// Replaces a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetSession {
    /// Whose.
    pub client: String,
    /// All that it holds afterwards.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub entries: SessionEntries,
}

/// Changes some keys of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateSession {
    /// Whose.
    pub client: String,
    /// What is set.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub entries: SessionEntries,
    /// Whether objects are merged key by key instead of being replaced.
    #[serde(default)]
    pub deep: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Sends a message.
    Send(Send),
    /// Closes a client.
    Close(Close),
    /// Closes a client at once and drops what is queued.
    Destroy(OneClient),
    /// Closes all clients of a uid.
    CloseUid(CloseUid),
    /// Gives a client a uid.
    Bind(Bind),
    /// Takes a client's uid away.
    Unbind(OneClient),
    /// Adds a client to a group.
    Join(Member),
    /// Takes a client out of a group.
    Leave(Member),
    /// Removes every member of a group; they stay connected.
    Ungroup(Group),
    /// Replaces a session.
    SetSession(SetSession),
    /// Changes some keys of a session.
    UpdateSession(UpdateSession),
    /// Removes every key of a session.
    DeleteSession(OneClient),
    /// Starts a custom command; nobody waits for it.
    Command(Command),
}

/// Things to do in one commit, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// At most 1000.
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub actions: Vec<Action>,
}

/// That it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Done {
    /// When.
    pub status: DoneStatus,
}

/// Whether it was done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DoneStatus {
    /// Applied at the gateway that answers, and on its way to the others.
    Done,
    /// Done before under the same idempotency key: nothing happened now.
    Repeated,
}
