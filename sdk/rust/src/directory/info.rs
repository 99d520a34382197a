//! What is told about one client or one group.

use std::fmt;
use std::ops::BitOr;

use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::event::Peer;
use crate::session;

/// Which parts of a client are wanted: `Fields::UID | Fields::GROUPS`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fields(u8);

impl Fields {
    /// The id alone.
    pub const NONE: Self = Self(0);
    /// Who is at the other end.
    pub const PEER: Self = Self(1);
    /// The uid.
    pub const UID: Self = Self(1 << 1);
    /// The groups.
    pub const GROUPS: Self = Self(1 << 2);
    /// The session.
    pub const SESSION: Self = Self(1 << 3);
    /// When it connected and when its last message came.
    pub const TIMES: Self = Self(1 << 4);
    /// Bytes in and out.
    pub const TRAFFIC: Self = Self(1 << 5);
    /// Everything.
    pub const ALL: Self = Self((1 << 6) - 1);

    /// Whether all of `other` is wanted.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Fields {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (Self::PEER, "peer"),
            (Self::UID, "uid"),
            (Self::GROUPS, "groups"),
            (Self::SESSION, "session"),
            (Self::TIMES, "times"),
            (Self::TRAFFIC, "traffic"),
        ];
        let wanted = named.iter().filter(|(field, _)| self.has(*field));
        f.debug_set().entries(wanted.map(|(_, name)| name)).finish()
    }
}

/// One client; what was not asked for is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Which client.
    pub client: Client,
    /// Who is at the other end.
    pub peer: Option<Peer>,
    /// Its uid, if it has one.
    pub uid: Option<String>,
    /// Its groups, in order.
    pub groups: Vec<String>,
    /// Keys and JSON texts of its session, ordered by key.
    pub session: Vec<(String, String)>,
    /// Milliseconds since 1970.
    pub connected_at_ms: Option<u64>,
    /// Milliseconds since 1970; none before its first message.
    pub last_message_at_ms: Option<u64>,
    /// Payload bytes of its messages.
    pub bytes_in: Option<u64>,
    /// Bytes that were queued for it.
    pub bytes_out: Option<u64>,
}

impl ClientInfo {
    /// A client of which nothing else is known.
    #[must_use]
    pub const fn new(client: Client) -> Self {
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

    /// The whole session as a type of yours: one field a key.
    pub fn session<T: DeserializeOwned>(&self) -> Result<T> {
        session::from_entries(&self.session)
    }

    /// The value of one session key, if it is there.
    pub fn session_key<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(json) = self.session_json(key) else {
            return Ok(None);
        };
        serde_json::from_str(json).map(Some).map_err(|e| {
            let client = self.client;
            Error::msg(format_args!("session key {key:?} of client {client}: {e}"))
        })
    }

    /// The JSON text of one session key, as it was written: what
    /// [`compare_and_set_json`](crate::directory::compare_and_set_json) expects, whichever version of the
    /// plugin has written it.
    #[must_use]
    pub fn session_json(&self, key: &str) -> Option<&str> {
        let mut entries = self.session.iter();
        let found = entries.find(|(name, _)| name == key);
        found.map(|(_, json)| json.as_str())
    }
}

/// One group with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The group.
    pub group: String,
    /// Its members.
    pub client_count: u64,
    /// Distinct uids of the members, exactly.
    pub uid_count: u64,
}

/// Where a client is connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress {
    /// The gateway's announced IPv4 address and port.
    pub gateway: String,
    /// Number of the connection on it.
    pub connection: u32,
}
