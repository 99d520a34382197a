//! One gateway thread: the connections that it owns, their hub, lanes and timers.
//!
//! Nothing in it is locked: its tasks share the state of one thread and hold it only between
//! awaits. Others reach it through its inbox. What happens to a client becomes an event in its
//! lane; what commits bring becomes deliveries, written once per turn and connection.

mod commits;
mod feed;
mod handover;
mod inquiry;
mod outlet;
mod part;
mod questions;
mod releases;
mod requests;
mod rounds;
mod run;
mod sending;
mod swaps;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustc_hash::FxHashMap;
use tidegate_wire::Name;
use tidegate_wire::event::{CloseReason, Closed, EventKind, HttpRequest, Message, Peer, Transport};
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::{ClientId, Incarnation};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Connection;
use super::client::codec::Codec;
use super::client::socket::Socket;
use super::closes::Closes;
use super::forward::{Received, Stream};
use super::hub::Hub;
use super::inbox::{Inbox, Parcel};
use super::metrics::Metrics;
use super::once::{KEYS_MAX, Keys};
use super::peers::Life;
use super::pending::Lanes;
use super::settings::{GatewaySettings, ListenerSettings, NoWorker};
use super::timers::Wheel;
use super::workers::Workers;
use crate::link::{Identity, LinkSender};
use crate::membership::Members;

use rounds::Rounds;
use swaps::Swaps;

pub(super) use run::run;

/// What all shards of a gateway share. Nothing here is on the way of a message.
pub(super) struct Context {
    pub(super) settings: GatewaySettings,
    pub(super) identity: Identity,
    /// The tenants of the listeners; a shard has one hub for each.
    pub(super) tenants: Vec<Name>,
    pub(super) inboxes: Vec<Inbox>,
    pub(super) statuses: Vec<Status>,
    pub(super) received: std::sync::Mutex<Received>,
    pub(super) closes: Closes,
    /// This life was declared lost.
    pub(super) lost: CancellationToken,
    pub(super) requests: super::requests::Requests,
    pub(super) commands: super::commands::Runner,
    pub(super) feed: super::feed::Feed,
    /// Of whoever started the gateway: what is not a shard's own work runs there.
    pub(super) runtime: tokio::runtime::Handle,
    /// The shards have ended: nobody is waited for.
    pub(super) ended: CancellationToken,
    pub(super) next_worker: AtomicU32,
    /// Nodes that have connected and are not yet authenticated.
    pub(super) handshakes: AtomicUsize,
    /// Connections of each listener, over all shards.
    pub(super) connections: Vec<AtomicUsize>,
    /// Tells the gateway that a worker came or went.
    pub(super) workers: tokio::sync::watch::Sender<usize>,
}

impl Context {
    pub(super) fn incarnation(&self) -> Incarnation {
        self.identity.node.incarnation
    }

    /// The shard of a connection number.
    pub(super) fn shard_of(&self, connection: u32) -> usize {
        (connection & self.shard_mask()) as usize
    }

    /// The low bits of a connection number that hold the shard.
    fn shard_mask(&self) -> u32 {
        u32::from(self.settings.shards).next_power_of_two() - 1
    }

    /// This life was declared lost.
    pub(super) fn lose(&self) {
        self.lost.cancel();
        self.all(|| Parcel::Lost);
    }

    pub(super) fn all(&self, parcel: impl Fn() -> Parcel) {
        for inbox in &self.inboxes {
            inbox.push(parcel());
        }
    }
}

/// What a shard tells about itself after each turn.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Clients whose close is not yet committed.
    pub(super) lanes: AtomicUsize,
    /// Events that wait or are under way.
    pub(super) events: AtomicUsize,
    /// Other gateways that have not acknowledged everything.
    pub(super) forwards: AtomicUsize,
    /// Watchers that are told.
    pub(super) watchers: AtomicUsize,
}

/// Another gateway, as this shard sees it.
#[derive(Debug, Default)]
struct PeerStream {
    stream: Stream,
    link: Option<LinkSender>,
    full: bool,
    /// When it last missed a deadline, and what its link says of its life.
    suspect: Option<Instant>,
    life: Option<Arc<Life>>,
}

