//! Workers that come and go: lanes that may move, events that are sent again; and the custodian of
//! each client, who is named, and told what it would need to tell the close.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_wire::frame::{Custody, Frame};
use tidegate_wire::hello::Refusal;

use super::State;
use crate::gateway::pending::WorkerKey;
use crate::gateway::workers::WorkerLink;

impl State {
    /// A worker is there, or serves other tenants than before.
    pub(super) fn worker_up(&mut self, link: Arc<WorkerLink>) {
        if self.context.lost.is_cancelled() {
            // What it has in custody is for it to tell: nothing here may look as if it were not.
            return link.sender.refuse(Refusal::Lost);
        }
        let key = link.key;
        // A worker has one link to a gateway: what is under way on an earlier one, whose end is not
        // known here yet, never comes back.
        let others = self.workers.others_of(&link);
        if others.iter().any(|other| other.key > key) {
            return link.sender.close();
        }
        let shards = self.context.inboxes.len();
        self.workers
            .insert(link.clone(), &self.context.tenants, shards);
        for earlier in others {
            earlier.sender.close();
            self.entrust_again(earlier.key, key);
            self.worker_lost(earlier.key);
        }
        self.route_unrouted();
        self.entrust_all(key);
        for leaving in self.workers.draining() {
            self.hand_over_all(leaving);
        }
        self.recognise_all();
    }

    /// Looks at the workers that may not yet drop what an earlier link entrusted to them.
    pub(super) fn recognise_all(&mut self) {
        for link in self.workers.unrecognised() {
            self.recognise(&link);
        }
    }

    /// Lets a worker drop what an earlier link entrusted to it, once every shard is certain that
    /// somebody knows each of its clients. Until then the earlier link's word may be the last.
    fn recognise(&mut self, link: &WorkerLink) {
        let uncertain: Vec<u32> = self.lanes.uncertain(link.key).collect();
        if !uncertain.is_empty() {
            return self.ask_custodians(uncertain);
        }
        if self.workers.set_recognised(link.key)
            && link.unrecognised.fetch_sub(1, Ordering::AcqRel) == 1
        {
            // On a link that has ended nothing was entrusted.
            let _ = link.sender.send(Frame::Recognised);
        }
    }

    /// Lanes that had nowhere to go look again.
    pub(super) fn route_unrouted(&mut self) {
        let workers = &self.workers;
        for number in self.unrouted.take_served(|tenant| workers.serves(tenant)) {
            self.lanes.set_queued(number, false);
            self.pump(number);
        }
    }

    /// Clients whom an earlier link of a worker was entrusted with stay with it: others may be worse
    /// off, and this one is there.
    fn entrust_again(&mut self, earlier: WorkerKey, key: WorkerKey) {
        let all: Vec<u32> = self.lanes.connections().collect();
        for number in all {
            if self.lanes.custodian(number) == Some(earlier)
                && self.lanes.may_be_handed_over(number)
                && self.serves(key, number)
            {
                self.name_heir(number, key);
            }
        }
    }

    /// Whether a worker serves a client's tenant.
    fn serves(&self, key: WorkerKey, number: u32) -> bool {
        let tenant = self.lanes.tenant(number);
        let worker = self.workers.get(key);
        tenant.is_some_and(|tenant| worker.is_some_and(|worker| worker.place(tenant).is_some()))
    }

    /// Clients without a custodian get this worker.
    fn entrust_all(&mut self, key: WorkerKey) {
        let orphans: Vec<u32> = self
            .lanes
            .connections()
            .filter(|number| self.lanes.custodian(*number).is_none())
            .collect();
        for number in orphans {
            if self.serves(key, number)
                && self.lanes.is_known(number)
                && self.lanes.entrust(number, key)
            {
                self.tell_custody(number, key);
            }
        }
    }

    /// A worker is leaving: its idle lanes may move, and its clients get other custodians.
    pub(super) fn worker_draining(&mut self, key: WorkerKey) {
        self.workers.set_draining(key);
        self.hand_over_all(key);
        self.workers.tell_drained(key);
    }

    /// A worker is lost: its lanes' events are sent again, and its clients get new custodians.
    pub(super) fn worker_lost(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.remove(key) else {
            return;
        };
        for number in worker.window.into_waiting() {
            self.lanes.set_queued(number, false);
        }
        let all: Vec<u32> = self.lanes.connections().collect();
        for number in &all {
            self.lanes.take_back(*number, key, true);
        }
        for number in all {
            self.pump(number);
            self.name_custodian(number);
        }
        self.end_handovers(key);
    }

    fn name_custodian(&mut self, number: u32) {
        if self.lanes.custodian(number).is_some() || !self.lanes.is_known(number) {
            return;
        }
        if let Some(worker) = self.choose_custodian(number)
            && self.lanes.entrust(number, worker)
        {
            self.tell_custody(number, worker);
        }
    }

    /// Who could be a client's custodian: who serves it, or anybody who stays.
    pub(super) fn choose_custodian(&mut self, number: u32) -> Option<WorkerKey> {
        let tenant = self.lanes.tenant(number)?;
        let router = self.context.settings.router;
        let serving = self.lanes.worker(number).filter(|_| router.binds());
        let serving = serving.and_then(|it| self.workers.served(it, tenant));
        let choose = || self.workers.choose(tenant, router, &mut self.rng);
        serving.or_else(choose).map(|served| served.worker)
    }

    /// Tells a client's custodian what it would need to tell the close.
    pub(super) fn tell_custody(&mut self, number: u32, key: WorkerKey) {
        let Some(tenant) = self.lanes.tenant(number) else {
            return;
        };
        let Some(worker) = self.workers.get(key) else {
            return;
        };
        let Some(place) = worker.place(tenant) else {
            return;
        };
        let hub = self.hubs.get(usize::from(tenant));
        let Some(client) = hub.and_then(|hub| hub.client(number)) else {
            return;
        };
        let custody = Custody {
            tenant: place,
            client: self.client_id(number),
            uid: client.uid().cloned(),
            groups: client.groups().to_vec(),
            session: client.snapshot(),
        };
        // If the link has ended, another custodian is named when its loss arrives.
        let _ = worker.link.sender.send(Frame::Custody(vec![custody]));
        self.lanes.custody_told(number);
    }
}
