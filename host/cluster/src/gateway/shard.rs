//! One gateway thread: the connections that it owns, their hub, lanes and timers.
//!
//! Nothing in it is locked: its tasks share the state of one thread and hold it only between
//! awaits. Others reach it through its inbox. What happens to a client becomes an event in its
//! lane; what commits bring becomes deliveries, written once per turn and connection.

mod clients;
mod clock;
mod commits;
mod custody;
mod feed;
mod inquiry;
mod links;
mod memory;
mod outlet;
mod part;
mod questions;
mod releases;
mod requests;
mod rounds;
mod run;
mod sending;
mod spread;
mod swaps;
mod tell;
#[cfg(test)]
mod tests;
mod waits;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_fair::Shares;
use tidegate_hub::hub::Hub;
use tidegate_hub::idempotency::{KEYS_MAX, Keys};
use tidegate_hub::lanes::Lanes;
use tidegate_hub::streams::Stream;
use tidegate_hub::strikes::Strikes;
use tidegate_link::LinkSender;
use tidegate_link::membership::Members;
use tidegate_wire::Name;
use tidegate_wire::event::{CloseReason, HttpRequest, Message, Peer, Transport};
use tidegate_wire::frame::Frame;
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::{ClientId, CloseId, Incarnation};
use tokio::time::Instant;

use super::services::Services;
use super::settings::ListenerSettings;
use super::shared::life::Life;
use super::shared::metrics::Cut;
use super::shared::{Context, Status};
use super::workers::Workers;
use super::workers::wakes::Wakes;
use crate::gateway::clients::connection::codec::Codec;
use crate::gateway::clients::connection::home::Home;
use crate::gateway::clients::connection::{Connection, now_ms};
use crate::gateway::clients::memory::Memory;
use crate::gateway::clients::pings::Wheel;
use crate::gateway::shared::metrics::Metrics;
use crate::gateway::shared::socket::Socket;
use bytes::Bytes;

use rounds::Rounds;
use swaps::Swaps;
use tidegate_hub::unrouted::Unrouted;

pub(super) use run::run;

/// Another gateway, as this shard sees it.
#[derive(Debug)]
struct PeerStream {
    stream: Stream,
    link: Option<LinkSender>,
    /// Tenants of whom something was dropped since they had room.
    full: FxHashSet<Name>,
    /// When it last missed a deadline, and what its link says of its life.
    suspect: Option<Instant>,
    life: Option<Arc<Life>>,
}

impl PeerStream {
    fn new(context: &Context, shard: u16) -> Self {
        let bytes_max = context.settings.forward_bytes_max;
        Self {
            stream: Stream::new(shard, bytes_max, context.tenants.count()),
            link: None,
            full: FxHashSet::default(),
            suspect: None,
            life: None,
        }
    }

    /// Sends what the window allows.
    fn send(&mut self, window: usize) {
        let Some(link) = &self.link else { return };
        while let Some(forward) = self.stream.next(window) {
            // On a link that has ended it is sent again by the next one.
            let _ = link.send(Frame::Forward(forward));
        }
    }

    /// Whether it missed a deadline and gave no sign of life since.
    fn is_suspect(&self) -> bool {
        let heard = self.life.as_ref().map(|life| life.heard());
        self.suspect
            .is_some_and(|missed| heard.is_none_or(|heard| heard <= missed))
    }
}

/// One shard. Shared by the tasks of its thread.
pub(super) struct Shard {
    pub(super) services: Arc<Services>,
    pub(super) context: Arc<Context>,
    pub(super) index: u16,
    listeners: Vec<Rc<ListenerSettings>>,
    state: RefCell<State>,
    /// Questions under way.
    questions: RefCell<Shares<Name>>,
}

