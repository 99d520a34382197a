//! The fake gateway's one shard: the host's own hub, and what clients get of it. The rules are those
//! of `tidegate-hub`; here stands only what a host has sockets and lanes for.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_hub::answer::{Ground, Live, answer};
use tidegate_hub::effects;
use tidegate_hub::hub::{Hub, Trial};
use tidegate_hub::timers::{RunOut, Timers};
use tidegate_wire::effect::Effect;
use tidegate_wire::event::{self, SessionEntries};
use tidegate_wire::id::ClientId;
use tidegate_wire::payload::Payload;
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::query::{Answer, Query};
use tidegate_wire::session::Session;
use tidegate_wire::task::TaskId;

use crate::client::Client;
use crate::error::Result;
use crate::event::{CloseFrame, CloseReason, Closed, Peer, Transport};
use crate::message::Message;
use crate::testing::deliveries::{Deliveries, Parcel, QueuedParcel};

/// The fake gateway's announced address; it stands in every client id.
pub(crate) const GATEWAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3000);

/// What timers may keep: the host's default.
const TIMER_BYTES_MAX: usize = 64 << 20;

/// What a socket has of its client. It stays after the client closed, so that a test can look at
/// what it got.
#[derive(Default)]
pub(super) struct Connection {
    peer: Peer,
    subprotocol: Option<String>,
    connected_at_ms: u64,
    last_message_at_ms: Option<u64>,
    bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Nothing is queued any more.
    pub(super) is_closing: bool,
    /// Waits for the end of the commit.
    pub(super) queued: Vec<QueuedParcel>,
    received: Vec<Message>,
    raw: Vec<Vec<u8>>,
    /// The session that it had when it closed.
    last_session: Session,
    /// What it closed with, and what it was closed with.
    closed_with: Option<CloseFrame>,
    pub(super) close_frame: Option<CloseFrame>,
}

impl Connection {
    pub(super) const fn transport(&self) -> event::Transport {
        match self.peer.transport {
            Transport::WebSocket => event::Transport::WebSocket,
            Transport::Tcp => event::Transport::Tcp,
            Transport::TextLines => event::Transport::TextLines,
            Transport::LengthPrefixed => event::Transport::LengthPrefixed,
        }
    }

    fn flush(&mut self) {
        for queued in std::mem::take(&mut self.queued) {
            match queued.parcel {
                Parcel::Message(message) => self.received.push(message),
                Parcel::Raw(bytes) => self.raw.push(bytes),
            }
        }
    }

    /// A test may give a peer that is nowhere.
    fn live(&self) -> Live {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let peer = event::Peer {
            address: self.peer.address.parse().unwrap_or(nowhere),
            transport: self.transport(),
            listener: self.peer.listener.as_str().into(),
            secure: self.peer.secure,
        };
        Live {
            peer,
            connected_at_ms: self.connected_at_ms,
            last_message_at_ms: self.last_message_at_ms,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }
}

/// Clients that closed, in order, with what `on_close` is told.
pub(crate) type Closes = VecDeque<(Client, Closed)>;

/// The one shard of the one gateway, with the clients of one tenant.
pub(crate) struct Shard {
    hub: Hub,
    connections: BTreeMap<u32, Connection>,
    timers: Timers,
    /// Tasks that wait, in their order.
    tasks: VecDeque<(TaskId, Payload)>,
    /// What was said to other instances.
    told_peers: Vec<PeerMessage>,
    /// The fake's clock: it goes on when a test waits.
    now_us: u64,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            hub: Hub::default(),
            connections: BTreeMap::new(),
            timers: Timers::new(TIMER_BYTES_MAX, 1),
            tasks: VecDeque::new(),
            told_peers: Vec::new(),
            now_us: 0,
        }
    }
}

impl Shard {
    pub(crate) fn connect(&mut self, peer: Peer, subprotocol: Option<String>) -> Result<Client> {
        let number = self
            .connections
            .keys()
            .next_back()
            .map_or(1, |last| last + 1);
        let client = ClientId::new(GATEWAY, number).to_string().parse()?;
        self.hub.insert(number);
        let connection = Connection {
            peer,
            subprotocol,
            connected_at_ms: now_ms(),
            ..Connection::default()
        };
        self.connections.insert(number, connection);
        Ok(client)
    }

