//! The agent's one task: what is desired, what runs, what is prepared, and who is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tidegate_link::LinkSender;
use tidegate_link::deadline;
use tidegate_link::net::Backoff;
use tidegate_wire::Name;
use tidegate_wire::deploy::{Deploy, Deployed, Desired, Release, Running, reason};
use tidegate_wire::id::Incarnation;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::preparation::{Preparation, Stage};
use super::steps::{self, Tools};
use super::{AgentMessage, AgentState, MESSAGES_MAX};
use crate::converge::{Next, Now, next};
use crate::keeping::{Keeping, retries};
use crate::store::Pin;
use crate::transfer::Exchange;
use crate::uplink::News;
use crate::{DeploySettings, Deployables, Serving, Store, TakenBack};

/// A coordinator, as this worker sees it.
#[derive(Debug, Default)]
pub(super) struct CoordinatorLink {
    pub(super) sender: Option<LinkSender>,
    /// The state that it has told or was told since its link is there.
    pub(super) known: Option<(u64, Incarnation)>,
    /// The status that it was told.
    pub(super) told: Option<(u64, Vec<Running>)>,
}

/// Why a tenant does not run what is desired.
pub(super) struct Trouble {
    next: Next,
    pub(super) text: String,
    again: Instant,
    backoff: Backoff,
}

/// The agent's state.
pub(super) struct AgentTask {
    pub(super) store: Store,
    exchange: Exchange,
    pub(super) deployables: Arc<dyn Deployables>,
    pub(super) settings: DeploySettings,
    inbox: mpsc::Sender<AgentMessage>,
    seed: u64,
    pub(super) coordinators: Vec<CoordinatorLink>,
    /// A register has told what is desired.
    heard: bool,
    pub(super) preparation: Option<Preparation>,
    /// Tenants that something is being done for, with what.
    pub(super) working: BTreeSet<Name>,
    trying: BTreeMap<Name, Next>,
    pub(super) troubles: BTreeMap<Name, Trouble>,
    /// The releases that each tenant runs or ran when nothing was left to do.
    reached: BTreeMap<Name, Vec<u64>>,
    /// What was taken back here, until the state no longer wants it.
    pub(super) taken_back: BTreeMap<Name, (TakenBack, u64)>,
    /// When that is reported again: the register could not write it down, or had not heard.
    report_at: Option<Instant>,
    report_retries: Backoff,
    pub(super) keeping: Keeping,
    pub(super) lags: watch::Sender<Vec<String>>,
}

impl fmt::Debug for AgentTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentTask")
            .field("preparation", &self.preparation)
            .finish_non_exhaustive()
    }
}