/// What a shard owns.
struct State {
    services: Arc<Services>,
    context: Arc<Context>,
    index: u16,
    hubs: Vec<Hub>,
    connections: FxHashMap<u32, Rc<Connection>>,
    wheels: Vec<Wheel>,
    lanes: Lanes,
    workers: Workers,
    /// Lanes whose tenant nobody serves.
    unrouted: Unrouted,
    /// Lanes that ended while they waited for a worker, and may still stand in a queue.
    gone_while_queued: usize,
    requests: requests::Requests,
    watchers: feed::Watchers,
    /// Clients whose socket is not read because too much of their tenant waits.
    held: BTreeSet<(u16, u32)>,
    /// Clients whose custodians may be missing or leaving.
    reviews: VecDeque<u32>,
    /// The machine of this gateway.
    host: Name,
    /// Closes of lost gateways that were told and applied here: second custodians forget them.
    told: Vec<CloseId>,
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
    /// Closes of gateways that are alive, as far as is known here.
    early: spread::Early,
    swaps: Swaps,
    strikes: Strikes,
    keys: Keys,
    quiet: bool,
    /// Nobody is let in any more: this life is lost or has said good-bye to its clients, whose ends
    /// have time until then.
    gone: Option<Instant>,
    /// What clients make this shard keep.
    memory: Rc<Memory>,
    /// Since when that is too much.
    full_since: Option<Instant>,
    cuts: memory::Cuts,
    rng: StdRng,
    metrics: Metrics,
    began: Instant,
    /// The wall clock at that time, in milliseconds since 1970.
    began_at_ms: u64,
    /// When the first effects of this turn came, on the clock of the lanes.
    effects_us: Option<u64>,
    /// Links whose readers are to be woken.
    wakes: Wakes,
}

impl Shard {
    pub(super) fn new(services: Arc<Services>, index: u16) -> Rc<Self> {
        let context = services.context.clone();
        let state = State::new(services.clone(), index);
        let questions = Shares::new(questions::QUESTIONS_MAX, context.tenants.count());
        let listeners = context
            .settings
            .listeners
            .iter()
            .cloned()
            .map(Rc::new)
            .collect();
        Rc::new(Self {
            services,
            context,
            index,
            listeners,
            state: RefCell::new(state),
            questions: RefCell::new(questions),
        })
    }

    /// Whether this life of a node was declared lost.
    pub(super) fn is_lost(&self, incarnation: Incarnation) -> bool {
        self.state.borrow().view.is_lost(incarnation)
    }

    fn status(&self) -> Option<&Status> {
        self.context.statuses.get(usize::from(self.index))
    }
}

impl Home for Shard {
    fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn memory(&self) -> Rc<Memory> {
        self.state.borrow().memory.clone()
    }

    fn listener(&self, index: usize) -> Option<Rc<ListenerSettings>> {
        self.listeners.get(index).cloned()
    }

    fn client_connected(
        &self,
        socket: Socket,
        listener: &Rc<ListenerSettings>,
        peer: Peer,
        request: Option<Box<HttpRequest>>,
        early: &Bytes,
    ) -> (Rc<Connection>, Codec) {
        let same = |own: &Rc<ListenerSettings>| Rc::ptr_eq(own, listener);
        let place = self.listeners.iter().position(same).unwrap_or_default();
        let connection = self
            .state
            .borrow_mut()
            .open(socket, listener, place, peer, request);
        if let Some(status) = self.status() {
            status.sockets.fetch_add(1, Ordering::AcqRel);
        }
        let codec = match listener.transport {
            Transport::WebSocket => Codec::web_socket(&connection, early),
            Transport::Tcp | Transport::TextLines | Transport::LengthPrefixed => {
                Codec::plain(listener)
            }
        };
        (connection, codec)
    }

    fn message(&self, connection: &Rc<Connection>, message: Message) {
        self.state.borrow_mut().message(connection, message);
    }

    fn client_ended(&self, connection: &Rc<Connection>, reason: CloseReason) {
        let mut state = self.state.borrow_mut();
        state.closed(connection, reason);
        state.finish_turn();
    }

    fn client_left(&self, connection: &Connection) {
        self.state.borrow_mut().left(connection);
    }

    fn is_answered(&self, connection: &Connection) -> bool {
        self.state.borrow().lanes.is_settled(connection.number)
    }

    fn end_of_client(&self) -> Instant {
        let own = Instant::now() + self.context.settings.close;
        self.state.borrow().gone.unwrap_or(own)
    }