    /// Takes what was said to other instances: topics with payloads.
    pub(crate) fn take_told_peers(&mut self) -> Vec<(String, Vec<u8>)> {
        let told = std::mem::take(&mut self.told_peers).into_iter();
        told.map(|it| (it.topic.to_string(), it.payload.to_vec()))
            .collect()
    }

    /// The client sent so many bytes.
    pub(crate) fn count_message(&mut self, client: &Client, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(&number(client)) {
            connection.last_message_at_ms = Some(now_ms());
            connection.bytes_in += bytes as u64;
        }
    }

    pub(crate) fn is_online(&self, client: &Client) -> bool {
        self.hub.is_online(number(client))
    }

    pub(crate) fn online(&self) -> Vec<Client> {
        clients(self.hub.connections())
    }

    pub(crate) fn members(&self, group: &str) -> Vec<Client> {
        let members = self.hub.group_members(group).into_iter().flatten();
        clients(members.copied())
    }

    pub(crate) fn uid(&self, client: &Client) -> Option<String> {
        let client = self.hub.client(number(client))?;
        client.uid().map(|uid| uid.to_string())
    }

    pub(crate) fn groups(&self, client: &Client) -> Vec<String> {
        let client = self.hub.client(number(client));
        let groups = client.into_iter().flat_map(|client| client.groups());
        groups.map(|group| group.to_string()).collect()
    }

    /// What is committed of a client's session; its last one after it closed.
    pub(crate) fn session(&self, client: &Client) -> Session {
        let number = number(client);
        let session = match self.hub.client(number) {
            Some(client) => client.session(),
            None => self.connections.get(&number).map(|it| &it.last_session),
        };
        session.cloned().unwrap_or_default()
    }

    /// Whom a client's connection has at the other end, as the test said it.
    pub(crate) fn peer(&self, client: ClientId) -> Option<&Peer> {
        let connection = self.connections.get(&client.connection);
        connection.map(|connection| &connection.peer)
    }

    pub(crate) fn subprotocol(&self, client: ClientId) -> Option<String> {
        let connection = self.connections.get(&client.connection)?;
        connection.subprotocol.clone()
    }

    pub(crate) fn connected_at_ms(&self, client: ClientId) -> Option<u64> {
        let connection = self.connections.get(&client.connection)?;
        Some(connection.connected_at_ms)
    }

    /// What the client has closed its WebSocket with.
    pub(crate) fn closed_with(&self, client: ClientId) -> Option<CloseFrame> {
        let connection = self.connections.get(&client.connection)?;
        connection.closed_with.clone()
    }

    /// What a client's WebSocket was closed with by the handler.
    pub(crate) fn close_frame(&self, client: &Client) -> Option<CloseFrame> {
        let connection = self.connections.get(&number(client))?;
        connection.close_frame.clone()
    }

    /// The client closes its WebSocket with this frame.
    pub(crate) fn send_close(&mut self, client: &Client, frame: CloseFrame) {
        if let Some(connection) = self.connections.get_mut(&number(client)) {
            connection.closed_with = Some(frame);
        }
    }

    pub(crate) fn take_received(&mut self, client: &Client) -> Vec<Message> {
        let connection = self.connections.get_mut(&number(client));
        connection
            .map(|it| std::mem::take(&mut it.received))
            .unwrap_or_default()
    }

    pub(crate) fn take_raw(&mut self, client: &Client) -> Vec<Vec<u8>> {
        let connection = self.connections.get_mut(&number(client));
        connection
            .map(|it| std::mem::take(&mut it.raw))
            .unwrap_or_default()
    }

