//! The coordinator's one task: who has enrolled, what is desired, and the order that is carried out.

mod collecting;

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_link::LinkSender;
use tidegate_link::deadline;
use tidegate_wire::Name;
use tidegate_wire::deploy::{Deploy, Desired, Overview, Progress, Running, WorkerState, reason};
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::under_way::OrderUnderWay;
use super::{CoordinatorMessage, MESSAGES_MAX};
use crate::change::{Change, Decision};
use crate::keeping::{Keeping, retries};
use crate::store::Intent;
use crate::transfer::{Exchange, PeerId};
use crate::{DeploySettings, Store, now_ms};
use collecting::Collecting;

/// How many tenants of one worker are remembered.
const RUNNING_MAX: usize = 4096;
/// How long a promotion waits for an order of the same tenant.
const PROMOTION_RETRY: Duration = Duration::from_secs(1);

/// A node with a link.
#[derive(Debug)]
pub(super) struct DeployPeer {
    pub(super) node: Node,
    pub(super) sender: LinkSender,
    /// Whether this register is the first of its configuration.
    first: bool,
    /// The state that it has been told or has told.
    known: (u64, Incarnation),
    /// Of a worker: the generation that it follows.
    pub(super) generation: u64,
    /// Of a worker that has told it.
    pub(super) running: Option<Vec<Running>>,
}

impl DeployPeer {
    pub(super) fn send(&self, frame: Deploy) {
        // A link that has ended says so by a message.
        let _ = self.sender.send(frame);
    }

    /// What it runs for the tenant, if it has told and has settings for it.
    pub(super) fn running(&self, tenant: &Name) -> Option<&Running> {
        let running = self.running.as_ref()?;
        running.iter().find(|it| it.tenant == *tenant)
    }
}

/// The coordinator's state.
#[derive(Debug)]
pub(super) struct CoordinatorTask {
    node: Node,
    pub(super) store: Store,
    keeping: Keeping,
    pub(super) exchange: Exchange,
    pub(super) settings: DeploySettings,
    pub(super) inbox: mpsc::Sender<CoordinatorMessage>,
    pub(super) peers: BTreeMap<PeerId, DeployPeer>,
    pub(super) under_way: Option<OrderUnderWay>,
    /// Counts the orders; begins anywhere, so that a worker never mistakes one for another.
    pub(super) orders: u64,
    /// Before that, workers may not have found the way back; none before anybody has.
    pub(super) opens: Option<Instant>,
    collecting: Collecting,
    /// The order of an earlier life whose outcome is not known.
    pub(super) lost: Option<Intent>,
    /// When a canary is to serve everybody.
    promotion: Option<(Instant, Name)>,
}

impl CoordinatorTask {
    pub(super) fn new(
        node: Node,
        store: Store,
        exchange: Exchange,
        settings: DeploySettings,
        inbox: mpsc::Sender<CoordinatorMessage>,
    ) -> Self {
        let seed = node.incarnation.0;
        Self {
            node,
            keeping: Keeping::new(store.clone(), &settings, seed),
            lost: store.intent(),
            store,
            exchange,
            settings,
            inbox,
            peers: BTreeMap::new(),
            under_way: None,
            orders: rand::random(),
            opens: None,
            collecting: Collecting::new(retries(&settings, seed)),
            promotion: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<CoordinatorMessage>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        loop {
            let promotion = self.promotion.as_ref().map(|(at, _)| *at);
            let under_way = self
                .under_way
                .as_ref()
                .and_then(|under_way| under_way.deadline(self.opens));
            let deadline = promotion
                .into_iter()
                .chain(under_way)
                .chain(self.lost_deadline());
            let retries = self
                .keeping
                .deadline()
                .into_iter()
                .chain(self.collecting.deadline());
            let deadline = deadline.chain(retries).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                read = messages.recv_many(&mut batch, MESSAGES_MAX) => if read == 0 { break },
                () = deadline::reached(deadline) => {}
            }
            for message in batch.drain(..) {
                self.read(message).await;
            }
            if self.keeping.in_time().await {
                self.announce();
                self.collect();
            }
            self.collect_in_time();
            self.promote_in_time().await;
            self.lost_in_time().await;
            self.order_in_time().await;
        }
        self.stop_order();
    }

