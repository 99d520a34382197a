//! The workers that a shard knows: their links, tenants, windows and loads.

pub(in crate::gateway) mod host;
pub(in crate::gateway) mod wakes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use tidegate_wire::Name;
use tidegate_wire::frame::{GatewayFrame, Load};
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::{CloseId, Incarnation};

use tidegate_hub::custody_updates::{CustodyUpdates, Part};
use tidegate_hub::lanes::{Next, WorkerKey};
use tidegate_hub::routing::{Candidate, Router, choose};
use tidegate_hub::tenants::Tenants;
use tidegate_hub::window::Window;

use super::shared::worker_link::WorkerLink;

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
    /// This shard has nobody whom only an earlier link of this worker was entrusted with.
    recognised: bool,
    /// The place in the worker's announcement of each tenant of this gateway that it serves.
    places: Vec<Option<u16>>,
    /// Lanes older than this it may know from an earlier link.
    epoch: u32,
    /// What it must be told of clients in custody.
    pub(super) telling: CustodyUpdates,
}

impl Worker {
    /// A tenant, unless the worker is leaving or does not serve it.
    fn served(&self, tenant: u16) -> Option<Served> {
        let worker = self.link.key;
        let place = self.place(tenant).filter(|_| !self.draining)?;
        Some(Served { worker, place })
    }

    /// The place that a tenant has, or had, in the worker's announcement.
    pub(super) fn place_of(&self, tenant: &Name) -> Option<u16> {
        let serving = &self.link.announcement.serving;
        let place = serving.iter().position(|it| it.tenant == *tenant)?;
        u16::try_from(place).ok()
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
    /// Those that are leaving and were not let go yet.
    leaving: BTreeSet<WorkerKey>,
    /// Those that may have something to be told.
    untold: BTreeSet<WorkerKey>,
}

/// A tenant that a worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) worker: WorkerKey,
    /// The tenant's place in the worker's announcement.
    pub(super) place: u16,
}

/// Where a lane's next event can go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// To this worker, now.
    Worker(Served),
    /// To this worker, when its window has room for the tenant.
    Later(WorkerKey),
    /// Nobody serves the tenant.
    Nowhere,
}

impl Workers {
    /// Takes a new worker or a new announcement of a known one. The tenants that it serves share its
    /// window. A new one may know lanes older than `epoch` from an earlier link.
    pub(super) fn insert(
        &mut self,
        link: Arc<WorkerLink>,
        tenants: &Tenants,
        shards: usize,
        epoch: impl FnOnce() -> u32,
        queue_bytes_max: usize,
    ) {
        let places = tenants.places_in(&link.announcement.serving);
        let tenants = places.iter().flatten().count();
        let events_max = (link.announcement.window_events as usize / shards).max(1);
        let window_bytes = usize::try_from(link.announcement.window_bytes).unwrap_or(usize::MAX);
        // Events and bulk together leave room in the link's queue for answers.
        let bytes_max = (window_bytes.min(queue_bytes_max / 2) / shards).max(1);
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
                    recognised: false,
                    places,
                    epoch: epoch(),
                    telling: CustodyUpdates::new(shards, queue_bytes_max),
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

    /// Recognises those that still keep what an earlier link entrusted to them, if of the lanes older
    /// than their epoch everybody is certain.
    pub(super) fn recognise(&mut self, are_certain: impl Fn(u32) -> bool) {
        for worker in self.workers.values_mut() {
            if worker.recognised || !are_certain(worker.epoch) {
                continue;
            }
            worker.recognised = true;
            if worker.link.unrecognised.fetch_sub(1, Ordering::AcqRel) == 1 {
                // On a link that has ended nothing was entrusted.
                let _ = worker.link.sender.send(GatewayFrame::Recognised);
            }
        }
    }

    /// Those that are leaving and were not let go yet.
    pub(super) fn leaving(&self) -> Vec<WorkerKey> {
        self.leaving.iter().copied().collect()
    }

    pub(super) fn is_draining(&self, key: WorkerKey) -> bool {
        self.workers.get(&key).is_some_and(|worker| worker.draining)
    }

    /// What this worker is to be told of a client, if it is there.
    pub(super) fn mark(&mut self, key: WorkerKey, connection: u32, part: Part<'_>) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.telling.mark(connection, part);
            self.untold.insert(key);
        }
    }

