//! How the fake hub answers questions: over all its clients each time, for it has few.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::Client;
use crate::directory::{ClientInfo, Fields, GroupInfo, Page, Selector};
use crate::error::Refused;
use crate::testing::hub::{Hub, State};

type Result<T> = std::result::Result<T, Refused>;

/// The most entries of a page.
const LIMIT_MAX: u32 = 1000;

impl Hub {
    /// The connected clients that any of the selectors names, ordered by id.
    pub(crate) fn selected(&self, of: &[Selector]) -> Vec<(Client, &State)> {
        let wanted =
            |client: &Client, state: &State| of.iter().any(|one| selects(one, *client, state));
        self.open_states()
            .filter(|(client, state)| wanted(client, state))
            .collect()
    }

    /// Their distinct uids.
    pub(crate) fn selected_uids(&self, of: &[Selector]) -> BTreeSet<String> {
        let selected = self.selected(of).into_iter();
        selected
            .filter_map(|(_, state)| state.uid.clone())
            .collect()
    }

    /// One client; none if it is not connected.
    pub(crate) fn info(&self, client: Client, fields: Fields) -> Option<ClientInfo> {
        let mut open = self.open_states();
        open.find(|(one, _)| *one == client)
            .map(|(_, state)| info(client, state, fields))
    }

    /// Groups with their members.
    pub(crate) fn members_of_groups(&self) -> BTreeMap<String, Vec<(Client, &State)>> {
        let mut groups: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (client, state) in self.open_states() {
            for group in &state.groups {
                let members = groups.entry(group.clone()).or_default();
                members.push((client, state));
            }
        }
        groups
    }

    /// Groups with their counts.
    pub(crate) fn group_infos(&self) -> Vec<GroupInfo> {
        let groups = self.members_of_groups().into_iter();
        groups
            .map(|(group, members)| GroupInfo {
                group,
                client_count: members.len() as u64,
                uid_count: distinct_uids(&members).len() as u64,
            })
            .collect()
    }

    /// Pairs of group and uid, ordered.
    pub(crate) fn group_uids(&self) -> Vec<(String, String)> {
        let groups = self.members_of_groups().into_iter();
        groups
            .flat_map(|(group, members)| {
                let uids = distinct_uids(&members).into_iter();
                uids.map(move |uid| (group.clone(), uid))
            })
            .collect()
    }

    /// Pairs of group and member, ordered.
    pub(crate) fn group_clients(&self) -> Vec<(String, Client)> {
        let groups = self.members_of_groups().into_iter();
        groups
            .flat_map(|(group, members)| {
                let clients = members.into_iter();
                clients.map(move |(client, _)| (group.clone(), client))
            })
            .collect()
    }
}

fn distinct_uids(members: &[(Client, &State)]) -> BTreeSet<String> {
    let uids = members.iter();
    uids.filter_map(|(_, state)| state.uid.clone()).collect()
}

fn selects(selector: &Selector, client: Client, state: &State) -> bool {
    match selector {
        Selector::Everyone => true,
        Selector::Clients(clients) => clients.contains(&client),
        Selector::Uids(uids) => state.uid.as_ref().is_some_and(|uid| uids.contains(uid)),
        Selector::Groups(groups) => groups.iter().any(|group| state.groups.contains(group)),
        Selector::AllOfGroups(groups) => {
            !groups.is_empty() && groups.iter().all(|group| state.groups.contains(group))
        }
    }
}

/// What was asked for of one client.
pub(crate) fn info(client: Client, state: &State, fields: Fields) -> ClientInfo {
    let mut info = ClientInfo::new(client);
    if fields.has(Fields::PEER) {
        info.peer = Some(state.peer.clone());
    }
    if fields.has(Fields::UID) {
        info.uid.clone_from(&state.uid);
    }
    if fields.has(Fields::GROUPS) {
        info.groups = state.groups.iter().cloned().collect();
    }
    if fields.has(Fields::SESSION) {
        info.session = state.session.clone().into_iter().collect();
    }
    if fields.has(Fields::TIMES) {
        info.connected_at_ms = Some(state.connected_at_ms);
        info.last_message_at_ms = state.last_message_at_ms;
    }
    if fields.has(Fields::TRAFFIC) {
        info.bytes_in = Some(state.bytes_in);
        info.bytes_out = Some(state.bytes_out);
    }
    info
}

/// Cuts a page out of a whole list. A cursor is the letter of the list and the last key as JSON.
pub(crate) fn page<T>(
    letter: char,
    entries: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> Vec<&str>,
    (after, limit): (Option<&str>, u32),
) -> Result<Page<T>> {
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refused::InvalidArgument(format!(
            "the limit is {limit}, 1 to {LIMIT_MAX} is expected"
        )));
    }
    let after = after.map(|cursor| read(letter, cursor)).transpose()?;
    let mut rest = entries.into_iter().skip_while(|entry| {
        after
            .as_ref()
            .is_some_and(|after| key(entry) <= borrowed(after))
    });
    let items: Vec<T> = rest.by_ref().take(limit as usize).collect();
    let more = rest.next().is_some();
    let last = items.last().filter(|_| more);
    let next = last.map(|entry| format!("{letter}{}", serde_json::json!(key(entry))));
    Ok(Page {
        items,
        next,
        missing: Vec::new(),
    })
}

fn borrowed(key: &[String]) -> Vec<&str> {
    key.iter().map(String::as_str).collect()
}

fn read(letter: char, cursor: &str) -> Result<Vec<String>> {
    let key = cursor.strip_prefix(letter);
    key.and_then(|key| serde_json::from_str(key).ok())
        .ok_or_else(|| {
            Refused::InvalidArgument(format!(
                "{cursor:?} is not a cursor of this list: give back what its last page gave as \
                 `next`"
            ))
        })
}
