//! What workers say while an order is carried out, and what is passed on of it.

use tidegate_wire::Name;
use tidegate_wire::deploy::{Progress, Step, reason};
use tidegate_wire::id::Incarnation;

use super::task::{CoordinatorTask, DeployPeer};
use super::under_way::Stage;
use crate::converge::{Now, follows};
use crate::plan::Event;
use crate::transfer::PeerId;

impl CoordinatorTask {
    /// A worker has told what it runs.
    pub(super) async fn status_told(&mut self, peer: PeerId) {
        let Some(under_way) = &self.under_way else {
            return;
        };
        let Stage::Working(work) = &under_way.stage else {
            return;
        };
        let Some(peer) = self.peers.get(&peer) else {
            return;
        };
        let worker = peer.node.incarnation;
        let awaited = work.plan.awaited().contains(&worker);
        if work.plan.is_undecided() || !awaited || peer.generation < work.generation {
            return;
        }
        if self.has_followed(peer, &under_way.tenant) {
            self.step(worker, Step::Switched);
            return self.event(Event::Switched(worker)).await;
        }
        let trouble = peer.running(&under_way.tenant);
        if let Some(trouble) = trouble.and_then(|it| it.trouble.clone()) {
            let Some((work, ..)) = self.working() else {
                return;
            };
            let told = work.troubles.insert(worker, trouble.clone());
            if told.as_ref() != Some(&trouble) {
                self.step(worker, Step::Failed(reason(trouble)));
            }
        }
    }

    /// Whether a worker does what the state says about the tenant; one without settings for it is
    /// not concerned.
    pub(super) fn has_followed(&self, peer: &DeployPeer, tenant: &Name) -> bool {
        let desired = self.store.desired();
        let Some(deployed) = desired.tenants.get(tenant) else {
            return true;
        };
        peer.running(tenant).is_none_or(|running| {
            let now = Now {
                serving: running.serving.as_ref(),
                canary: running.canary.as_ref(),
            };
            follows(deployed, now)
        })
    }

    pub(super) fn step_told(&mut self, peer: PeerId, order: u64, step: Step) {
        let step = match step {
            Step::Failed(text) => Step::Failed(reason(text)),
            Step::Fetched | Step::Compiled | Step::Started | Step::Switched => step,
        };
        if let Some(worker) = self.of_order(peer, order) {
            self.step(worker, step);
        }
    }

    pub(super) async fn worker_prepared(
        &mut self,
        peer: PeerId,
        order: u64,
        outcome: Result<(), String>,
    ) {
        let Some(worker) = self.of_order(peer, order) else {
            return;
        };
        match outcome {
            Ok(()) => self.event(Event::Prepared(worker)).await,
            Err(text) => {
                let text = reason(text);
                self.step(worker, Step::Failed(text.clone()));
                self.event(Event::Refused(worker, text)).await;
            }
        }
    }

    /// The worker, if it speaks of the order that is carried out.
    pub(super) fn of_order(&self, peer: PeerId, order: u64) -> Option<Incarnation> {
        let current = self
            .under_way
            .as_ref()
            .is_some_and(|under_way| under_way.order == order);
        let peer = self.peers.get(&peer).filter(|_| current)?;
        Some(peer.node.incarnation)
    }

    pub(super) fn step(&mut self, worker: Incarnation, step: Step) {
        let Some((work, peer, number)) = self.working() else {
            return;
        };
        if let Some(worker) = work.names.get(&worker).cloned() {
            self.progress(peer, number, Progress::Worker { worker, step });
        }
    }

    /// A worker has a new link: whether it heard over the earlier one what it is to prepare, or its
    /// answer was lost, is not known.
    pub(super) fn worker_linked_again(&mut self, worker: Incarnation) {
        let Some((work, ..)) = self.working() else {
            return;
        };
        if work.plan.is_preparing() && work.plan.awaited().contains(&worker) {
            self.send_prepare(worker);
        }
    }

    pub(super) async fn worker_lost(&mut self, worker: Incarnation) {
        if let Some((work, ..)) = self.working()
            && !work.plan.is_undecided()
            && work.plan.awaited().contains(&worker)
        {
            let text = "lost after the decision: it switches when it is back";
            self.step(worker, Step::Failed(text.to_owned()));
        }
        self.event(Event::Lost(worker)).await;
    }
}
