//! One run: a cluster, its clients, what goes wrong, and what must hold at the end. Everything
//! follows from the seed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tidegate_cluster::gateway::router::Router;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, Query, Selector};

use super::handlers::{Script, tenant};
use super::network::{Host, Net, STEP_MS};
use super::people::Person;
use super::process::{Birth, LEASE, Process, Shown, gateway, register, worker};
use super::record::Record;
use super::voices;

/// The cluster must be whole by then.
const START_MS: u64 = 4_000;
/// Everything must be quiet so long after the last fault.
const SETTLE_MS: u64 = 8_000;
/// Events that a client may have under way.
const UNDER_WAY: u64 = 12;

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
    process: Option<Process>,
    shown: Option<Rc<Shown>>,
    pub(crate) life: u64,
    /// Not stepped.
    pub(crate) frozen: bool,
}

impl Machine {
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }
}

/// What can go wrong in a run, and how the run looks otherwise.
pub(crate) struct Plan {
    pub(crate) registers: usize,
    pub(crate) workers: usize,
    pub(crate) gateways: usize,
    router: Router,
    returns: u32,
    pub(crate) chaos_ms: u64,
    /// Of a thousand steps so many begin with a fault.
    pub(crate) faults: u32,
    pub(crate) kills_gateways: bool,
    pub(crate) kills_workers: bool,
    pub(crate) kills_registers: bool,
    pub(crate) freezes: bool,
    pub(crate) partitions: bool,
}

impl Plan {
    fn draw(rng: &mut SmallRng) -> Self {
        let router = match rng.random_range(0..4) {
            0 => Router::Rand,
            1 => Router::BindRandom,
            _ => Router::Bind,
        };
        Self {
            registers: rng.random_range(1..=2),
            workers: rng.random_range(1..=3),
            gateways: rng.random_range(1..=3),
            router,
            returns: if rng.random_bool(0.3) { 3 } else { 0 },
            chaos_ms: rng.random_range(500..2_000),
            faults: rng.random_range(10..80),
            kills_gateways: rng.random_bool(0.4),
            kills_workers: rng.random_bool(0.6),
            kills_registers: rng.random_bool(0.4),
            freezes: rng.random_bool(0.5),
            partitions: rng.random_bool(0.5),
        }
    }
}

pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) rng: SmallRng,
    pub(crate) plan: Plan,
    pub(crate) net: Arc<Net>,
    pub(crate) record: Arc<Record>,
    pub(crate) machines: Vec<Machine>,
    people: Vec<Person>,
    pub(crate) due: Vec<(u64, super::faults::Mend)>,
    /// No worker was killed, so that no custodian can have been lost together with a gateway.
    pub(crate) custodians_safe: bool,
    lives: u64,
}

