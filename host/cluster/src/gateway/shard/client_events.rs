//! Clients that come, send and go: each gets a number and a lane, is not read while too much of what
//! it sent waits, and ends with a close behind its other events.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_hub::outbound::Outgoing;
use tidegate_wire::effect::{Effect, SessionChange};
use tidegate_wire::event::{CloseReason, Closed, EventKind, HttpRequest, Message, Transport};
use tidegate_wire::handshake::{Accepted, Rejected};

use super::State;
use super::clients::GOING_AWAY;
use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::connection::home::Newcomer;
use crate::gateway::clients::pings;
use crate::gateway::clients::pings::Tick;
use crate::gateway::settings::{ListenerSettings, NoWorker, SignInPolicy};
use crate::gateway::shared::metrics::Cut;
use crate::gateway::shared::socket::Socket;

impl State {
    /// A number that no client has whose close is not yet committed.
    pub(super) fn take_number(&mut self) -> u32 {
        let lanes = self.events.lanes();
        self.clients.take_number(|number| lanes.contains(number))
    }

    /// A client is there, at the listener in this place.
    pub(super) fn open(
        &mut self,
        socket: Socket,
        listener: &Rc<ListenerSettings>,
        place: usize,
        newcomer: Newcomer,
    ) -> Rc<Connection> {
        let number = self.take_number();
        let tenant = self.context.tenants.number(&listener.tenant).unwrap_or(0);
        let memory = self.clients.memory().clone();
        let Newcomer {
            arrival,
            request,
            accepted,
        } = newcomer;
        let arrival = Arc::new(arrival);
        let connection = Connection::new(number, tenant, listener.clone(), socket, arrival, memory);
        let connection = Rc::new(connection);
        if self.clients.end().is_some() {
            // No handler sees it, so no close is to be told.
            connection.tell_close();
            connection.close(1001, GOING_AWAY);
            return connection;
        }
        if listener.transport != Transport::WebSocket && listener.sign_in != SignInPolicy::Off {
            connection.set_stranger();
            self.clients.insert_stranger(&connection);
            return connection;
        }
        self.admit(&connection, place, request, accepted);
        connection
    }

    /// Somebody becomes a client, at the listener in this place.
    fn admit(
        &mut self,
        connection: &Rc<Connection>,
        place: usize,
        request: Option<Box<HttpRequest>>,
        accepted: Option<Accepted>,
    ) {
        let (number, tenant) = (connection.number, connection.tenant);
        let arrival = connection.arrival().clone();
        self.clients.insert(connection, place);
        self.metrics.connected();
        self.clock();
        self.tell_connected(number, tenant, &arrival.peer);
        if let Some(accepted) = accepted {
            self.make(number, tenant, accepted);
        }
        self.events
            .open(number, tenant, EventKind::Connect { arrival, request });
        self.pump(number);
        self.finish_turn();
    }

    /// The handler has said whether a stranger may become a client.
    pub(super) fn signed_in(
        &mut self,
        connection: &Rc<Connection>,
        place: usize,
        verdict: Result<Accepted, Rejected>,
    ) {
        if !self.clients.forget_stranger(connection.number) {
            // It is gone, or sent away.
            return;
        }
        match verdict {
            Ok(accepted) => {
                connection.sign_in();
                connection.set_paused(self.clients.is_quiet());
                self.admit(connection, place, None, Some(accepted));
            }
            Err(rejected) => {
                let body = rejected.body;
                let message = match std::str::from_utf8(&body) {
                    Ok(_) => Message::Text(body),
                    Err(_) => Message::Binary(body),
                };
                if !message.payload().is_empty() {
                    connection.farewell(&Outgoing::message(&message));
                }
                connection.close(1008, "");
            }
        }
    }

    /// Makes of a client what the handler has said at the handshake, before its connect.
    fn make(&mut self, number: u32, tenant: u16, accepted: Accepted) {
        let client = self.client_id(number);
        let session = (!accepted.session.is_empty()).then(|| Effect::Session {
            client,
            change: SessionChange::Replace(accepted.session),
        });
        let uid = accepted.uid.map(|uid| Effect::BindUid { client, uid });
        let groups = accepted.groups.into_iter();
        let groups = groups.map(|group| Effect::JoinGroup { client, group });
        let effects: Vec<Effect> = session.into_iter().chain(uid).chain(groups).collect();
        self.apply(tenant, &effects, None);
    }

    pub(super) fn message(&mut self, connection: &Rc<Connection>, message: Message) {
        if connection.is_stranger() {
            return connection.said(message);
        }
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
        self.clients.set_events(self.events.lanes().bytes());
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
        if self.clients.is_quiet() || !connection.is_paused() || connection.is_stranger() {
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
        let Some(connection) = self.clients.get(number) else {
            return;
        };
        if connection.is_paused()
            && !self.clients.is_quiet()
            && (connection.has_left()
                || self.events.lanes().lane_bytes(number)
                    <= self.context.settings.hold_bytes_max / 2)
        {
            connection.set_paused(false);
        }
        // It sends no more and has all its answers.
        if connection.input_ended() && self.events.lanes().is_settled(number) {
            connection.close(1000, "");
            self.clients.close_later(number, CloseReason::Client);
        }
    }

    /// Much waits for a client, or nothing any more.
    pub(super) fn buffer_event(&mut self, number: u32, event: EventKind) {
        if self.clients.get(number).is_none() {
            // Nothing comes behind its close.
            return;
        }
        self.events.lanes_mut().push(number, event);
        self.pump(number);
    }

    /// The handler knows that what waited for a client is written; meanwhile as much may wait again.
    pub(super) fn drain_was_told(&mut self, number: u32) {
        let Some(connection) = self.clients.get(number) else {
            return;
        };
        connection.drain_was_told();
        if let Some(event) = connection.buffer_event() {
            self.buffer_event(number, event);
        }
    }

    /// A client is gone: its id is offline, and its close waits behind its other events.
    pub(super) fn closed(&mut self, connection: &Connection, reason: CloseReason) {
        if connection.is_stranger() {
            // It never was a client, and is not to become one while it ends.
            self.clients.forget_stranger(connection.number);
        }
        if !connection.tell_close() {
            return;
        }
        let number = connection.number;
        self.tell_closed(number, connection.tenant, reason);
        self.clients.remove(connection);
        self.events.let_go(connection.tenant, number);
        let client = self.client_id(number);
        self.timers.end_client(connection.tenant, client);
        self.tasks.end_client(connection.tenant, client);
        self.metrics.closed(reason);
        let closed = Closed {
            reason,
            frame: connection.take_close_frame(),
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
        while let Some((connection, reason)) = self.clients.next_closing() {
            self.closed(&connection, reason);
        }
    }

    pub(super) fn ping(&mut self, listener: usize) {
        for number in self.clients.turn_wheel(listener) {
            let Some(connection) = self.clients.get(number).cloned() else {
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
