//! The order that is carried out: waits for the workers' return after a start, gets the bytes, then
//! does what its plan says.

use std::collections::BTreeMap;

use tidegate_wire::Name;
use tidegate_wire::deploy::{Deploy, DeployError, Order, Progress, reason};
use tidegate_wire::id::Incarnation;
use tokio::time::Instant;

use super::CoordinatorMessage;
use super::resolve::Target;
use super::task::{CoordinatorTask, DeployPeer};
use crate::change::{Candidate, Change};
use crate::plan::{Act, Event, Plan};
use crate::store::Pin;
use crate::transfer::{FetchError, From, PeerId};

/// How many signs of life a worker gets in the time that it holds what it has prepared.
const HOLDS: u32 = 4;

#[derive(Debug)]
pub(super) struct OrderUnderWay {
    pub(super) tenant: Name,
    /// Whom to tell.
    pub(super) peer: PeerId,
    pub(super) number: u64,
    /// The coordinator's number of it.
    pub(super) order: u64,
    pub(super) asked: Order,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// For workers to find the way back.
    Waiting,
    /// For the bytes; of what was decided before there is no change.
    Obtaining(Box<(Candidate, Option<Change>)>),
    Working(Box<Work>),
}

#[derive(Debug)]
pub(super) struct Work {
    pub(super) plan: Plan,
    /// None of what was decided before.
    pub(super) change: Option<Change>,
    /// What is to be prepared, kept for as long as the pin lives.
    pub(super) candidate: Option<(Candidate, Pin)>,
    /// What the tenant runs in the end.
    pub(super) version: Name,
    /// The workers, also those that are lost.
    pub(super) names: BTreeMap<Incarnation, Name>,
    pub(super) troubles: BTreeMap<Incarnation, String>,
    pub(super) until: Instant,
    pub(super) next_hold: Instant,
    /// That of the decision.
    pub(super) generation: u64,
}

impl OrderUnderWay {
    /// When something is to be done without any message.
    pub(super) fn deadline(&self, opens: Option<Instant>) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting => opens,
            Stage::Obtaining(_) => None,
            Stage::Working(work) if work.plan.is_preparing() => {
                Some(work.until.min(work.next_hold))
            }
            Stage::Working(work) => Some(work.until),
        }
    }
}

impl CoordinatorTask {
    pub(super) async fn take_order(&mut self, peer: PeerId, number: u64, asked: Order) {
        if let Some(under_way) = &self.under_way {
            let tenant = under_way.tenant.clone();
            let reason = DeployError::Busy { tenant };
            return self.progress(peer, number, Progress::Failed { reason });
        }
        self.orders = self.orders.wrapping_add(1);
        let tenant = asked.tenant().clone();
        tracing::info!(%tenant, by = %asked.by(), "an order has come");
        self.under_way = Some(OrderUnderWay {
            tenant,
            peer,
            number,
            order: self.orders,
            asked,
            stage: Stage::Waiting,
        });
        // What can be refused is refused at once. Who may have a component is not known yet.
        if let Some(under_way) = &self.under_way
            && let Err(error) = self.target(under_way)
            && (self.has_settled() || !matches!(error, DeployError::NotKept { .. }))
        {
            return self.fail(error).await;
        }
        if !self.has_settled() {
            let at_most_ms = self.settles_in_ms();
            self.progress(peer, number, Progress::Waiting { at_most_ms });
        }
        self.order_in_time().await;
    }

    /// Does what the clock says.
    pub(super) async fn order_in_time(&mut self) {
        let now = Instant::now();
        let hold = self.settings.hold_max / HOLDS;
        let settled = self.has_settled();
        let Some(under_way) = &mut self.under_way else {
            return;
        };
        match &mut under_way.stage {
            Stage::Waiting if settled => self.begin().await,
            Stage::Waiting | Stage::Obtaining(_) => {}
            Stage::Working(work) if work.until <= now => self.event(Event::Expired).await,
            Stage::Working(work) if work.plan.is_preparing() && work.next_hold <= now => {
                work.next_hold = now + hold;
                let order = under_way.order;
                let workers: Vec<Incarnation> = work.names.keys().copied().collect();
                for peer in workers.iter().filter_map(|it| self.worker(*it)) {
                    peer.send(Deploy::Hold { order });
                }
            }
            Stage::Working(_) => {}
        }
    }

