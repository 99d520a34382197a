//! Chaos runs: three gateways, three workers and two registers as real processes, and clients that
//! send numbered messages, while by a seed's schedule nodes are killed, frozen and thawed, links cut
//! and held, versions swapped good and bad. Afterwards it must be as if nothing had happened.
//!
//! Checked: every message of a connection that stayed open was committed once, in order, and
//! answered once; what clients send to each other arrives once and in order; only the end of its
//! gateway ends a connection; every connect has exactly one close, which names the uid, the groups and
//! the session that the client had at last; watchers at each gateway hear each connect and each close
//! once; no list has a ghost; in the end all workers serve the same version. `verdict` says what the
//! design excuses; how often it had to is told with the figures.

#![allow(
    clippy::indexing_slicing,
    reason = "indexing a JSON value never panics: what is not there is null"
)]

mod clients;
mod fleet;
mod history;
mod holdings;
mod ledger;
mod lists;
mod runs;
mod schedule;
mod verdict;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::api::Api;
use crate::client::Transport;
use crate::cluster::Turn;
use crate::wait::eventually;
use clients::{Phase, World};
use fleet::{Fleet, Undo};
use ledger::Ledger;
use schedule::{Fault, GATEWAYS};
pub use schedule::{Way, What, Who};
use verdict::{Sums, verdict};

/// Pause between two looks at the processes.
const LOOK: Duration = Duration::from_millis(50);
/// Pause between two words on how far it is.
const WORD: Duration = Duration::from_secs(60);
/// How long clients may wait for their last answers.
const RESTING: Duration = Duration::from_secs(45);
/// How long it may take until all gateways list the same.
const AGREEING: Duration = Duration::from_secs(30);
/// How long it is waited for closes that may be lost.
const EXCUSING: Duration = Duration::from_secs(5);
/// The clients of a scene.
const SCENE_CLIENTS: u64 = 60;
/// How many strangers ask for the version at each gateway.
const ASKERS: usize = 4;
/// How long the closes of all clients may take to be told.
const TELLING: Duration = Duration::from_secs(30);

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What the schedule and the clients' choices are drawn from.
    pub seed: u64,
    /// How long things go wrong.
    pub length: Duration,
    /// How many clients there are.
    pub clients: u64,
    /// How many messages they send in a second, all together.
    pub rate: u64,
}

impl Plan {
    /// As given, but `TIDEGATE_SEED` and `TIDEGATE_CHAOS_SECONDS` have the last word.
    ///
    /// # Errors
    /// When one of them is no number.
    pub fn from_environment(seconds: u64, clients: u64, rate: u64) -> Result<Self> {
        Ok(Self {
            seed: number("TIDEGATE_SEED")?.unwrap_or_else(rand::random),
            length: Duration::from_secs(number("TIDEGATE_CHAOS_SECONDS")?.unwrap_or(seconds)),
            clients: number("TIDEGATE_CHAOS_CLIENTS")?.unwrap_or(clients),
            rate: number("TIDEGATE_CHAOS_RATE")?.unwrap_or(rate).max(1),
        })
    }
}

fn number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else {
        return Ok(None);
    };
    let number = text.parse();
    Ok(Some(number.with_context(|| {
        format!("{name} is {text:?}, a whole number is right")
    })?))
}

/// Makes a run. `say` is given lines of progress.
///
/// # Errors
/// When anything is not as promised; the error has the seed and the schedule.
pub async fn run(plan: Plan, say: &mut dyn FnMut(String)) -> Result<()> {
    let faults = schedule::schedule(plan.seed, plan.length);
    play(plan, &faults, Turn::take_all, say).await.map(drop)
}

/// Makes a run with a few clients and these faults only. Returns what was seen.
///
/// # Errors
/// When anything is not as promised; the error has the seed.
pub async fn scene(faults: &[(u64, u64, What)]) -> Result<Scene> {
    let fault = |(at, lasts, what): &(u64, u64, What)| Fault {
        at: Duration::from_millis(*at),
        lasts: Duration::from_millis(*lasts),
        what: *what,
    };
    let mut faults: Vec<_> = faults.iter().map(fault).collect();
    faults.sort_by_key(|fault| fault.at);
    let length = faults.iter().map(Fault::end).max();
    let plan = Plan {
        seed: number("TIDEGATE_SEED")?.unwrap_or_else(rand::random),
        length: length.unwrap_or_default(),
        clients: SCENE_CLIENTS,
        rate: SCENE_CLIENTS * 4,
    };
    play(plan, &faults, Turn::take, &mut |line| println(&line)).await
}

#[allow(
    clippy::print_stdout,
    reason = "libtest shows what failed tests have printed"
)]
fn println(line: &str) {
    println!("{line}");
}