    /// The events of a client that something to be told waited for are committed.
    pub(super) fn resume(&mut self, key: WorkerKey, connection: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.telling.resume(connection);
            self.untold.insert(key);
        }
    }

    /// A worker that is there is to forget a client.
    pub(super) fn release(&mut self, key: WorkerKey, connection: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.telling.release(connection);
            self.untold.insert(key);
        }
    }

    /// A worker learns all of a client by itself.
    pub(super) fn knows(&mut self, key: WorkerKey, connection: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.telling.told_apart(connection);
        }
    }

    /// A client is gone that a worker has forgotten by itself.
    pub(super) fn forget(&mut self, key: WorkerKey, connection: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.telling.forget(connection);
        }
    }

    /// Those that may have something to be told; each must be looked at.
    pub(super) fn take_untold(&mut self) -> BTreeSet<WorkerKey> {
        std::mem::take(&mut self.untold)
    }

    /// One of them has more to be told, or may have.
    pub(super) fn has_untold(&mut self, key: WorkerKey) {
        self.untold.insert(key);
    }

    pub(super) fn remove(&mut self, key: WorkerKey) -> Option<Worker> {
        self.leaving.remove(&key);
        self.untold.remove(&key);
        self.workers.remove(&key)
    }

    /// Ends all links.
    pub(super) fn refuse(&self, reason: &Refusal) {
        for worker in self.workers.values() {
            worker.link.sender.refuse(reason.clone());
        }
    }

    pub(super) fn get_mut(&mut self, key: WorkerKey) -> Option<&mut Worker> {
        self.workers.get_mut(&key)
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
            if !worker.drained {
                self.leaving.insert(key);
            }
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

    /// Where the next event of a lane goes that stays where it is, or else may choose. `is_its_turn` if
    /// the lane has waited.
    pub(super) fn place(
        &mut self,
        next: &Next,
        is_its_turn: bool,
        stays: Option<Served>,
        router: Router,
        rng: &mut StdRng,
    ) -> Placement {
        let Some(served) = stays.or_else(|| self.choose(next.tenant, router, rng)) else {
            return Placement::Nowhere;
        };
        let admits = |window: &Window| window.admits(next.tenant, next.under_way, is_its_turn);
        match self.workers.get(&served.worker) {
            Some(worker) if admits(&worker.window) => Placement::Worker(served),
            Some(_) => Placement::Later(served.worker),
            None => Placement::Nowhere,
        }
    }

    /// Chooses a worker for an event or as a custodian.
    pub(super) fn choose(
        &mut self,
        tenant: u16,
        router: Router,
        rng: &mut StdRng,
    ) -> Option<Served> {
        self.choose_of(tenant, router, rng, |_| true)
    }

    /// Chooses among those on machines that `fits`.
    fn choose_of(
        &mut self,
        tenant: u16,
        router: Router,
        rng: &mut StdRng,
        fits: impl Fn(&Name) -> bool,
    ) -> Option<Served> {
        let able = self.workers.values().filter(|it| fits(&it.link.host));
        let able = able.filter_map(|worker| Some((worker.served(tenant)?, candidate(worker))));
        let (able, candidates): (Vec<Served>, Vec<Candidate>) = able.unzip();
        let served = *able.get(choose(router, &candidates, rng)?)?;
        if let Some(worker) = self.workers.get_mut(&served.worker) {
            worker.given += 1;
        }
        Some(served)
    }

    /// Whether the second custodian of a client is right where it is, given the first one and the
    /// machine of this gateway.
    pub(super) fn is_apart(&self, first: WorkerKey, second: WorkerKey) -> bool {
        match (self.workers.get(&first), self.workers.get(&second)) {
            (Some(first), Some(second)) => !second.draining && second.link.host != first.link.host,
            _ => false,
        }
    }

    /// Whether a client of this tenant needs a second custodian: its first one shares the machine of
    /// this gateway, or there are three machines or more.
    pub(super) fn needs_second(&self, tenant: u16, first: WorkerKey, own: &Name) -> bool {
        let Some(first) = self.workers.get(&first) else {
            return false;
        };
        let first = &first.link.host;
        let serving = self.workers.values();
        let serving = serving.filter(|it| it.served(tenant).is_some());
        let mut others = serving.map(|it| &it.link.host).filter(|it| *it != first);
        if first == own {
            others.next().is_some()
        } else {
            others.any(|it| it != own)
        }
    }

    /// Chooses a second custodian: not on the machine of the first one, and on another one than this
    /// gateway if there is one.
    pub(super) fn choose_second(
        &mut self,
        tenant: u16,
        first: WorkerKey,
        own: &Name,
        router: Router,
        rng: &mut StdRng,
    ) -> Option<WorkerKey> {
        let first = self.workers.get(&first)?.link.host.clone();
        let best = self.choose_of(tenant, router, rng, |host| *host != first && host != own);
        let best = match best {
            Some(best) => Some(best),
            None => self.choose_of(tenant, router, rng, |host| *host != first),
        };
        best.map(|served| served.worker)
    }

    /// Tells all workers of closes that were told.
    pub(super) fn tell_told(&self, closes: &[CloseId]) {
        for worker in self.workers.values() {
            // A link that has ended has nothing to forget.
            let _ = worker.link.sender.send(GatewayFrame::Told(closes.to_vec()));
        }
    }

    /// Counts an event that was sent; gives how many bytes it counts.
    pub(super) fn sent(&mut self, key: WorkerKey, tenant: u16, bytes: usize) -> usize {
        let worker = self.workers.get_mut(&key);
        worker.map_or(0, |worker| worker.window.sent(tenant, bytes))
    }

    /// Counts events that came back.
    pub(super) fn returned(&mut self, key: WorkerKey, tenant: u16, events: usize, counted: usize) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.window.returned(tenant, events, counted);
        }
    }

    /// Lets a worker that is leaving go, once every shard has nothing under way there, has nothing
    /// more to tell it, and has other custodians for its clients, who are `handed_over`.
    pub(super) fn tell_drained(&mut self, key: WorkerKey, handed_over: bool) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        if !worker.window.is_idle() || worker.telling.releases() || !handed_over {
            return;
        }
        self.leaving.remove(&key);
        worker.drained = true;
        if worker.link.undrained.fetch_sub(1, Ordering::AcqRel) == 1 {
            // A link that has ended needs no answer.
            let _ = worker.link.sender.send(GatewayFrame::Drained);
        }
    }

    /// Whether more than this waits on a worker's link.
    pub(super) fn is_busy(&self, key: WorkerKey, bytes: usize) -> bool {
        let worker = self.workers.get(&key);
        worker.is_some_and(|worker| worker.link.sender.queued_bytes() > bytes)
    }

    /// Workers for whose windows or links lanes wait.
    pub(super) fn waited_for(&self) -> Vec<WorkerKey> {
        let waited = self
            .workers
            .iter()
            .filter(|(_, it)| it.window.waiting() > 0);
        waited.map(|(key, _)| *key).collect()
    }

    /// How much of its fullest window a tenant has, in millionths.
    pub(super) fn fill(&self, tenant: u16) -> u64 {
        let workers = self.workers.values();
        let fills = workers.map(|worker| worker.window.fill(tenant));
        fills.max().unwrap_or_default()
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
