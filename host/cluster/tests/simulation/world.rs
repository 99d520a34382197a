//! One run: a cluster, its clients, what goes wrong, and what must hold at the end. Everything
//! follows from the seed.

mod checks;
mod crowd;
mod plan;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub(crate) use plan::Extent;
use plan::Plan;
use tidegate_cluster::gateway::Gateway;

use tidegate_wire::frame::Serving;
use tokio::sync::watch;

use crate::handlers::{Script, serving};
use crate::network::{Host, Net, STEP_MS};
use crate::people::Person;
use crate::process::{Birth, DRAIN, LEASE, Process, Shown, gateway, register, worker};
use crate::record::Record;
use crate::voices;

/// The cluster must be whole by then.
const START_MS: u64 = 4_000;
/// Everything must be quiet so long after the last fault.
const SETTLE_MS: u64 = 8_000;
/// All messages that wait must be answered by then, also one after the other.
const ANSWER_MS: u64 = 60_000;
/// Other generators for the same seed.
const MORE: u64 = 0x00C0_FFEE_0000_0000;
const BULK: u64 = 0x000B_0CC0_0000_0000;
const TIMERS: u64 = 0x000C_10C0_0000_0000;
const TASKS: u64 = 0x0007_A5C0_0000_0000;
const KEYS: u64 = 0x0000_4E75_0000_0000;

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Register,
    Worker,
    Gateway,
}

/// A machine with a process on it, or none at the moment.
pub(crate) struct Machine {
    pub(crate) kind: Kind,
    /// The machine that it shares with others, if it says so.
    pub(crate) place: Option<usize>,
    process: Option<Process>,
    shown: Option<Rc<Shown>>,
    /// What its handlers serve.
    pub(crate) serving: watch::Sender<Arc<Vec<Serving>>>,
    pub(crate) life: u64,
    /// When its worker was told to stop.
    pub(crate) stopped_ms: Option<u64>,
    /// Not stepped.
    pub(crate) frozen: bool,
    /// Suspended with its clock.
    pub(crate) asleep: bool,
}

impl Machine {
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Its process was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.shown.as_ref().is_some_and(|it| it.stop.is_cancelled())
    }

    pub(crate) fn stop(&self) {
        self.shown.iter().for_each(|it| it.stop.cancel());
    }
}

pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) rng: SmallRng,
    /// For what was added later.
    pub(crate) more: SmallRng,
    /// For what was added after that.
    pub(crate) bulk: SmallRng,
    pub(crate) timers: SmallRng,
    pub(crate) tasks: SmallRng,
    pub(crate) plan: Plan,
    pub(crate) net: Arc<Net>,
    pub(crate) record: Arc<Record>,
    pub(crate) machines: Vec<Machine>,
    people: Vec<Person>,
    pub(crate) due: Vec<(u64, crate::faults::Mend)>,
    /// No custodian can have been lost together with a gateway.
    pub(crate) custodians_safe: bool,
    lives: u64,
    /// When a machine was last lost.
    pub(crate) machine_lost_ms: Option<u64>,
    /// Volatile groups have been dissolved for good.
    pub(crate) dissolved: bool,
    /// Clients that were there from early on until the end.
    pub(crate) stayed: Vec<usize>,
}

/// What must not be.
pub(crate) type Violation = String;

