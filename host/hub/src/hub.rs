//! The hub: clients, uids, groups and sessions of one tenant in one shard.
//!
//! Plain data without I/O. Whatever the sequence of calls, no uid and no group names a client that
//! is not online, an empty uid or group does not exist, and both directions agree. It does not know
//! sockets. A client that has gone offline is in no list, but its record stays until its close is
//! delivered: what its last events change must reach the close.

mod trial;

use std::collections::{BTreeSet, HashMap};

use rustc_hash::FxHashMap;
use tidegate_wire::Name;
use tidegate_wire::effect::SessionChange;
use tidegate_wire::event::{ClientSnapshot, SessionEntries};
use tidegate_wire::json::same_json;
use tidegate_wire::query::SwapRefusal;
use tidegate_wire::session::{Replaced, Session, TooLarge};

use crate::give_back::give_back;

pub use trial::Trial;

/// Connection numbers, in order.
pub type Members = BTreeSet<u32>;

/// Bounds of what one client can make the hub hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubLimits {
    /// Groups of one client.
    pub groups_per_client_max: usize,
    /// Bytes of all keys and values of one session.
    pub session_bytes_max: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            groups_per_client_max: 1000,
            session_bytes_max: 64 << 10,
        }
    }
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such client.
    Offline,
    /// The client is in too many groups.
    Groups,
    /// The session would be too large.
    Session,
}

/// One client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    uid: Option<Name>,
    groups: Vec<Name>,
    session: Option<Box<Session>>,
    session_version: u64,
    offline: bool,
}

impl Client {
    /// Its uid.
    #[must_use]
    pub const fn uid(&self) -> Option<&Name> {
        self.uid.as_ref()
    }

    /// Its groups, sorted.
    #[must_use]
    pub fn groups(&self) -> &[Name] {
        &self.groups
    }

    /// Its session; none if it is empty.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// Counts the changes of its session.
    #[must_use]
    pub const fn session_version(&self) -> u64 {
        self.session_version
    }

    /// Its session as it is now.
    #[must_use]
    pub fn snapshot(&self) -> ClientSnapshot {
        ClientSnapshot {
            version: self.session_version,
            entries: self.session().map(SessionEntries::from).unwrap_or_default(),
            arrival: None,
        }
    }
}

/// Names with the connections that have them. Names are found by hash and listed in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    members: HashMap<Name, Members>,
    names: BTreeSet<Name>,
}

impl Table {
    /// The connections that have this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Members> {
        self.members.get(name)
    }

    /// Every name that a connection has, ordered.
    #[must_use]
    pub const fn names(&self) -> &BTreeSet<Name> {
        &self.names
    }

    fn insert(&mut self, name: &Name, connection: u32) {
        if let Some(members) = self.members.get_mut(name) {
            members.insert(connection);
            return;
        }
        self.members
            .insert(name.clone(), Members::from([connection]));
        self.names.insert(name.clone());
    }

    fn remove(&mut self, name: &Name, connection: u32) {
        if let Some(members) = self.members.get_mut(name) {
            members.remove(&connection);
            if members.is_empty() {
                self.take(name);
            }
        }
    }

    fn take(&mut self, name: &Name) -> Members {
        self.names.remove(name);
        let members = self.members.remove(name).unwrap_or_default();
        give_back(&mut self.members);
        members
    }

    /// Gives a name that nobody has to these.
    fn put(&mut self, name: &Name, members: Members) {
        if !members.is_empty() {
            self.names.insert(name.clone());
            self.members.insert(name.clone(), members);
        }
    }
}