    async fn read(&mut self, message: CoordinatorMessage) {
        match message {
            CoordinatorMessage::Enrolled {
                peer,
                node,
                first,
                desired,
                sender,
            } => {
                tracing::debug!(role = node.role.name(), name = %node.name, "a node has enrolled");
                let incarnation = node.incarnation;
                let entry = DeployPeer {
                    node,
                    sender,
                    first,
                    known: desired.rank(),
                    generation: 0,
                    running: None,
                };
                if !self.enrol(peer, entry) {
                    return;
                }
                self.learn(*desired).await;
                self.welcome(peer);
                self.worker_linked_again(incarnation);
                self.plan_promotion();
                self.collect();
            }
            CoordinatorMessage::Said { peer, frame } => self.hear(peer, frame).await,
            CoordinatorMessage::Gone { peer } => {
                if let Some(gone) = self.peers.remove(&peer) {
                    self.worker_lost(gone.node.incarnation).await;
                }
            }
            CoordinatorMessage::Obtained { order, outcome } => {
                self.component_obtained(order, outcome).await
            }
            CoordinatorMessage::Collected => self.collected(),
        }
    }

    /// A node has one link for deploys, the newest: it has given up the earlier ones, also those
    /// whose end is not known here yet. False if this one is not the newest.
    fn enrol(&mut self, peer: PeerId, mut entry: DeployPeer) -> bool {
        let incarnation = entry.node.incarnation;
        let same = |(_, it): &(&PeerId, &DeployPeer)| it.node.incarnation == incarnation;
        let known = self.peers.iter().filter(same);
        let known: Vec<PeerId> = known.map(|(known, _)| *known).collect();
        if known.iter().any(|known| *known > peer) {
            entry.sender.close();
            return false;
        }
        if self.peers.is_empty() {
            // This register has just started, or was cut off from all: others are on their way back.
            self.opens = Some(Instant::now() + self.settings.grace);
        }
        for earlier in known.into_iter().filter_map(|it| self.peers.remove(&it)) {
            earlier.sender.close();
            // It runs what it ran until it says otherwise.
            entry.generation = earlier.generation;
            entry.running = earlier.running;
        }
        self.peers.insert(peer, entry);
        true
    }

