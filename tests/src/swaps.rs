//! Swaps in a row under load: clients send numbered messages at a steady pace, whatever the answers
//! do, while the plugin is replaced again and again. Checked: nothing is lost, repeated or out of
//! order, no connection is closed, every version serves. Measured: the longest time that a client
//! waited for an answer, with swaps and without.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep, timeout};

use crate::client::Transport;
use crate::cluster::Cluster;
use crate::load::{Lean, encode};
use crate::plugins::{Plugin, another_build, replace};
use crate::talkers::{check, one_more};

/// No answer for so long is a loss.
const STALLED: Duration = Duration::from_secs(20);
/// How long the load runs before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How often a version that is due is asked for.
const ASK: Duration = Duration::from_millis(10);

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many swaps.
    pub swaps: u32,
    /// How many clients.
    pub clients: u32,
    /// How often each sends a message.
    pub every: Duration,
    /// How long the load is measured without swaps.
    pub normal: Duration,
    /// Whether each version is one that no run before has had compiled.
    pub fresh: bool,
    /// All processes on this core.
    pub pin: Option<usize>,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// How many swaps there were.
    pub swaps: u32,
    /// How long they took, all together.
    pub took: Duration,
    /// Messages that were answered, once and in order, during the swaps.
    pub answered: u64,
    /// The longest wait for an answer without swaps.
    pub normal: Duration,
    /// The longest wait for an answer during the swaps.
    pub swapping: Duration,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            swaps,
            took,
            answered,
            normal,
            swapping,
        } = self;
        let rate = *answered as f64 / took.as_secs_f64();
        let (normal, swapping) = (normal.as_millis(), swapping.as_millis());
        write!(
            f,
            "{swaps} swaps in {:.1} s at {rate:.0} messages a second: the longest wait for an \
             answer was {swapping} ms, without swaps {normal} ms",
            took.as_secs_f64()
        )
    }
}

/// What the clients share.
#[derive(Debug, Default)]
struct Gauge {
    answered: Cell<u64>,
    longest: Cell<Duration>,
    ending: Cell<bool>,
}

/// Makes a run.
///
/// # Errors
/// When anything was lost, repeated, out of order or closed, or a version was not taken up.
pub async fn run(plan: Plan) -> Result<Found> {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Recorder.copy_to(folder.path())?;
    let cluster = Cluster::serve()
        .pinned(plan.pin)
        .other_plugin_file(&file)
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    LocalSet::new().run_until(measure(plan, door, &file)).await
}

async fn measure(plan: Plan, door: SocketAddrV4, file: &Path) -> Result<Found> {
    let gauge = Rc::new(Gauge::default());
    let mut running = JoinSet::new();
    for number in 0..plan.clients {
        let mut lean = Lean::connect(door, None).await?;
        ensure!(
            lean.next().await?.starts_with(b"id:"),
            "a wrong first answer"
        );
        // Evenly spread, as strangers would be.
        let start = Instant::now() + plan.every * number / plan.clients;
        let client = client(lean, start, plan.every, gauge.clone());
        running
            .spawn_local(async move { client.await.with_context(|| format!("client {number}")) });
    }
    let measuring = async {
        sleep(WARM_UP).await;
        gauge.longest.take();
        sleep(plan.normal).await;
        let normal = gauge.longest.take();
        let (start, before) = (Instant::now(), gauge.answered.get());
        swap(plan, door, file).await?;
        let (took, answered) = (start.elapsed(), gauge.answered.get() - before);
        let swapping = gauge.longest.get();
        anyhow::Ok(Found {
            swaps: plan.swaps,
            took,
            answered,
            normal,
            swapping,
        })
    };
    let found = tokio::select! {
        found = measuring => found?,
        ended = running.join_next() => {
            ended.context("no clients")???;
            bail!("a client has ended")
        }
    };
    gauge.ending.set(true);
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(found)
}

/// Replaces the plugin so many times, each time when the last version serves.
async fn swap(plan: Plan, door: SocketAddrV4, file: &Path) -> Result<()> {
    let run = if plan.fresh { rand::random::<u32>() } else { 0 };
    let component = std::fs::read(file)?;
    let mut asker = Lean::connect(door, None).await?;
    asker.next().await?;
    let mut version = ask(&mut asker).await?;
    for number in 1..=plan.swaps {
        replace(
            file,
            &another_build(&component, &format!("build {number} of {run}"))?,
        )?;
        let deadline = Instant::now() + STALLED;
        let mut pace = interval(ASK);
        loop {
            pace.tick().await;
            let serving = ask(&mut asker).await?;
            if serving != version {
                version = serving;
                break;
            }
            ensure!(Instant::now() < deadline, "swap {number} is not taken up");
        }
    }
    Ok(())
}

async fn ask(asker: &mut Lean) -> Result<Vec<u8>> {
    asker.write(&encode(b"version")).await?;
    let answer = timeout(STALLED, asker.next()).await??.to_vec();
    ensure!(
        answer.starts_with(b"version:"),
        "a wrong answer about the version"
    );
    Ok(answer)
}

/// Sends at its pace, whatever the answers do, until the end; then it wants all of its answers, and
/// nothing else.
async fn client(mut lean: Lean, start: Instant, every: Duration, gauge: Rc<Gauge>) -> Result<()> {
    let mut pace = interval_at(start, every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0_u64;
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut answered = 0_u64;
    loop {
        let ending = gauge.ending.get();
        tokio::select! {
            _ = pace.tick(), if !ending => {
                lean.write(&encode(sent.to_string().as_bytes())).await?;
                sent += 1;
                waiting.push_back(Instant::now());
            }
            answer = timeout(STALLED, lean.next()), if !waiting.is_empty() => {
                let answer = answer.context("an answer is lost")??;
                check(answer, answered)?;
                answered += 1;
                let since = waiting.pop_front().context("an answer to nothing")?;
                gauge.longest.set(gauge.longest.get().max(since.elapsed()));
                gauge.answered.set(gauge.answered.get() + 1);
            }
            else => break,
        }
    }
    one_more(&mut lean, sent).await
}
