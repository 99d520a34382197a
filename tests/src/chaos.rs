//! Chaos runs: three gateways, three workers and two registers as real processes, and clients that
//! send numbered messages, while by a seed's schedule nodes are killed, frozen and thawed, links cut
//! and held, versions swapped good and bad. Afterwards it must be as if nothing had happened.
//!
//! Checked: every message of a connection that stayed open was committed once, in order, and
//! answered once; what clients send to each other arrives once and in order; only the end of its
//! gateway ends a connection; every connect has exactly one close; no list has a ghost.
//!
//! Checked more weakly, because the design promises no more: the close of a client whose gateway
//! died while it was told counts as told if a handler ran it, also when no watcher heard it.

#![allow(
    clippy::indexing_slicing,
    reason = "indexing a JSON value never panics: what is not there is null"
)]

mod clients;
mod fleet;
mod ledger;
mod schedule;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::api::Api;
use crate::client::Transport;
use crate::wait::eventually;
use clients::{Phase, World};
use fleet::{Fleet, Undo};
use ledger::{Ledger, Sums};
use schedule::{Fault, GATEWAYS};

/// Pause between two looks at the processes.
const LOOK: Duration = Duration::from_millis(50);
/// How long clients may wait for their last answers.
const RESTING: Duration = Duration::from_secs(45);
/// How long it may take until all gateways list the same.
const AGREEING: Duration = Duration::from_secs(30);
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
}

