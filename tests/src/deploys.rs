//! Bad deploys in a row under load: clients send numbered messages at a steady pace, whatever the
//! answers do, while versions are deployed that trap, fail, are slow, take all memory or do not start:
//! to all clients at once, or to a canary. Checked: each is taken back or refused, and nothing is lost,
//! repeated or out of order, no connection is closed. Measured: the longest time that a client waited
//! for an answer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::client::Transport;
use crate::cluster::Cluster;
use crate::load::{Lean, encode};
use crate::plugins::{Plugin, another_build};

/// No answer for so long is a loss.
const STALLED: Duration = Duration::from_secs(60);
/// How long the load runs before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the load runs between two deploys.
const REST: Duration = Duration::from_millis(500);
/// What a bad version must not cross; a canary has few clients at each worker.
const BOUNDS: &str = "rollback-latency-ms = 100\nmemory-mib = 16\ncpu-ms = 200\ninstances = 2\n";

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many bad deploys: each fault for all clients, then for some, one after the other.
    pub deploys: usize,
    /// Which of those is the first.
    pub first: usize,
    /// Of a hundred clients so many try a version where some do.
    pub percent: u8,
    /// How many clients.
    pub clients: u32,
    /// How often each sends a message.
    pub every: Duration,
    /// How long the load is measured without deploys.
    pub normal: Duration,
    /// Whether workers have a file of their own. Without it the first deploy is a good one.
    pub file: bool,
}

/// What is wrong with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Traps,
    TrapsForSome,
    Fails,
    Slow,
    Memory,
    Loops,
    DoesNotStart,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Traps,
        Self::TrapsForSome,
        Self::Fails,
        Self::Slow,
        Self::Memory,
        Self::Loops,
        Self::DoesNotStart,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Traps => "traps always",
            Self::TrapsForSome => "traps for one message in ten",
            Self::Fails => "fails",
            Self::Slow => "is slow",
            Self::Memory => "takes all memory",
            Self::Loops => "loops",
            Self::DoesNotStart => "does not start",
        }
    }

    /// What the version does with this message of a client; nothing for most of them if it is bad for
    /// some only.
    const fn does(self, number: u64) -> Option<&'static str> {
        match self {
            Self::Traps => Some("trap now"),
            Self::TrapsForSome if number.is_multiple_of(10) => Some("trap now"),
            Self::Fails => Some("err no"),
            Self::Slow => Some("sleep 250"),
            Self::Memory => Some("eat"),
            Self::Loops => Some("spin"),
            Self::TrapsForSome | Self::DoesNotStart => None,
        }
    }
}

/// A version that is bad.
struct Bad {
    fault: Fault,
    /// Of a hundred clients so many try it.
    canary: Option<u8>,
    component: Vec<u8>,
    version: String,
}

/// One deploy.
#[derive(Clone, Debug)]
pub struct Ended {
    what: String,
    took: Duration,
    longest: Duration,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Found {
    /// The deploys, in their order.
    pub deploys: Vec<Ended>,
    /// Messages that were answered, once and in order, during the deploys.
    pub answered: u64,
    /// How long the deploys took, all together.
    pub took: Duration,
    /// The longest wait for an answer without deploys.
    pub normal: Duration,
    /// Events that the version before ran, as the workers count them.
    pub rescued: f64,
}

impl Found {
    /// The longest wait for an answer.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let all = self.deploys.iter().map(|it| it.longest);
        all.max().unwrap_or_default()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Ended {
            what,
            took,
            longest,
        } in &self.deploys
        {
            writeln!(
                f,
                "{what}: over after {:.1} s, the longest wait {} ms",
                took.as_secs_f64(),
                longest.as_millis()
            )?;
        }
        let rate = self.answered as f64 / self.took.as_secs_f64();
        write!(
            f,
            "{} bad deploys in {:.1} s at {rate:.0} messages a second, {} of them run by the version \
             before; none lost, repeated or out of order; the longest wait for an answer was {} ms, \
             without deploys {} ms",
            self.deploys.len(),
            self.took.as_secs_f64(),
            self.rescued,
            self.longest().as_millis(),
            self.normal.as_millis()
        )
    }
}

