//! The workers that a shard knows: their links, tenants, windows and loads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use tidegate_wire::frame::{Announcement, Frame, Load};
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;

use super::pending::WorkerKey;
use super::router::{Candidate, Router, choose};
use super::tenants::Tenants;
use super::window::Window;
use crate::link::LinkSender;

/// A worker's link, shared by the shards.
#[derive(Debug)]
pub(super) struct WorkerLink {
    pub(super) key: WorkerKey,
    pub(super) worker: Incarnation,
    pub(super) sender: LinkSender,
    pub(super) announcement: Announcement,
    /// Shards that have not yet counted themselves off in a drain.
    pub(super) undrained: Arc<AtomicUsize>,
    /// Shards that may have clients whom only an earlier link of this worker was entrusted with.
    pub(super) unrecognised: Arc<AtomicUsize>,
}

/// One shard's share of a worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) link: Arc<WorkerLink>,
    load: Load,
    /// Clients that this shard gave it since its last report.
    given: u64,
    pub(super) window: Window,
    draining: bool,
    drained: bool,
    /// Handovers of custody under way, from it or to it.
    handovers: usize,
    /// This shard has nobody whom only an earlier link of this worker was entrusted with.
    recognised: bool,
    /// The place in the worker's announcement of each tenant of this gateway that it serves.
    places: Vec<Option<u16>>,
}

impl Worker {
    /// A tenant, unless the worker is leaving or does not serve it.
    fn served(&self, tenant: u16) -> Option<Served> {
        let worker = self.link.key;
        let place = self.place(tenant).filter(|_| !self.draining)?;
        Some(Served { worker, place })
    }

    /// The place of a tenant in the worker's announcement.
    pub(super) fn place(&self, tenant: u16) -> Option<u16> {
        self.places.get(usize::from(tenant)).copied().flatten()
    }
}

/// All workers of one shard.
#[derive(Debug, Default)]
pub(super) struct Workers {
    workers: BTreeMap<WorkerKey, Worker>,
}

/// A tenant that a worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) worker: WorkerKey,
    /// The tenant's place in the worker's announcement.
    pub(super) place: u16,
}

/// A lane's next event, as far as its place is concerned.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) tenant: u16,
    /// Events of the lane that are under way.
    pub(super) under_way: usize,
    /// The lane has waited, and it is its turn.
    pub(super) is_its_turn: bool,
}

/// Where a lane's next event can go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To this worker, now.
    Worker(Served),
    /// To this worker, when its window has room for the tenant.
    Later(WorkerKey),
    /// Nobody serves the tenant.
    Nowhere,
}

impl Workers {
    /// Takes a new worker or a new announcement of a known one. The tenants that it serves share its
    /// window.
    pub(super) fn insert(&mut self, link: Arc<WorkerLink>, tenants: &Tenants, shards: usize) {
        let places = tenants.places_in(&link.announcement.serving);
        let tenants = places.iter().flatten().count();
        let events_max = (link.announcement.window_events as usize / shards).max(1);
        let window_bytes = usize::try_from(link.announcement.window_bytes).unwrap_or(usize::MAX);
        let bytes_max = (window_bytes / shards).max(1);
        match self.workers.get_mut(&link.key) {
            Some(worker) => {
                worker.link = link;
                worker.places = places;
                worker.window.resize(events_max, bytes_max, tenants);
            }
            None => {
                let key = link.key;
                let worker = Worker {
                    link,
                    load: Load::default(),
                    given: 0,
                    window: Window::new(events_max, bytes_max, tenants),
                    draining: false,
                    drained: false,
                    handovers: 0,
                    recognised: false,
                    places,
                };
                self.workers.insert(key, worker);
            }
        }
    }

    /// Other links of the same worker: it has given up all but the latest.
    pub(super) fn others_of(&self, link: &WorkerLink) -> Vec<Arc<WorkerLink>> {
        let other = |it: &&Worker| it.link.worker == link.worker && it.link.key != link.key;
        let workers = self.workers.values();
        workers.filter(other).map(|it| it.link.clone()).collect()
    }

    /// Those that still keep what an earlier link entrusted to them.
    pub(super) fn unrecognised(&self) -> Vec<Arc<WorkerLink>> {
        let workers = self.workers.values().filter(|it| !it.recognised);
        workers.map(|it| it.link.clone()).collect()
    }

    /// This shard has nobody any more whom only an earlier link was entrusted with. True the first time.
    pub(super) fn set_recognised(&mut self, key: WorkerKey) -> bool {
        let worker = self.workers.get_mut(&key);
        worker.is_some_and(|worker| !std::mem::replace(&mut worker.recognised, true))
    }

    /// Those that are leaving.
    pub(super) fn draining(&self) -> Vec<WorkerKey> {
        let workers = self.workers.values().filter(|it| it.draining);
        workers.map(|it| it.link.key).collect()
    }

    pub(super) fn is_draining(&self, key: WorkerKey) -> bool {
        self.workers.get(&key).is_some_and(|worker| worker.draining)
    }

