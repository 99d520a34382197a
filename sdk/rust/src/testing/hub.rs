//! The clients of the fake gateway, and how effects change them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::client::Client;
use crate::error::Result;
use crate::event::{CloseReason, Closed};
use crate::message::Message;
use crate::testing::effect::{Effect, Entries, Parcel, Recipients};

/// One client. It stays after it closed, so that a test can look at what it got.
#[derive(Default)]
struct State {
    open: bool,
    uid: Option<String>,
    groups: BTreeSet<String>,
    session: Entries,
    received: Vec<Message>,
    raw: Vec<Vec<u8>>,
}

/// All clients; ids rise, so the order of the ids is that of connecting.
#[derive(Default)]
pub(super) struct Hub {
    clients: BTreeMap<Client, State>,
}

/// Clients that closed, in order, with what `on_close` is told.
pub(super) type Closes = VecDeque<(Client, Closed)>;

impl Hub {
    pub(super) fn connect(&mut self) -> Result<Client> {
        let number = self.clients.len() + 1;
        // Gateway 127.0.0.1:3000.
        let client: Client = format!("7f0000010bb8{number:08x}").parse()?;
        self.clients.insert(
            client,
            State {
                open: true,
                ..State::default()
            },
        );
        Ok(client)
    }

    pub(super) fn is_open(&self, client: Client) -> bool {
        self.clients.get(&client).is_some_and(|state| state.open)
    }

    pub(super) fn open_clients(&self) -> Vec<Client> {
        self.select(|_| true)
    }

    pub(super) fn members(&self, group: &str) -> Vec<Client> {
        self.select(|state| state.groups.contains(group))
    }

    pub(super) fn uid(&self, client: Client) -> Option<String> {
        self.clients
            .get(&client)
            .and_then(|state| state.uid.clone())
    }

    pub(super) fn groups(&self, client: Client) -> Vec<String> {
        let state = self.clients.get(&client);
        state
            .map(|state| state.groups.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn session(&self, client: Client) -> Entries {
        self.clients
            .get(&client)
            .map(|state| state.session.clone())
            .unwrap_or_default()
    }

    pub(super) fn set_session(&mut self, client: Client, entries: Vec<(String, String)>) {
        if let Some(state) = self.clients.get_mut(&client) {
            state.session = entries.into_iter().collect();
        }
    }

    pub(super) fn take_received(&mut self, client: Client) -> Vec<Message> {
        let state = self.clients.get_mut(&client);
        state
            .map(|state| std::mem::take(&mut state.received))
            .unwrap_or_default()
    }

    pub(super) fn take_raw(&mut self, client: Client) -> Vec<Vec<u8>> {
        let state = self.clients.get_mut(&client);
        state
            .map(|state| std::mem::take(&mut state.raw))
            .unwrap_or_default()
    }

    /// Closes a client; none if it is not open.
    pub(super) fn close(&mut self, client: Client, reason: CloseReason) -> Option<Closed> {
        let state = self.open(client)?;
        state.open = false;
        let groups = std::mem::take(&mut state.groups).into_iter().collect();
        Some(Closed {
            reason,
            uid: state.uid.take(),
            groups,
        })
    }

    /// Applies the effects of one event, in order.
    pub(super) fn apply(&mut self, effects: Vec<Effect>) -> Closes {
        let mut closes = Closes::new();
        for effect in effects {
            self.apply_one(effect, &mut closes);
        }
        closes
    }

    fn apply_one(&mut self, effect: Effect, closes: &mut Closes) {
        match effect {
            Effect::Send { to, parcel, except } => self.deliver(&to, &parcel, &except),
            Effect::Close { client, farewell } => self.farewell(client, farewell, closes),
            Effect::CloseUid { uid, farewell } => {
                for client in self.select(|state| state.uid.as_ref() == Some(&uid)) {
                    self.farewell(client, farewell.clone(), closes);
                }
            }
            Effect::Destroy { client } => self.farewell(client, None, closes),
            Effect::BindUid { client, uid } => self.change(client, |state| state.uid = Some(uid)),
            Effect::UnbindUid { client } => self.change(client, |state| state.uid = None),
            Effect::Join { client, group } => self.change(client, |state| {
                state.groups.insert(group);
            }),
            Effect::Leave { client, group } => self.change(client, |state| {
                state.groups.remove(&group);
            }),
            Effect::Ungroup { group } => {
                for state in self.clients.values_mut() {
                    state.groups.remove(&group);
                }
            }
            Effect::Session { client, change } => {
                self.change(client, |state| change.apply(&mut state.session));
            }
        }
    }

    fn deliver(&mut self, to: &Recipients, parcel: &Parcel, except: &[Client]) {
        let recipients: BTreeSet<Client> = match to {
            Recipients::Clients(clients) => clients.iter().copied().collect(),
            Recipients::Uids(uids) => {
                let named =
                    |state: &State| state.uid.as_ref().is_some_and(|uid| uids.contains(uid));
                self.select(named).into_iter().collect()
            }
            Recipients::Groups(groups) => {
                let joined =
                    |state: &State| groups.iter().any(|group| state.groups.contains(group));
                self.select(joined).into_iter().collect()
            }
            Recipients::All => self.select(|_| true).into_iter().collect(),
        };
        for client in recipients {
            if except.contains(&client) {
                continue;
            }
            self.change(client, |state| match parcel {
                Parcel::Message(message) => state.received.push(message.clone()),
                Parcel::Raw(bytes) => state.raw.push(bytes.clone()),
            });
        }
    }

    fn farewell(&mut self, client: Client, farewell: Option<Message>, closes: &mut Closes) {
        self.change(client, |state| state.received.extend(farewell));
        closes.extend(
            self.close(client, CloseReason::Server)
                .map(|closed| (client, closed)),
        );
    }

    fn open(&mut self, client: Client) -> Option<&mut State> {
        self.clients.get_mut(&client).filter(|state| state.open)
    }

    /// A client that is offline is skipped without an error.
    fn change(&mut self, client: Client, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.open(client) {
            change(state);
        }
    }

    fn select(&self, wanted: impl Fn(&State) -> bool) -> Vec<Client> {
        let clients = self.clients.iter();
        clients
            .filter(|(_, state)| state.open && wanted(state))
            .map(|(client, _)| *client)
            .collect()
    }
}
