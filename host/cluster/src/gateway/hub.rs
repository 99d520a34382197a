//! The hub: clients, uids, groups and sessions of one tenant in one shard.
//!
//! Plain data without I/O. Whatever the sequence of calls, no uid and no group names a client that
//! is not there, an empty uid or group does not exist, and both directions agree. It does not know
//! sockets, and a client stays in it until its close is delivered.

use std::collections::HashMap;

use indexmap::IndexSet;
use rustc_hash::{FxBuildHasher, FxHashMap};
use tidegate_wire::Name;
use tidegate_wire::effect::SessionChange;
use tidegate_wire::event::{SessionEntries, SessionSnapshot};
use tidegate_wire::session::Session;

/// Connection numbers, in the order of joining.
pub type Members = IndexSet<u32, FxBuildHasher>;

/// Bounds of what one client can make the hub hold.
#[derive(Clone, Copy, Debug)]
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
#[derive(Debug, Default)]
pub struct Client {
    uid: Option<Name>,
    groups: Vec<Name>,
    session: Option<Box<Session>>,
    session_version: u64,
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

    /// Its session as it is now.
    #[must_use]
    pub fn snapshot(&self) -> SessionSnapshot {
        let entries = self
            .session
            .as_deref()
            .map(SessionEntries::from)
            .unwrap_or_default();
        SessionSnapshot {
            version: self.session_version,
            entries,
        }
    }
}

/// Clients, uids, groups and sessions of one tenant in one shard.
#[derive(Debug, Default)]
pub struct Hub {
    limits: HubLimits,
    clients: FxHashMap<u32, Client>,
    uids: HashMap<Name, Members>,
    groups: HashMap<Name, Members>,
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
    }

    /// Removes a client from everything.
    pub fn remove(&mut self, connection: u32) -> Option<Client> {
        let client = self.clients.remove(&connection)?;
        if let Some(uid) = &client.uid {
            forget(&mut self.uids, uid, connection);
        }
        for group in &client.groups {
            forget(&mut self.groups, group, connection);
        }
        Some(client)
    }

    /// One client.
    #[must_use]
    pub fn client(&self, connection: u32) -> Option<&Client> {
        self.clients.get(&connection)
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// All clients.
    pub fn connections(&self) -> impl Iterator<Item = u32> {
        self.clients.keys().copied()
    }

    /// The clients of a uid.
    #[must_use]
    pub fn uid_members(&self, uid: &str) -> Option<&Members> {
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
        if let Some(old) = client.uid.replace(uid.clone()) {
            forget(&mut self.uids, &old, connection);
        }
        self.uids.entry(uid.clone()).or_default().insert(connection);
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
        forget(&mut self.uids, &uid, connection);
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
        self.groups
            .entry(group.clone())
            .or_default()
            .insert(connection);
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
        forget(&mut self.groups, group, connection);
        Ok(true)
    }

    /// Removes every member of a group and says who they were.
    pub fn ungroup(&mut self, group: &Name) -> Members {
        let members = self.groups.remove(group).unwrap_or_default();
        for connection in &members {
            if let Some(client) = self.clients.get_mut(connection)
                && let Ok(place) = client.groups.binary_search(group)
            {
                client.groups.remove(place);
            }
        }
        members
    }

    /// Changes a client's session and counts the change.
    ///
    /// # Errors
    /// [`Refused::Offline`], or [`Refused::Session`] when it would be too large.
    pub fn change_session(
        &mut self,
        connection: u32,
        change: &SessionChange,
    ) -> Result<(), Refused> {
        let client = self.clients.get_mut(&connection).ok_or(Refused::Offline)?;
        let mut session = client.session.take().unwrap_or_default();
        let before = grows(change).then(|| session.clone());
        session.apply(change);
        let fits = session.bytes() <= self.limits.session_bytes_max;
        let kept = if fits { Some(session) } else { before };
        client.session = kept.filter(|session| !session.is_empty());
        if !fits {
            return Err(Refused::Session);
        }
        client.session_version += 1;
        Ok(())
    }
}

const fn grows(change: &SessionChange) -> bool {
    match change {
        SessionChange::Set { .. } | SessionChange::Merge { .. } | SessionChange::Replace(_) => true,
        SessionChange::Remove { .. } | SessionChange::Clear => false,
    }
}

