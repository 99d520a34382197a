//! What becomes of many clients when one of two workers is killed: how soon the first of its clients is
//! answered by the other one, how long live traffic waits meanwhile, when every client has its
//! custodians again, and what that costs in bytes and memory. And what a second custodian costs.
//!
//! Nothing is asserted about times here; a client that loses an answer, or is closed, is an error.
//!
//! Clients have sockets of a gateway's process. Where a machine does not allow a process so many, they
//! are pipes into a gateway within this process; register and workers are processes all the same.

mod connection;
mod crowd;
mod gateway;
mod limits;
mod metrics;
mod nodes;
mod place;
mod settings;
mod talk;
mod within;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use crowd::Crowd;
use gateway::Gateway;
pub use limits::{files_for, sockets_max};
use nodes::{Layout, Memory, Nodes};
use talk::{Talk, Waits};

/// Clients that go on talking all the while.
const TALKERS: usize = 200;
/// How often each of them sends a message.
const EVERY: Duration = Duration::from_millis(100);
/// How long it is measured after the kill at least.
const AFTER: Duration = Duration::from_secs(5);
/// How long custodians may take before the run is given up.
const GIVEN_UP: Duration = Duration::from_secs(120);
/// Pause between two looks at the gateway's metrics.
const LOOK: Duration = Duration::from_millis(50);
/// What a session change of the second part sets.
const CHANGE_BYTES: usize = 100;
/// How many session changes the second part makes.
const CHANGES: usize = 20_000;

/// What connects clients to their gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Sockets of a gateway that is a process of its own.
    Sockets,
    /// Pipes into a gateway within this process: they take no file descriptors.
    Pipes,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sockets => "sockets of a gateway's process",
            Self::Pipes => {
                "pipes into a gateway in the measuring process, which looks for answers every 1 to 2 ms"
            }
        })
    }
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What connects the clients.
    pub by: By,
    /// How many clients one gateway has.
    pub clients: usize,
    /// How many bytes each has in its session.
    pub session_bytes: usize,
    /// How long live traffic is measured before anything happens.
    pub before: Duration,
}

/// What was measured around the kill of a worker.
#[derive(Clone, Debug)]
pub struct Loss {
    plan: Plan,
    /// From the kill to the first answer of the other worker to a client of the killed one.
    first: Duration,
    /// The same for the last of the clients that talk.
    last: Duration,
    before: Waits,
    /// Until every client had its custodians.
    meanwhile: Waits,
    /// For [`AFTER`], or until then if that is longer.
    after: Waits,
    /// From the kill until every client had its custodians.
    whole: Duration,
    custody_bytes: f64,
    memory_before: Memory,
    memory_peak: Memory,
}

impl Loss {
    /// What the gateway has sent to new custodians, in bytes.
    #[must_use]
    pub const fn custody_bytes(&self) -> f64 {
        self.custody_bytes
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            by,
            clients,
            session_bytes,
            ..
        } = self.plan;
        writeln!(
            f,
            "one of two workers is killed, {clients} clients with sessions of {session_bytes} bytes,\n  \
             {by}:"
        )?;
        let row = |name, text: String| format!("  {name:<46}{text}");
        let (first, last) = (ms(self.first), ms(self.last));
        let rows = [
            row("first answer to a client of the killed worker", first),
            row("last of those who talk", last),
            row("live traffic before", self.before.to_string()),
            row(
                "live traffic until all have custodians",
                self.meanwhile.to_string(),
            ),
            row(
                "live traffic for 5 s after the kill",
                self.after.to_string(),
            ),
            row("until every client has its custodians", ms(self.whole)),
            row("custody sent for that", mib(self.custody_bytes)),
            row("memory before", self.memory_before.to_string()),
            row("memory at its peak", self.memory_peak.to_string()),
        ];
        write!(f, "{}", rows.join("\n"))
    }
}

fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// Kills one of two workers under many clients. `say` is given lines of progress.
///
/// # Errors
/// When a client loses an answer or is closed, or custodians are not named in two minutes.
pub async fn loss(plan: Plan, say: &mut dyn FnMut(String)) -> Result<Loss> {
    let nodes = Nodes::start(Layout::OneHost, plan.by).await?;
    LocalSet::new().run_until(lose(plan, nodes, say)).await
}