    pub(super) async fn begin(&mut self) {
        let Some(under_way) = &self.under_way else {
            return;
        };
        let target = match self.target(under_way) {
            Ok(target) => target,
            Err(error) => return self.fail(error).await,
        };
        match target {
            Target::Nothing {
                generation,
                version,
            } => self.is_so(generation, version).await,
            Target::Decide {
                change: Change::Promote,
                ..
            } if let Some((version, reason)) = self.failing_canary(&under_way.tenant) => {
                let tenant = under_way.tenant.clone();
                // What cannot be written is logged; the canary goes on, and the order fails anyhow.
                let _ = self.decide(&tenant, Change::GiveUp(reason.clone())).await;
                self.fail(DeployError::TakenBack { version, reason }).await;
            }
            Target::Decide { change, version } => {
                let workers = self.plan_workers();
                let (plan, acts) = Plan::at_once(workers.keys().copied());
                self.work(plan, Some(change), None, version, workers);
                self.act(acts).await;
            }
            Target::Again {
                candidate,
                generation,
            } => self.again(candidate, generation).await,
            Target::Prepare {
                candidate,
                change,
                upload,
            } => {
                let (peer, tenant) = (under_way.peer, under_way.tenant.clone());
                if let Err(error) = self.ready() {
                    return self.fail(error).await;
                }
                self.intend(&tenant, &candidate).await;
                let from = if upload {
                    From::Only(peer)
                } else {
                    From::Anyone
                };
                self.obtain(candidate, Some(change), from);
            }
        }
    }

    /// Nothing is left to do.
    pub(super) async fn is_so(&mut self, generation: u64, version: Name) {
        let Some(under_way) = &self.under_way else {
            return;
        };
        let tenant = under_way.tenant.clone();
        let runs = |it: &&DeployPeer| self.has_followed(it, &tenant);
        let workers = u32::try_from(self.workers().filter(runs).count());
        let done = Progress::Done {
            generation,
            version,
            workers: workers.unwrap_or(u32::MAX),
            trial: self.is_on_trial(&tenant),
        };
        self.end(done).await;
    }

    /// Has the component fetched, if it is not here.
    pub(super) fn obtain(&mut self, candidate: Candidate, change: Option<Change>, from: From) {
        let Some(under_way) = &mut self.under_way else {
            return;
        };
        let order = under_way.order;
        let (exchange, inbox) = (self.exchange.clone(), self.inbox.clone());
        let (version, bytes) = (candidate.version.clone(), candidate.bytes);
        under_way.stage = Stage::Obtaining(Box::new((candidate, change)));
        tokio::spawn(async move {
            let obtained = exchange.obtain(&version, bytes, from).await;
            let outcome = obtained.map(|it| it.pin);
            // The coordinator may be gone.
            let _ = inbox
                .send(CoordinatorMessage::Obtained { order, outcome })
                .await;
        });
    }

    /// Whether there are workers and all know the tenant.
    pub(super) fn ready(&self) -> Result<(), DeployError> {
        let Some(under_way) = &self.under_way else {
            return Ok(());
        };
        if self.workers().next().is_none() {
            return Err(DeployError::NoWorker);
        }
        match self
            .workers()
            .find(|it| it.running(&under_way.tenant).is_none())
        {
            Some(peer) => Err(DeployError::TenantUnknown {
                tenant: under_way.tenant.clone(),
                worker: peer.node.name.clone(),
            }),
            None => Ok(()),
        }
    }

    pub(super) async fn component_obtained(
        &mut self,
        order: u64,
        outcome: Result<Pin, FetchError>,
    ) {
        let Some(under_way) = self
            .under_way
            .as_mut()
            .filter(|under_way| under_way.order == order)
        else {
            return;
        };
        let upload = matches!(under_way.asked, Order::Deploy { .. });
        let stage = std::mem::replace(&mut under_way.stage, Stage::Waiting);
        let Stage::Obtaining(wanted) = stage else {
            under_way.stage = stage;
            return;
        };
        let (candidate, change) = *wanted;
        let (peer, number, version) = (under_way.peer, under_way.number, candidate.version.clone());
        let pin = match outcome {
            Ok(pin) => pin,
            Err(FetchError::Disk(text)) => {
                return self.fail(DeployError::Disk(reason(text))).await;
            }
            Err(error) if upload => {
                return self
                    .fail(DeployError::Upload(reason(error.to_string())))
                    .await;
            }
            Err(_) => return self.fail(DeployError::NotKept { version }).await,
        };
        if upload {
            let bytes = candidate.bytes;
            self.progress(peer, number, Progress::Uploaded { bytes });
        }
        if change.is_none() {
            // Kept: the state names it, unless that has changed meanwhile.
            drop(pin);
            return self.begin().await;
        }
        if let Err(error) = self.ready() {
            return self.fail(error).await;
        }
        let workers = self.plan_workers();
        let (plan, acts) = Plan::prepare(workers.keys().copied());
        self.work(plan, change, Some((candidate, pin)), version, workers);
        self.act(acts).await;
    }

