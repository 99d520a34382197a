//! Clients that come, send and go: each gets a number and a lane, is not read while too much of what
//! it sent waits, and ends with a close behind its other events.

use rustc_hash::FxHashMap;
use std::rc::Rc;
use tidegate_hub::hub::Hub;
use tokio::time::Instant;

use tidegate_hub::give_back::give_back;
use tidegate_wire::event::{CloseReason, Closed, EventKind, HttpRequest, Message, Peer};

use super::State;
use super::memory::Cuts;
use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::memory::Memory;
use crate::gateway::clients::pings;
use crate::gateway::clients::pings::{Tick, Wheel};
use crate::gateway::settings::{ListenerSettings, NoWorker};
use crate::gateway::shared::Context;
use crate::gateway::shared::metrics::Cut;
use crate::gateway::shared::socket::Socket;

/// Told in close frames when the gateway ends or is lost.
pub(super) const GOING_AWAY: &str = "the gateway goes away";

/// The clients of a shard.
pub(super) struct Clients {
    /// One for each tenant.
    pub(super) hubs: Vec<Hub>,
    pub(super) connections: FxHashMap<u32, Rc<Connection>>,
    /// One for each listener.
    pub(super) wheels: Vec<Wheel>,
    /// Those that are to be closed once the effects at hand are applied.
    pub(super) closing: Vec<(u32, CloseReason)>,
    /// Those whose queue has something to be written.
    pub(super) dirty: Vec<Rc<Connection>>,
    /// The number of the next one.
    pub(super) next: u32,
    /// What they make the shard keep.
    pub(super) memory: Rc<Memory>,
    /// Since when that is too much.
    pub(super) full_since: Option<Instant>,
    pub(super) cuts: Cuts,
    /// How often the gateway said that it ends.
    pub(super) told_to_end: usize,
    /// Nobody is read any more.
    pub(super) quiet: bool,
    /// Nobody is let in any more: this life is lost or has said good-bye to its clients, whose ends
    /// have time until then.
    pub(super) gone: Option<Instant>,
}

impl Clients {
    pub(super) fn new(context: &Context, index: u16, start: u32) -> Self {
        let settings = &context.settings;
        let hubs = std::iter::repeat_with(|| Hub::new(settings.hub));
        let bytes_max = settings.clients_bytes_max / context.inboxes.len().max(1);
        Self {
            hubs: hubs.take(context.tenants.count()).collect(),
            connections: FxHashMap::default(),
            wheels: settings
                .listeners
                .iter()
                .map(|_| Wheel::default())
                .collect(),
            closing: Vec::new(),
            dirty: Vec::new(),
            next: (start & !context.shard_mask()) | u32::from(index),
            memory: Rc::new(Memory::new(bytes_max)),
            full_since: None,
            cuts: Cuts::default(),
            told_to_end: 0,
            quiet: false,
            gone: None,
        }
    }
}

impl State {
    /// A number that no client has whose close is not yet committed.
    pub(super) fn take_number(&mut self) -> u32 {
        let step = self.context.shard_mask() + 1;
        loop {
            let number = self.clients.next;
            self.clients.next = number.wrapping_add(step);
            if !self.events.lanes().contains(number) {
                return number;
            }
        }
    }

    /// A client is there, at the listener in this place.
    pub(super) fn open(
        &mut self,
        socket: Socket,
        listener: &Rc<ListenerSettings>,
        place: usize,
        peer: Peer,
        request: Option<Box<HttpRequest>>,
    ) -> Rc<Connection> {
        let number = self.take_number();
        let tenant = self.context.tenants.number(&listener.tenant).unwrap_or(0);
        let memory = self.clients.memory.clone();
        let connection = Connection::new(number, tenant, listener.clone(), socket, &peer, memory);
        let connection = Rc::new(connection);
        if self.clients.gone.is_some() {
            // No handler sees it, so no close is to be told.
            connection.tell_close();
            connection.close(1001, GOING_AWAY);
            return connection;
        }
        self.clients.connections.insert(number, connection.clone());
        if let Some(hub) = self.clients.hubs.get_mut(usize::from(tenant)) {
            hub.insert(number);
        }
        if let Some(wheel) = self.clients.wheels.get_mut(place) {
            wheel.insert(number);
        }
        self.metrics.connected();
        self.clock();
        self.tell_connected(number, tenant, &peer);
        let peer = Box::new(peer);
        self.events
            .open(number, tenant, EventKind::Connect { peer, request });
        self.pump(number);
        self.finish_turn();
        connection
    }

