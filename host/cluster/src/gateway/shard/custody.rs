//! Workers that come and go: lanes that may move, events that are sent again; and the custodians of
//! each client, who are named where they are missing or leave. Each client is looked at by itself,
//! so many a turn, so that live events never wait for all clients.
//!
//! A custodian that leaves in peace keeps its place until the next one has said that it knows the
//! client, and is told what others change meanwhile; a worker that leaves is let go when no handover
//! of its clients is open. What custodians are told is in [`tell`].

mod pending;
mod tell;

use std::sync::Arc;

use tidegate_hub::custody_updates::Part;
use tidegate_hub::lanes::{Which, WorkerKey};
use tidegate_wire::hello::Refusal;

use super::State;
use crate::gateway::shared::worker_link::WorkerLink;
pub(super) use pending::Custody;

/// Clients whose custodians are looked at in one turn.
const REVIEWS_PER_TURN: usize = 256;

impl State {
    /// A worker is there, or serves other tenants than before.
    pub(super) fn worker_up(&mut self, link: Arc<WorkerLink>) {
        if self.context.lost.is_cancelled() {
            // This gateway was declared lost: the worker tells the closes of its clients, and must not
            // take the gateway for one that is back.
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
        let lanes = self.events.lanes_mut();
        let queue = self.context.settings.link.queue_bytes_max;
        self.workers
            .insert(link, shards, || lanes.next_epoch(), queue);
        for earlier in others {
            earlier.sender.close();
            self.worker_lost(earlier.key, Some(key));
        }
        self.route_unrouted();
        self.review_all();
    }

    /// Lanes that had nowhere to go look again.
    pub(super) fn route_unrouted(&mut self) {
        let settles = self.peers.has_several_workers();
        let workers = &self.workers;
        let routable = self
            .events
            .take_routable(settles, |tenant| workers.serves(tenant));
        for number in routable {
            self.events.lanes_mut().set_queued(number, false);
            self.pump(number);
        }
    }

    /// Whether a worker serves a client's tenant.
    fn serves(&self, key: WorkerKey, number: u32) -> bool {
        let tenant = self.events.lanes().tenant(number);
        tenant.is_some_and(|tenant| self.workers.announces(key, tenant))
    }

    /// A worker is leaving: its idle lanes may move, and its clients get other custodians.
    pub(super) fn worker_draining(&mut self, key: WorkerKey) {
        self.workers.set_draining(key);
        self.review_all();
    }

    /// A worker's link is lost: its lanes' events are sent again, and its clients get other
    /// custodians. If the same worker has a later link, it keeps its clients: who else would take them
    /// may have left just as well.
    pub(super) fn worker_lost(&mut self, key: WorkerKey, later: Option<WorkerKey>) {
        let Some(waiting) = self.workers.remove(key) else {
            return;
        };
        for number in &waiting {
            self.events.lanes_mut().set_queued(*number, false);
        }
        let concerned = self.events.lanes().of_worker(key);
        for number in &concerned {
            self.events.lanes_mut().take_back(*number, key, true);
        }
        for number in concerned {
            if self.events.lanes().custodian(number).is_none() {
                let later = later.filter(|later| self.serves(*later, number));
                if let Some(later) = later.filter(|_| self.events.lanes().is_known(number)) {
                    self.appoint(number, Which::First, later);
                } else if let Some(second) = self.events.lanes_mut().succeed(number) {
                    self.workers.mark(second, number, Part::Rank);
                }
            }
            self.pump(number);
            self.custody.review_later(number);
        }
        // Each of them has its first custodian again, and need not get one with an event.
        for number in waiting {
            self.pump(number);
        }
    }

    /// All clients are looked at, at the next turns.
    fn review_all(&mut self) {
        self.custody.review_all(self.events.lanes().connections());
    }

    /// Looks at some of the clients whose custodians may be missing.
    pub(super) fn review_some(&mut self) {
        for _ in 0..REVIEWS_PER_TURN {
            let Some(number) = self.custody.next_review() else {
                return;
            };
            self.review(number);
        }
    }

    /// Sees to it that a client has its custodians, and that those who leave are replaced.
    pub(super) fn review(&mut self, number: u32) {
        if !self.events.lanes().is_known(number) {
            return;
        }
        let (first, next) = self.events.lanes().seated(number, Which::First);
        let leaves =
            first.is_some_and(|it| self.workers.is_draining(it) || self.has_moved_from(it, number));
        if first.is_none() {
            if let Some(worker) = self.choose_custodian(number) {
                self.appoint(number, Which::First, worker);
            }
        } else if leaves
            && next.is_none()
            && self.events.lanes().may_be_handed_over(number)
            && let Some(worker) = self.choose_custodian(number)
        {
            if self.events.lanes().seated(number, Which::Second).0 == Some(worker) {
                self.hand_to_second(number, worker);
            } else {
                self.appoint(number, Which::First, worker);
            }
        }
        self.review_second(number);
    }

    /// An event of a lane that goes by a key was sent to this worker. If the lane has moved there, its
    /// custody follows, so that what the worker commits need not be told to another one.
    pub(super) fn custody_follows(&mut self, number: u32, worker: WorkerKey) {
        let first = self.events.lanes().custodian(number);
        if first.is_some_and(|first| first != worker) {
            self.review(number);
        }
    }

    /// Whether a lane goes by a key and is at another worker that serves it.
    fn has_moved_from(&self, worker: WorkerKey, number: u32) -> bool {
        let lanes = self.events.lanes();
        let (Some(tenant), Some(now)) = (lanes.tenant(number), lanes.worker(number)) else {
            return false;
        };
        now != worker
            && self.context.routing(tenant).key.is_some()
            && self.workers.served(now, tenant).is_some()
    }

    /// The first custodian leaves, and the second one is to be the first.
    fn hand_to_second(&mut self, number: u32, second: WorkerKey) {
        let known = self.events.lanes_mut().promote(number);
        self.workers.mark(second, number, Part::Rank);
        if known && let Some(replaced) = self.events.lanes_mut().confirm(number, second) {
            self.dismissed(number, replaced);
        }
    }

    /// The same for the second custodian, which is on another machine than the first one, if any is.
    fn review_second(&mut self, number: u32) {
        let (now, next) = self.events.lanes().seated(number, Which::First);
        let (Some(first), Some(tenant)) = (next.or(now), self.events.lanes().tenant(number)) else {
            return;
        };
        let (second, next) = self.events.lanes().seated(number, Which::Second);
        let needed =
            self.context.settings.second_custodian && self.workers.needs_second(tenant, first);
        if !needed {
            if second.or(next).is_none() {
                return;
            }
            for dismissed in self.events.lanes_mut().dismiss_second(number) {
                self.dismissed(number, dismissed);
            }
            return;
        }
        let right = next.or(second);
        if right.is_some_and(|it| self.workers.is_apart(first, it)) {
            return;
        }
        let router = self.context.routing(tenant).router;
        let rng = &mut self.rng;
        if let Some(worker) = self.workers.choose_second(tenant, first, router, rng)
            && Some(worker) != second
        {
            if let Some(replaced) = self.events.lanes_mut().drop_next(number, Which::Second) {
                self.dismissed(number, replaced);
            }
            self.appoint(number, Which::Second, worker);
        }
    }

    /// A worker is not a client's custodian in one place any more. It may be in the other one, say
    /// because it took over as the second one with an event: then it must not forget the client.
    fn dismissed(&mut self, number: u32, worker: WorkerKey) {
        if self
            .events
            .lanes()
            .custodians(number)
            .any(|it| it == worker)
        {
            self.workers.mark(worker, number, Part::Rank);
        } else {
            self.workers.release(worker, number);
        }
    }

    /// Appoints a custodian, or the worker that takes its place once it knows the client.
    fn appoint(&mut self, number: u32, which: Which, worker: WorkerKey) {
        self.events.lanes_mut().name(number, which, worker);
        self.workers.mark(worker, number, Part::All);
        self.workers.mark(worker, number, Part::Rank);
    }

    /// Chooses a custodian: under `bind` the worker that has the lane, else the one that its key says,
    /// else any that serves the tenant and does not drain.
    fn choose_custodian(&mut self, number: u32) -> Option<WorkerKey> {
        let tenant = self.events.lanes().tenant(number)?;
        let routing = self.context.routing(tenant);
        let (router, binds) = (routing.router, routing.binds());
        let serving = self.events.lanes().worker(number).filter(|_| binds);
        let serving = serving.and_then(|it| self.workers.served(it, tenant));
        let serving = serving.or_else(|| self.worker_by_key(number, tenant));
        let choose = || self.workers.choose(tenant, router, &mut self.rng);
        serving.or_else(choose).map(|served| served.worker)
    }

    /// A worker has taken all that it was told up to this batch.
    pub(super) fn confirmed(&mut self, key: WorkerKey, batch: u64) {
        for number in self.workers.confirmed(key, batch) {
            if let Some(replaced) = self.events.lanes_mut().confirm(number, key) {
                self.dismissed(number, replaced);
                // The second stands behind another one, or this one may be leaving by now itself.
                if let (Some(second), _) = self.events.lanes().seated(number, Which::Second) {
                    self.workers.mark(second, number, Part::Rank);
                }
                self.review(number);
            }
        }
    }

    /// Lets workers go, and drop what an earlier link entrusted to them, once it is certain that
    /// somebody else, or they over this link, know each client.
    pub(super) fn settle_workers(&mut self) {
        if self.custody.reviews() > 0 {
            return;
        }
        for leaving in self.workers.leaving() {
            let handed_over = self.events.lanes().handovers(leaving) == 0;
            self.workers.tell_drained(leaving, handed_over);
        }
        let lanes = self.events.lanes();
        self.workers.recognise(|epoch| lanes.are_certain(epoch));
    }
}