    fn client_gone(&self, connection: &Connection) {
        let mut state = self.state.borrow_mut();
        if connection.outbound_bytes() > 0 || connection.is_unread() {
            state.cut(connection.outbound_bytes(), Cut::Time);
        }
        drop(state);
        if let Some(status) = self.status() {
            status.sockets.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn written(&self, connection: &Connection) {
        if let Some(came_us) = connection.take_late() {
            let mut state = self.state.borrow_mut();
            state.delivered(connection.tenant, came_us, 1);
        }
    }

    fn ping(&self, listener: usize) {
        let mut state = self.state.borrow_mut();
        state.ping(listener);
        state.finish_turn();
    }
}

impl State {
    fn new(services: Arc<Services>, index: u16) -> Self {
        let context = services.context.clone();
        let mask = context.shard_mask();
        let seed = context.incarnation().0.wrapping_add(index.into());
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            hubs: std::iter::repeat_with(|| Hub::new(context.settings.hub))
                .take(context.tenants.count())
                .collect(),
            connections: FxHashMap::default(),
            wheels: context
                .settings
                .listeners
                .iter()
                .map(|_| Wheel::default())
                .collect(),
            lanes: Lanes::new(
                context.settings.pending_bytes_max / usize::from(context.settings.shards),
                context.tenants.count(),
            ),
            workers: Workers::default(),
            unrouted: Unrouted::default(),
            gone_while_queued: 0,
            requests: requests::Requests::default(),
            watchers: feed::Watchers::default(),
            held: BTreeSet::new(),
            reviews: VecDeque::new(),
            host: crate::gateway::workers::host::own(&context),
            told: Vec::new(),
            closing: Vec::new(),
            dirty: Vec::new(),
            peers: FxHashMap::default(),
            addresses: FxHashMap::default(),
            // A random start: an id kept from an earlier life almost surely reaches nobody.
            next_connection: (rng.random::<u32>() & !mask) | u32::from(index),
            view: Arc::default(),
            rounds: Rounds::default(),
            releases: releases::Releases::new(context.tenants.count()),
            early: spread::Early::new(context.tenants.count()),
            swaps: Swaps::default(),
            strikes: Strikes::default(),
            keys: Keys::new(
                KEYS_MAX / context.inboxes.len().max(1),
                context.tenants.count(),
            ),
            quiet: false,
            gone: None,
            memory: Rc::new(Memory::new(
                context.settings.clients_bytes_max / context.inboxes.len().max(1),
            )),
            full_since: None,
            cuts: memory::Cuts::default(),
            rng,
            metrics: Metrics::new(&context.tenants),
            began: Instant::now(),
            began_at_ms: now_ms(),
            effects_us: None,
            wakes: Wakes::default(),
            services,
            context,
            index,
        }
    }

    fn client_id(&self, connection: u32) -> ClientId {
        ClientId::new(self.context.settings.announced, connection)
    }

    fn tenant_name(&self, tenant: u16) -> Option<&Name> {
        self.context.tenants.name(tenant)
    }

    /// This life was declared lost: nothing is told any more.
    fn lose(&mut self) {
        self.quiet = true;
        self.gone = Some(Instant::now() + self.context.settings.close);
        self.end_requests();
        self.workers.refuse(&Refusal::Lost);
        for (_, connection) in self.connections.drain() {
            connection.tell_close();
            connection.close(1001, clients::GOING_AWAY);
        }
        self.lanes = Lanes::default();
    }

    /// Gateways that have not acknowledged everything. Nobody takes anything from a lost life.
    fn unsettled(&self) -> usize {
        let open = |peer: &&PeerStream| !peer.stream.is_empty();
        if self.context.lost.is_cancelled() {
            return 0;
        }
        self.peers.values().filter(open).count()
    }

    /// Ends what a batch of work has begun: closes, custody, one write per connection.
    fn finish_turn(&mut self) {
        self.end_closing();
        self.review_some();
        self.tell_custodians();
        self.settle_workers();
        if !self.told.is_empty() {
            let told = std::mem::take(&mut self.told);
            self.workers.tell_told(&told);
        }
        self.flush_dirty();
        self.memory.set_events(self.lanes.bytes());
        self.metrics.tell();
        if let Some(status) = self.context.statuses.get(usize::from(self.index)) {
            let unguarded = self.lanes.doubts() + self.reviews.len();
            status.unguarded.store(unguarded, Ordering::Release);
            self.metrics.guarded(unguarded, self.lanes.singles());
            status.lanes.store(self.lanes.len(), Ordering::Release);
            status.events.store(self.lanes.events(), Ordering::Release);
            status.forwards.store(self.unsettled(), Ordering::Release);
        }
    }
}
