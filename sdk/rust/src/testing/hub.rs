//! The clients of the fake gateway, and how effects change them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::Client;
use crate::error::Result;
use crate::event::{CloseReason, Closed, Peer};
use crate::message::Message;
use crate::testing::effect::{Effect, Entries, Parcel, Recipients};

/// The fake gateway's announced address; it stands in every client id.
pub(crate) const ADDRESS: &str = "127.0.0.1:3000";

/// One client. It stays after it closed, so that a test can look at what it got.
#[derive(Clone, Default)]
pub(crate) struct State {
    open: bool,
    pub(super) peer: Peer,
    pub(super) uid: Option<String>,
    pub(super) groups: BTreeSet<String>,
    pub(super) session: Entries,
    pub(super) connected_at_ms: u64,
    pub(super) last_message_at_ms: Option<u64>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    received: Vec<Message>,
    raw: Vec<Vec<u8>>,
}

impl State {
    fn receive(&mut self, message: &Message) {
        self.bytes_out += message.bytes().len() as u64;
        self.received.push(message.clone());
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// All clients; ids rise, so the order of the ids is that of connecting.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    clients: BTreeMap<Client, State>,
}

/// Clients that closed, in order, with what `on_close` is told.
pub(crate) type Closes = VecDeque<(Client, Closed)>;

impl Hub {
    pub(crate) fn connect(&mut self, peer: Peer) -> Result<Client> {
        let number = self.clients.len() + 1;
        // The gateway is `ADDRESS`.
        let client: Client = format!("7f0000010bb8{number:08x}").parse()?;
        self.clients.insert(
            client,
            State {
                open: true,
                peer,
                connected_at_ms: now_ms(),
                ..State::default()
            },
        );
        Ok(client)
    }

    /// The client sent so many bytes.
    pub(crate) fn count_message(&mut self, client: Client, bytes: usize) {
        self.change(client, |state| {
            state.last_message_at_ms = Some(now_ms());
            state.bytes_in += bytes as u64;
        });
    }

    pub(crate) fn open_states(&self) -> impl Iterator<Item = (Client, &State)> {
        let clients = self.clients.iter().filter(|(_, state)| state.open);
        clients.map(|(client, state)| (*client, state))
    }

    pub(crate) fn is_open(&self, client: Client) -> bool {
        self.clients.get(&client).is_some_and(|state| state.open)
    }

    pub(crate) fn open_clients(&self) -> Vec<Client> {
        self.select(|_| true)
    }

    pub(crate) fn members(&self, group: &str) -> Vec<Client> {
        self.select(|state| state.groups.contains(group))
    }

    pub(crate) fn uid(&self, client: Client) -> Option<String> {
        self.clients
            .get(&client)
            .and_then(|state| state.uid.clone())
    }

    pub(crate) fn groups(&self, client: Client) -> Vec<String> {
        let state = self.clients.get(&client);
        state
            .map(|state| state.groups.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub(crate) fn session(&self, client: Client) -> Entries {
        self.clients
            .get(&client)
            .map(|state| state.session.clone())
            .unwrap_or_default()
    }

    pub(crate) fn set_session(&mut self, client: Client, entries: Vec<(String, String)>) {
        if let Some(state) = self.clients.get_mut(&client) {
            state.session = entries.into_iter().collect();
        }
    }

    pub(crate) fn set_session_key(&mut self, client: Client, key: &str, json: Option<&str>) {
        self.change(client, |state| {
            match json {
                Some(json) => state.session.insert(key.to_owned(), json.to_owned()),
                None => state.session.remove(key),
            };
        });
    }

    pub(crate) fn take_received(&mut self, client: Client) -> Vec<Message> {
        let state = self.clients.get_mut(&client);
        state
            .map(|state| std::mem::take(&mut state.received))
            .unwrap_or_default()
    }

    pub(crate) fn take_raw(&mut self, client: Client) -> Vec<Vec<u8>> {
        let state = self.clients.get_mut(&client);
        state
            .map(|state| std::mem::take(&mut state.raw))
            .unwrap_or_default()
    }

    /// Closes a client; none if it is not open.
    pub(crate) fn close(&mut self, client: Client, reason: CloseReason) -> Option<Closed> {
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
    pub(crate) fn apply<'a>(&mut self, effects: impl IntoIterator<Item = &'a Effect>) -> Closes {
        let mut closes = Closes::new();
        for effect in effects {
            self.apply_one(effect, &mut closes);
        }
        closes
    }

    fn apply_one(&mut self, effect: &Effect, closes: &mut Closes) {
        match effect {
            Effect::Send { to, parcel, except } => self.deliver(to, parcel, except),
            Effect::Close { client, farewell } => {
                self.farewell(*client, farewell.as_ref(), closes);
            }
            Effect::CloseUid { uid, farewell } => {
                for client in self.select(|state| state.uid.as_ref() == Some(uid)) {
                    self.farewell(client, farewell.as_ref(), closes);
                }
            }
            Effect::Destroy { client } => self.farewell(*client, None, closes),
            Effect::BindUid { client, uid } => {
                self.change(*client, |state| state.uid = Some(uid.clone()));
            }
            Effect::UnbindUid { client } => self.change(*client, |state| state.uid = None),
            Effect::Join { client, group } => self.change(*client, |state| {
                state.groups.insert(group.clone());
            }),
            Effect::Leave { client, group } => self.change(*client, |state| {
                state.groups.remove(group);
            }),
            Effect::Ungroup { group } => {
                for state in self.clients.values_mut() {
                    state.groups.remove(group);
                }
            }
            Effect::Session { client, change } => {
                self.change(*client, |state| change.apply(&mut state.session));
            }
            Effect::Command { .. } => {}
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
                Parcel::Message(message) => state.receive(message),
                Parcel::Raw(bytes) => {
                    state.bytes_out += bytes.len() as u64;
                    state.raw.push(bytes.clone());
                }
            });
        }
    }

    fn farewell(&mut self, client: Client, farewell: Option<&Message>, closes: &mut Closes) {
        if let Some(farewell) = farewell {
            self.change(client, |state| state.receive(farewell));
        }
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
