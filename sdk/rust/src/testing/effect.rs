//! What a handler asked for, kept until its callback returns; and how a session changes.

use std::collections::BTreeMap;

use super::json::merged;
use crate::client::Client;
use crate::gateway::To;
use crate::message::Message;

/// Keys and JSON texts.
pub(crate) type Entries = BTreeMap<String, String>;

/// Whom a send is for.
#[derive(Debug)]
pub(crate) enum Recipients {
    Clients(Vec<Client>),
    Uids(Vec<String>),
    Groups(Vec<String>),
    All,
}

impl From<To<'_>> for Recipients {
    fn from(to: To<'_>) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match to {
            To::Client(client) => Self::Clients(vec![client]),
            To::Clients(clients) => Self::Clients(clients.to_vec()),
            To::Uid(uid) => Self::Uids(owned(&[uid])),
            To::Uids(uids) => Self::Uids(owned(uids)),
            To::Group(group) => Self::Groups(owned(&[group])),
            To::Groups(groups) => Self::Groups(owned(groups)),
            To::All => Self::All,
        }
    }
}

/// What a send carries.
#[derive(Debug)]
pub(crate) enum Parcel {
    Message(Message),
    Raw(Vec<u8>),
}

/// One effect.
#[derive(Debug)]
pub(crate) enum Effect {
    Send {
        to: Recipients,
        parcel: Parcel,
        except: Vec<Client>,
    },
    Close {
        client: Client,
        farewell: Option<Message>,
    },
    CloseUid {
        uid: String,
        farewell: Option<Message>,
    },
    Destroy {
        client: Client,
    },
    BindUid {
        client: Client,
        uid: String,
    },
    UnbindUid {
        client: Client,
    },
    Join {
        client: Client,
        group: String,
    },
    Leave {
        client: Client,
        group: String,
    },
    Ungroup {
        group: String,
    },
    Session {
        client: Client,
        change: Change,
    },
    Command {
        name: String,
        payload: Vec<u8>,
        /// Whether it is for the fake gateway.
        here: bool,
    },
}

impl Effect {
    /// Whether a question of the same event sees it.
    pub(crate) const fn is_seen(&self) -> bool {
        match self {
            Self::Send { .. } | Self::Command { .. } => false,
            Self::Close { .. }
            | Self::CloseUid { .. }
            | Self::Destroy { .. }
            | Self::BindUid { .. }
            | Self::UnbindUid { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::Ungroup { .. }
            | Self::Session { .. } => true,
        }
    }
}

/// A change of one client's session.
#[derive(Debug)]
pub(crate) enum Change {
    Set(String, String),
    Merge(String, String),
    Remove(String),
    Replace(Entries),
    Clear,
}

impl Change {
    /// Applies the change.
    pub(crate) fn apply(&self, session: &mut Entries) {
        match self {
            Self::Set(key, json) => {
                session.insert(key.clone(), json.clone());
            }
            Self::Merge(key, json) => {
                let old = session.get(key).map(String::as_str);
                session.insert(key.clone(), merged(old, json));
            }
            Self::Remove(key) => {
                session.remove(key);
            }
            Self::Replace(entries) => session.clone_from(entries),
            Self::Clear => session.clear(),
        }
    }
}
