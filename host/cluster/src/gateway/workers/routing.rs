//! Which worker an event goes to, and which workers can be custodians of a client.

use std::sync::Arc;

use rand::rngs::StdRng;
use tidegate_hub::lanes::{Next, WorkerKey};
use tidegate_hub::routing::{Candidate, Router, choose, choose_by_key};
use tidegate_hub::window::Window;
use tidegate_wire::Name;
use tidegate_wire::routing::RouteCandidate;

use super::{Placement, RouteCandidates, Served, Worker, Workers};

impl Workers {
    /// Where the next event of a lane goes that stays where it is, or else may choose. `is_its_turn` if
    /// the lane has waited.
    pub(in crate::gateway) fn place(
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
    pub(in crate::gateway) fn choose(
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

    /// Those that a router may choose from.
    pub(in crate::gateway) fn candidates(&mut self, tenant: u16) -> RouteCandidates {
        if let Some(known) = self.candidates.get(&tenant) {
            return known.clone();
        }
        let able = self.workers.values();
        let able = able.filter_map(|worker| {
            let served = worker.served(tenant)?;
            let told = RouteCandidate {
                name: worker.link.name.clone(),
                tags: worker.link.tags.clone(),
                clients: worker.load.clients,
                queued_bytes: worker.load.queued_bytes,
            };
            Some((served.worker, told))
        });
        let (workers, told): (Vec<_>, Vec<_>) = able.unzip();
        let candidates = RouteCandidates {
            workers: Arc::new(workers),
            told: Arc::new(told),
        };
        self.candidates.insert(tenant, candidates.clone());
        candidates
    }

    /// The worker of all clients of a tenant who have this under their key.
    pub(in crate::gateway) fn choose_by_key(&self, tenant: u16, key: u64) -> Option<Served> {
        let able = self.workers.values();
        let able = able.filter_map(|it| Some((it.link.worker, it.served(tenant)?)));
        choose_by_key(key, able)
    }

    /// Whether the second custodian of a client is right where it is, given the first one and the
    /// machine of this gateway.
    pub(in crate::gateway) fn is_apart(&self, first: WorkerKey, second: WorkerKey) -> bool {
        match (self.workers.get(&first), self.workers.get(&second)) {
            (Some(first), Some(second)) => !second.draining && second.link.host != first.link.host,
            _ => false,
        }
    }

    /// Whether a client of this tenant needs a second custodian: its first one shares the machine of
    /// this gateway, or there are three machines or more.
    pub(in crate::gateway) fn needs_second(&self, tenant: u16, first: WorkerKey) -> bool {
        let Some(first) = self.workers.get(&first) else {
            return false;
        };
        let first = &first.link.host;
        let serving = self.workers.values();
        let serving = serving.filter(|it| it.served(tenant).is_some());
        let mut others = serving.map(|it| &it.link.host).filter(|it| *it != first);
        if *first == self.own_host {
            others.next().is_some()
        } else {
            others.any(|it| *it != self.own_host)
        }
    }

    /// Chooses a second custodian: not on the machine of the first one, and on another one than this
    /// gateway if there is one.
    pub(in crate::gateway) fn choose_second(
        &mut self,
        tenant: u16,
        first: WorkerKey,
        router: Router,
        rng: &mut StdRng,
    ) -> Option<WorkerKey> {
        let first = self.workers.get(&first)?.link.host.clone();
        let own = self.own_host.clone();
        let apart = |host: &Name| *host != first && *host != own;
        let best = self.choose_of(tenant, router, rng, apart);
        let best = match best {
            Some(best) => Some(best),
            None => self.choose_of(tenant, router, rng, |host| *host != first),
        };
        best.map(|served| served.worker)
    }
}

const fn candidate(worker: &Worker) -> Candidate {
    Candidate {
        clients: worker.load.clients as u64 + worker.given,
        queued_bytes: worker.load.queued_bytes,
    }
}
