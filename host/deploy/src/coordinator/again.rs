//! An order for a version that was decided before, and components that nobody has any more.
//!
//! Guarantees: who gives the file of what is to run has it run, also where its component was lost at
//! every node; what only names such a version is refused; neither is told done at no worker.

use tidegate_wire::Name;
use tidegate_wire::deploy::{Deploy, DeployError};
use tidegate_wire::id::Incarnation;
use tokio::time::Instant;

use super::resolve::{Target, resolve};
use super::task::{CoordinatorTask, DeployPeer};
use super::under_way::{OrderUnderWay, Work};
use crate::change::{Candidate, Change};
use crate::plan::{Event, Plan};
use crate::transfer::From;

impl CoordinatorTask {
    /// What the order means as things are.
    pub(super) fn target(&self, under_way: &OrderUnderWay) -> Result<Target, DeployError> {
        let lingers = self.lingers(&under_way.tenant);
        let target = resolve(&under_way.asked, &self.store.desired(), lingers);
        let named = match &target {
            Err(DeployError::Already { version, .. }) => version,
            Ok(Target::Decide {
                change: Change::Promote,
                version,
            }) => version,
            Ok(_) | Err(_) => return target,
        };
        match self.is_nowhere(&under_way.tenant, named) {
            true => Err(DeployError::NotKept {
                version: named.clone(),
            }),
            false => target,
        }
    }

    /// Whether no node that has a link has the component: this register would have fetched it.
    fn is_nowhere(&self, tenant: &Name, version: &Name) -> bool {
        let runs = |it: &DeployPeer| {
            let running = it.running(tenant);
            running.is_some_and(|it| [&it.serving, &it.canary].contains(&&Some(version.clone())))
        };
        !self.store.has(version) && !self.workers().any(runs)
    }

    /// A version that was decided in this generation is deployed again: where it does not run, workers
    /// try once more, with the component that has come with the order.
    pub(super) async fn again(&mut self, candidate: Candidate, generation: u64) {
        let Some(under_way) = &self.under_way else {
            return;
        };
        let (peer, tenant) = (under_way.peer, under_way.tenant.clone());
        let (mut followed, mut behind): (Vec<Incarnation>, Vec<Incarnation>) = Default::default();
        for worker in self.workers() {
            let has_followed = self.has_followed(worker, &tenant);
            let to = if has_followed {
                &mut followed
            } else {
                &mut behind
            };
            to.push(worker.node.incarnation);
        }
        let is_here = self.store.has(&candidate.version);
        if is_here && behind.is_empty() && !followed.is_empty() {
            return self.is_so(generation, candidate.version).await;
        }
        if let Err(error) = self.ready() {
            return self.fail(error).await;
        }
        if !is_here {
            return self.obtain(candidate, None, From::Only(peer));
        }
        let (plan, acts) = Plan::decided(followed.iter().chain(&behind).copied());
        self.work(plan, None, None, candidate.version, self.plan_workers());
        let until = Instant::now() + self.settings.switch_max;
        if let Some((work, ..)) = self.working() {
            work.generation = generation;
            work.until = until;
        }
        // Whoever is told the state looks again at once at what it could not do.
        let desired = self.store.desired();
        for worker in behind.iter().filter_map(|it| self.worker(*it)) {
            worker.send(Deploy::State((*desired).clone()));
        }
        self.act(acts).await;
        for worker in followed {
            self.event(Event::Switched(worker)).await;
        }
    }

    /// Why what was decided before runs at no worker.
    pub(super) fn why_nowhere(&self, tenant: &Name, work: &Work) -> Option<DeployError> {
        let (incarnation, worker) = work.names.first_key_value()?;
        let worker = worker.clone();
        let Some(peer) = self.worker(*incarnation) else {
            return Some(DeployError::WorkerLost { worker });
        };
        let trouble = peer.running(tenant).and_then(|it| it.trouble.clone());
        let seconds = self.settings.switch_max.as_secs();
        Some(match trouble {
            Some(reason) => DeployError::Refused { worker, reason },
            None => DeployError::TooSlow { worker, seconds },
        })
    }
}