impl PeerStream {
    /// Whether it missed a deadline and gave no sign of life since.
    fn is_suspect(&self) -> bool {
        let heard = self.life.as_ref().map(|life| life.heard());
        self.suspect
            .is_some_and(|missed| heard.is_none_or(|heard| heard <= missed))
    }
}

/// One shard. Shared by the tasks of its thread.
pub(super) struct Shard {
    pub(super) context: Arc<Context>,
    pub(super) index: u16,
    listeners: Vec<Rc<ListenerSettings>>,
    state: RefCell<State>,
    /// Questions under way.
    questions: Cell<usize>,
}

/// What a shard owns.
struct State {
    context: Arc<Context>,
    index: u16,
    hubs: Vec<Hub>,
    connections: FxHashMap<u32, Rc<Connection>>,
    wheels: Vec<Wheel>,
    lanes: Lanes,
    workers: Workers,
    /// Lanes whose tenant nobody serves.
    unrouted: VecDeque<u32>,
    requests: requests::Requests,
    watchers: feed::Watchers,
    /// Clients whose socket is not read because the whole gateway holds too much.
    held: Vec<u32>,
    /// Clients whose custodian must be told of a change.
    custody: Vec<u32>,
    /// Clients that are to be closed once the effects at hand are applied.
    closing: Vec<(u32, CloseReason)>,
    dirty: Vec<Rc<Connection>>,
    peers: FxHashMap<Incarnation, PeerStream>,
    /// Announced address → incarnation of the other gateways.
    addresses: FxHashMap<std::net::SocketAddrV4, Incarnation>,
    view: Arc<Members>,
    next_connection: u32,
    rounds: Rounds,
    releases: releases::Releases,
    handovers: handover::Handovers,
    swaps: Swaps,
    keys: Keys,
    quiet: bool,
    /// Nobody is let in any more: this life is lost or has said good-bye to its clients.
    gone: bool,
    rng: StdRng,
    metrics: Metrics,
}

impl Shard {
    pub(super) fn new(context: Arc<Context>, index: u16) -> Rc<Self> {
        let state = State::new(context.clone(), index);
        let listeners = context
            .settings
            .listeners
            .iter()
            .cloned()
            .map(Rc::new)
            .collect();
        Rc::new(Self {
            context,
            index,
            listeners,
            state: RefCell::new(state),
            questions: Cell::new(0),
        })
    }

    pub(super) fn listener(&self, index: usize) -> Option<&Rc<ListenerSettings>> {
        self.listeners.get(index)
    }

    /// A client has connected and, for a WebSocket, its upgrade is done; `early` is what it sent
    /// behind the request.
    pub(super) fn client_connected(
        &self,
        socket: Socket,
        listener: &Rc<ListenerSettings>,
        peer: Peer,
        request: Option<Box<HttpRequest>>,
        early: &bytes::Bytes,
    ) -> (Rc<Connection>, Codec) {
        let connection = self
            .state
            .borrow_mut()
            .open(socket, listener, peer, request);
        let codec = match listener.transport {
            Transport::WebSocket => Codec::web_socket(&connection, early),
            Transport::Tcp | Transport::TextLines | Transport::LengthPrefixed => {
                Codec::plain(listener)
            }
        };
        (connection, codec)
    }

    /// A client sent a message.
    pub(super) fn message(&self, connection: &Rc<Connection>, message: Message) {
        self.state.borrow_mut().message(connection, message);
    }

    /// Whether this life of a node was declared lost.
    pub(super) fn is_lost(&self, incarnation: Incarnation) -> bool {
        self.state.borrow().view.is_lost(incarnation)
    }

    /// A client's task has ended.
    pub(super) fn client_ended(&self, connection: &Rc<Connection>, reason: CloseReason) {
        let mut state = self.state.borrow_mut();
        state.closed(connection, reason);
        state.finish_turn();
    }

    /// The clients of one slot of a listener's ping wheel have their turn.
    pub(super) fn ping(&self, listener: usize) {
        let mut state = self.state.borrow_mut();
        state.ping(listener);
        state.finish_turn();
    }
}

