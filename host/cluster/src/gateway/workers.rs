//! The workers that a shard knows: their links, tenants, windows and loads.

mod custody_updates;
pub(in crate::gateway) mod host;
mod routing;
mod wakes;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidegate_wire::Name;
use tidegate_wire::event::Delivery;
use tidegate_wire::frame::{GatewayFrame, Load};
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::{CloseId, EventId, Incarnation};
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::routing::RouteCandidate;

use tidegate_hub::custody_updates::CustodyUpdates;
use tidegate_hub::lanes::WorkerKey;
use tidegate_hub::window::Window;
use tokio::sync::Notify;

use super::shared::Context;
use super::shared::gather::fits;
use super::shared::worker_link::WorkerLink;
use wakes::Wakes;

/// Messages to other instances are given up where more bytes than this, or than a quarter of the queue,
/// wait on a link: what must arrive is never far behind them.
const PEER_MESSAGES_BEHIND_MAX: usize = 4 << 20;

/// One shard's share of a worker.
#[derive(Debug)]
struct Worker {
    link: Arc<WorkerLink>,
    load: Load,
    /// Clients that this shard gave it since its last report.
    given: u64,
    window: Window,
    draining: bool,
    drained: bool,
    /// This shard has nobody whom only an earlier link of this worker was entrusted with.
    recognised: bool,
    /// Lanes older than this it may know from an earlier link.
    epoch: u32,
    /// What it must be told of clients in custody.
    updates: CustodyUpdates,
}

impl Worker {
    /// A tenant, unless the worker is leaving or does not serve it.
    fn served(&self, tenant: u16) -> Option<Served> {
        let worker = self.link.key;
        let place = self.place(tenant).filter(|_| !self.draining)?;
        Some(Served { worker, place })
    }

    /// The place of a tenant in the worker's announcement.
    fn place(&self, tenant: u16) -> Option<u16> {
        self.link.places.get(usize::from(tenant)).copied().flatten()
    }
}

/// All workers of one shard.
#[derive(Debug)]
pub(super) struct Workers {
    workers: BTreeMap<WorkerKey, Worker>,
    /// Those that are leaving and were not let go yet.
    leaving: BTreeSet<WorkerKey>,
    /// Those that may have something to be told.
    untold: BTreeSet<WorkerKey>,
    /// The machine of this gateway.
    own_host: Name,
    /// Links whose readers are to be woken.
    wakes: Wakes,
    /// Tenants whose handlers take requests by HTTP, as was announced last. While no worker is there such
    /// requests wait for one, as the events of clients do.
    take_http: BTreeSet<u16>,
    /// What routers are told of the workers of a tenant, until anything of it changes.
    candidates: BTreeMap<u16, RouteCandidates>,
}

/// The workers that a router may choose from, in its order.
#[derive(Clone, Debug)]
pub(super) struct RouteCandidates {
    pub(super) workers: Arc<Vec<WorkerKey>>,
    pub(super) told: Arc<Vec<RouteCandidate>>,
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
    pub(super) fn new(own_host: Name) -> Self {
        Self {
            workers: BTreeMap::new(),
            leaving: BTreeSet::new(),
            untold: BTreeSet::new(),
            own_host,
            wakes: Wakes::default(),
            take_http: BTreeSet::new(),
            candidates: BTreeMap::new(),
        }
    }

