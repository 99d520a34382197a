//! One gateway thread: the connections that it owns, their hub, lanes and timers.
//!
//! Nothing in it is locked: its tasks share the state of one thread and hold it only between
//! awaits. Others reach it through its inbox. What happens to a client becomes an event in its
//! lane; what commits bring becomes deliveries, written once per turn and connection.

mod client_events;
mod clients;
mod clock;
mod commits;
mod custody;
mod deliveries;
mod events;
mod feed;
mod forwards;
mod links;
mod peers;
mod questions;
mod routers;
mod run;
mod sending;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;
mod waits;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate_fair::Shares;
use tidegate_wire::Name;
use tidegate_wire::event::{CloseReason, EventKind, Message, Transport};
use tidegate_wire::handshake::{Accepted, Rejected};
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::payload::Carry;
use tidegate_wire::query::RequestError;
use tidegate_wire::weight;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::services::Services;
use super::settings::ListenerSettings;
use super::shared::metrics::Cut;
use super::shared::{Context, Status};
use super::workers::{Workers, host};
use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::connection::codec::Codec;
use crate::gateway::clients::connection::home::{Home, Newcomer};
use crate::gateway::clients::memory::Memory;
use crate::gateway::shared::metrics::Metrics;
use crate::gateway::shared::request::{Replied, Request};
use crate::gateway::shared::socket::Socket;

use clients::Clients;
use clock::Clock;
use custody::Custody;
use events::Events;
use peers::Peers;
use questions::Questions;
use tasks::Tasks;
use timers::Timers;

pub(super) use run::run;

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