/// What was seen in a scene.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// How many lives of gateways have ended.
    pub lives: usize,
    /// How many connections broke from the other side.
    pub broken: usize,
    /// How many closes nobody told, gateway and custodian being lost.
    pub excused: usize,
}

async fn play(
    plan: Plan,
    faults: &[Fault],
    turn: fn() -> Turn,
    say: &mut dyn FnMut(String),
) -> Result<Scene> {
    let Plan {
        seed,
        length,
        clients,
        rate,
    } = plan;
    say(format!(
        "chaos: TIDEGATE_SEED={seed} TIDEGATE_CHAOS_SECONDS={} TIDEGATE_CHAOS_CLIENTS={clients} \
         TIDEGATE_CHAOS_RATE={rate}, {} faults",
        length.as_secs(),
        faults.len()
    ));
    let ran = Run::start(plan, turn()).await?.through(faults, say).await;
    ran.with_context(|| {
        let mut text = format!(
            "TIDEGATE_SEED={seed} TIDEGATE_CHAOS_SECONDS={}\n",
            length.as_secs()
        );
        for fault in faults {
            let _ = writeln!(text, "{fault}");
        }
        text
    })
}

struct Run {
    fleet: Fleet,
    world: Arc<World>,
    running: JoinSet<()>,
    resting: mpsc::Receiver<u64>,
    watchers: JoinSet<()>,
    watchers_leave: watch::Sender<bool>,
    clients: u64,
}

impl Run {
    async fn start(plan: Plan, turn: Turn) -> Result<Self> {
        let fleet = Fleet::start(turn).await?;
        let doors = (0..GATEWAYS).map(|number| fleet.gateway(number)?.listener(Transport::Ws));
        let (rests, resting) = mpsc::channel(64);
        let world = Arc::new(World {
            doors: doors.collect::<Result<_>>()?,
            ledger: Ledger::default(),
            pause_max: clients::pause_max(plan.clients, plan.rate),
            phase: watch::channel(Phase::Run).0,
            resting: rests,
        });
        let mut run = Self {
            fleet,
            world,
            running: JoinSet::new(),
            resting,
            watchers: JoinSet::new(),
            watchers_leave: watch::channel(false).0,
            clients: plan.clients,
        };
        for gateway in 0..GATEWAYS {
            let leave = run.watchers_leave.subscribe();
            let watching = clients::watcher(run.world.clone(), gateway, leave);
            run.watchers.spawn(watching);
        }
        run.counts(GATEWAYS).await.context("the watchers connect")?;
        for number in 0..plan.clients {
            let client = clients::client(run.world.clone(), number, plan.seed);
            run.running.spawn(client);
        }
        Ok(run)
    }

