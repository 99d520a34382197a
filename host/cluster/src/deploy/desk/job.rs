//! The order that is carried out: waits for the workers' return after a start, gets the bytes, then
//! does what its plan says.

use std::collections::BTreeMap;

use tidegate_wire::Name;
use tidegate_wire::deploy::{Deploy, DeployError, Order, Progress, Step, reason};
use tidegate_wire::id::Incarnation;
use tokio::time::Instant;

use super::Mail;
use super::orders::{Target, resolve};
use super::room::{Peer, Room};
use crate::deploy::change::{Candidate, Change};
use crate::deploy::converge::{Now, follows};
use crate::deploy::plan::{Act, Cause, Event, Plan};
use crate::deploy::store::Pin;
use crate::deploy::transfer::{FetchError, From, PeerId};

/// How many signs of life a worker gets in the time that it holds what it has prepared.
const HOLDS: u32 = 4;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) tenant: Name,
    /// Whom to tell.
    peer: PeerId,
    number: u64,
    /// The desk's number of it.
    order: u64,
    asked: Order,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// For workers to find the way back.
    Waiting,
    /// For the bytes.
    Obtaining(Box<(Candidate, Change)>),
    Working(Box<Work>),
}

#[derive(Debug)]
struct Work {
    plan: Plan,
    change: Change,
    /// What is to be prepared, kept for as long as the pin lives.
    candidate: Option<(Candidate, Pin)>,
    /// What the tenant runs in the end.
    version: Name,
    /// The workers, also those that are lost.
    names: BTreeMap<Incarnation, Name>,
    troubles: BTreeMap<Incarnation, String>,
    until: Instant,
    next_hold: Instant,
    /// That of the decision.
    generation: u64,
}

impl Job {
    /// When something is to be done without any mail.
    pub(super) fn deadline(&self, opens: Instant) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting => Some(opens),
            Stage::Obtaining(_) => None,
            Stage::Working(work) if work.plan.is_preparing() => {
                Some(work.until.min(work.next_hold))
            }
            Stage::Working(work) => Some(work.until),
        }
    }
}

impl Room {
    pub(super) async fn job_order(&mut self, peer: PeerId, number: u64, asked: Order) {
        if let Some(job) = &self.job {
            let tenant = job.tenant.clone();
            let reason = DeployError::Busy { tenant };
            return self.progress(peer, number, Progress::Failed { reason });
        }
        self.orders = self.orders.wrapping_add(1);
        let tenant = asked.tenant().clone();
        tracing::info!(%tenant, by = %asked.by(), "an order has come");
        self.job = Some(Job {
            tenant,
            peer,
            number,
            order: self.orders,
            asked,
            stage: Stage::Waiting,
        });
        // What can be refused is refused at once.
        if let Some(job) = &self.job
            && let Err(error) = resolve(&job.asked, &self.store.desired())
        {
            return self.fail(error).await;
        }
        self.job_in_time().await;
    }

    /// Does what the clock says.
    pub(super) async fn job_in_time(&mut self) {
        let now = Instant::now();
        let hold = self.settings.hold_max / HOLDS;
        let Some(job) = &mut self.job else {
            return;
        };
        match &mut job.stage {
            Stage::Waiting if now >= self.opens => self.begin().await,
            Stage::Waiting | Stage::Obtaining(_) => {}
            Stage::Working(work) if work.until <= now => self.event(Event::Expired).await,
            Stage::Working(work) if work.plan.is_preparing() && work.next_hold <= now => {
                work.next_hold = now + hold;
                let order = job.order;
                let workers: Vec<Incarnation> = work.names.keys().copied().collect();
                for peer in workers.iter().filter_map(|it| self.worker(*it)) {
                    peer.send(Deploy::Hold { order });
                }
            }
            Stage::Working(_) => {}
        }
    }

    async fn begin(&mut self) {
        let Some(job) = &mut self.job else {
            return;
        };
        let target = match resolve(&job.asked, &self.store.desired()) {
            Ok(target) => target,
            Err(error) => return self.fail(error).await,
        };
        match target {
            Target::Nothing {
                generation,
                version,
            } => {
                let tenant = job.tenant.clone();
                let runs = |it: &&Peer| self.has_followed(it, &tenant);
                let workers = u32::try_from(self.workers().filter(runs).count());
                let done = Progress::Done {
                    generation,
                    version,
                    workers: workers.unwrap_or(u32::MAX),
                };
                self.end(done).await;
            }
            Target::Decide { change, version } => {
                let workers = self.plan_workers();
                let (plan, acts) = Plan::at_once(workers.keys().copied());
                self.work(plan, change, None, version, workers);
                self.act(acts).await;
            }
            Target::Prepare {
                candidate,
                change,
                upload,
            } => {
                let (peer, order) = (job.peer, job.order);
                if let Err(error) = self.ready() {
                    return self.fail(error).await;
                }
                let from = if upload {
                    From::Only(peer)
                } else {
                    From::Anyone
                };
                let (exchange, mail) = (self.exchange.clone(), self.mail.clone());
                let (version, bytes) = (candidate.version.clone(), candidate.bytes);
                if let Some(job) = &mut self.job {
                    job.stage = Stage::Obtaining(Box::new((candidate, change)));
                }
                tokio::spawn(async move {
                    let obtained = exchange.obtain(&version, bytes, from).await;
                    let outcome = obtained.map(|it| it.pin);
                    // The desk may be gone.
                    let _ = mail.send(Mail::Obtained { order, outcome }).await;
                });
            }
        }
    }

