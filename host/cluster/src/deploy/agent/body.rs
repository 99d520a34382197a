//! The agent's one task: what is desired, what runs, what is held, and who is told.

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

use super::held::{Held, Stage};
use super::work::{self, Hands};
use super::{MAIL_MAX, Mail, State};
use crate::deploy::converge::{Next, Now, next};
use crate::deploy::keeping::{Keeping, retries};
use crate::deploy::store::Pin;
use crate::deploy::transfer::Exchange;
use crate::deploy::uplink::News;
use crate::deploy::{DeploySettings, Deployables, Serving, Store, TakenBack};

/// A desk, as this worker sees it.
#[derive(Debug, Default)]
pub(super) struct DeskLink {
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
pub(super) struct Body {
    pub(super) store: Store,
    exchange: Exchange,
    pub(super) deployables: Arc<dyn Deployables>,
    pub(super) settings: DeploySettings,
    mail: mpsc::Sender<Mail>,
    seed: u64,
    pub(super) desks: Vec<DeskLink>,
    /// A register has told what is desired.
    heard: bool,
    pub(super) held: Option<Held>,
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

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Body {
    pub(super) fn new(
        desks: usize,
        store: Store,
        exchange: Exchange,
        deployables: Arc<dyn Deployables>,
        settings: DeploySettings,
        mail: mpsc::Sender<Mail>,
        seed: u64,
    ) -> Self {
        Self {
            keeping: Keeping::new(store.clone(), &settings, seed),
            store,
            exchange,
            deployables,
            settings,
            mail,
            seed,
            desks: (0..desks).map(|_| DeskLink::default()).collect(),
            heard: false,
            held: None,
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
        mut letters: mpsc::Receiver<Mail>,
        told: watch::Sender<State>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        self.look_at_all();
        loop {
            let state = State {
                heard: self.heard,
                settled: self.working.is_empty(),
            };
            told.send_if_modified(|told| std::mem::replace(told, state) != state);
            self.tell();
            let held = self.held.as_ref().map(|held| held.until);
            let idle = |tenant: &Name| !self.working.contains(tenant);
            let troubles = self.troubles.iter().filter(|(tenant, _)| idle(tenant));
            // What runs may have changed without any mail.
            let look = Some(Instant::now() + self.settings.link.heartbeat);
            let deadline = troubles.map(|(_, it)| it.again).chain(held).chain(look);
            let deadline = deadline
                .chain(self.keeping.deadline())
                .chain(self.report_at);
            let deadline = deadline.min();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                read = letters.recv_many(&mut batch, MAIL_MAX) => if read == 0 { return },
                () = deadline::reached(deadline) => {}
            }
            for letter in batch.drain(..) {
                self.read(letter).await;
            }
            if self.keeping.in_time().await {
                self.follow();
            }
            self.in_time();
        }
    }

    async fn read(&mut self, letter: Mail) {
        match letter {
            Mail::News(desk, News::Up(sender)) => {
                if let Some(desk) = self.desks.get_mut(desk) {
                    *desk = DeskLink {
                        sender: Some(sender),
                        ..DeskLink::default()
                    };
                }
                if desk == 0 {
                    self.report_all();
                }
            }
            Mail::News(desk, News::Down) => {
                if let Some(desk) = self.desks.get_mut(desk) {
                    *desk = DeskLink::default();
                }
            }
            Mail::News(desk, News::Said(frame)) => self.hear(desk, frame).await,
            Mail::TakenBack(it) => self.take_back(it),
            // What runs is told after every mail.
            Mail::Changed => {}
            Mail::Prepared {
                tenant,
                version,
                order,
                outcome,
            } => self.end_prepare(&tenant, version, order, outcome),
            Mail::Stepped { tenant, outcome } => self.stepped(&tenant, outcome),
        }
    }

    async fn hear(&mut self, desk: usize, frame: Deploy) {
        match frame {
            Deploy::State(desired) => self.learn(desk, desired).await,
            ask @ Deploy::Prepare { .. } => self.prepare(desk, ask),
            Deploy::Hold { order } => self.hold((desk, order)),
            Deploy::Discard { order } => self.discard((desk, order)),
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

    async fn learn(&mut self, desk: usize, desired: Desired) {
        if let Err(error) = desired.check() {
            tracing::warn!(%error, "a register told an impossible state");
            return;
        }
        self.heard = true;
        if let Some(desk) = self.desks.get_mut(desk) {
            desk.known = Some(desired.rank());
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
            return self.begin_prepare(tenant);
        }
        if self.has_left(tenant, &next) && !self.troubles.contains_key(tenant) {
            let text = "what was reached serves no longer";
            self.trouble(tenant, next.clone(), text.to_owned());
        }
        let now = Instant::now();
        let trouble = self.troubles.get(tenant);
        if trouble.is_some_and(|it| it.next == next && it.again > now) {
            return self.begin_prepare(tenant);
        }
        let pin = self.ready_for(tenant, &next);
        if pin.is_none() && matches!(next, Next::Serve { .. }) {
            self.displace(tenant);
        }
        self.working.insert(tenant.clone());
        self.trying.insert(tenant.clone(), next.clone());
        tokio::spawn(work::step(self.hands(), tenant.clone(), next, pin));
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

    /// What is held, if it is what is to be served.
    fn ready_for(&mut self, tenant: &Name, next: &Next) -> Option<Pin> {
        let Next::Serve {
            version, canary, ..
        } = next
        else {
            return None;
        };
        let held = self.held.take_if(|held| {
            let same = held.tenant == *tenant && held.version == *version && held.canary == *canary;
            same && matches!(held.stage, Stage::Ready(_))
        })?;
        match held.stage {
            Stage::Ready(pin) => Some(pin),
            Stage::Queued | Stage::Preparing => None,
        }
    }

    pub(super) fn hands(&self) -> Hands {
        Hands {
            deployables: self.deployables.clone(),
            exchange: self.exchange.clone(),
            mail: self.mail.clone(),
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
        if let Some(held) = self.held.as_ref().filter(|held| held.until <= now) {
            let (tenant, version) = (held.tenant.clone(), held.version.clone());
            tracing::warn!(%tenant, %version, "what was prepared is let go: its register is silent");
            self.let_go();
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