/// What must not be.
pub(crate) type Violation = String;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let plan = Plan::draw(&mut rng);
        let net = Net::new(seed);
        let kinds = std::iter::repeat_n(Kind::Register, plan.registers)
            .chain(std::iter::repeat_n(Kind::Worker, plan.workers))
            .chain(std::iter::repeat_n(Kind::Gateway, plan.gateways));
        let machines = kinds.map(|kind| Machine {
            kind,
            process: None,
            shown: None,
            life: 0,
            frozen: false,
        });
        Self {
            now_ms: 0,
            rng,
            machines: machines.collect(),
            plan,
            net,
            record: Arc::default(),
            people: vec![],
            due: vec![],
            custodians_safe: true,
            lives: 0,
        }
    }

    /// The whole run.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        for host in 0..self.machines.len() {
            self.start(host);
        }
        self.until(START_MS, "the cluster to be whole", Self::is_whole)?;
        for host in self.hosts(Kind::Gateway) {
            let people = self.rng.random_range(1..=3);
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
        let end = self.now_ms + self.plan.chaos_ms;
        while self.now_ms < end {
            self.harm();
            self.chat();
            self.step()?;
        }
        self.heal();
        // A gateway may not know yet that it was declared lost.
        self.pass(4 * LEASE.as_millis() as u64)?;
        self.until(SETTLE_MS, "the cluster to be whole again", Self::is_whole)?;
        self.until(SETTLE_MS, "all messages to be answered", Self::is_answered)?;
        self.until(
            SETTLE_MS,
            "everything sent to others to arrive",
            Self::has_arrived,
        )?;
        self.end()
    }

    fn end(&mut self) -> Result<(), Violation> {
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
        self.count_ghosts()
    }

    /// Nobody was closed without reason, and no gateway that lives was told to be lost.
    fn judge(&self) -> Result<(), Violation> {
        for it in self.people.iter().filter(|it| self.lives_on(it)) {
            if it.over && !it.left {
                return Err(format!(
                    "client {} was closed although its gateway lives",
                    it.number
                ));
            }
            let lost = |monitor: &Person| it.id.is_some_and(|id| monitor.lost.contains(&id));
            if self.people.iter().any(lost) {
                let number = it.number;
                return Err(format!(
                    "client {number} was told as lost with its gateway, which lives"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        self.record.log(self.now_ms, line);
    }

    pub(crate) fn hosts(&self, kind: Kind) -> Vec<Host> {
        let of_kind = |host: &Host| self.machines[*host].kind == kind;
        (0..self.machines.len()).filter(of_kind).collect()
    }

    /// Starts the process of a host.
    pub(crate) fn start(&mut self, host: Host) {
        self.lives += 1;
        let birth = Birth {
            net: self.net.clone(),
            host,
            incarnation: self.rng.random(),
            registers: self.hosts(Kind::Register),
            now_ms: self.now_ms,
        };
        let (kind, life) = (self.machines[host].kind, self.lives);
        self.log(|| format!("host {host} starts as {kind:?}, life {life}"));
        let (router, returns, seed) = (self.plan.router, self.plan.returns, birth.incarnation);
        let (process, shown) = match kind {
            Kind::Register => (register(birth), None),
            Kind::Worker => {
                let record = self.record.clone();
                let script =
                    move |clock| Arc::new(Script::new(host, clock, record, seed, returns)) as _;
                (worker(birth, script), None)
            }
            Kind::Gateway => {
                let (process, shown) = gateway(birth, router);
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
        machine.shown = None;
        drop(machine.process.take());
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.mend();
        self.now_ms += STEP_MS;
        self.net.tick(self.now_ms);
        for host in 0..self.machines.len() {
            let machine = &self.machines[host];
            if let Some(process) = machine.process.as_ref().filter(|_| !machine.frozen) {
                let now_ms = self.now_ms;
                voices::speaking(host, process.clock, &self.record, || process.step(now_ms));
            }
            let shown = self.machines[host].shown.as_ref();
            if shown.is_some_and(|shown| shown.ended.get()) {
                self.log(|| format!("host {host} was declared lost and has ended"));
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

    fn explain(&self) -> String {
        let mut text = String::new();
        for it in &self.people {
            text += &format!(
                "\n  client {} {:?} at host {} life {} ({}): sent {}, answered {}, got {:?}, left {}, over {}",
                it.number,
                it.id,
                it.host,
                it.life,
                self.machines[it.host].life,
                it.sent,
                it.answered,
                it.got_from,
                it.left,
                it.over
            );
        }
        text
    }

    fn is_whole(&self) -> bool {
        let workers = self.plan.workers;
        let nodes = workers + self.plan.gateways;
        self.machines.iter().all(|machine| {
            let Some(process) = &machine.process else {
                return false;
            };
            match machine.kind {
                Kind::Register => true,
                Kind::Worker => process.nodes() == nodes,
                Kind::Gateway => {
                    let gateway = machine.shown.as_ref().map(|it| it.gateway.borrow());
                    let gateway = gateway.as_ref().and_then(|it| it.as_ref());
                    process.nodes() == nodes
                        && gateway.is_some_and(|it| *it.workers().borrow() == workers)
                }
            }
        })
    }

    /// A client comes to a gateway that runs.
    fn arrive(&mut self, host: Host, monitor: bool) {
        let machine = &self.machines[host];
        let Some(gateway) = machine
            .shown
            .as_ref()
            .and_then(|it| it.gateway.borrow().clone())
        else {
            return;
        };
        let (number, life) = (self.people.len(), machine.life);
        self.log(|| format!("client {number} comes to host {host}, life {life}"));
        let person = Person::connect(number, host, life, monitor, &gateway);
        self.people.push(person);
    }

    /// Clients come, talk and go.
    fn chat(&mut self) {
        for place in 0..self.people.len() {
            let person = &self.people[place];
            if person.monitor
                || !person.is_here()
                || person.sent - person.answered >= UNDER_WAY
                || self.rng.random_range(0..100) >= 25
            {
                continue;
            }
            let other = self.rng.random_range(0..self.people.len());
            let friends = self.is_lasting(place) && self.is_lasting(other);
            let target = self.people[other]
                .id
                .filter(|_| friends && self.rng.random_bool(0.5));
            let (record, now) = (self.record.clone(), self.now_ms);
            let person = &mut self.people[place];
            match target {
                Some(id) if !self.rng.random_bool(0.02) => person.greet(other, id, &record, now),
                Some(_) => person.leave(&record, now),
                None => person.say("", &record, now),
            }
        }
        if self.people.len() < 40 && self.rng.random_range(0..100) < 5 {
            let gateways = self.hosts(Kind::Gateway);
            let host = gateways[self.rng.random_range(0..gateways.len())];
            self.arrive(host, false);
        }
    }

    /// Whether a client's gateway has lived in the same life so far.
    fn lives_on(&self, person: &Person) -> bool {
        let machine = &self.machines[person.host];
        machine.is_up() && machine.life == person.life
    }

    /// Whether a client is there, at a gateway that was there from the start: all others know it.
    fn is_lasting(&self, place: usize) -> bool {
        let person = &self.people[place];
        person.is_here() && self.lives_on(person) && self.is_first(person.life)
    }

    const fn is_first(&self, life: u64) -> bool {
        life <= self.machines.len() as u64
    }

    fn is_answered(&self) -> bool {
        let waits = |it: &&Person| it.is_here() && self.lives_on(it) && it.answered < it.sent;
        !self.people.iter().any(|it| waits(&it))
    }

    /// Whether lasting clients have everything that lasting clients sent them.
    fn has_arrived(&self) -> bool {
        let lasting: Vec<&Person> = (0..self.people.len())
            .filter(|place| self.is_lasting(*place))
            .map(|place| &self.people[place])
            .collect();
        lasting.iter().all(|to| {
            lasting.iter().all(|from| {
                let got = to.got_from.get(&from.number).copied().unwrap_or_default();
                got == from.sent_to(to.number)
            })
        })
    }

    /// Closes that monitors at gateways that lived from the start must know and do not.
    fn untold(&self) -> Vec<(usize, ClientId)> {
        let lasting = (0..self.people.len()).filter(|place| self.is_lasting(*place));
        let monitors: Vec<&Person> = lasting
            .map(|place| &self.people[place])
            .filter(|it| it.monitor)
            .collect();
        let mut untold = Vec::new();
        for it in self.people.iter().filter(|it| !it.monitor) {
            let Some(id) = it.id else { continue };
            // A gateway that is lost while it forwards may have told only some.
            // So may one that adopted the close and was lost then: somebody there was told.
            let told = |it: &Person| !self.lives_on(it) && it.closes.contains_key(&id);
            let partly = self.people.iter().any(told);
            let must = self.lives_on(it) || (self.custodians_safe && !it.left && !partly);
            let must = must && self.record.has_seen(id) && self.is_first(it.life);
            let knows = |monitor: &&Person| monitor.closes.contains_key(&id);
            if must && !monitors.iter().all(knows) {
                untold.push((it.number, id));
            }
        }
        untold
    }

    /// At the end nobody but the monitors is online.
    fn count_ghosts(&mut self) -> Result<(), Violation> {
        let here = |it: &&Person| it.is_here() && self.lives_on(it);
        let mut expected: Vec<ClientId> = self
            .people
            .iter()
            .filter(here)
            .filter_map(|it| it.id)
            .collect();
        expected.sort_unstable();
        for host in self.hosts(Kind::Gateway) {
            // Links between gateways may still be on their way.
            let end = self.now_ms + SETTLE_MS;
            let mut answered = self.ask(host)?;
            while answered.is_none() && self.now_ms < end {
                answered = self.ask(host)?;
            }
            let Some(answered) = answered else {
                return Err(format!("host {host} reaches no whole answer"));
            };
            if answered != expected {
                let what = "ghosts, or somebody is missing";
                return Err(format!(
                    "{what} at host {host}: {answered:?}, not {expected:?}"
                ));
            }
        }
        Ok(())
    }

    /// Who is online, as one gateway says; none if it could not reach all others.
    fn ask(&mut self, host: Host) -> Result<Option<Vec<ClientId>>, Violation> {
        let machine = &self.machines[host];
        let gateway = machine
            .shown
            .as_ref()
            .and_then(|it| it.gateway.borrow().clone());
        let (Some(gateway), Some(process)) = (gateway, &machine.process) else {
            return Ok(None);
        };
        let answer = Arc::new(Mutex::new(None));
        let told = answer.clone();
        process.spawn(async move {
            let query = Query::Clients {
                of: vec![Selector::Everyone],
                fields: tidegate_wire::query::ClientFields::default(),
                after: None,
                limit: 1000,
            };
            let within = Duration::from_secs(1);
            let answered = gateway.access().ask(&tenant(), query, within).await;
            told.lock().unwrap().replace(answered);
        });
        self.until(2_000, "a query to be answered", |_| {
            answer.lock().unwrap().is_some()
        })?;
        let answered = answer.lock().unwrap().take();
        match answered {
            Some(Ok(answered)) if answered.missing.is_empty() => match answered.answer {
                Answer::Clients { page, .. } => {
                    Ok(Some(page.into_iter().map(|it| it.client).collect()))
                }
                other => Err(format!("an answer to another question: {other:?}")),
            },
            Some(Ok(_)) => Ok(None),
            other => Err(format!("host {host} answers {other:?}")),
        }
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
