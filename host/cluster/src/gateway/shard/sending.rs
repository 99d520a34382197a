//! Events on their way to workers: which lane may send its next one, to whom, and what goes with it.

use tidegate_hub::lanes::Next;
use tidegate_hub::routing::Router;
use tidegate_wire::event::{ClientSnapshot, Delivery, EventKind};
use tidegate_wire::weight;

use super::State;
use super::routers::Whither;
use crate::gateway::workers::{Placement, Served};

impl State {
    /// Sends what may be sent of a lane.
    pub(super) fn pump(&mut self, number: u32) {
        self.pump_from(number, false);
    }

    /// The same; a lane that has waited for its turn has it for one event.
    pub(super) fn pump_from(&mut self, number: u32, mut is_its_turn: bool) {
        loop {
            let context = &self.context;
            let binds = |tenant| context.routing(tenant).binds();
            let Some(next) = self.events.lanes().next(number, binds) else {
                return;
            };
            let tenant = next.tenant;
            let routing = context.routing(tenant);
            let (router, is_asked) = (routing.router, routing.component.is_some());
            let chosen = match is_asked.then(|| self.whither(number, tenant)) {
                Some(Whither::Unknown) => return,
                Some(Whither::Known(chosen)) => chosen,
                None => None,
            };
            let served = |worker| self.workers.served(worker, tenant);
            let by_key = self.worker_by_key(number, tenant);
            let stays = || next.worker.filter(|_| router.binds()).and_then(served);
            let mut stays = chosen.or(by_key).or_else(stays);
            if let Some(worker) = next.worker
                && stays.is_none_or(|it| it.worker != worker)
            {
                if next.under_way > 0 {
                    return;
                }
                self.events.lanes_mut().unbind(number, worker);
            }
            if stays.is_none() && router.binds() {
                // A lane without a worker goes to its custodian, so that what others do to the client is
                // told once.
                stays = self.events.lanes().custodian(number).and_then(served);
            }
            let is_its_turn = std::mem::take(&mut is_its_turn);
            let rng = &mut self.rng;
            // One worker may have no room for it where another has.
            let router = if next.is_task { Router::Rand } else { router };
            let mut place = self.workers.place(&next, is_its_turn, stays, router, rng);
            if let Placement::Worker(served) = place
                && next.mirror != Some(served.worker)
                && self.workers.is_busy(
                    served.worker,
                    self.context.settings.link.queue_bytes_max / 2,
                )
            {
                // A session goes with it, for which there is no room on the link.
                place = Placement::Later(served.worker);
            }
            match place {
                Placement::Worker(served) => {
                    self.send_event(number, &next, served);
                    if by_key.is_some() {
                        self.custody_follows(number, served.worker);
                    }
                }
                Placement::Later(worker) => {
                    if self.events.lanes_mut().set_queued(number, true) {
                        self.workers.wait(worker, tenant, number);
                        self.metrics.waits(tenant);
                    }
                    return;
                }
                Placement::Nowhere => {
                    return self.events.wait_for_route(tenant, number);
                }
            }
        }
    }

    /// The worker that a client's events go to, if its tenant is routed by a key and the client has
    /// something under it.
    pub(super) fn worker_by_key(&self, number: u32, tenant: u16) -> Option<Served> {
        let key = self.context.routing(tenant).key.as_ref()?;
        let client = self.clients.hub(tenant)?.client(number)?;
        self.workers.choose_by_key(tenant, key.of(client)?)
    }

    fn send_event(&mut self, number: u32, next: &Next, served: Served) {
        let Served { worker: key, place } = served;
        let tenant = next.tenant;
        let Some(hub) = self.clients.hub_mut(tenant) else {
            return;
        };
        if next.is_close {
            self.events
                .lanes_mut()
                .complete_close(number, |closed| match hub.remove(number) {
                    Some(client) => {
                        closed.uid = client.uid().cloned();
                        closed.groups = client.groups().to_vec();
                        client.snapshot()
                    }
                    None => ClientSnapshot::default(),
                });
        }
        let Some(sending) = self.events.lanes_mut().send(number, key) else {
            return;
        };
        self.events.forget_choice(number);
        if let Some(waited_us) = sending.waited_us {
            self.metrics.waited(tenant, waited_us);
        }
        let session = sending.with_session.then(|| {
            let lanes = self.events.lanes();
            let last = lanes.last_session(number).cloned();
            let snapshot = last.or_else(|| Some(hub.client(number)?.snapshot()));
            let mut snapshot = snapshot.unwrap_or_default();
            if !matches!(sending.kind, EventKind::Connect { .. }) {
                snapshot.arrival = lanes.arrival(number).cloned();
            }
            Box::new(snapshot)
        });
        // What a handshake has made of a client, its first custodian must be told.
        let is_blank = matches!(sending.kind, EventKind::Connect { .. })
            && hub
                .client(number)
                .is_none_or(|it| it.uid().is_none() && it.groups().is_empty());
        let client = self.client_id(number);
        // A session that goes with an event counts as the event does, or a loss of many clients with
        // large ones would fill the link.
        let mut extra =
            weight::event(&sending.kind) + session.as_deref().map_or(0, weight::session);
        self.workers.release_first(key, client);
        match &sending.kind {
            kind if !kind.is_of_client() => {}
            _ if !sending.with_custody && next.under_way > 0 => {}
            _ if !sending.with_custody => extra += self.tell_with_event(number, key),
            // A first connect makes its worker the custodian by itself.
            EventKind::Connect { .. } if sending.attempt == 0 && is_blank => {
                self.workers.knows(key, number);
            }
            EventKind::Connect { .. }
            | EventKind::Message(_)
            | EventKind::Close(_)
            | EventKind::Request { .. }
            | EventKind::Timer { .. }
            | EventKind::BufferFull { .. }
            | EventKind::BufferDrain
            | EventKind::Handshake { .. }
            | EventKind::Http { .. }
            | EventKind::Task { .. }
            | EventKind::TaskFinished { .. } => {
                extra += self.entrust_with_event(number, key, place);
            }
        }
        let event = self.event_id(sending.sequence);
        let delivery = Delivery {
            event,
            attempt: sending.attempt,
            losses: sending.losses,
            tenant: place,
            client,
            session,
            kind: sending.kind,
        };
        let bytes = sending.bytes + extra;
        let counted = self.workers.deliver(key, tenant, bytes, delivery);
        self.events.lanes_mut().counted(number, counted);
    }
}