/// Clients, uids, groups and sessions of one tenant in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hub {
    limits: HubLimits,
    clients: FxHashMap<u32, Client>,
    online: Members,
    uids: Table,
    groups: Table,
    /// Groups of clients that are offline, so that removing a group reaches them too.
    offline_groups: Table,
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new(limits: HubLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Adds a client that has no uid, groups or session yet.
    pub fn insert(&mut self, connection: u32) {
        self.remove(connection);
        self.clients.insert(connection, Client::default());
        self.online.insert(connection);
    }

    /// Takes a client off every list; its record stays. False if it was not online.
    pub fn go_offline(&mut self, connection: u32) -> bool {
        let Some(client) = self.clients.get_mut(&connection) else {
            return false;
        };
        if std::mem::replace(&mut client.offline, true) {
            return false;
        }
        self.online.remove(&connection);
        if let Some(uid) = &client.uid {
            self.uids.remove(uid, connection);
        }
        for group in &client.groups {
            self.groups.remove(group, connection);
            self.offline_groups.insert(group, connection);
        }
        true
    }

    /// Puts a client back on the lists; only a trial does so.
    fn go_online(&mut self, connection: u32) {
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        client.offline = false;
        self.online.insert(connection);
        if let Some(uid) = &client.uid {
            self.uids.insert(uid, connection);
        }
        for group in &client.groups {
            self.offline_groups.remove(group, connection);
            self.groups.insert(group, connection);
        }
    }

    /// Removes a client with its record.
    pub fn remove(&mut self, connection: u32) -> Option<Client> {
        self.go_offline(connection);
        let client = self.clients.remove(&connection)?;
        give_back(&mut self.clients);
        for group in &client.groups {
            self.offline_groups.remove(group, connection);
        }
        Some(client)
    }

    /// The record of a client, which may be offline.
    #[must_use]
    pub fn client(&self, connection: u32) -> Option<&Client> {
        self.clients.get(&connection)
    }

    /// Whether a client is connected.
    #[must_use]
    pub fn is_online(&self, connection: u32) -> bool {
        self.clients
            .get(&connection)
            .is_some_and(|client| !client.offline)
    }

    /// How many clients are online.
    #[must_use]
    pub fn len(&self) -> usize {
        self.online.len()
    }

    /// Whether no client is online.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.online.is_empty()
    }

    /// All clients that are online, ordered.
    #[must_use]
    pub const fn online(&self) -> &Members {
        &self.online
    }

    /// All clients that are online, ordered.
    pub fn connections(&self) -> impl Iterator<Item = u32> {
        self.online.iter().copied()
    }

    /// The uids and who has them.
    #[must_use]
    pub const fn uids(&self) -> &Table {
        &self.uids
    }

    /// The groups and their members.
    #[must_use]
    pub const fn groups(&self) -> &Table {
        &self.groups
    }

    /// The clients of a uid.
    #[must_use]
    pub(crate) fn uid_members(&self, uid: &str) -> Option<&Members> {
        self.uids.get(uid)
    }

    /// The members of a group.
    #[must_use]
    pub fn group_members(&self, group: &str) -> Option<&Members> {
        self.groups.get(group)
    }

    /// Gives a client a uid in place of the one it had. False if it had it already.
    ///
    /// # Errors
    /// [`Refused::Offline`]
    pub fn bind_uid(&mut self, connection: u32, uid: &Name) -> Result<bool, Refused> {
        let client = self.clients.get_mut(&connection).ok_or(Refused::Offline)?;
        if client.uid.as_ref() == Some(uid) {
            return Ok(false);
        }
        let old = client.uid.replace(uid.clone());
        if !client.offline {
            if let Some(old) = old {
                self.uids.remove(&old, connection);
            }
            self.uids.insert(uid, connection);
        }
        Ok(true)
    }

    /// Takes a client's uid away. False if it had none.
    ///
    /// # Errors
    /// [`Refused::Offline`]
    pub fn unbind_uid(&mut self, connection: u32) -> Result<bool, Refused> {
        let client = self.clients.get_mut(&connection).ok_or(Refused::Offline)?;
        let Some(uid) = client.uid.take() else {
            return Ok(false);
        };
        if !client.offline {
            self.uids.remove(&uid, connection);
        }
        Ok(true)
    }

    /// Adds a client to a group. False if it was in it.
    ///
    /// # Errors
    /// [`Refused::Offline`] or [`Refused::Groups`]
    pub fn join(&mut self, connection: u32, group: &Name) -> Result<bool, Refused> {
        let client = self.clients.get_mut(&connection).ok_or(Refused::Offline)?;
        let Err(place) = client.groups.binary_search(group) else {
            return Ok(false);
        };
        if client.groups.len() >= self.limits.groups_per_client_max {
            return Err(Refused::Groups);
        }
        client.groups.insert(place, group.clone());
        let table = match client.offline {
            true => &mut self.offline_groups,
            false => &mut self.groups,
        };
        table.insert(group, connection);
        Ok(true)
    }

    /// Takes a client out of a group. False if it was not in it.
    ///
    /// # Errors
    /// [`Refused::Offline`]
    pub fn leave(&mut self, connection: u32, group: &Name) -> Result<bool, Refused> {
        let client = self.clients.get_mut(&connection).ok_or(Refused::Offline)?;
        let Ok(place) = client.groups.binary_search(group) else {
            return Ok(false);
        };
        client.groups.remove(place);
        let table = match client.offline {
            true => &mut self.offline_groups,
            false => &mut self.groups,
        };
        table.remove(group, connection);
        Ok(true)
    }

    /// Removes every member of a group and says who they were, those that are offline too.
    pub fn ungroup(&mut self, group: &Name) -> Members {
        let mut members = self.groups.take(group);
        members.append(&mut self.offline_groups.take(group));
        for connection in &members {
            if let Some(client) = self.clients.get_mut(connection)
                && let Ok(place) = client.groups.binary_search(group)
            {
                client.groups.remove(place);
            }
        }
        members
    }

    /// Changes a client's session and counts the change. Gives back what it has replaced.
    ///
    /// # Errors
    /// [`Refused::Offline`], or [`Refused::Session`] when it would be too large.
    pub fn change_session(
        &mut self,
        connection: u32,
        change: &SessionChange,
    ) -> Result<Replaced, Refused> {
        let client = self.clients.get_mut(&connection).ok_or(Refused::Offline)?;
        let mut session = client.session.take().unwrap_or_default();
        let changed = session.apply_within(change, self.limits.session_bytes_max);
        client.session = Some(session).filter(|session| !session.is_empty());
        let replaced = changed.map_err(|TooLarge| Refused::Session)?;
        client.session_version += 1;
        Ok(replaced)
    }

    /// Sets one key of a client's session if its value is the expected one, compared as JSON; as
    /// `expected` none means that it is absent, as `new` that it is removed.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn compare_and_set(
        &mut self,
        connection: u32,
        key: &Name,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<(), SwapRefusal> {
        let client = self.client(connection).filter(|client| !client.offline);
        let session = client.ok_or(SwapRefusal::Offline)?.session();
        let same = match (session.and_then(|session| session.get(key)), expected) {
            (Some(found), Some(expected)) => same_json(found, expected),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            return Err(SwapRefusal::Conflict);
        }
        let key = key.clone();
        let change = match new {
            Some(value) => SessionChange::Set {
                key,
                value: value.to_owned(),
            },
            None => SessionChange::Remove { key },
        };
        match self.change_session(connection, &change) {
            Ok(_) => Ok(()),
            Err(Refused::Offline) => Err(SwapRefusal::Offline),
            Err(Refused::Groups | Refused::Session) => Err(SwapRefusal::TooLarge),
        }
    }

    /// Takes back the last change of a client's session, and its count.
    fn undo_session(&mut self, connection: u32, replaced: Replaced) {
        if let Some(client) = self.clients.get_mut(&connection) {
            let mut session = client.session.take().unwrap_or_default();
            session.undo(replaced);
            client.session = Some(session).filter(|session| !session.is_empty());
            client.session_version -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
