//! Events of tenants whose router is a component: it is asked off this thread, and the event waits at the
//! head of its lane until it has answered or is passed over.

use tidegate_hub::lanes::WorkerKey;
use tidegate_wire::event::{EventKind, Message, Peer};
use tidegate_wire::routing::{RouteCall, Routed};

use super::State;
use super::events::Choice;
use crate::gateway::shared::inbox::Parcel;
use crate::gateway::workers::Served;

/// What is larger is not told to routers.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// What is known of where an event goes.
pub(super) enum Whither {
    /// The router is asked.
    Unknown,
    /// There, or where `bind` sends it.
    Known(Option<Served>),
}

impl State {
    /// Where the next event of a lane goes; asks if that is not known.
    pub(super) fn whither(&mut self, number: u32, tenant: u16) -> Whither {
        match self.events.choice(number) {
            Some(Choice::Asked(_)) => return Whither::Unknown,
            Some(Choice::Made(worker)) => {
                let served = worker.and_then(|it| self.workers.served(it, tenant));
                return Whither::Known(served);
            }
            None => {}
        }
        match self.ask_router(number, tenant) {
            Some(()) => Whither::Unknown,
            None => Whither::Known(None),
        }
    }

    /// None if there is nothing to ask.
    fn ask_router(&mut self, number: u32, tenant: u16) -> Option<()> {
        let candidates = self.workers.candidates(tenant);
        if candidates.workers.len() < 2 {
            return None;
        }
        let kind = self.events.lanes().next_kind(number)?;
        let keys = self.context.routing(tenant).component.as_deref()?;
        let client = self.clients.hub(tenant)?.client(number);
        let session = client.and_then(|it| it.session());
        let told = session.map(|session| {
            let told =
                |key: &tidegate_wire::Name| Some((key.clone(), session.get(key)?.to_owned()));
            keys.iter().filter_map(told).collect()
        });
        let call = RouteCall {
            kind: kind.event_type(),
            client: kind.is_of_client().then(|| self.client_id(number)),
            peer: self.peer_of(number, kind),
            uid: client.and_then(|it| it.uid().cloned()),
            session: told.unwrap_or_default(),
            payload: payload(kind),
            candidates: candidates.told,
        };
        let name = self.tenant_name(tenant)?;
        let routed = self.services.routers.route(name, call);
        let asked = self.events.ask_router(number);
        let (context, shard) = (self.context.clone(), usize::from(self.index));
        let workers = candidates.workers;
        self.context.runtime.spawn(async move {
            let worker = chosen(&routed.await, &workers);
            if let Some(inbox) = context.inboxes.get(shard) {
                inbox.push(Parcel::Routed {
                    number,
                    asked,
                    worker,
                });
            }
        });
        Some(())
    }

    fn peer_of(&self, number: u32, kind: &EventKind) -> Option<Peer> {
        let arrival = match kind {
            EventKind::Handshake { arrival, .. } | EventKind::Http { arrival, .. } => Some(arrival),
            EventKind::Connect { .. }
            | EventKind::Message(_)
            | EventKind::Close(_)
            | EventKind::Request { .. }
            | EventKind::Timer { .. }
            | EventKind::BufferFull { .. }
            | EventKind::BufferDrain
            | EventKind::Task { .. }
            | EventKind::TaskFinished { .. } => self.events.lanes().arrival(number),
        };
        arrival.map(|arrival| arrival.peer.clone())
    }

    /// A router has answered, or was passed over.
    pub(super) fn routed(&mut self, number: u32, asked: u64, worker: Option<WorkerKey>) {
        if self.events.router_answers(number, asked, worker) {
            self.pump(number);
        }
    }
}

fn chosen(routed: &Routed, workers: &[WorkerKey]) -> Option<WorkerKey> {
    let (outcome, worker) = match routed {
        Ok(Some(index)) => ("chosen", workers.get(*index).copied()),
        Ok(None) => ("bind", None),
        Err(passed) => (passed.name(), None),
    };
    metrics::counter!("tidegate_gateway_routed_total", "outcome" => outcome).increment(1);
    worker
}

fn payload(kind: &EventKind) -> Option<Message> {
    let told = match kind {
        EventKind::Message(message) => message.clone(),
        EventKind::Request { payload, .. }
        | EventKind::Timer { payload, .. }
        | EventKind::Task { payload, .. } => Message::Binary(payload.clone()),
        EventKind::Http { call, .. } => Message::Binary(call.body.clone()),
        EventKind::Connect { .. }
        | EventKind::Close(_)
        | EventKind::BufferFull { .. }
        | EventKind::BufferDrain
        | EventKind::Handshake { .. }
        | EventKind::TaskFinished { .. } => return None,
    };
    (told.payload().len() <= PAYLOAD_BYTES_MAX).then_some(told)
}