impl World {
    pub(crate) fn new(seed: u64, extent: Extent) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut more = SmallRng::seed_from_u64(seed ^ MORE);
        let mut bulk = SmallRng::seed_from_u64(seed ^ BULK);
        let mut timers = SmallRng::seed_from_u64(seed ^ TIMERS);
        let mut tasks = SmallRng::seed_from_u64(seed ^ TASKS);
        let mut keys = SmallRng::seed_from_u64(seed ^ KEYS);
        let plan = Plan::draw(
            &mut rng,
            (extent >= Extent::More).then_some(&mut more),
            (extent >= Extent::Bulk).then_some(&mut bulk),
            (extent >= Extent::Timers).then_some(&mut timers),
            (extent >= Extent::Tasks).then_some(&mut tasks),
            (extent >= Extent::Keys).then_some(&mut keys),
        );
        let net = Net::new(seed);
        let kinds = std::iter::repeat_n(Kind::Register, plan.registers)
            .chain(std::iter::repeat_n(Kind::Worker, plan.workers))
            .chain(std::iter::repeat_n(Kind::Gateway, plan.gateways));
        let mut others = [0_usize; 2];
        let machines = kinds.map(|kind| Machine {
            kind,
            place: plan.place(kind, &mut others),
            process: None,
            shown: None,
            serving: watch::Sender::new(serving()),
            life: 0,
            stopped_ms: None,
            frozen: false,
            asleep: false,
        });
        Self {
            now_ms: 0,
            rng,
            more,
            bulk,
            timers,
            tasks,
            machines: machines.collect(),
            plan,
            net,
            record: Arc::default(),
            people: vec![],
            due: vec![],
            custodians_safe: true,
            lives: 0,
            machine_lost_ms: None,
            dissolved: false,
            stayed: vec![],
        }
    }

    /// The whole run.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.log(|| format!("{:?}", self.plan));
        for host in 0..self.machines.len() {
            self.start(host);
        }
        self.until(START_MS, "the cluster to be whole", Self::is_whole)?;
        for host in self.hosts(Kind::Gateway) {
            let people = self.rng.random_range(1..=3) + self.plan.bulk.people;
            self.arrive(host, true);
            (0..people).for_each(|_| self.arrive(host, false));
        }
        self.until(START_MS, "all clients to be welcomed", |world| {
            world.people.iter().all(|it| it.id.is_some())
        })?;
        for person in self.people.iter_mut().filter(|it| it.monitor) {
            person.say("watch", &self.record, self.now_ms);
        }
        self.until(START_MS, "the monitors to be answered", Self::is_answered)?;
        self.settle_in()?;
        self.record.set_rough(self.plan.more.fails);
        let end = self.now_ms + self.plan.chaos_ms;
        while self.now_ms < end {
            self.harm();
            self.harm_more();
            self.harm_bulk();
            self.chat();
            self.step()?;
        }
        self.record.set_rough(false);
        self.heal();
        // A gateway may not know yet that it was declared lost.
        self.pass(4 * LEASE.as_millis() as u64)?;
        self.until(SETTLE_MS, "the cluster to be whole again", Self::is_whole)?;
        self.until(ANSWER_MS, "all messages to be answered", Self::is_answered)?;
        self.until(
            SETTLE_MS,
            "everything sent to others to arrive",
            Self::has_arrived,
        )?;
        self.end()
    }

    fn end(&mut self) -> Result<(), Violation> {
        self.dissolve()?;
        let here: Vec<_> = (0..self.people.len())
            .filter(|place| self.is_lasting(*place))
            .collect();
        self.stayed = here;
        for person in self
            .people
            .iter_mut()
            .filter(|it| !it.monitor && it.is_here())
        {
            person.leave(&self.record, self.now_ms);
        }
        let told = self.until(SETTLE_MS, "all closes to be told", |it| {
            it.untold().is_empty()
        });
        told.map_err(|wrong| format!("untold {:?}, {wrong}", self.untold()))?;
        // What is told twice may come late.
        self.pass(2 * LEASE.as_millis() as u64)?;
        self.judge()?;
        self.judge_kept()?;
        self.judge_heard()?;
        self.count_ghosts()
    }

    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        self.record.log(self.now_ms, line);
    }

    pub(crate) fn hosts(&self, kind: Kind) -> Vec<Host> {
        let of_kind = |host: &Host| self.machines[*host].kind == kind;
        (0..self.machines.len()).filter(of_kind).collect()
    }

    /// The gateways that run.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = Arc<Gateway>> {
        let shown = self.machines.iter().filter_map(|it| it.shown.as_ref());
        shown.filter_map(|it| it.gateway.borrow().clone())
    }

    /// Starts the process of a host.
    pub(crate) fn start(&mut self, host: Host) {
        self.lives += 1;
        let birth = Birth {
            net: self.net.clone(),
            host,
            incarnation: self.rng.random(),
            registers: self.hosts(Kind::Register),
            place: self.machines[host].place,
            now_ms: self.now_ms,
        };
        let (kind, life) = (self.machines[host].kind, self.lives);
        let bounds = self.plan.more.bounds;
        self.log(|| format!("host {host} starts as {kind:?}, life {life}"));
        let (returns, seed) = (self.plan.returns, birth.incarnation);
        let (process, shown) = match kind {
            Kind::Register => (register(birth), None),
            Kind::Worker => {
                let record = self.record.clone();
                let serving = self.machines[host].serving.clone();
                let script = move |clock| {
                    let script = Script::new(host, clock, record, seed, returns, serving);
                    Arc::new(script) as _
                };
                let (process, shown) = worker(birth, bounds, script);
                (process, Some(shown))
            }
            Kind::Gateway => {
                let (process, shown) = gateway(birth, self.plan.routing.clone(), bounds);
                (process, Some(shown))
            }
        };
        let machine = &mut self.machines[host];
        (machine.process, machine.shown, machine.life) = (Some(process), shown, life);
    }

    /// Ends the process of a host at once; with `silently` nobody is told by the network.
    pub(crate) fn kill(&mut self, host: Host, silently: bool) {
        self.log(|| format!("host {host} dies, silently {silently}"));
        self.net.gone(host, silently);
        let machine = &mut self.machines[host];
        machine.frozen = false;
        machine.asleep = false;
        machine.shown = None;
        machine.stopped_ms = None;
        drop(machine.process.take());
    }

    /// Whether every gateway has a worker that stays and serves the tenant, now that one has left.
    fn has_heirs(&self) -> bool {
        let up = self.machines.iter().filter(|it| it.is_up());
        let leaving = up.filter(|it| {
            it.kind == Kind::Worker && (it.is_stopping() || it.serving.borrow().is_empty())
        });
        let leaving = leaving.count();
        self.machines.iter().filter(|it| it.is_up()).all(|it| {
            let gateway = it.shown.as_ref().map(|shown| shown.gateway.borrow());
            let gateway = gateway.as_ref().and_then(|gateway| gateway.as_ref());
            // It does not know yet that those are gone.
            gateway.is_none_or(|gateway| *gateway.workers().borrow() > leaving)
        })
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.mend();
        self.now_ms += STEP_MS;
        self.net.tick(self.now_ms);
        for host in 0..self.machines.len() {
            let machine = &self.machines[host];
            if let Some(process) = machine.process.as_ref().filter(|_| !machine.frozen) {
                let (now_ms, asleep) = (self.now_ms, machine.asleep);
                let step = || process.step(now_ms, asleep);
                voices::speaking(host, process.clock.clone(), &self.record, step);
                self.machines[host].asleep = false;
            }
            let shown = self.machines[host].shown.as_ref();
            if shown.is_some_and(|shown| shown.ended.get()) {
                self.log(|| format!("host {host} has ended"));
                let stopped = self.machines[host].stopped_ms.take();
                // It left although somebody still counted on it.
                let in_time = |stopped| self.now_ms < stopped + DRAIN.as_millis() as u64;
                self.custodians_safe &= stopped.is_none_or(in_time);
                self.custodians_safe &= stopped.is_none() || self.has_heirs();
                self.kill(host, false);
                self.restart_later(host);
            }
        }
        for person in &mut self.people {
            person.read(&self.record, self.now_ms)?;
        }
        Ok(())
    }

    fn pass(&mut self, ms: u64) -> Result<(), Violation> {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.step()?;
        }
        Ok(())
    }

    fn until(
        &mut self,
        within_ms: u64,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        let end = self.now_ms + within_ms;
        while !condition(self) {
            if self.now_ms > end {
                return Err(format!("in vain: {what}{}", self.explain()));
            }
            self.step()?;
        }
        Ok(())
    }

    /// How many closes were told, for the summary.
    pub(crate) fn summary(&self) -> BTreeMap<&'static str, u64> {
        let sum = |of: fn(&Person) -> u64| self.people.iter().map(of).sum();
        BTreeMap::from([
            ("clients", self.people.len() as u64),
            ("answers", sum(|it| it.answered)),
            ("sent on", sum(|it| it.got_from.values().sum())),
            ("closes told", sum(|it| it.closes.len() as u64)),
        ])
    }
}