    /// Takes a new worker or a new announcement of a known one. The tenants that it serves share its
    /// window. A new one may know lanes older than `epoch` from an earlier link.
    pub(super) fn insert(
        &mut self,
        link: Arc<WorkerLink>,
        shards: usize,
        epoch: impl FnOnce() -> u32,
        queue_bytes_max: usize,
    ) {
        self.note_http(&link);
        self.candidates.clear();
        let tenants = link.places.iter().flatten().count();
        let events_max = (link.announcement.window_events as usize / shards).max(1);
        let window_bytes = usize::try_from(link.announcement.window_bytes).unwrap_or(usize::MAX);
        // Events and bulk together leave room in the link's queue for answers.
        let bytes_max = (window_bytes.min(queue_bytes_max / 2) / shards).max(1);
        match self.workers.get_mut(&link.key) {
            Some(worker) => {
                worker.link = link;
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
                    epoch: epoch(),
                    updates: CustodyUpdates::new(shards, queue_bytes_max),
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

    /// Forgets a worker. Gives the lanes that waited for room there, if it was there.
    pub(super) fn remove(&mut self, key: WorkerKey) -> Option<Vec<u32>> {
        self.leaving.remove(&key);
        self.untold.remove(&key);
        self.candidates.clear();
        let worker = self.workers.remove(&key)?;
        Some(worker.window.into_waiting())
    }

    /// Ends all links.
    pub(super) fn refuse(&self, reason: &Refusal) {
        for worker in self.workers.values() {
            worker.link.sender.refuse(reason.clone());
        }
    }

    pub(super) fn set_load(&mut self, key: WorkerKey, load: Load) {
        self.candidates.clear();
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.load = load;
            worker.given = 0;
        }
    }

    pub(super) fn set_draining(&mut self, key: WorkerKey) {
        self.candidates.clear();
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

    /// Whether a worker said that it serves a tenant, though it may be leaving.
    pub(super) fn announces(&self, key: WorkerKey, tenant: u16) -> bool {
        let worker = self.workers.get(&key);
        worker.is_some_and(|worker| worker.place(tenant).is_some())
    }

    /// The place that a tenant has, or had, in a worker's announcement.
    pub(super) fn place_of(&self, key: WorkerKey, tenant: &Name) -> Option<u16> {
        let serving = &self.workers.get(&key)?.link.announcement.serving;
        let place = serving.iter().position(|it| it.tenant == *tenant)?;
        u16::try_from(place).ok()
    }

    /// Which life of a node a worker is.
    pub(super) fn incarnation(&self, key: WorkerKey) -> Option<Incarnation> {
        Some(self.workers.get(&key)?.link.worker)
    }

    /// Whether somebody serves this tenant.
    pub(super) fn serves(&self, tenant: u16) -> bool {
        let mut workers = self.workers.values();
        workers.any(|worker| worker.served(tenant).is_some())
    }

    fn note_http(&mut self, link: &WorkerLink) {
        for (tenant, place) in (0..).zip(&link.places) {
            let place = place.map(usize::from);
            match place.and_then(|place| link.announcement.serving.get(place)) {
                Some(serving) if serving.http => _ = self.take_http.insert(tenant),
                Some(_) => _ = self.take_http.remove(&tenant),
                None => {}
            }
        }
    }

    /// Whether the handler of this tenant takes requests by HTTP.
    pub(super) fn takes_http(&self, tenant: u16) -> bool {
        self.take_http.contains(&tenant)
    }

    /// Tells all workers of closes that were told.
    pub(super) fn say_closes_were_told(&self, closes: &[CloseId]) {
        for worker in self.workers.values() {
            // A link that has ended has nothing to forget.
            let _ = worker.link.sender.send(GatewayFrame::Told(closes.to_vec()));
        }
    }

    /// Says something to a tenant's instances at every worker that has any, also at those that are
    /// leaving. Gives on how many links there was no room for it.
    pub(super) fn tell_peers(&self, tenant: u16, context: &Context, message: &PeerMessage) -> u64 {
        let Some(name) = context.tenants.name(tenant) else {
            return 0;
        };
        let behind_max = PEER_MESSAGES_BEHIND_MAX.min(context.settings.link.queue_bytes_max / 4);
        let mut dropped = 0;
        for worker in self.workers.values() {
            let (link, place) = (&worker.link.sender, worker.place(tenant));
            let Some(place) = place.filter(|_| !link.is_closed()) else {
                continue;
            };
            if link.queued_bytes() >= behind_max || fits(context, link, name, ()).is_err() {
                dropped += 1;
                continue;
            }
            let frame = GatewayFrame::PeerMessage {
                tenant: place,
                message: Box::new(message.clone()),
            };
            // With a link is lost what was to be said over it.
            let _ = link.send_for(name, frame);
        }
        dropped
    }

    /// Sends an event of so many bytes; gives how many it counts in the window.
    pub(super) fn deliver(
        &mut self,
        key: WorkerKey,
        tenant: u16,
        bytes: usize,
        delivery: Delivery,
    ) -> usize {
        let Some(worker) = self.workers.get_mut(&key) else {
            return 0;
        };
        let counted = worker.window.sent(tenant, bytes);
        let sender = &worker.link.sender;
        // If the link has ended, its loss is on the way and takes the event back.
        let sent = sender.send_quietly(GatewayFrame::Deliver(Box::new(delivery)));
        self.wakes.sent(sender, sent == Ok(true));
        counted
    }

    /// Nobody wants what comes of a task any more.
    pub(super) fn cancel_task(&self, key: WorkerKey, tenant: u16, event: EventId, attempt: u8) {
        let worker = self.workers.get(&key);
        if let Some(place) = worker.and_then(|worker| worker.place(tenant)) {
            let frame = GatewayFrame::CancelTask {
                tenant: place,
                event,
                attempt,
            };
            self.send(key, frame);
        }
    }

    /// Sends something else.
    pub(super) fn send(&self, key: WorkerKey, frame: GatewayFrame) {
        if let Some(worker) = self.workers.get(&key) {
            // A link that has ended has nothing to be told.
            let _ = worker.link.sender.send(frame);
        }
    }

    /// Rings when readers of links are to be woken.
    pub(super) fn bell(&self) -> Rc<Notify> {
        self.wakes.bell()
    }

    /// Wakes the readers of links on which events were sent.
    pub(super) fn wake_all(&mut self) {
        self.wakes.wake_all();
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
        if !worker.window.is_idle() || worker.updates.releases() || !handed_over {
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