    pub(super) fn plan_workers(&self) -> BTreeMap<Incarnation, Name> {
        let named = |it: &DeployPeer| (it.node.incarnation, it.node.name.clone());
        self.workers().map(named).collect()
    }

    pub(super) fn work(
        &mut self,
        plan: Plan,
        change: Option<Change>,
        candidate: Option<(Candidate, Pin)>,
        version: Name,
        names: BTreeMap<Incarnation, Name>,
    ) {
        let now = Instant::now();
        if let Some(under_way) = &mut self.under_way {
            under_way.stage = Stage::Working(Box::new(Work {
                plan,
                change,
                candidate,
                version,
                names,
                troubles: BTreeMap::new(),
                until: now + self.settings.prepare_max,
                next_hold: now + self.settings.hold_max / HOLDS,
                generation: 0,
            }));
        }
    }

    pub(super) fn working(&mut self) -> Option<(&mut Work, PeerId, u64)> {
        let under_way = self.under_way.as_mut()?;
        match &mut under_way.stage {
            Stage::Working(work) => Some((work, under_way.peer, under_way.number)),
            Stage::Waiting | Stage::Obtaining(_) => None,
        }
    }

    pub(super) async fn event(&mut self, event: Event) {
        if let Some((work, ..)) = self.working() {
            let acts = work.plan.on(event);
            self.act(acts).await;
        }
    }

    /// Does what the plan says, and what it says to that.
    pub(super) async fn act(&mut self, acts: Vec<Act>) {
        let mut acts = std::collections::VecDeque::from(acts);
        while let Some(act) = acts.pop_front() {
            match act {
                Act::Prepare(worker) => self.send_prepare(worker),
                Act::Discard(worker) => {
                    if let Some(under_way) = &self.under_way
                        && let Some(peer) = self.worker(worker)
                    {
                        peer.send(Deploy::Discard {
                            order: under_way.order,
                        });
                    }
                }
                Act::Write => acts.extend(self.write().await),
                Act::Fail(cause) => return self.fail_for(cause).await,
                Act::Done(workers) => return self.done(workers).await,
            }
        }
    }

    pub(super) fn send_prepare(&mut self, worker: Incarnation) {
        let Some(under_way) = &self.under_way else {
            return;
        };
        let Stage::Working(work) = &under_way.stage else {
            return;
        };
        // A worker without a link is told lost by a message.
        if let Some((candidate, _)) = &work.candidate
            && let Some(peer) = self.worker(worker)
        {
            peer.send(Deploy::Prepare {
                order: under_way.order,
                tenant: under_way.tenant.clone(),
                version: candidate.version.clone(),
                source: candidate.source.clone(),
                bytes: candidate.bytes,
                canary: candidate.canary.clone(),
            });
        }
    }

    /// The decision.
    pub(super) async fn write(&mut self) -> Vec<Act> {
        let Some(under_way) = &self.under_way else {
            return Vec::new();
        };
        let Stage::Working(work) = &under_way.stage else {
            return Vec::new();
        };
        let tenant = under_way.tenant.clone();
        let Some(change) = work.change.clone() else {
            return Vec::new();
        };
        let written = self.decide(&tenant, change).await;
        let until = Instant::now() + self.settings.switch_max;
        let Some((work, peer, number)) = self.working() else {
            return Vec::new();
        };
        let generation = match written {
            Ok(generation) => generation,
            Err(reason) => return work.plan.on(Event::NotWritten(reason)),
        };
        work.generation = generation;
        work.until = until;
        let acts = work.plan.on(Event::Written);
        self.progress(peer, number, Progress::Decided { generation });
        acts
    }
}
