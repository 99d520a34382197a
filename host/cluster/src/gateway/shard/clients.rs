//! Clients that come, send and go: each gets a number and a lane, is not read while too much of what
//! it sent waits, and ends with a close behind its other events.

use std::rc::Rc;

use tidegate_hub::give_back::give_back;
use tidegate_wire::event::{CloseReason, Closed, EventKind, HttpRequest, Message, Peer};

use super::State;
use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::pings;
use crate::gateway::settings::{ListenerSettings, NoWorker};
use crate::gateway::shared::socket::Socket;

/// Told in close frames when the gateway ends or is lost.
pub(super) const GOING_AWAY: &str = "the gateway goes away";

impl State {
    /// A number that no client has whose close is not yet committed.
    pub(super) fn take_number(&mut self) -> u32 {
        let step = self.context.shard_mask() + 1;
        loop {
            let number = self.next_connection;
            self.next_connection = number.wrapping_add(step);
            if !self.lanes.contains(number) {
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
        let memory = self.memory.clone();
        let connection = Connection::new(number, tenant, listener.clone(), socket, &peer, memory);
        let connection = Rc::new(connection);
        if self.gone.is_some() {
            // No handler sees it, so no close is to be told.
            connection.tell_close();
            connection.close(1001, GOING_AWAY);
            return connection;
        }
        self.connections.insert(number, connection.clone());
        if let Some(hub) = self.hubs.get_mut(usize::from(tenant)) {
            hub.insert(number);
        }
        if let Some(wheel) = self.wheels.get_mut(place) {
            wheel.insert(number);
        }
        self.metrics.connected();
        self.clock();
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
        self.lanes.push(number, EventKind::Message(message));
        self.memory.set_events(self.lanes.bytes());
        self.pump(number);
        self.hold_if_full(connection);
    }

    /// Stops reading a client whose lane is full, or any that sends while its tenant has no room.
    fn hold_if_full(&mut self, connection: &Connection) {
        let settings = &self.context.settings;
        if connection.is_paused() {
            // What was read before.
        } else if !self.lanes.shares().has_room(&connection.tenant) {
            connection.set_paused(true);
            self.held.insert((connection.tenant, connection.number));
            self.metrics.held(connection.tenant);
        } else if self.lanes.lane_bytes(connection.number) >= settings.hold_bytes_max
            && !connection.has_left()
        {
            connection.set_paused(true);
        }
    }

    /// A client has left, or sends no more. What it sent is read past its lane's bound, since its
    /// socket would be kept for it otherwise; not while its tenant has no room.
    pub(super) fn left(&mut self, connection: &Connection) {
        if self.quiet || !connection.is_paused() {
            return;
        }
        if self.lanes.shares().has_room(&connection.tenant) {
            connection.set_paused(false);
        } else {
            self.held.insert((connection.tenant, connection.number));
        }
    }

    /// Reads a client again whose lane has room, and the others of its tenant that are held.
    pub(super) fn unhold(&mut self, number: u32, tenant: u16) {
        self.unhold_one(number);
        if !self.held.is_empty() && self.lanes.shares().has_plenty(&tenant) {
            let all = (tenant, u32::MIN)..=(tenant, u32::MAX);
            let held: Vec<(u16, u32)> = self.held.extract_if(all, |_| true).collect();
            for (_, number) in held {
                self.unhold_one(number);
            }
        }
    }

    fn unhold_one(&mut self, number: u32) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if connection.is_paused()
            && !self.quiet
            && (connection.has_left()
                || self.lanes.lane_bytes(number) <= self.context.settings.hold_bytes_max / 2)
        {
            connection.set_paused(false);
        }
        // It sends no more and has all its answers.
        if connection.input_ended() && self.lanes.is_settled(number) {
            connection.close(1000, "");
            self.closing.push((number, CloseReason::Client));
        }
    }

    /// A client is gone: its id is offline, and its close waits behind its other events.
    pub(super) fn closed(&mut self, connection: &Connection, reason: CloseReason) {
        if !connection.tell_close() {
            return;
        }
        let number = connection.number;
        self.tell_closed(number, connection.tenant, reason);
        self.connections.remove(&number);
        give_back(&mut self.connections);
        self.held.remove(&(connection.tenant, number));
        if let Some(hub) = self.hubs.get_mut(usize::from(connection.tenant)) {
            hub.go_offline(number);
        }
        self.metrics.closed(reason);
        let closed = Closed {
            reason,
            uid: None,
            groups: Vec::new(),
        };
        self.clock();
        self.lanes.push(number, EventKind::Close(Box::new(closed)));
        self.pump(number);
    }

    /// Whom effects have closed is closed.
    pub(super) fn end_closing(&mut self) {
        while let Some((number, reason)) = self.closing.pop() {
            if let Some(connection) = self.connections.get(&number).cloned() {
                self.closed(&connection, reason);
            }
        }
    }

    pub(super) fn ping(&mut self, listener: usize) {
        let Some(wheel) = self.wheels.get_mut(listener) else {
            return;
        };
        for number in wheel.turn(|number| self.connections.contains_key(&number)) {
            if let Some(connection) = self.connections.get(&number).cloned()
                && !pings::tick(&connection)
            {
                connection.close(1001, "no answer to pings");
                self.closed(&connection, CloseReason::Idle);
            }
        }
    }
}