fn forget(table: &mut HashMap<Name, Members>, name: &Name, connection: u32) {
    if let Some(members) = table.get_mut(name) {
        members.swap_remove(&connection);
        if members.is_empty() {
            table.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Command {
        Insert(u32),
        Remove(u32),
        Bind(u32, u8),
        Unbind(u32),
        Join(u32, u8),
        Leave(u32, u8),
        Ungroup(u8),
        Set(u32, u8, usize),
        Clear(u32),
    }

    fn command() -> impl Strategy<Value = Command> {
        let connection = 0..12u32;
        let name = 0..5u8;
        prop_oneof![
            connection.clone().prop_map(Command::Insert),
            connection.clone().prop_map(Command::Remove),
            (connection.clone(), name.clone()).prop_map(|(c, n)| Command::Bind(c, n)),
            connection.clone().prop_map(Command::Unbind),
            (connection.clone(), name.clone()).prop_map(|(c, n)| Command::Join(c, n)),
            (connection.clone(), name.clone()).prop_map(|(c, n)| Command::Leave(c, n)),
            name.clone().prop_map(Command::Ungroup),
            (connection.clone(), name, 0..60usize).prop_map(|(c, n, l)| Command::Set(c, n, l)),
            connection.prop_map(Command::Clear),
        ]
    }

    fn name(n: u8) -> Name {
        format!("n{n}").into()
    }

    fn run(hub: &mut Hub, command: &Command) {
        match command {
            Command::Insert(c) => hub.insert(*c),
            Command::Remove(c) => drop(hub.remove(*c)),
            Command::Bind(c, n) => drop(hub.bind_uid(*c, &name(*n))),
            Command::Unbind(c) => drop(hub.unbind_uid(*c)),
            Command::Join(c, n) => drop(hub.join(*c, &name(*n))),
            Command::Leave(c, n) => drop(hub.leave(*c, &name(*n))),
            Command::Ungroup(n) => drop(hub.ungroup(&name(*n))),
            Command::Set(c, n, length) => {
                let change = SessionChange::Set {
                    key: name(*n),
                    value: "1".repeat(*length),
                };
                let before = hub.client(*c).map(Client::snapshot);
                if hub.change_session(*c, &change) == Err(Refused::Session) {
                    assert_eq!(hub.client(*c).map(Client::snapshot), before);
                }
            }
            Command::Clear(c) => drop(hub.change_session(*c, &SessionChange::Clear)),
        }
    }

    fn check(hub: &Hub) {
        for (table, of) in [(&hub.uids, 0), (&hub.groups, 1)] {
            for (name, members) in table {
                assert!(!members.is_empty(), "an empty entry {name}");
                for member in members {
                    let client = hub.client(*member).expect("a member without its client");
                    let named = match of {
                        0 => client.uid.as_ref() == Some(name),
                        _ => client.groups.contains(name),
                    };
                    assert!(named, "{member} does not know that it has {name}");
                }
            }
        }
        let uids: usize = hub.uids.values().map(IndexSet::len).sum();
        assert_eq!(
            uids,
            hub.clients.values().filter(|c| c.uid.is_some()).count()
        );
        let groups: usize = hub.groups.values().map(IndexSet::len).sum();
        assert_eq!(
            groups,
            hub.clients.values().map(|c| c.groups.len()).sum::<usize>()
        );
        for client in hub.clients.values() {
            assert!(client.groups.is_sorted());
            assert!(client.groups.len() <= hub.limits.groups_per_client_max);
            let bytes = client.session.as_ref().map_or(0, |session| session.bytes());
            assert!(bytes <= hub.limits.session_bytes_max);
        }
    }

    proptest! {
        #[test]
        fn any_sequence_of_commands_keeps_the_tables_consistent(
            commands in proptest::collection::vec(command(), 0..200)
        ) {
            let limits = HubLimits { groups_per_client_max: 3, session_bytes_max: 100 };
            let mut hub = Hub::new(limits);
            for command in &commands {
                run(&mut hub, command);
                check(&hub);
            }
            let all: Vec<u32> = hub.connections().collect();
            for connection in all {
                hub.remove(connection);
            }
            prop_assert!(hub.uids.is_empty() && hub.groups.is_empty());
        }
    }

    #[test]
    fn a_bind_replaces_the_earlier_uid() {
        let mut hub = Hub::default();
        hub.insert(1);
        hub.bind_uid(1, &"a".into()).unwrap();
        hub.bind_uid(1, &"b".into()).unwrap();
        assert!(hub.uid_members("a").is_none());
        assert_eq!(hub.uid_members("b").unwrap().len(), 1);
    }

    #[test]
    fn ungroup_leaves_the_clients_there() {
        let mut hub = Hub::default();
        hub.insert(1);
        hub.insert(2);
        hub.join(1, &"g".into()).unwrap();
        hub.join(2, &"g".into()).unwrap();
        assert_eq!(hub.ungroup(&"g".into()).len(), 2);
        assert_eq!(hub.len(), 2);
        assert!(hub.group_members("g").is_none());
        assert!(hub.client(1).unwrap().groups().is_empty());
    }

    #[test]
    fn a_session_over_its_limit_stays_as_it_was() {
        let mut hub = Hub::new(HubLimits {
            groups_per_client_max: 1,
            session_bytes_max: 8,
        });
        hub.insert(1);
        let set = |value: &str| SessionChange::Set {
            key: "k".into(),
            value: value.to_owned(),
        };
        hub.change_session(1, &set("1")).unwrap();
        assert_eq!(
            hub.change_session(1, &set("12345678")),
            Err(Refused::Session)
        );
        let snapshot = hub.client(1).unwrap().snapshot();
        assert_eq!(
            (snapshot.version, snapshot.entries),
            (1, vec![("k".into(), "1".to_owned())])
        );
    }
}