impl Plan {
    /// As given, but `TIDEGATE_SEED` and `TIDEGATE_CHAOS_SECONDS` have the last word.
    ///
    /// # Errors
    /// When one of them is no number.
    pub fn from_environment(seconds: u64, clients: u64) -> Result<Self> {
        Ok(Self {
            seed: number("TIDEGATE_SEED")?.unwrap_or_else(rand::random),
            length: Duration::from_secs(number("TIDEGATE_CHAOS_SECONDS")?.unwrap_or(seconds)),
            clients: number("TIDEGATE_CHAOS_CLIENTS")?.unwrap_or(clients),
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
    let Plan {
        seed,
        length,
        clients,
    } = plan;
    let faults = schedule::schedule(seed, length);
    say(format!(
        "chaos: TIDEGATE_SEED={seed} TIDEGATE_CHAOS_SECONDS={} TIDEGATE_CHAOS_CLIENTS={clients}, \
         {} faults",
        length.as_secs(),
        faults.len()
    ));
    let ran = Run::start(plan).await?.through(&faults, say).await;
    ran.with_context(|| {
        let mut text = format!(
            "TIDEGATE_SEED={seed} TIDEGATE_CHAOS_SECONDS={}\n",
            length.as_secs()
        );
        for fault in &faults {
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
    async fn start(plan: Plan) -> Result<Self> {
        let fleet = Fleet::start().await?;
        let doors = (0..GATEWAYS).map(|number| fleet.gateway(number)?.listener(Transport::Ws));
        let (rests, resting) = mpsc::channel(64);
        let world = Arc::new(World {
            doors: doors.collect::<Result<_>>()?,
            ledger: Ledger::default(),
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
        for door in run.world.doors.clone() {
            let leave = run.watchers_leave.subscribe();
            let watching = clients::watcher(run.world.clone(), door, leave);
            run.watchers.spawn(watching);
        }
        run.counts(GATEWAYS).await.context("the watchers connect")?;
        for number in 0..plan.clients {
            let client = clients::client(run.world.clone(), number, plan.seed);
            run.running.spawn(client);
        }
        Ok(run)
    }

    async fn through(mut self, faults: &[Fault], say: &mut dyn FnMut(String)) -> Result<()> {
        self.violence(faults).await?;
        say("chaos: all is healed; the clients come to rest".to_owned());
        let settled = self.settle(say).await;
        let runs = closings(&self.fleet.worker_logs());
        let (sums, mut wrong) = self.world.ledger.conclude(&runs, self.fleet.ends());
        wrong.extend_from_slice(self.fleet.wrong());
        let Sums {
            connections,
            broken,
            answered,
            passed_on,
        } = sums;
        say(format!(
            "chaos: {answered} messages answered, {passed_on} passed on; {connections} connections, \
             {broken} broken; gateways ended {} times",
            self.fleet.ends().len()
        ));
        if let Err(error) = settled {
            wrong.push(format!("{error:#}"));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// Lets happen what is due, and undoes it when its time is over.
    async fn violence(&mut self, faults: &[Fault]) -> Result<()> {
        let start = Instant::now();
        let mut undos: Vec<(Duration, Undo)> = Vec::new();
        let mut coming = faults.iter().peekable();
        loop {
            let now = start.elapsed();
            undos.sort_by_key(|(end, _)| *end);
            while undos.first().is_some_and(|(end, _)| *end <= now) {
                let (_, undo) = undos.remove(0);
                self.fleet.end(&undo)?;
            }
            while let Some(fault) = coming.next_if(|fault| fault.at <= now) {
                undos.push((fault.end(), self.fleet.begin(fault.what).await?));
            }
            self.fleet.supervise()?;
            if undos.is_empty() && coming.peek().is_none() {
                return Ok(());
            }
            let due = undos.iter().map(|(end, _)| *end);
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
        self.as_seen().await?;
        step("all lists agreed");
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
            for list in ["/v1/groups", "/v1/uids", "/v1/clients"] {
                let page = api.get(list).await?.ok()?;
                let empty = page["items"].as_array().is_some_and(Vec::is_empty);
                ensure!(empty, "{list} has ghosts: {page}");
            }
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

    /// Waits until the lists of every gateway have whom the clients know to be connected.
    async fn as_seen(&mut self) -> Result<()> {
        self.at_every_gateway("those who are connected are listed", async |api, ledger| {
            let listed = listed(api).await?;
            let open = ledger.open();
            let missing: Vec<_> = open.difference(&listed).take(5).collect();
            let watchers = listed.difference(&open).count();
            ensure!(
                missing.is_empty() && watchers == GATEWAYS,
                "{} listed, {} connected, not listed: {missing:?}",
                listed.len(),
                open.len() + GATEWAYS
            );
            Ok(())
        })
        .await
    }

    /// Waits until every gateway counts so many clients.
    async fn counts(&mut self, clients: usize) -> Result<()> {
        self.at_every_gateway("every gateway counts the same", async |api, _| {
            let count = api.get("/v1/clients/count").await?.ok()?;
            ensure!(is_whole(&count) && count["count"] == clients, "{count}");
            Ok(())
        })
        .await
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

    /// Waits until watchers have heard every close, but not for ever: what they do not hear may have
    /// been lost with a gateway.
    async fn all_told(&mut self) {
        let deadline = Instant::now() + TELLING;
        while Instant::now() < deadline {
            let untold = self.world.ledger.untold();
            let runs = closings(&self.fleet.worker_logs());
            // The watchers themselves are still there.
            if untold.iter().filter(|id| !runs.contains(*id)).count() <= GATEWAYS {
                return;
            }
            sleep(LOOK * 4).await;
        }
    }
}

/// The ids of all clients that a gateway lists.
async fn listed(api: &Api) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = api
            .get(&format!("/v1/clients?limit=1000{after}"))
            .await?
            .ok()?;
        ensure!(is_whole(&page), "gateways are missing: {}", page["missing"]);
        let items = page["items"].as_array().context("no items")?;
        let found = items.iter().filter_map(|item| item["client"].as_str());
        ids.extend(found.map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", crate::api::part(next)),
            None => return Ok(ids),
        }
    }
}

fn is_whole(answer: &Value) -> bool {
    answer["missing"].as_array().is_some_and(Vec::is_empty)
}

/// The clients whose close a handler ran, from the logs of workers.
fn closings(logs: &str) -> BTreeSet<String> {
    let runs = logs.split("closing:").skip(1);
    let ids = runs.filter_map(|rest| rest.split_once(':'));
    ids.map(|(id, _)| id.to_owned()).collect()
}