    pub(super) fn message(&mut self, connection: &Rc<Connection>, message: Message) {
        self.clock();
        connection.message_came(message.payload().len(), self.wall_ms());
        let number = connection.number;
        self.metrics.message_in(message.payload().len());
        let served = || self.workers.serves(connection.tenant);
        match self.context.settings.no_worker {
            NoWorker::Hold => {}
            NoWorker::Drop if !served() => return self.metrics.dropped_without_worker(1),
            NoWorker::Close if !served() => {
                self.metrics.dropped_without_worker(1);
                connection.close(1013, "nobody serves you at the moment");
                return self.closed(connection, CloseReason::Server);
            }
            NoWorker::Drop | NoWorker::Close => {}
        }
        self.events
            .lanes_mut()
            .push(number, EventKind::Message(message));
        self.clients.memory.set_events(self.events.lanes().bytes());
        self.pump(number);
        self.pause_if_full(connection);
    }

    /// Stops reading a client whose lane is full, or any that sends while its tenant has no room.
    fn pause_if_full(&mut self, connection: &Connection) {
        let (number, tenant) = (connection.number, connection.tenant);
        if connection.is_paused() {
            // It is paused already: this message was read before that.
        } else if self.events.hold(tenant, number) {
            connection.set_paused(true);
            self.metrics.held(tenant);
        } else if self.events.lanes().lane_bytes(number) >= self.context.settings.hold_bytes_max
            && !connection.has_left()
        {
            connection.set_paused(true);
        }
    }

    /// A client has left, or sends no more. What it sent is read past its lane's bound, since its
    /// socket would be kept for it otherwise; not while its tenant has no room.
    pub(super) fn left(&mut self, connection: &Connection) {
        if self.clients.quiet || !connection.is_paused() {
            return;
        }
        if !self.events.hold(connection.tenant, connection.number) {
            connection.set_paused(false);
        }
    }

    /// Reads a client again whose lane has room, and the others of its tenant that are held.
    pub(super) fn resume_reading(&mut self, number: u32, tenant: u16) {
        self.resume_reading_of(number);
        self.resume_reading_of_tenant(tenant);
    }

    /// Reads the clients of a tenant again that are held, if there is room for what they send.
    pub(super) fn resume_reading_of_tenant(&mut self, tenant: u16) {
        for number in self.events.take_held(tenant) {
            self.resume_reading_of(number);
        }
    }

    fn resume_reading_of(&mut self, number: u32) {
        let Some(connection) = self.clients.connections.get(&number) else {
            return;
        };
        if connection.is_paused()
            && !self.clients.quiet
            && (connection.has_left()
                || self.events.lanes().lane_bytes(number)
                    <= self.context.settings.hold_bytes_max / 2)
        {
            connection.set_paused(false);
        }
        // It sends no more and has all its answers.
        if connection.input_ended() && self.events.lanes().is_settled(number) {
            connection.close(1000, "");
            self.clients.closing.push((number, CloseReason::Client));
        }
    }

    /// A client is gone: its id is offline, and its close waits behind its other events.
    pub(super) fn closed(&mut self, connection: &Connection, reason: CloseReason) {
        if !connection.tell_close() {
            return;
        }
        let number = connection.number;
        self.tell_closed(number, connection.tenant, reason);
        self.clients.connections.remove(&number);
        give_back(&mut self.clients.connections);
        self.events.let_go(connection.tenant, number);
        if let Some(hub) = self.clients.hubs.get_mut(usize::from(connection.tenant)) {
            hub.go_offline(number);
        }
        self.metrics.closed(reason);
        let closed = Closed {
            reason,
            uid: None,
            groups: Vec::new(),
        };
        self.clock();
        self.events
            .lanes_mut()
            .push(number, EventKind::Close(Box::new(closed)));
        self.pump(number);
    }

    /// Whom effects have closed is closed.
    pub(super) fn end_closing(&mut self) {
        while let Some((number, reason)) = self.clients.closing.pop() {
            if let Some(connection) = self.clients.connections.get(&number).cloned() {
                self.closed(&connection, reason);
            }
        }
    }

    pub(super) fn ping(&mut self, listener: usize) {
        let Some(wheel) = self.clients.wheels.get_mut(listener) else {
            return;
        };
        for number in wheel.turn(|number| self.clients.connections.contains_key(&number)) {
            let Some(connection) = self.clients.connections.get(&number).cloned() else {
                continue;
            };
            match pings::tick(&connection) {
                Tick::Fine => {}
                Tick::Silent => {
                    connection.close(1001, "no answer to pings");
                    self.closed(&connection, CloseReason::Idle);
                }
                Tick::Slow => {
                    self.metrics.cut(connection.destroy(), Cut::Slow.name());
                    self.closed(&connection, CloseReason::Slow);
                }
            }
        }
    }
}