impl AgentTask {
    pub(super) fn new(
        coordinators: usize,
        store: Store,
        exchange: Exchange,
        deployables: Arc<dyn Deployables>,
        settings: DeploySettings,
        inbox: mpsc::Sender<AgentMessage>,
        seed: u64,
    ) -> Self {
        Self {
            keeping: Keeping::new(store.clone(), &settings, seed).holding(),
            store,
            exchange,
            deployables,
            settings,
            inbox,
            seed,
            coordinators: (0..coordinators)
                .map(|_| CoordinatorLink::default())
                .collect(),
            heard: false,
            preparation: None,
            working: BTreeSet::new(),
            trying: BTreeMap::new(),
            troubles: BTreeMap::new(),
            reached: BTreeMap::new(),
            taken_back: BTreeMap::new(),
            report_at: None,
            report_retries: retries(&settings, seed),
            lags: watch::Sender::new(Vec::new()),
        }
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<AgentMessage>,
        told: watch::Sender<AgentState>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        self.look_at_all();
        loop {
            let state = AgentState {
                heard: self.heard,
                settled: self.working.is_empty(),
            };
            told.send_if_modified(|told| std::mem::replace(told, state) != state);
            self.tell();
            let preparation = self
                .preparation
                .as_ref()
                .map(|preparation| preparation.until);
            let idle = |tenant: &Name| !self.working.contains(tenant);
            let troubles = self.troubles.iter().filter(|(tenant, _)| idle(tenant));
            // What runs may have changed without any message.
            let look = Some(Instant::now() + self.settings.link.heartbeat);
            let deadline = troubles
                .map(|(_, it)| it.again)
                .chain(preparation)
                .chain(look);
            let deadline = deadline
                .chain(self.keeping.deadline())
                .chain(self.report_at);
            let deadline = deadline.min();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                read = messages.recv_many(&mut batch, MESSAGES_MAX) => if read == 0 { return },
                () = deadline::reached(deadline) => {}
            }
            for message in batch.drain(..) {
                self.read(message).await;
            }
            if self.keeping.in_time().await {
                self.follow();
            }
            self.in_time();
        }
    }

    async fn read(&mut self, message: AgentMessage) {
        match message {
            AgentMessage::News(coordinator, News::Up(sender)) => {
                if let Some(coordinator) = self.coordinators.get_mut(coordinator) {
                    *coordinator = CoordinatorLink {
                        sender: Some(sender),
                        ..CoordinatorLink::default()
                    };
                }
                if coordinator == 0 {
                    self.report_all();
                }
            }
            AgentMessage::News(coordinator, News::Down) => {
                if let Some(coordinator) = self.coordinators.get_mut(coordinator) {
                    *coordinator = CoordinatorLink::default();
                }
            }
            AgentMessage::News(coordinator, News::Said(frame)) => {
                self.hear(coordinator, frame).await
            }
            AgentMessage::TakenBack(it) => self.take_back(it),
            // What runs is told after every message.
            AgentMessage::Changed => {}
            AgentMessage::Prepared {
                tenant,
                version,
                order,
                outcome,
            } => self.end_prepare(&tenant, version, order, outcome),
            AgentMessage::Stepped { tenant, outcome } => self.stepped(&tenant, outcome),
        }
    }

    async fn hear(&mut self, coordinator: usize, frame: Deploy) {
        match frame {
            Deploy::State(desired) => self.learn(coordinator, desired).await,
            ask @ Deploy::Prepare { .. } => self.prepare(coordinator, ask),
            Deploy::Hold { order } => self.hold((coordinator, order)),
            Deploy::Discard { order } => self.discard((coordinator, order)),
            Deploy::Enrol { .. }
            | Deploy::Status { .. }
            | Deploy::TakenBack { .. }
            | Deploy::Order { .. }
            | Deploy::Progress { .. }
            | Deploy::Ask { .. }
            | Deploy::Answer { .. }
            | Deploy::Step { .. }
            | Deploy::Prepared { .. }
            | Deploy::Fetch { .. }
            | Deploy::Chunk { .. }
            | Deploy::Missing { .. } => {
                tracing::warn!("a register sent a frame that is not for workers");
            }
        }
    }

    async fn learn(&mut self, coordinator: usize, desired: Desired) {
        if let Err(error) = desired.check() {
            tracing::warn!(%error, "a register told an impossible state");
            return;
        }
        self.heard = true;
        if let Some(coordinator) = self.coordinators.get_mut(coordinator) {
            coordinator.known = Some(desired.rank());
        }
        self.keeping.adopt(desired).await;
        self.follow();
    }

    /// A state was told or is kept at last.
    fn follow(&mut self) {
        let desired = self.store.desired();
        let known = |tenant: &Name| desired.tenants.contains_key(tenant);
        self.reached.retain(|tenant, _| known(tenant));
        self.taken_back.retain(|tenant, (it, generation)| {
            let deployed = desired.tenants.get(tenant);
            deployed.is_some_and(|deployed| {
                may_run(deployed).any(|release| {
                    (&release.version, release.generation) == (&it.version, *generation)
                })
            })
        });
        // Who can now give what was missing?
        self.look_again();
    }

    /// Tries at once whatever has not worked.
    pub(super) fn look_again(&mut self) {
        let now = Instant::now();
        for trouble in self.troubles.values_mut() {
            trouble.again = now;
        }
        self.look_at_all();
    }

    fn look_at_all(&mut self) {
        let desired = self.store.desired();
        for tenant in desired.tenants.keys() {
            self.look(tenant);
        }
    }

    pub(super) fn knows(&self, tenant: &Name) -> bool {
        self.serving(tenant).is_some()
    }

    fn serving(&self, tenant: &Name) -> Option<Serving> {
        let tenants = self.deployables.tenants();
        tenants.into_iter().find(|it| it.tenant == *tenant)
    }

    fn next(&self, tenant: &Name) -> Next {
        let desired = self.store.desired();
        let (Some(deployed), Some(now)) = (desired.tenants.get(tenant), self.serving(tenant))
        else {
            return Next::Nothing;
        };
        let step = next(
            deployed,
            Now {
                serving: now.serving.as_ref(),
                canary: now.canary.as_ref(),
            },
        );
        // What failed here is not tried again before the cluster has decided about it.
        if let Next::Serve {
            version,
            generation,
            ..
        } = &step
            && let Some((it, rejected)) = self.taken_back.get(tenant)
            && it.version == *version
            && rejected == generation
        {
            return Next::Nothing;
        }
        step
    }

    /// Begins the next thing that is to be done for a tenant, if nothing is being done for it.
    pub(super) fn look(&mut self, tenant: &Name) {
        if self.working.contains(tenant) {
            return;
        }
        let next = self.next(tenant);
        if next == Next::Nothing {
            self.troubles.remove(tenant);
            self.reach(tenant);
            if self.is_unnamed(tenant) {
                self.deployables.unnamed(tenant.clone());
            }
            return self.begin_prepare(tenant);
        }
        if self.has_left(tenant, &next) && !self.troubles.contains_key(tenant) {
            let text = "what was reached serves no longer";
            self.trouble(tenant, next.clone(), text.to_owned());
        }
        // What went wrong with another version says nothing about this one.
        self.troubles
            .retain(|it, trouble| it != tenant || trouble.next == next);
        let ready_until = self.ready_until(tenant);
        if let Some(trouble) = self.troubles.get_mut(tenant) {
            // What is ready for an order that is not decided yet is not given up for another try.
            trouble.again = ready_until.unwrap_or(trouble.again);
            if trouble.again > Instant::now() {
                return self.begin_prepare(tenant);
            }
        }
        let pin = self.ready_for(tenant, &next);
        if pin.is_none() && matches!(next, Next::Serve { .. }) {
            self.displace(tenant);
        }
        self.working.insert(tenant.clone());
        self.trying.insert(tenant.clone(), next.clone());
        tokio::spawn(steps::step(self.tools(), tenant.clone(), next, pin));
    }

    /// Whether the cluster had versions for the tenant and names none now.
    fn is_unnamed(&self, tenant: &Name) -> bool {
        let desired = self.store.desired();
        let deployed = desired.tenants.get(tenant);
        deployed.is_some_and(|it| it.current().is_none() && it.canary().is_none())
    }

    /// The tenant runs what is desired.
    fn reach(&mut self, tenant: &Name) {
        let desired = self.store.desired();
        if let Some(deployed) = desired.tenants.get(tenant) {
            let canary = deployed.canary().map(|(release, _)| release);
            let reached = deployed.current().into_iter().chain(canary);
            let reached = reached.map(|release| release.generation).collect();
            self.reached.insert(tenant.clone(), reached);
        }
    }

    /// Whether a release is to be served that ran here already: it was probably taken back this
    /// moment, and word of that is on its way. It is started again only if there comes none.
    fn has_left(&self, tenant: &Name, next: &Next) -> bool {
        let reached = self.reached.get(tenant);
        match next {
            Next::Serve { generation, .. } => reached.is_some_and(|it| it.contains(generation)),
            Next::Nothing | Next::Promote(_) | Next::GiveUp(..) => false,
        }
    }

    /// What is prepared, if it is what is to be served.
    fn ready_for(&mut self, tenant: &Name, next: &Next) -> Option<Pin> {
        let Next::Serve {
            version, canary, ..
        } = next
        else {
            return None;
        };
        let preparation = self.preparation.take_if(|preparation| {
            let same = preparation.tenant == *tenant
                && preparation.version == *version
                && preparation.canary == *canary;
            same && matches!(preparation.stage, Stage::Ready(_))
        })?;
        match preparation.stage {
            Stage::Ready(pin) => Some(pin),
            Stage::Queued | Stage::Preparing => None,
        }
    }

    pub(super) fn tools(&self) -> Tools {
        Tools {
            deployables: self.deployables.clone(),
            exchange: self.exchange.clone(),
            inbox: self.inbox.clone(),
        }
    }

    fn stepped(&mut self, tenant: &Name, outcome: Result<(), String>) {
        self.working.remove(tenant);
        let tried = self.trying.remove(tenant);
        let text = match outcome {
            Err(text) => Some(reason(text)),
            // It would be tried for ever without a rest.
            Ok(()) if tried.as_ref() == Some(&self.next(tenant)) => {
                Some("it was switched to, and does not serve".to_owned())
            }
            Ok(()) => None,
        };
        match (text, tried) {
            (Some(text), Some(next)) => self.trouble(tenant, next, text),
            (Some(_), None) | (None, _) => {
                self.troubles.remove(tenant);
            }
        }
        self.look(tenant);
    }

    fn trouble(&mut self, tenant: &Name, next: Next, text: String) {
        let known = self.troubles.remove(tenant).filter(|it| it.next == next);
        let mut backoff = known.map_or_else(|| self.retries(), |it| it.backoff);
        let wait = backoff.next();
        tracing::warn!(
            %tenant, reason = text, again_ms = wait.as_millis() as u64,
            "this worker does not run what the cluster is to run"
        );
        let trouble = Trouble {
            next,
            text,
            again: Instant::now() + wait,
            backoff,
        };
        self.troubles.insert(tenant.clone(), trouble);
    }

    fn retries(&self) -> Backoff {
        retries(&self.settings, self.seed)
    }

    fn in_time(&mut self) {
        let now = Instant::now();
        if let Some(preparation) = self
            .preparation
            .as_ref()
            .filter(|preparation| preparation.until <= now)
        {
            let (tenant, version) = (preparation.tenant.clone(), preparation.version.clone());
            tracing::warn!(%tenant, %version, "what was prepared is let go: its register is silent");
            self.abandon();
        }
        if self.report_at.take_if(|at| *at <= now).is_some() {
            self.report_all();
        }
        let due = self.troubles.iter().filter(|(_, it)| it.again <= now);
        let due: Vec<Name> = due.map(|(tenant, _)| tenant.clone()).collect();
        for tenant in due {
            self.look(&tenant);
        }
    }

    fn take_back(&mut self, it: TakenBack) {
        let desired = self.store.desired();
        let deployed = desired.tenants.get(&it.tenant);
        let wanted = deployed
            .and_then(|deployed| may_run(deployed).find(|release| release.version == it.version));
        // A version of the configured file is this worker's own business.
        let Some(release) = wanted else {
            return;
        };
        let generation = release.generation;
        self.taken_back.insert(it.tenant.clone(), (it, generation));
        self.report_retries.reset();
        self.report_all();
    }

    /// Tells the first register what was taken back here, for as long as the state still wants it.
    fn report_all(&mut self) {
        for (it, _) in self.taken_back.values() {
            self.report(it);
        }
        let again = !self.taken_back.is_empty();
        self.report_at = again.then(|| Instant::now() + self.report_retries.next());
    }
}

/// The releases that the cluster's word has brought to where they run: current, canary, or withdrawn and
/// still there.
fn may_run(deployed: &Deployed) -> impl Iterator<Item = &Release> {
    let canary = deployed.canary().map(|(release, _)| release);
    let current = deployed.current().into_iter().chain(canary);
    current.chain(deployed.withdrawn())
}
