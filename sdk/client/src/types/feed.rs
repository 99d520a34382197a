//! What happens to clients, as the live feed tells it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CloseReason, Peer};

/// The kinds of what happens: the event names of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A client connected.
    Connected,
    /// A client is gone.
    Closed,
    /// A client joined a group.
    Joined,
    /// A client left a group.
    Left,
    /// A client got a uid.
    Bound,
    /// A client lost its uid.
    Unbound,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Connected,
        Self::Closed,
        Self::Joined,
        Self::Left,
        Self::Bound,
        Self::Unbound,
    ];

    /// The event's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Closed => "closed",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Bound => "bound",
            Self::Unbound => "unbound",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened to one client: the data of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Happening {
    /// Milliseconds since 1970, by the clock of the client's gateway.
    pub at: u64,
    /// Whose.
    pub client: String,
    /// The uid that the client has, or had until now.
    pub uid: Option<String>,
    /// The group that was joined or left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The groups of a client that closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Why it closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CloseReason>,
    /// Who connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
}