/// What the clients share.
#[derive(Default)]
struct Gauge {
    answered: Cell<u64>,
    longest: Cell<Duration>,
    ending: Cell<bool>,
    /// The bad version that comes or goes.
    bad: RefCell<Option<(Fault, String)>>,
}

/// Makes a run.
///
/// # Errors
/// When anything was lost, repeated, out of order or closed, or a bad version stays.
pub async fn run(plan: Plan) -> Result<Found> {
    let good = std::fs::read(Plugin::Scripted.path()?)?;
    let bad = bad_versions(&good, plan)?;
    let never = bad.iter().filter(|it| it.fault == Fault::DoesNotStart);
    let never: Vec<&str> = never.map(|it| it.version.as_str()).collect();
    let config = format!("config = {{ never-version = \"{}\" }}\n", never.join(" "));
    let cluster = Cluster::apart(2, 3)
        .other_plugin_file(&Plugin::Scripted.path()?)
        .plugin_settings(BOUNDS)
        .plugin_settings(&config)
        .deploys();
    let cluster = if plan.file {
        cluster
    } else {
        cluster.without_file()
    };
    let cluster = cluster.start().await?;
    if !plan.file {
        let file = cluster.folder().join("good.wasm");
        std::fs::write(&file, another_build(&good, "good")?)?;
        let file = file.to_str().context("a path that is not UTF-8")?;
        let args = ["deploy", file, "--tenant", "default"];
        cluster.gateway(0)?.run("default", &args).await?.ok()?;
    }
    LocalSet::new()
        .run_until(measure(plan, &cluster, &bad))
        .await
}

fn bad_versions(good: &[u8], plan: Plan) -> Result<Vec<Bad>> {
    let run = rand::random::<u32>();
    let all = Fault::ALL.into_iter().flat_map(|fault| {
        let some = Some(plan.percent);
        [(fault, None), (fault, some)]
    });
    let chosen = all.cycle().skip(plan.first).take(plan.deploys).enumerate();
    let made = chosen.map(|(number, (fault, canary))| {
        let component = another_build(good, &format!("bad {number} of {run}"))?;
        Ok(Bad {
            fault,
            canary,
            version: blake3::hash(&component).to_hex().to_string(),
            component,
        })
    });
    made.collect()
}

async fn measure(plan: Plan, cluster: &Cluster, bad: &[Bad]) -> Result<Found> {
    let gauge = Rc::new(Gauge::default());
    let doors = [0, 1].map(|gateway| cluster.gateway(gateway)?.listener(Transport::Ws));
    let mut running = JoinSet::new();
    for (number, door) in (0..plan.clients).zip(doors.iter().cycle()) {
        let door = *door
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let client = connect(door, plan.every * number / plan.clients, plan.every, &gauge).await?;
        running
            .spawn_local(async move { client.await.with_context(|| format!("client {number}")) });
    }
    let measuring = async {
        sleep(WARM_UP).await;
        gauge.longest.take();
        sleep(plan.normal).await;
        let normal = gauge.longest.take();
        let (start, before) = (Instant::now(), gauge.answered.get());
        let mut deploys = Vec::new();
        for it in bad {
            deploys.push(deploy(cluster, it, &gauge).await?);
        }
        let (took, answered) = (start.elapsed(), gauge.answered.get() - before);
        anyhow::Ok((deploys, took, answered, normal))
    };
    let (deploys, took, answered, normal) = tokio::select! {
        found = measuring => found?,
        ended = running.join_next() => {
            ended.context("no clients")???;
            bail!("a client has ended")
        }
    };
    gauge.ending.set(true);
    // Open until all are done: everybody is told who leaves.
    let mut open = Vec::new();
    while let Some(ended) = running.join_next().await {
        open.push(ended??);
    }
    drop(open);
    let mut rescued = 0.0;
    for worker in &cluster.workers {
        let lost = worker
            .metric("tidegate_worker_dead_letters_total", "")
            .await?;
        ensure!(lost == 0.0, "{} has set aside {lost} events", worker.name());
        rescued += worker.metric("tidegate_worker_rescued_total", "").await?;
    }
    Ok(Found {
        deploys,
        answered,
        took,
        normal,
        rescued,
    })
}