impl State {
    fn new(context: Arc<Context>, index: u16) -> Self {
        let mask = context.shard_mask();
        let seed = context.incarnation().0.wrapping_add(index.into());
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            hubs: context
                .tenants
                .iter()
                .map(|_| Hub::new(context.settings.hub))
                .collect(),
            connections: FxHashMap::default(),
            wheels: context
                .settings
                .listeners
                .iter()
                .map(|_| Wheel::default())
                .collect(),
            lanes: Lanes::default(),
            workers: Workers::default(),
            unrouted: VecDeque::new(),
            requests: requests::Requests::default(),
            watchers: feed::Watchers::default(),
            held: Vec::new(),
            custody: Vec::new(),
            closing: Vec::new(),
            dirty: Vec::new(),
            peers: FxHashMap::default(),
            addresses: FxHashMap::default(),
            // A random start: an id kept from an earlier life almost surely reaches nobody.
            next_connection: (rng.random::<u32>() & !mask) | u32::from(index),
            view: Arc::default(),
            rounds: Rounds::default(),
            releases: releases::Releases::default(),
            handovers: handover::Handovers::default(),
            swaps: Swaps::default(),
            keys: Keys::new(KEYS_MAX / context.inboxes.len().max(1)),
            quiet: false,
            gone: false,
            rng,
            metrics: Metrics::new(),
            context,
            index,
        }
    }

    fn client_id(&self, connection: u32) -> ClientId {
        ClientId::new(self.context.settings.announced, connection)
    }

    fn tenant_name(&self, tenant: u16) -> Option<&Name> {
        self.context.tenants.get(usize::from(tenant))
    }

    /// A number that no client has whose close is not yet committed.
    fn take_number(&mut self) -> u32 {
        let step = self.context.shard_mask() + 1;
        loop {
            let number = self.next_connection;
            self.next_connection = number.wrapping_add(step);
            if !self.lanes.contains(number) {
                return number;
            }
        }
    }

    fn open(
        &mut self,
        socket: Socket,
        listener: &Rc<ListenerSettings>,
        peer: Peer,
        request: Option<Box<HttpRequest>>,
    ) -> Rc<Connection> {
        let number = self.take_number();
        let tenants = &self.context.tenants;
        let tenant = tenants
            .iter()
            .position(|tenant| *tenant == listener.tenant)
            .unwrap_or(0);
        let tenant = u16::try_from(tenant).unwrap_or(0);
        let connection = Connection::new(number, tenant, listener.clone(), socket, &peer);
        let connection = Rc::new(connection);
        if self.gone {
            // No handler sees it, so no close is to be told.
            connection.tell_close();
            connection.close(1001);
            return connection;
        }
        self.connections.insert(number, connection.clone());
        if let Some(hub) = self.hubs.get_mut(usize::from(tenant)) {
            hub.insert(number);
        }
        self.wheel_in(listener, number);
        self.metrics.connected();
        self.tell_connected(number, tenant, &peer);
        self.lanes.open(number, tenant);
        self.lanes.push(
            number,
            EventKind::Connect {
                peer: Box::new(peer),
                request,
            },
        );
        self.pump(number);
        self.finish_turn();
        connection
    }

    fn wheel_in(&mut self, listener: &ListenerSettings, number: u32) {
        let listeners = &self.context.settings.listeners;
        let place = listeners
            .iter()
            .position(|other| other.address == listener.address);
        if let Some(wheel) = place.and_then(|place| self.wheels.get_mut(place)) {
            wheel.insert(number);
        }
    }

    fn message(&mut self, connection: &Rc<Connection>, message: Message) {
        connection.message_came(message.payload().len());
        let number = connection.number;
        self.metrics.message_in(message.payload().len());
        let served = || {
            self.tenant_name(connection.tenant)
                .is_some_and(|tenant| self.workers.serves(tenant))
        };
        match self.context.settings.no_worker {
            NoWorker::Hold => {}
            NoWorker::Drop if !served() => return self.metrics.dropped_without_worker(1),
            NoWorker::Close if !served() => {
                self.metrics.dropped_without_worker(1);
                connection.close(1013);
                return self.closed(connection, CloseReason::Server);
            }
            NoWorker::Drop | NoWorker::Close => {}
        }
        self.lanes.push(number, EventKind::Message(message));
        self.pump(number);
        self.hold_if_full(connection);
    }

    /// Stops reading a client whose lane is full, or any that sends while the gateway is full.
    fn hold_if_full(&mut self, connection: &Connection) {
        let settings = &self.context.settings;
        if self.lanes.bytes() >= settings.pending_bytes_max / usize::from(settings.shards) {
            connection.set_paused(true);
            self.held.push(connection.number);
        } else if self.lanes.lane_bytes(connection.number) >= settings.hold_bytes_max {
            connection.set_paused(true);
        }
    }

    /// Reads a client again whose lane has room.
    fn unhold(&mut self, number: u32) {
        if let Some(connection) = self.connections.get(&number)
            && connection.is_paused()
            && !self.quiet
            && self.lanes.lane_bytes(number) <= self.context.settings.hold_bytes_max / 2
        {
            connection.set_paused(false);
        }
        let max =
            self.context.settings.pending_bytes_max / usize::from(self.context.settings.shards);
        if !self.held.is_empty() && self.lanes.bytes() <= max / 4 * 3 {
            for number in std::mem::take(&mut self.held) {
                self.unhold(number);
            }
        }
    }

    /// A client is gone: its id is offline, and its close waits behind its other events.
    fn closed(&mut self, connection: &Connection, reason: CloseReason) {
        if !connection.tell_close() {
            return;
        }
        let number = connection.number;
        self.tell_closed(number, connection.tenant, reason);
        self.connections.remove(&number);
        if let Some(hub) = self.hubs.get_mut(usize::from(connection.tenant)) {
            hub.go_offline(number);
        }
        self.metrics.closed(reason);
        let closed = Closed {
            reason,
            uid: None,
            groups: Vec::new(),
        };
        self.lanes.push(number, EventKind::Close(Box::new(closed)));
        self.pump(number);
    }

    /// This life was declared lost: nothing is told any more.
    fn lose(&mut self) {
        self.quiet = true;
        self.gone = true;
        self.end_requests();
        self.workers.refuse(&Refusal::Lost);
        for (_, connection) in self.connections.drain() {
            connection.tell_close();
            connection.close(1001);
        }
        self.lanes = Lanes::default();
    }

    /// Gateways that have not acknowledged everything. Nobody takes anything from a lost life.
    fn unsettled(&self) -> usize {
        let open = |peer: &&PeerStream| peer.stream.last_unacknowledged().is_some();
        if self.context.lost.is_cancelled() {
            return 0;
        }
        self.peers.values().filter(open).count()
    }

    /// Ends what a batch of work has begun: closes, custody, one write per connection.
    fn finish_turn(&mut self) {
        self.end_closing();
        let mut changed = std::mem::take(&mut self.custody);
        changed.sort_unstable();
        changed.dedup();
        for number in changed.drain(..) {
            let heir = self.lanes.heir(number);
            for worker in self.lanes.custodian(number).into_iter().chain(heir) {
                self.tell_custody(number, worker);
            }
        }
        self.custody = changed;
        for connection in self.dirty.drain(..) {
            connection.flush();
        }
        self.metrics.tell();
        if let Some(status) = self.context.statuses.get(usize::from(self.index)) {
            status.lanes.store(self.lanes.len(), Ordering::Release);
            status.events.store(self.lanes.events(), Ordering::Release);
            status.forwards.store(self.unsettled(), Ordering::Release);
        }
    }

    /// Whom effects have closed is closed.
    fn end_closing(&mut self) {
        while let Some((number, reason)) = self.closing.pop() {
            if let Some(connection) = self.connections.get(&number).cloned() {
                self.closed(&connection, reason);
            }
        }
    }

    fn ping(&mut self, listener: usize) {
        let Some(wheel) = self.wheels.get_mut(listener) else {
            return;
        };
        for number in wheel.turn(|number| self.connections.contains_key(&number)) {
            if let Some(connection) = self.connections.get(&number).cloned()
                && !super::timers::tick(&connection)
            {
                connection.destroy();
                self.closed(&connection, CloseReason::Idle);
            }
        }
    }
}