/// What a shard owns, by its owners.
struct State {
    services: Arc<Services>,
    context: Arc<Context>,
    index: u16,
    clients: Clients,
    events: Events,
    timers: Timers,
    tasks: Tasks,
    workers: Workers,
    custody: Custody,
    peers: Peers,
    questions: Questions,
    watchers: feed::Watchers,
    clock: Clock,
    rng: StdRng,
    metrics: Metrics,
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
        self.state.borrow().peers.is_lost(incarnation)
    }

    /// The place of a listener among all.
    fn place_of(&self, listener: &Rc<ListenerSettings>) -> usize {
        let same = |own: &Rc<ListenerSettings>| Rc::ptr_eq(own, listener);
        self.listeners.iter().position(same).unwrap_or_default()
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
        self.state.borrow().clients.memory().clone()
    }

    fn listener(&self, index: usize) -> Option<Rc<ListenerSettings>> {
        self.listeners.get(index).cloned()
    }

    fn is_served(&self, tenant: &Name) -> bool {
        let state = self.state.borrow();
        let tenant = state.tenant_index(tenant);
        tenant.is_some_and(|tenant| state.workers.serves(tenant))
    }

    fn takes_http(&self, tenant: &Name) -> bool {
        let state = self.state.borrow();
        let tenant = state.tenant_index(tenant);
        tenant.is_some_and(|tenant| state.workers.takes_http(tenant))
    }

    fn ask_handler(
        &self,
        tenant: &Name,
        kind: EventKind,
        within: Duration,
    ) -> Result<oneshot::Receiver<Replied>, RequestError> {
        let mut bytes = weight::event(&kind);
        kind.carry(&mut |payload| bytes += payload.len());
        let place = self.services.requests.place(tenant, bytes)?;
        let (reply, replied) = oneshot::channel();
        let mut state = self.state.borrow_mut();
        state.clock();
        state.request(Request {
            tenant: tenant.clone(),
            kind,
            deadline: Instant::now() + within,
            reply,
            kept: false,
            place,
        });
        Ok(replied)
    }

    fn client_connected(
        &self,
        socket: Socket,
        listener: &Rc<ListenerSettings>,
        newcomer: Newcomer,
        early: &Bytes,
    ) -> (Rc<Connection>, Codec) {
        let place = self.place_of(listener);
        let connection = self
            .state
            .borrow_mut()
            .open(socket, listener, place, newcomer);
        if let Some(status) = self.status() {
            status.sockets.fetch_add(1, Ordering::AcqRel);
        }
        let codec = match listener.transport {
            Transport::WebSocket => Codec::web_socket(&connection, early),
            Transport::Tcp | Transport::TextLines | Transport::LengthPrefixed => {
                Codec::plain(&connection)
            }
        };
        (connection, codec)
    }

    fn signed_in(&self, connection: &Rc<Connection>, verdict: Result<Accepted, Rejected>) {
        let place = self.place_of(&connection.listener);
        self.state
            .borrow_mut()
            .signed_in(connection, place, verdict);
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
        let state = self.state.borrow();
        !connection.is_stranger() && state.events.lanes().is_settled(connection.number)
    }

    fn end_of_client(&self) -> Instant {
        let own = Instant::now() + self.context.settings.close;
        self.state.borrow().clients.end().unwrap_or(own)
    }

    fn client_gone(&self, connection: &Connection) {
        connection.forget_first();
        let mut state = self.state.borrow_mut();
        if connection.outbound_bytes() > 0 || connection.is_unread() {
            state.cut(connection.outbound_bytes(), Cut::Time);
        }
        state.clients.forget_stranger(connection.number);
        drop(state);
        if let Some(status) = self.status() {
            status.sockets.fetch_sub(1, Ordering::AcqRel);
        }
        self.context.tell_nearer_the_end();
    }

    fn written(&self, connection: &Connection) {
        if let Some(event) = connection.buffer_event() {
            let mut state = self.state.borrow_mut();
            state.clock();
            state.buffer_event(connection.number, event);
        }
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
        let seed = context.incarnation().0.wrapping_add(index.into());
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            // A random start: an id kept from an earlier life almost surely reaches nobody.
            clients: Clients::new(&context, index, rng.random::<u32>()),
            events: Events::new(&context),
            timers: Timers::new(&context),
            tasks: Tasks::new(&context),
            workers: Workers::new(host::own(&context)),
            custody: Custody::default(),
            peers: Peers::new(context.clone(), index),
            questions: Questions::new(&context),
            watchers: feed::Watchers::default(),
            clock: Clock::default(),
            rng,
            metrics: Metrics::new(&context.tenants),
            services,
            context,
            index,
        }
    }

    fn client_id(&self, connection: u32) -> ClientId {
        ClientId::new(self.context.settings.announced, connection)
    }

    /// The event of this number of this shard.
    fn event_id(&self, sequence: u64) -> EventId {
        EventId {
            gateway: self.context.incarnation(),
            shard: self.index,
            sequence,
        }
    }

    fn tenant_name(&self, tenant: u16) -> Option<&Name> {
        self.context.tenants.name(tenant)
    }

    /// This life was declared lost: nothing is told any more.
    fn lose(&mut self) {
        let end = Instant::now() + self.context.settings.close;
        self.clients.lose(end);
        self.end_requests();
        self.timers.end();
        self.end_tasks();
        self.workers.refuse(&Refusal::Lost);
        self.clients.send_away();
        self.events.forget_all();
    }

    /// Ends what a batch of work has begun: closes, custody, one write per connection.
    fn finish_turn(&mut self) {
        self.end_closing();
        self.begin_tasks();
        self.review_some();
        self.tell_custodians();
        self.settle_workers();
        let told = self.custody.take_told();
        if !told.is_empty() {
            self.workers.say_closes_were_told(&told);
        }
        self.flush_dirty();
        self.clients.set_events(self.events.lanes().bytes());
        self.metrics.tell();
        if let Some(status) = self.context.statuses.get(usize::from(self.index)) {
            let unguarded = self.events.lanes().doubts() + self.custody.reviews();
            status.unguarded.store(unguarded, Ordering::Release);
            self.metrics
                .guarded(unguarded, self.events.lanes().singles());
            self.metrics.timers(self.timers.count());
            let (lanes, tasks) = (self.events.lanes(), self.tasks.begun());
            status.tasks.store(tasks, Ordering::Release);
            status
                .lanes
                .store(lanes.len() - tasks.min(lanes.len()), Ordering::Release);
            let events = lanes.events() - tasks.min(lanes.events());
            status.events.store(events, Ordering::Release);
            status
                .forwards
                .store(self.peers.unsettled(), Ordering::Release);
            // Last: whoever sees it sees what the turn has done.
            status
                .told
                .store(self.clients.told_to_end(), Ordering::Release);
        }
        self.context.tell_nearer_the_end();
    }
}
