//! Where the deliveries of [`apply`](tidegate_hub::effects) go: the queues of this shard's clients.

use std::net::SocketAddrV4;

use tidegate_hub::custody_updates::Part;
use tidegate_hub::effects::{Changed, Deliver};
use tidegate_hub::hub::{Hub, Refused};
use tidegate_hub::lanes::{Lanes, WorkerKey};
use tidegate_hub::outbound::Outgoing;
use tidegate_hub::timers::Setting;
use tidegate_wire::effect::{Effect, SessionChange};
use tidegate_wire::event::CloseFrame;
use tidegate_wire::payload::Payload;
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::task::TaskId;
use tidegate_wire::timer::TimerId;

use super::clients::Outbound;
use super::feed::Watchers;
use super::tasks::Tasks;
use super::timers::Timers;
use crate::gateway::shared::Context;
use crate::gateway::shared::metrics::Metrics;
use crate::gateway::workers::Workers;

/// The parts of a shard that effects reach, beside the hub.
pub(super) struct Deliveries<'a> {
    pub(super) outbound: &'a mut Outbound,
    pub(super) lanes: &'a mut Lanes,
    pub(super) timers: &'a mut Timers,
    pub(super) tasks: &'a mut Tasks,
    pub(super) workers: &'a mut Workers,
    pub(super) metrics: &'a Metrics,
    pub(super) watchers: &'a Watchers,
    /// Whether any of them watches the tenant.
    pub(super) watched: bool,
    pub(super) tenant: u16,
    pub(super) gateway: SocketAddrV4,
    pub(super) context: &'a Context,
    /// Whose event asked for the effects, and the worker that ran it: its mirror of that client
    /// has them already.
    pub(super) author: Option<(u32, WorkerKey)>,
}

impl Deliver for Deliveries<'_> {
    fn send(&mut self, connection: u32, message: &Outgoing<'_>) {
        self.outbound.send(connection, message, self.metrics);
    }

    fn close(
        &mut self,
        connection: u32,
        farewell: Option<&Outgoing<'_>>,
        frame: Option<&CloseFrame>,
    ) {
        self.outbound
            .close(connection, farewell, frame, self.metrics);
    }

    fn destroy(&mut self, connection: u32) {
        self.outbound.destroy(connection);
    }

    fn set_timer(&mut self, timer: TimerId, delay_ms: u64, repeats: bool, payload: &Payload) {
        let setting = Setting {
            tenant: self.tenant,
            delay_ms,
            repeats,
            payload: own_memory(payload),
        };
        let now_us = self.lanes.now_us();
        self.timers.set(timer, setting, now_us, self.metrics);
    }

    fn cancel_timer(&mut self, timer: &TimerId) {
        self.timers.cancel(self.tenant, timer);
    }

    fn submit_task(&mut self, task: TaskId, payload: &Payload) {
        let payload = own_memory(payload);
        self.tasks.submit(self.tenant, task, payload, self.metrics);
    }

    fn cancel_task(&mut self, task: &TaskId) {
        self.tasks.cancel(self.tenant, task);
    }

    fn tell_peers(&mut self, message: &PeerMessage) {
        let dropped = self.workers.tell_peers(self.tenant, self.context, message);
        self.metrics.dropped_peer_messages(dropped);
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
        if self.watched && self.outbound.get(connection).is_some() {
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

/// What came over a link is a slice of all that was read there.
fn own_memory(payload: &Payload) -> Payload {
    Payload::from(payload.bytes().to_vec())
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
        Effect::SendLatest { .. } => "send-latest",
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
        Effect::SetTimer { .. } => "set-timer",
        Effect::CancelTimer { .. } => "cancel-timer",
        Effect::SubmitTask { .. } => "submit-task",
        Effect::CancelTask { .. } => "cancel-task",
        Effect::PeerMessage(_) => "peer-message",
    }
}