    /// Whether there are workers and all know the tenant.
    fn ready(&self) -> Result<(), DeployError> {
        let Some(job) = &self.job else {
            return Ok(());
        };
        if self.workers().next().is_none() {
            return Err(DeployError::NoWorker);
        }
        match self.workers().find(|it| it.running(&job.tenant).is_none()) {
            Some(peer) => Err(DeployError::TenantUnknown {
                tenant: job.tenant.clone(),
                worker: peer.node.name.clone(),
            }),
            None => Ok(()),
        }
    }

    pub(super) async fn job_obtained(&mut self, order: u64, outcome: Result<Pin, FetchError>) {
        let Some(job) = self.job.as_mut().filter(|job| job.order == order) else {
            return;
        };
        let upload = matches!(job.asked, Order::Deploy { .. });
        let stage = std::mem::replace(&mut job.stage, Stage::Waiting);
        let Stage::Obtaining(wanted) = stage else {
            job.stage = stage;
            return;
        };
        let (candidate, change) = *wanted;
        let (peer, number, version) = (job.peer, job.number, candidate.version.clone());
        let pin = match outcome {
            Ok(pin) => pin,
            Err(error) if upload => {
                return self.fail(DeployError::Upload(reason(error.to_string()))).await;
            }
            Err(_) => return self.fail(DeployError::NotKept { version }).await,
        };
        if upload {
            let bytes = candidate.bytes;
            self.progress(peer, number, Progress::Uploaded { bytes });
        }
        if let Err(error) = self.ready() {
            return self.fail(error).await;
        }
        let workers = self.plan_workers();
        let (plan, acts) = Plan::prepare(workers.keys().copied());
        self.work(plan, change, Some((candidate, pin)), version, workers);
        self.act(acts).await;
    }

    fn plan_workers(&self) -> BTreeMap<Incarnation, Name> {
        let named = |it: &Peer| (it.node.incarnation, it.node.name.clone());
        self.workers().map(named).collect()
    }

