//! Which clients a question is about, and what can be asked about them.

use crate::backend::directory as backend;
use crate::client::Client;
use crate::directory::{ClientInfo, Count, Fields, List};
use crate::error::Result;

/// A part of a [`Selection`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All clients of the tenant.
    Everyone,
    /// These clients.
    Clients(Vec<Client>),
    /// All clients of each uid.
    Uids(Vec<String>),
    /// Members of any of these groups.
    Groups(Vec<String>),
    /// Members of every one of these groups; an empty list selects nobody.
    AllOfGroups(Vec<String>),
}

/// Which clients a question is about: the union of its selectors, each client once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a selection asks nothing before `count`, `clients`, `infos` or `uids`"]
pub struct Selection(Vec<Selector>);

impl From<Vec<Selector>> for Selection {
    fn from(selectors: Vec<Selector>) -> Self {
        Self(selectors)
    }
}

impl From<Selector> for Selection {
    fn from(selector: Selector) -> Self {
        Self(vec![selector])
    }
}

impl Selection {
    /// These clients and those of `other`.
    pub fn or(mut self, other: impl Into<Self>) -> Self {
        self.0.extend(other.into().0);
        self
    }

    /// The selectors.
    #[must_use]
    pub fn selectors(&self) -> &[Selector] {
        &self.0
    }

    /// How many clients; each counts once.
    pub fn count(&self) -> Result<Count> {
        Ok(backend::client_count(&self.0)?)
    }

    /// How many distinct uids, exactly: several round trips when there are many.
    pub fn uid_count(&self) -> Result<Count> {
        Ok(backend::uid_count(&self.0)?)
    }

    /// The clients, ordered by id.
    pub fn clients(self) -> List<Client> {
        List::new(move |after, limit| backend::clients(&self.0, after, limit))
    }

    /// The clients with some of what is known of them, ordered by id.
    pub fn infos(self, fields: Fields) -> List<ClientInfo> {
        List::new(move |after, limit| backend::infos(&self.0, fields, after, limit))
    }

    /// Their distinct uids, in order.
    pub fn uids(self) -> List<String> {
        List::new(move |after, limit| backend::uids(&self.0, after, limit))
    }
}

/// All clients of the tenant.
pub fn everyone() -> Selection {
    Selector::Everyone.into()
}

/// These clients, as far as they are connected.
pub fn of_clients(clients: &[Client]) -> Selection {
    Selector::Clients(clients.to_vec()).into()
}

/// All clients of a uid.
pub fn with_uid(uid: &str) -> Selection {
    with_uids([uid])
}

/// All clients of each uid.
pub fn with_uids<T: Into<String>>(uids: impl IntoIterator<Item = T>) -> Selection {
    Selector::Uids(owned(uids)).into()
}

/// All members of a group.
pub fn in_group(group: &str) -> Selection {
    in_groups([group])
}

/// Members of any of these groups.
pub fn in_groups<T: Into<String>>(groups: impl IntoIterator<Item = T>) -> Selection {
    Selector::Groups(owned(groups)).into()
}

/// Members of every one of these groups; an empty list selects nobody.
pub fn in_all_groups<T: Into<String>>(groups: impl IntoIterator<Item = T>) -> Selection {
    Selector::AllOfGroups(owned(groups)).into()
}

fn owned<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<String> {
    names.into_iter().map(Into::into).collect()
}