    /// Closes a client; none if it is not online.
    pub(crate) fn close(&mut self, client: &Client, reason: CloseReason) -> Option<Closed> {
        let number = number(client);
        if !self.hub.go_offline(number) {
            return None;
        }
        let gone = self.hub.remove(number)?;
        self.timers.end_client(0, ClientId::new(GATEWAY, number));
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.is_closing = true;
            connection.last_session = gone.session().cloned().unwrap_or_default();
        }
        Some(Closed {
            reason,
            uid: gone.uid().map(|uid| uid.to_string()),
            groups: gone.groups().iter().map(|it| it.to_string()).collect(),
        })
    }

    /// The time of the next timer, or this one if that is sooner: the clock goes on to it.
    pub(crate) fn wait_until(&mut self, end_us: u64) -> Option<RunOut> {
        let next_us = self.timers.next_us().unwrap_or(u64::MAX);
        self.now_us = self.now_us.max(next_us.min(end_us));
        let run_out = self.timers.run_out(self.now_us)?;
        // The fake handles an event before anything else happens.
        self.timers.committed(0, &run_out.timer);
        Some(run_out)
    }

    /// The task whose turn it is.
    pub(crate) fn next_task(&mut self) -> Option<(TaskId, Payload)> {
        self.tasks.pop_front()
    }

    pub(crate) const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Applies the effects of one commit, in order, then closes whom they close.
    pub(crate) fn apply(&mut self, effects: &[Effect]) -> Closes {
        let mut deliveries = Deliveries {
            connections: &mut self.connections,
            timers: &mut self.timers,
            tasks: &mut self.tasks,
            told_peers: &mut self.told_peers,
            now_us: self.now_us,
            closing: Vec::new(),
        };
        for effect in effects {
            effects::apply(&mut self.hub, GATEWAY, effect, &mut deliveries);
        }
        let closing = clients(deliveries.closing.into_iter());
        self.connections.values_mut().for_each(Connection::flush);
        let close = |client| Some((client, self.close(&client, CloseReason::Server)?));
        closing.into_iter().filter_map(close).collect()
    }

    /// The shard's part of an answer, which sees these effects. None if a shard does not answer this.
    pub(crate) fn part(&mut self, effects: &[Effect], query: &Query) -> Option<Answer> {
        if let Query::CompareAndSet {
            client,
            key,
            expected,
            new,
            nth: _,
        } = query
        {
            let (expected, new) = (expected.as_deref(), new.as_deref());
            let number = client.connection;
            let swapped = self.hub.compare_and_set(number, key, expected, new);
            return Some(Answer::Swapped(swapped));
        }
        if let Query::Timers { of, after, limit } = query {
            let after = after.as_deref();
            let (page, more) = self.timers.page(0, *of, after, *limit, self.now_us);
            return Some(Answer::Timers { page, more });
        }
        let trial = Trial::begin(&mut self.hub, GATEWAY, effects);
        let connections = &self.connections;
        let ground = Ground {
            hub: &self.hub,
            gateway: GATEWAY,
            live: &|number| connections.get(&number).map(Connection::live),
        };
        let found = answer(ground, query);
        trial.undo(&mut self.hub);
        found
    }
}

/// The wire's name of a client. A client is always 20 hex digits, so the fallback, which names
/// nobody, is never taken.
pub(crate) fn id(client: &Client) -> ClientId {
    let id = client.as_str().parse();
    id.unwrap_or_else(|_| ClientId::new(GATEWAY, 0))
}

/// The number of a client here; nobody's, if it is another gateway's.
fn number(client: &Client) -> u32 {
    let id = id(client);
    if id.gateway() == GATEWAY {
        id.connection
    } else {
        0
    }
}

/// The client of this id.
pub(crate) fn named(id: ClientId) -> Option<Client> {
    id.to_string().parse().ok()
}

fn clients(numbers: impl Iterator<Item = u32>) -> Vec<Client> {
    let ids = numbers.map(|number| ClientId::new(GATEWAY, number));
    ids.filter_map(named).collect()
}

/// Keys and JSON texts of a session.
pub(crate) fn entries(session: &Session) -> Vec<(String, String)> {
    texts(session.into())
}

/// The same of what came in an answer.
pub(crate) fn texts(entries: SessionEntries) -> Vec<(String, String)> {
    let entries = entries.into_iter();
    entries
        .map(|(key, value)| (key.to_string(), value))
        .collect()
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