    async fn hear(&mut self, peer: PeerId, frame: Deploy) {
        match frame {
            Deploy::State(desired) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.known = peer.known.max(desired.rank());
                }
                self.learn(desired).await;
                self.collect_unless_pausing();
            }
            Deploy::Status {
                generation,
                mut running,
            } => {
                running.truncate(RUNNING_MAX);
                for it in &mut running {
                    it.trouble = it.trouble.take().map(reason);
                }
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.generation = generation;
                    peer.running = Some(running);
                }
                self.status_told(peer).await;
                self.collect_unless_pausing();
            }
            Deploy::TakenBack {
                tenant,
                version,
                reason,
            } => self.taken_back(peer, &tenant, &version, &reason).await,
            Deploy::Order { number, order } => self.take_order(peer, number, order).await,
            Deploy::Ask { number } => self.answer(peer, number),
            Deploy::Step { order, step } => self.step_told(peer, order, step),
            Deploy::Prepared { order, outcome } => self.worker_prepared(peer, order, outcome).await,
            Deploy::Enrol { .. }
            | Deploy::Progress { .. }
            | Deploy::Answer { .. }
            | Deploy::Prepare { .. }
            | Deploy::Hold { .. }
            | Deploy::Discard { .. }
            | Deploy::Fetch { .. }
            | Deploy::Chunk { .. }
            | Deploy::Missing { .. } => {}
        }
    }

    /// Takes a state that others know, if it is higher.
    async fn learn(&mut self, desired: Desired) {
        let mine = self.store.desired();
        let conflict = desired.generation == mine.generation && desired != *mine;
        if conflict {
            let generation = mine.generation;
            tracing::warn!(
                generation,
                "two registers have written: one of the states is dropped"
            );
        }
        if self.keeping.adopt(desired).await {
            self.announce();
        }
    }

    /// The answer to an enrolment, whatever the node knows.
    fn welcome(&mut self, peer: PeerId) {
        let desired = self.store.desired();
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.known = desired.rank();
            peer.send(Deploy::State((*desired).clone()));
        }
    }

    /// Tells the state to everybody who knows a lower one.
    pub(super) fn announce(&mut self) {
        let desired = self.store.desired();
        for peer in self.peers.values_mut() {
            if peer.known < desired.rank() {
                peer.known = desired.rank();
                peer.send(Deploy::State((*desired).clone()));
            }
        }
        self.plan_promotion();
    }

    /// Makes the next generation. An error says why it could not be written.
    pub(super) async fn decide(&mut self, tenant: &Name, change: Change) -> Result<u64, String> {
        let decision = Decision {
            writer: self.node.incarnation,
            at_ms: now_ms(),
            lingers: self.lingers(tenant),
            on_trial: self.is_on_trial(tenant),
        };
        let name = change.name();
        let next = change.apply(&self.store.desired(), tenant, decision);
        let generation = next.generation;
        match self.store.adopt(next).await {
            Ok(true) => {
                tracing::info!(%tenant, generation, "a new desired state was decided");
                metrics::counter!("tidegate_register_deploy_decisions_total", "change" => name)
                    .increment(1);
                self.announce();
                self.intent_is_over(tenant).await;
                Ok(generation)
            }
            Ok(false) => Err("a newer state has come from elsewhere".to_owned()),
            Err(error) => {
                tracing::error!(%error, "a decision could not be written");
                Err(error.to_string())
            }
        }
    }

    /// Whether a worker still runs what was withdrawn.
    pub(super) fn lingers(&self, tenant: &Name) -> bool {
        let desired = self.store.desired();
        let deployed = desired.tenants.get(tenant);
        let withdrawn = deployed.and_then(|it| it.withdrawn());
        withdrawn.is_some_and(|release| {
            let serves = |it: &Running| it.serving.as_ref() == Some(&release.version);
            self.workers()
                .any(|it| it.running(tenant).is_some_and(serves))
        })
    }

    /// Whether a version is on trial at a worker.
    pub(super) fn is_on_trial(&self, tenant: &Name) -> bool {
        let on_trial = |it: &DeployPeer| it.running(tenant).is_some_and(|it| it.trial);
        self.workers().any(on_trial)
    }

    /// The version that some clients try, if it does too badly at a worker to become everybody's.
    pub(super) fn failing_canary(&self, tenant: &Name) -> Option<(Name, String)> {
        let desired = self.store.desired();
        let (release, _) = desired.tenants.get(tenant)?.canary()?;
        let why = self.workers().find_map(|peer| {
            let running = peer.running(tenant)?;
            let is_it = running.canary.as_ref() == Some(&release.version);
            let failing = running.failing.as_ref().filter(|_| is_it)?;
            Some(reason(format!("worker {}: {failing}", peer.node.name)))
        })?;
        Some((release.version.clone(), why))
    }

    /// A worker has gone back by itself: everybody does.
    async fn taken_back(&mut self, peer: PeerId, tenant: &Name, version: &Name, why: &str) {
        let Some(peer) = self.peers.get(&peer).filter(|peer| peer.first) else {
            return;
        };
        let why = reason(format!("worker {}: {why}", peer.node.name));
        let desired = self.store.desired();
        let Some(deployed) = desired.tenants.get(tenant) else {
            return;
        };
        let is = |it: Option<&Name>| it == Some(version);
        let change = if is(deployed.canary().map(|(release, _)| &release.version)) {
            Change::GiveUp(why.clone())
        } else if is(deployed.current().map(|release| &release.version))
            || is(deployed.withdrawn().map(|release| &release.version))
        {
            Change::TakeBack(why.clone())
        } else if deployed.is_unproven(version) {
            Change::Condemn(version.clone(), why.clone())
        } else {
            // Told again, or by another worker before.
            return;
        };
        tracing::warn!(%tenant, %version, reason = %why, "a worker has taken a version back");
        self.order_taken_back(tenant, version, &why);
        // What cannot be written is logged; the worker tells it again.
        if self.decide(tenant, change).await.is_ok() {
            tracing::warn!(%tenant, %version, "a version is taken back everywhere");
        }
    }

    fn answer(&self, peer: PeerId, number: u64) {
        let workers = self.peers.values().filter_map(|peer| {
            let running = peer.running.clone()?;
            Some(WorkerState {
                worker: peer.node.name.clone(),
                incarnation: peer.node.incarnation,
                generation: peer.generation,
                running,
            })
        });
        let under_way = self.under_way.as_ref().map(|it| it.tenant.clone());
        // What became of it is not decided yet.
        let lost = || Some(self.lost.as_ref()?.tenant.clone());
        let overview = Box::new(Overview {
            desired: (*self.store.desired()).clone(),
            workers: workers.collect(),
            under_way: under_way.or_else(lost),
            settles_in_ms: self.settles_in_ms(),
        });
        if let Some(peer) = self.peers.get(&peer) {
            peer.send(Deploy::Answer { number, overview });
        }
    }

    /// Whether those that live have had time to come back.
    pub(super) fn has_settled(&self) -> bool {
        self.opens.is_some_and(|opens| opens <= Instant::now())
    }

    /// How long that takes yet, rounded up.
    pub(super) fn settles_in_ms(&self) -> u64 {
        let left = self.opens.map_or(self.settings.grace, |opens| {
            opens.saturating_duration_since(Instant::now())
        });
        u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
    }

    /// Progress of the order that is carried out; nobody may listen any more.
    pub(super) fn progress(&self, peer: PeerId, number: u64, progress: Progress) {
        if let Some(peer) = self.peers.get(&peer) {
            peer.send(Deploy::Progress { number, progress });
        }
    }

    pub(super) fn worker(&self, incarnation: Incarnation) -> Option<&DeployPeer> {
        let is = |peer: &&DeployPeer| peer.node.incarnation == incarnation;
        self.peers.values().find(is)
    }

    /// The workers that have told what they run.
    pub(super) fn workers(&self) -> impl Iterator<Item = &DeployPeer> {
        let ready = |it: &&DeployPeer| it.node.role == Role::Worker && it.running.is_some();
        self.peers.values().filter(ready)
    }

    /// The next canary whose time will be over; the first register alone promotes it.
    fn plan_promotion(&mut self) {
        self.promotion = None;
        if !self.peers.values().any(|peer| peer.first) {
            return;
        }
        let desired = self.store.desired();
        let canaries = desired.tenants.iter().filter_map(|(tenant, deployed)| {
            let (release, plan) = deployed.canary()?;
            let lasts = plan.seconds.saturating_mul(1000);
            (lasts > 0).then_some((left_ms(release.at_ms, lasts, now_ms()), tenant))
        });
        if let Some((left, tenant)) = canaries.min() {
            let wait = Duration::from_millis(left);
            let at = Instant::now().checked_add(wait);
            self.promotion = at.map(|at| (at, tenant.clone()));
        }
    }

    async fn promote_in_time(&mut self) {
        let now = Instant::now();
        let Some((_, tenant)) = self.promotion.take_if(|(at, _)| *at <= now) else {
            return;
        };
        if self
            .under_way
            .as_ref()
            .is_some_and(|under_way| under_way.tenant == tenant)
        {
            self.promotion = Some((now + PROMOTION_RETRY, tenant));
            return;
        }
        if let Some((version, why)) = self.failing_canary(&tenant) {
            tracing::warn!(%tenant, %version, reason = %why,
                "the canary's time is over, and it did badly: it is given up");
            if self.decide(&tenant, Change::GiveUp(why)).await.is_err() {
                self.promotion = Some((now + PROMOTION_RETRY, tenant));
            }
            return;
        }
        tracing::info!(%tenant, "the canary's time is over: it serves everybody");
        if self.decide(&tenant, Change::Promote).await.is_err() {
            self.promotion = Some((now + PROMOTION_RETRY, tenant));
        }
    }
}

/// What is left of a canary's time. A clock that was set back does not make it last longer.
fn left_ms(begun_ms: u64, lasts_ms: u64, now_ms: u64) -> u64 {
    let left = begun_ms.saturating_add(lasts_ms).saturating_sub(now_ms);
    left.min(lasts_ms)
}

#[cfg(test)]
mod tests;