/// Deploys a bad version, which must be refused or taken back.
async fn deploy(cluster: &Cluster, bad: &Bad, gauge: &Gauge) -> Result<Ended> {
    let percent = bad.canary.map(|percent| percent.to_string());
    let way = percent.as_ref().map_or_else(
        || "for all".to_owned(),
        |percent| format!("for {percent} % of the clients"),
    );
    let what = format!("{} {way}", bad.fault.name());
    let file = cluster.folder().join("bad.wasm");
    std::fs::write(&file, &bad.component)?;
    let file = file.to_str().context("a path that is not UTF-8")?;
    let mut args = vec!["deploy", file, "--tenant", "default", "--wait"];
    if let Some(percent) = &percent {
        args.extend(["--canary-percent", percent]);
    }
    *gauge.bad.borrow_mut() = Some((bad.fault, bad.version.clone()));
    gauge.longest.take();
    let start = Instant::now();
    let ran = cluster.gateway(0)?.run("default", &args).await?;
    let took = start.elapsed();
    let expected = if bad.fault == Fault::DoesNotStart {
        "told never to start"
    } else {
        "taken back"
    };
    ensure!(
        ran.code == 1 && ran.error.contains(expected),
        "a version that {what}: {ran:?}"
    );
    sleep(REST).await;
    Ok(Ended {
        what,
        took,
        longest: gauge.longest.get(),
    })
}

/// A client that sends at its pace, whatever the answers do, until the end; then it wants all of its
/// answers, and nothing else.
async fn connect(
    door: SocketAddrV4,
    after: Duration,
    every: Duration,
    gauge: &Rc<Gauge>,
) -> Result<impl Future<Output = Result<Lean>> + use<>> {
    let mut lean = Lean::connect(door, None).await?;
    let hello = timeout(STALLED, lean.next()).await??;
    ensure!(hello.starts_with(b"hello"), "a wrong first answer");
    Ok(client(lean, Instant::now() + after, every, gauge.clone()))
}

async fn client(mut lean: Lean, start: Instant, every: Duration, gauge: Rc<Gauge>) -> Result<Lean> {
    let mut pace = interval_at(start, every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let (mut sent, mut answered) = (0_u64, 0_u64);
    loop {
        let ending = gauge.ending.get();
        tokio::select! {
            _ = pace.tick(), if !ending => {
                let script = script(sent, gauge.bad.borrow().as_ref());
                lean.write(&encode(script.as_bytes())).await?;
                sent += 1;
                waiting.push_back(Instant::now());
            }
            answer = timeout(STALLED, lean.next()), if !waiting.is_empty() => {
                check(answer.context("an answer is lost")??, &before(answered))?;
                check(timeout(STALLED, lean.next()).await??, &answered.to_string())?;
                answered += 1;
                let since = waiting.pop_front().context("an answer to nothing")?;
                gauge.longest.set(gauge.longest.get().max(since.elapsed()));
                gauge.answered.set(gauge.answered.get() + 1);
            }
            else => break,
        }
    }
    // What was answered twice would come before this.
    lean.write(&encode(b"echo over")).await?;
    check(timeout(STALLED, lean.next()).await??, "over")?;
    Ok(lean)
}

/// Tells what the session had, and the number; a bad version does what it does after that.
fn script(number: u64, bad: Option<&(Fault, String)>) -> String {
    let script = format!("get k\nset k {number}\necho {number}");
    match bad.and_then(|(fault, version)| Some((fault.does(number)?, version))) {
        Some((does, version)) => format!("{script}\non {version} {does}"),
        None => script,
    }
}

/// What the session has before this message.
fn before(number: u64) -> String {
    let before = number.checked_sub(1);
    before.map_or_else(|| "none".to_owned(), |before| before.to_string())
}

fn check(answer: &[u8], due: &str) -> Result<()> {
    let answer = String::from_utf8_lossy(answer);
    ensure!(answer == due, "{answer} came where {due} was due");
    Ok(())
}