async fn lose(plan: Plan, mut nodes: Nodes, say: &mut dyn FnMut(String)) -> Result<Loss> {
    let mut crowd = Crowd::default();
    crowd.come(nodes.gateway(), plan.clients, say).await?;
    crowd.fill(plan.session_bytes, say).await?;
    whole(nodes.gateway(), say).await?;
    let talk = Talk::start(crowd.take(TALKERS)?, EVERY);
    let before = talk.waits_for(plan.before).await?;
    let custody = nodes.gateway().custody_bytes().await?;
    let memory_before = nodes.memory()?;
    say(format!(
        "before: {before}; {memory_before}; now a worker is killed"
    ));

    let killed = nodes.name_of_worker(0)?;
    talk.forget();
    let start = Instant::now();
    nodes.kill_worker(0).await?;
    let mut memory_peak = memory_before.clone();
    let mut guarded = None;
    while guarded.is_none() || start.elapsed() < AFTER {
        memory_peak = memory_peak.max(&nodes.memory()?);
        // A client that another worker answers says that the gateway has noticed.
        let noticed = talk.moved(&killed, start).is_ok();
        if guarded.is_none() && noticed && nodes.gateway().unguarded().await? == 0.0 {
            guarded = Some((start.elapsed(), talk.waits()));
        }
        ensure!(
            start.elapsed() < GIVEN_UP,
            "clients are without custodians after {GIVEN_UP:?}"
        );
        talk.check()?;
        sleep(LOOK).await;
    }
    let after = talk.waits();
    let (whole, meanwhile) = guarded.context("nobody has looked")?;
    let (first, last) = talk.moved(&killed, start)?;
    let custody_bytes = nodes.gateway().custody_bytes().await? - custody;
    talk.end().await?;
    crowd.all_are_there().await?;
    Ok(Loss {
        plan,
        first,
        last,
        before,
        meanwhile,
        after,
        whole,
        custody_bytes,
        memory_before,
        memory_peak,
    })
}

/// Waits until every client has its custodians.
async fn whole(gateway: &Gateway, say: &mut dyn FnMut(String)) -> Result<()> {
    let start = Instant::now();
    loop {
        let unguarded = gateway.unguarded().await?;
        if unguarded == 0.0 {
            say(format!(
                "every client has its custodians after {}",
                ms(start.elapsed())
            ));
            return Ok(());
        }
        let elapsed = start.elapsed();
        ensure!(
            elapsed < GIVEN_UP,
            "{unguarded} clients are without custodians after {elapsed:?}"
        );
        sleep(LOOK).await;
    }
}

/// What a second custodian costs.
#[derive(Clone, Debug)]
pub struct Cost {
    plan: Plan,
    on: Side,
    off: Side,
}

#[derive(Clone, Debug)]
struct Side {
    /// To tell the second custodians of all clients.
    all_bytes: f64,
    /// For each session change.
    change_bytes: f64,
    memory: Memory,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            by,
            clients,
            session_bytes,
            ..
        } = self.plan;
        writeln!(
            f,
            "a second custodian on another host, {clients} clients with sessions of {session_bytes} \
             bytes,\n  {by}:"
        )?;
        for (name, side) in [("on", &self.on), ("off", &self.off)] {
            writeln!(
                f,
                "  {name:<4} custody of all {}, {:.0} bytes for a session change of {CHANGE_BYTES} bytes; {}",
                mib(side.all_bytes),
                side.change_bytes,
                side.memory
            )?;
        }
        Ok(())
    }
}

/// Measures what a second custodian costs.
///
/// # Errors
/// When a client loses an answer or is closed.
pub async fn cost(plan: Plan, say: &mut dyn FnMut(String)) -> Result<Cost> {
    let mut sides = Vec::new();
    for second in [true, false] {
        say(format!(
            "second custodians are {}",
            if second { "on" } else { "off" }
        ));
        let nodes = Nodes::start(Layout::TwoHosts { second }, plan.by).await?;
        sides.push(LocalSet::new().run_until(side(plan, nodes, say)).await?);
    }
    let off = sides.pop();
    let (Some(on), Some(off)) = (sides.pop(), off) else {
        anyhow::bail!("no figures");
    };
    Ok(Cost { plan, on, off })
}

async fn side(plan: Plan, nodes: Nodes, say: &mut dyn FnMut(String)) -> Result<Side> {
    let mut crowd = Crowd::default();
    crowd.come(nodes.gateway(), plan.clients, say).await?;
    crowd.fill(plan.session_bytes, say).await?;
    whole(nodes.gateway(), say).await?;
    let all_bytes = nodes.gateway().custody_bytes().await?;
    let changes = crowd.change(CHANGES, CHANGE_BYTES).await?;
    whole(nodes.gateway(), say).await?;
    let changed = nodes.gateway().custody_bytes().await? - all_bytes;
    Ok(Side {
        all_bytes,
        change_bytes: changed / changes as f64,
        memory: nodes.memory()?,
    })
}