    async fn through(mut self, faults: &[Fault], say: &mut dyn FnMut(String)) -> Result<Scene> {
        self.violence(faults, say).await?;
        say("chaos: all is healed; the clients come to rest".to_owned());
        let settled = self.settle(say).await;
        let (sums, mut wrong) = self.verdict();
        wrong.extend_from_slice(self.fleet.wrong());
        say(told(&sums, self.fleet.history().lives()));
        for (end, closes) in sums.excuses.values() {
            let about = self.fleet.history().about(*end);
            say(format!("chaos: {closes} closes were lost: {about}"));
        }
        if let Err(error) = settled {
            wrong.push(format!("{error:#}"));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(Scene {
            lives: self.fleet.history().lives(),
            broken: sums.broken,
            excused: sums.excused,
        })
    }

    /// Lets happen what is due, and undoes it when its time is over.
    async fn violence(&mut self, faults: &[Fault], say: &mut dyn FnMut(String)) -> Result<()> {
        self.fleet.begins();
        let start = Instant::now();
        let mut word = WORD;
        let mut undos: Vec<(Duration, What, Undo)> = Vec::new();
        let mut coming = faults.iter().peekable();
        loop {
            let now = start.elapsed();
            undos.sort_by_key(|(end, ..)| *end);
            while undos.first().is_some_and(|(end, ..)| *end <= now) {
                let (_, what, undo) = undos.remove(0);
                self.fleet.end(what, &undo)?;
            }
            while let Some(fault) = coming.next_if(|fault| fault.at <= now) {
                let undo = self.fleet.begin(fault.what).await?;
                undos.push((fault.end(), fault.what, undo));
            }
            self.fleet.supervise()?;
            if undos.is_empty() && coming.peek().is_none() {
                return Ok(());
            }
            if now >= word {
                word += WORD;
                let (done, answered) = (
                    faults.len() - coming.len(),
                    self.world.ledger.book().answered,
                );
                say(format!(
                    "chaos: {} s, {done} faults, {answered} messages answered",
                    now.as_secs()
                ));
            }
            let due = undos.iter().map(|(end, ..)| *end);
            let next = due.chain(coming.peek().map(|fault| fault.at)).min();
            let pause = next.map_or(LOOK, |next| next.saturating_sub(start.elapsed()).min(LOOK));
            sleep(pause).await;
        }
    }

    /// Lets everybody get what is due, and looks whether the lists agree.
    async fn settle(&mut self, say: &mut dyn FnMut(String)) -> Result<()> {
        let start = Instant::now();
        let mut step = |what: &str| say(format!("chaos: {what} after {:?}", start.elapsed()));
        self.world.phase.send_replace(Phase::Rest);
        self.all_rest().await?;
        step("all answered");
        let what = "those who are connected are listed, and nobody else";
        self.at_every_gateway(what, lists::as_seen).await?;
        step("all lists agreed");
        self.world.ledger.acquainted();
        self.one_version().await?;
        let ledger = &self.world.ledger;
        eventually("all that clients sent to each other arrives", async || {
            let waits = ledger.on_the_way();
            ensure!(waits.is_empty(), "{}", waits.join(", "));
            Ok(Some(()))
        })
        .await?;
        self.world.phase.send_replace(Phase::Leave);
        while self.running.join_next().await.is_some() {}
        step("all have left");
        self.all_told().await;
        step("all closes told");
        self.counts(GATEWAYS)
            .await
            .context("all clients have left")?;
        self.watchers_leave.send_replace(true);
        while self.watchers.join_next().await.is_some() {}
        self.counts(0).await.context("everybody has left")?;
        for api in self.fleet.apis()? {
            lists::empty(&api).await?;
        }
        Ok(())
    }

    async fn all_rest(&mut self) -> Result<()> {
        let mut resting = BTreeSet::new();
        let deadline = Instant::now() + RESTING;
        while (resting.len() as u64) < self.clients {
            if let Ok(Some(number)) = timeout(LOOK, self.resting.recv()).await {
                resting.insert(number);
            }
            self.fleet.supervise()?;
            if Instant::now() > deadline {
                let all = self.clients;
                bail!("{} of {all} clients rest after {RESTING:?}", resting.len());
            }
        }
        Ok(())
    }

    /// Waits until every gateway counts so many clients.
    async fn counts(&mut self, clients: usize) -> Result<()> {
        let what = "every gateway counts the same";
        self.at_every_gateway(what, async |api, _| lists::count(api, clients).await)
            .await
    }

    /// Waits until whoever is asked, through any gateway, serves the same version.
    async fn one_version(&mut self) -> Result<()> {
        let deadline = Instant::now() + AGREEING;
        loop {
            let mut versions = BTreeSet::new();
            for door in self.world.doors.iter().cycle().take(GATEWAYS * ASKERS) {
                versions.insert(clients::version(*door).await?);
            }
            if versions.len() == 1 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "workers serve {versions:?}");
            self.fleet.supervise()?;
            sleep(LOOK).await;
        }
    }

    /// Waits until a check holds at every gateway. Processes are looked after meanwhile: one that
    /// was declared lost may end a little after it has thawed.
    async fn at_every_gateway(
        &mut self,
        what: &str,
        check: impl AsyncFn(&Api, &Ledger) -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + AGREEING;
        for api in self.fleet.apis()? {
            while let Err(error) = check(&api, &self.world.ledger).await {
                let text = || format!("not within {AGREEING:?}: {what}");
                if Instant::now() > deadline {
                    return Err(error).with_context(text);
                }
                self.fleet.supervise()?;
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Waits until nothing is wrong any more, but not for ever: the rest is wrong.
    async fn all_told(&mut self) {
        let start = Instant::now();
        while start.elapsed() < TELLING {
            let (sums, wrong) = self.verdict();
            // What is excused may come all the same.
            if wrong.is_empty() && (sums.excused == 0 || start.elapsed() > EXCUSING) {
                return;
            }
            sleep(LOOK * 10).await;
        }
    }

    fn verdict(&self) -> (Sums, Vec<String>) {
        let runs = runs::runs(&self.fleet.worker_logs());
        verdict(&self.world.ledger.book(), &runs, self.fleet.history())
    }
}

fn told(sums: &Sums, lives: usize) -> String {
    let Sums {
        connections,
        broken,
        answered,
        passed_on,
        excused,
        excuses: _,
        told_twice,
        looks,
        excused_looks,
    } = sums;
    format!(
        "chaos: {answered} messages answered, {passed_on} passed on; {connections} connections, \
         {broken} broken; gateways ended {lives} times; {excused} closes were lost with gateway and \
         custodian, {told_twice} told by two events; of {looks} looks at what watchers heard \
         {excused_looks} may miss something"
    )
}