    fn work(
        &mut self,
        plan: Plan,
        change: Change,
        candidate: Option<(Candidate, Pin)>,
        version: Name,
        names: BTreeMap<Incarnation, Name>,
    ) {
        let now = Instant::now();
        if let Some(job) = &mut self.job {
            job.stage = Stage::Working(Box::new(Work {
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

    fn working(&mut self) -> Option<(&mut Work, PeerId, u64)> {
        let job = self.job.as_mut()?;
        match &mut job.stage {
            Stage::Working(work) => Some((work, job.peer, job.number)),
            Stage::Waiting | Stage::Obtaining(_) => None,
        }
    }

    async fn event(&mut self, event: Event) {
        if let Some((work, ..)) = self.working() {
            let acts = work.plan.on(event);
            self.act(acts).await;
        }
    }

    /// Does what the plan says, and what it says to that.
    async fn act(&mut self, acts: Vec<Act>) {
        let mut acts = std::collections::VecDeque::from(acts);
        while let Some(act) = acts.pop_front() {
            match act {
                Act::Prepare(worker) => self.send_prepare(worker),
                Act::Discard(worker) => {
                    if let Some(job) = &self.job
                        && let Some(peer) = self.worker(worker)
                    {
                        peer.send(Deploy::Discard { order: job.order });
                    }
                }
                Act::Write => acts.extend(self.write().await),
                Act::Fail(cause) => return self.fail_for(cause).await,
                Act::Done(workers) => return self.done(workers).await,
            }
        }
    }

    fn send_prepare(&mut self, worker: Incarnation) {
        let Some(job) = &self.job else {
            return;
        };
        let Stage::Working(work) = &job.stage else {
            return;
        };
        // A worker without a link is told lost by mail.
        if let Some((candidate, _)) = &work.candidate
            && let Some(peer) = self.worker(worker)
        {
            peer.send(Deploy::Prepare {
                order: job.order,
                tenant: job.tenant.clone(),
                version: candidate.version.clone(),
                source: candidate.source.clone(),
                bytes: candidate.bytes,
                canary: candidate.canary.clone(),
            });
        }
    }

    /// The decision.
    async fn write(&mut self) -> Vec<Act> {
        let Some(job) = &self.job else {
            return Vec::new();
        };
        let Stage::Working(work) = &job.stage else {
            return Vec::new();
        };
        let (tenant, change) = (job.tenant.clone(), work.change.clone());
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

    /// A worker has told what it runs.
    pub(super) async fn job_status(&mut self, peer: PeerId) {
        let Some(job) = &self.job else {
            return;
        };
        let Stage::Working(work) = &job.stage else {
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
        if self.has_followed(peer, &job.tenant) {
            self.step(worker, Step::Switched);
            return self.event(Event::Switched(worker)).await;
        }
        let trouble = peer.running(&job.tenant);
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
    fn has_followed(&self, peer: &Peer, tenant: &Name) -> bool {
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

    pub(super) fn job_step(&mut self, peer: PeerId, order: u64, step: Step) {
        let step = match step {
            Step::Failed(text) => Step::Failed(reason(text)),
            Step::Fetched | Step::Compiled | Step::Started | Step::Switched => step,
        };
        if let Some(worker) = self.of_order(peer, order) {
            self.step(worker, step);
        }
    }

    pub(super) async fn job_prepared(
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
    fn of_order(&self, peer: PeerId, order: u64) -> Option<Incarnation> {
        let current = self.job.as_ref().is_some_and(|job| job.order == order);
        let peer = self.peers.get(&peer).filter(|_| current)?;
        Some(peer.node.incarnation)
    }

    fn step(&mut self, worker: Incarnation, step: Step) {
        let Some((work, peer, number)) = self.working() else {
            return;
        };
        if let Some(worker) = work.names.get(&worker).cloned() {
            self.progress(peer, number, Progress::Worker { worker, step });
        }
    }

    pub(super) async fn job_lost(&mut self, worker: Incarnation) {
        if let Some((work, ..)) = self.working()
            && !work.plan.is_undecided()
            && work.plan.awaited().contains(&worker)
        {
            let text = "lost after the decision: it switches when it is back";
            self.step(worker, Step::Failed(text.to_owned()));
        }
        self.event(Event::Lost(worker)).await;
    }

    /// A version was taken back everywhere while the order that brought it was being finished.
    pub(super) fn job_taken_back(&mut self, tenant: &Name, version: &Name, why: &str) {
        let Some((work, peer, number)) = self.working() else {
            return;
        };
        let decided = !work.plan.is_undecided() && work.version == *version;
        if decided && self.job.as_ref().is_some_and(|job| job.tenant == *tenant) {
            let reason = DeployError::TakenBack {
                version: version.clone(),
                reason: why.to_owned(),
            };
            self.progress(peer, number, Progress::Failed { reason });
            self.job = None;
        }
    }

    async fn done(&mut self, workers: u32) {
        let Some((work, ..)) = self.working() else {
            return;
        };
        let done = Progress::Done {
            generation: work.generation,
            version: work.version.clone(),
            workers,
        };
        self.end(done).await;
    }

    async fn fail_for(&mut self, cause: Cause) {
        let seconds = self.settings.prepare_max.as_secs();
        let Some((work, ..)) = self.working() else {
            return;
        };
        let name = |worker: Incarnation| -> Name {
            let name = work.names.get(&worker).cloned();
            name.unwrap_or_else(|| worker.to_string().into())
        };
        let error = match cause {
            Cause::Refused(worker, reason) => DeployError::Refused {
                worker: name(worker),
                reason,
            },
            Cause::Lost(worker) => DeployError::WorkerLost {
                worker: name(worker),
            },
            Cause::TooSlow(worker) => DeployError::TooSlow {
                worker: name(worker),
                seconds,
            },
            Cause::NotWritten(text) => DeployError::Disk(reason(text)),
        };
        let candidate = work.candidate.as_ref().map(|(it, _)| it.clone());
        let tried = matches!(work.change, Change::Serve(_));
        let written = !matches!(error, DeployError::Disk(_));
        if let Some(candidate) = candidate.filter(|_| tried && written)
            && let Some(tenant) = self.job.as_ref().map(|job| job.tenant.clone())
        {
            let failed = Change::Failed(candidate, error.to_string());
            // The command is told anyhow; the history lacks it.
            let _ = self.decide(&tenant, failed).await;
        }
        self.fail(error).await;
    }

    async fn fail(&mut self, reason: DeployError) {
        self.end(Progress::Failed { reason }).await;
    }

    async fn end(&mut self, last: Progress) {
        let Some(job) = self.job.take() else {
            return;
        };
        let (tenant, by) = (&job.tenant, job.asked.by());
        if let Progress::Failed { reason } = &last {
            tracing::warn!(%tenant, %by, %reason, "an order was not carried out");
        } else {
            tracing::info!(%tenant, %by, "an order was carried out");
        }
        self.progress(job.peer, job.number, last);
        // With its pin: what never served is not kept.
        drop(job);
        self.store.tidy().await;
    }

    /// The desk ends: who waits is told.
    pub(super) fn stop_job(&mut self) {
        if let Some(job) = self.job.take() {
            let reason = DeployError::Stopping;
            self.progress(job.peer, job.number, Progress::Failed { reason });
        }
    }
}
