//! Events on their way to workers: which lane may send its next one, to whom, and what goes with it.

use tidegate_wire::event::{Delivery, EventKind, SessionSnapshot};
use tidegate_wire::frame::{Custody, Frame};
use tidegate_wire::id::EventId;

use super::State;
use crate::gateway::workers::{Next, Place, Served};

impl State {
    /// Sends what may be sent of a lane.
    pub(super) fn pump(&mut self, number: u32) {
        self.pump_from(number, false);
    }

    /// The same; a lane that has waited for its turn has it for one event.
    pub(super) fn pump_from(&mut self, number: u32, mut is_its_turn: bool) {
        let router = self.context.settings.router;
        while self.lanes.is_ready(number, router.binds()) {
            let Some(tenant) = self.lanes.tenant(number) else {
                return;
            };
            let bound = self.lanes.worker(number);
            let served = |worker| self.workers.served(worker, tenant);
            let mut stays = bound.filter(|_| router.binds()).and_then(served);
            if let Some(worker) = bound
                && stays.is_none()
            {
                if !self.lanes.is_idle(number) {
                    return;
                }
                self.lanes.unbind(number, worker);
            }
            if stays.is_none() && router.binds() {
                // Who serves a client is its custodian: what others do to it is told once.
                stays = self.lanes.custodian(number).and_then(served);
            }
            let next = Next {
                tenant,
                under_way: self.lanes.under_way(number),
                is_its_turn: std::mem::take(&mut is_its_turn),
            };
            match self.workers.place(&next, stays, router, &mut self.rng) {
                Place::Worker(served) => self.send_event(number, tenant, served),
                Place::Later(worker) => {
                    if self.lanes.set_queued(number, true) {
                        self.workers.wait(worker, tenant, number);
                        self.metrics.waits(tenant);
                    }
                    return;
                }
                Place::Nowhere => {
                    if self.lanes.set_queued(number, true) {
                        self.unrouted.push(tenant, number);
                    }
                    return;
                }
            }
        }
    }

    fn send_event(&mut self, number: u32, tenant: u16, served: Served) {
        let Served { worker: key, place } = served;
        let Some(hub) = self.hubs.get_mut(usize::from(tenant)) else {
            return;
        };
        if self.lanes.closes_next(number) {
            self.lanes
                .complete_close(number, |closed| match hub.remove(number) {
                    Some(client) => {
                        closed.uid = client.uid().cloned();
                        closed.groups = client.groups().to_vec();
                        client.snapshot()
                    }
                    None => SessionSnapshot::default(),
                });
        }
        let Some(worker) = self.workers.get(key) else {
            return;
        };
        let sender = worker.link.sender.clone();
        let Some(sending) = self.lanes.send(number, key) else {
            return;
        };
        let session = sending.with_session.then(|| {
            let last = self.lanes.last_session(number).cloned();
            Box::new(
                last.or_else(|| Some(hub.client(number)?.snapshot()))
                    .unwrap_or_default(),
            )
        });
        let client = self.client_id(number);
        match &sending.kind {
            _ if !sending.with_custody => {}
            // A first connect makes its worker the custodian by itself.
            EventKind::Connect { .. } if sending.attempt == 0 => {}
            EventKind::Connect { .. } | EventKind::Message(_) => self.tell_custody(number, key),
            EventKind::Request { .. } => {}
            EventKind::Close(closed) => {
                let custody = Custody {
                    tenant: place,
                    client,
                    uid: closed.uid.clone(),
                    groups: closed.groups.clone(),
                    session: self.lanes.last_session(number).cloned().unwrap_or_default(),
                };
                // As below.
                let _ = sender.send(Frame::Custody(vec![custody]));
            }
        }
        let event = EventId {
            gateway: self.context.incarnation(),
            shard: self.index,
            sequence: sending.sequence,
        };
        let delivery = Delivery {
            event,
            attempt: sending.attempt,
            losses: sending.losses,
            tenant: place,
            client,
            session,
            kind: sending.kind,
        };
        let counted = self.workers.sent(key, tenant, sending.bytes);
        self.lanes.counted(number, counted);
        // If the link has ended, its loss is on the way and takes the event back.
        let _ = sender.send(Frame::Deliver(Box::new(delivery)));
    }
}
