//! Where the deliveries of [`apply`](tidegate_hub::effects) go: the queues of this shard's clients.

use std::net::SocketAddrV4;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use tidegate_hub::custody_updates::Part;
use tidegate_hub::effects::{Changed, Deliver};
use tidegate_hub::hub::{Hub, Refused};
use tidegate_hub::lanes::{Lanes, WorkerKey};
use tidegate_hub::outbound::{Outgoing, Queued};
use tidegate_wire::effect::{Effect, SessionChange};
use tidegate_wire::event::CloseReason;

use super::feed::Watchers;
use crate::gateway::clients::connection::Connection;
use crate::gateway::shared::metrics::{Cut, Metrics};
use crate::gateway::workers::Workers;

/// The parts of a shard that effects reach, beside the hub.
pub(super) struct Deliveries<'a> {
    pub(super) connections: &'a FxHashMap<u32, Rc<Connection>>,
    pub(super) lanes: &'a mut Lanes,
    pub(super) dirty: &'a mut Vec<Rc<Connection>>,
    pub(super) closing: &'a mut Vec<(u32, CloseReason)>,
    pub(super) workers: &'a mut Workers,
    pub(super) metrics: &'a Metrics,
    pub(super) watchers: &'a Watchers,
    /// Whether any of them watches the tenant.
    pub(super) watched: bool,
    pub(super) tenant: u16,
    pub(super) gateway: SocketAddrV4,
    /// Whose event asked for the effects, and the worker that ran it: its mirror of that client
    /// has them already.
    pub(super) author: Option<(u32, WorkerKey)>,
}

impl Deliver for Deliveries<'_> {
    fn send(&mut self, connection: u32, message: &Outgoing<'_>) {
        let Some(connection) = self.connections.get(&connection) else {
            return;
        };
        match connection.send(message) {
            None => return self.metrics.refused_newline(),
            Some(Queued::Waits) => {}
            Some(Queued::DroppedNew) => return self.metrics.dropped_slow(1),
            Some(Queued::DroppedOld { messages }) => self.metrics.dropped_slow(messages),
            Some(Queued::Full) => {
                self.closing.push((connection.number, CloseReason::Slow));
                self.metrics.cut(connection.destroy(), Cut::Slow.name());
                return;
            }
        }
        self.metrics.message_out();
        if connection.mark_dirty() {
            self.dirty.push(connection.clone());
        }
    }

    fn close(&mut self, connection: u32, farewell: Option<&Outgoing<'_>>) {
        if let Some(connection) = self.connections.get(&connection) {
            match farewell.map(|farewell| connection.farewell(farewell)) {
                Some(Some(())) => self.metrics.message_out(),
                Some(None) => self.metrics.refused_newline(),
                None => {}
            }
            connection.close(1000, "");
            self.closing.push((connection.number, CloseReason::Server));
        }
    }

    fn destroy(&mut self, connection: u32) {
        if let Some(connection) = self.connections.get(&connection) {
            connection.destroy();
            self.closing.push((connection.number, CloseReason::Server));
        }
    }

    fn changed(&mut self, hub: &Hub, connection: u32, what: Changed<'_>) {
        let author = self
            .author
            .filter(|(own, _)| *own == connection)
            .map(|(_, worker)| worker);
        if author.is_none() && matches!(what, Changed::Session(_)) {
            self.lanes.session_changed(connection);
        }
        for worker in self.lanes.custodians(connection) {
            if Some(worker) != author {
                self.workers.mark(worker, connection, part(&what));
            }
        }
        // A client that is gone has been told as closed, though its record changes on.
        if self.watched && self.connections.contains_key(&connection) {
            self.watchers
                .changed(self.tenant, self.gateway, hub, connection, what);
        }
    }

    fn is_watched(&self) -> bool {
        self.watched
    }

    fn refused(&mut self, connection: u32, effect: &Effect, why: Refused) {
        self.metrics.refused();
        tracing::debug!(
            connection,
            ?why,
            effect = name(effect),
            "an effect was refused by a limit"
        );
        // The worker's mirror and custody records have what the hub refused.
        self.lanes.session_changed(connection);
        for worker in self.lanes.custodians(connection) {
            self.workers.mark(worker, connection, Part::All);
        }
    }
}

/// The part of a client's custody that a change concerns.
const fn part<'a>(what: &Changed<'a>) -> Part<'a> {
    match what {
        Changed::Joined(group) | Changed::Left(group) => Part::Group(group),
        Changed::Uid { .. } => Part::Uid,
        Changed::Session(change) => match change {
            SessionChange::Set { key, .. }
            | SessionChange::Merge { key, .. }
            | SessionChange::Remove { key } => Part::Key(key),
            SessionChange::Replace(_) | SessionChange::Clear => Part::Session,
        },
    }
}

const fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Send { .. } => "send",
        Effect::SendRaw { .. } => "send-raw",
        Effect::Close { .. } => "close",
        Effect::CloseUid { .. } => "close-uid",
        Effect::Destroy { .. } => "destroy",
        Effect::BindUid { .. } => "bind-uid",
        Effect::UnbindUid { .. } => "unbind-uid",
        Effect::JoinGroup { .. } => "join-group",
        Effect::LeaveGroup { .. } => "leave-group",
        Effect::Ungroup { .. } => "ungroup",
        Effect::Session { .. } => "session",
        Effect::Command { .. } => "command",
    }
}