    /// A handover from or to this worker has begun.
    pub(super) fn handover_begins(&mut self, key: WorkerKey) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.handovers += 1;
        }
    }

    /// It has ended. Call [`Self::tell_drained`] when no other begins.
    pub(super) fn handover_ends(&mut self, key: WorkerKey) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.handovers = worker.handovers.saturating_sub(1);
        }
    }

    pub(super) fn remove(&mut self, key: WorkerKey) -> Option<Worker> {
        self.workers.remove(&key)
    }

    /// Ends all links.
    pub(super) fn refuse(&self, reason: &Refusal) {
        for worker in self.workers.values() {
            worker.link.sender.refuse(reason.clone());
        }
    }

    pub(super) fn get(&self, key: WorkerKey) -> Option<&Worker> {
        self.workers.get(&key)
    }

    pub(super) fn set_load(&mut self, key: WorkerKey, load: Load) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.load = load;
            worker.given = 0;
        }
    }

    pub(super) fn set_draining(&mut self, key: WorkerKey) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.draining = true;
        }
    }

    /// The tenant at this worker; none if its lanes must leave that when they are idle.
    pub(super) fn served(&self, key: WorkerKey, tenant: u16) -> Option<Served> {
        self.workers.get(&key)?.served(tenant)
    }

    /// Whether somebody serves this tenant.
    pub(super) fn serves(&self, tenant: u16) -> bool {
        let mut workers = self.workers.values();
        workers.any(|worker| worker.served(tenant).is_some())
    }

    /// Where the next event of a lane goes that stays where it is, or else may choose.
    pub(super) fn place(
        &mut self,
        next: &Next,
        stays: Option<Served>,
        router: Router,
        rng: &mut StdRng,
    ) -> Place {
        let Some(served) = stays.or_else(|| self.choose(next.tenant, router, rng)) else {
            return Place::Nowhere;
        };
        let admits = |window: &Window| window.admits(next.tenant, next.under_way, next.is_its_turn);
        match self.workers.get(&served.worker) {
            Some(worker) if admits(&worker.window) => Place::Worker(served),
            Some(_) => Place::Later(served.worker),
            None => Place::Nowhere,
        }
    }

    /// Chooses a worker for a new client.
    pub(super) fn choose(
        &mut self,
        tenant: u16,
        router: Router,
        rng: &mut StdRng,
    ) -> Option<Served> {
        let able = self.workers.values();
        let able = able.filter_map(|worker| Some((worker.served(tenant)?, candidate(worker))));
        let (able, candidates): (Vec<Served>, Vec<Candidate>) = able.unzip();
        let served = *able.get(choose(router, &candidates, rng)?)?;
        if let Some(worker) = self.workers.get_mut(&served.worker) {
            worker.given += 1;
        }
        Some(served)
    }

    /// Counts an event that was sent; gives how many bytes it counts.
    pub(super) fn sent(&mut self, key: WorkerKey, tenant: u16, bytes: usize) -> usize {
        let worker = self.workers.get_mut(&key);
        worker.map_or(0, |worker| worker.window.sent(tenant, bytes))
    }

    /// Counts events that came back, and tells a worker that is leaving when they were the last.
    pub(super) fn returned(&mut self, key: WorkerKey, tenant: u16, events: usize, counted: usize) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.window.returned(tenant, events, counted);
        }
        self.tell_drained(key);
    }

    /// Tells a worker that is leaving, once every shard has nothing under way there and other
    /// custodians for its clients.
    pub(super) fn tell_drained(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        if worker.draining && !worker.drained && worker.window.is_idle() && worker.handovers == 0 {
            worker.drained = true;
            if worker.link.undrained.fetch_sub(1, Ordering::AcqRel) == 1 {
                // A link that has ended needs no answer.
                let _ = worker.link.sender.send(Frame::Drained);
            }
        }
    }

    /// How many lanes wait for room.
    pub(super) fn waiting(&self) -> usize {
        let workers = self.workers.values();
        workers.map(|worker| worker.window.waiting()).sum()
    }

    /// Lets only these lanes wait on for their workers.
    pub(super) fn retain_waiting(&mut self, keep: impl Fn(u32) -> bool) {
        for worker in self.workers.values_mut() {
            worker.window.retain_waiting(&keep);
        }
    }

    /// A lane waits for room at this worker.
    pub(super) fn wait(&mut self, key: WorkerKey, tenant: u16, lane: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            let now = tokio::time::Instant::now().into_std();
            worker.window.wait(tenant, lane, now);
        }
    }

    /// The next lane that may send one event to this worker, after one of the tenant came back.
    pub(super) fn next_waiting(&mut self, key: WorkerKey, tenant: u16) -> Option<u32> {
        self.workers.get_mut(&key)?.window.next(tenant)
    }

    /// Tenants that have waited so long for a worker: how many of their lanes wait, and for which.
    pub(super) fn long_waiting(
        &mut self,
        now: Instant,
        long: Duration,
    ) -> impl Iterator<Item = (u16, usize, Incarnation)> {
        self.workers.values_mut().flat_map(move |worker| {
            let incarnation = worker.link.worker;
            let waiting = worker.window.long_waiting(now, long);
            waiting.map(move |(tenant, lanes)| (tenant, lanes, incarnation))
        })
    }
}

const fn candidate(worker: &Worker) -> Candidate {
    Candidate {
        clients: worker.load.clients as u64 + worker.given,
        queued_bytes: worker.load.queued_bytes,
    }
}
