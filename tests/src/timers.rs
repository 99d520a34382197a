//! What timers cost: so many that wait, in memory and CPU; and how late those are that run out so many
//! times a second, at the gateway and at a client that set its own.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::node::Node;
use crate::plugins::Plugin;
use crate::probe::Probe;
use crate::wait::eventually;

/// How many timers one event sets.
const AT_ONCE: usize = 1_000;
/// The period of each timer that repeats.
const PERIOD_MS: u64 = 20;
/// How long the client's own timers take.
const OWN_MS: u64 = 50;
const LATENESS: &str = "tidegate_gateway_timer_lateness_seconds";

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Timers that wait for an hour.
    pub waiting: usize,
    /// Timers that run out every second.
    pub per_second: u64,
    /// How long each part is measured.
    pub time: Duration,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    plan: Plan,
    /// What one waiting timer keeps at its gateway.
    pub bytes_each: f64,
    /// Of one core, while nothing runs out.
    pub cpu_waiting: f64,
    /// How many ran out each second.
    pub ran_out: f64,
    /// Of one core, gateway and worker, meanwhile.
    pub cpu_running: f64,
    /// The bound under which 99 of 100 timers became events.
    pub late: Duration,
    /// From the time when a client's own timer was to run out until the client had its message, its way
    /// to the handler and back included: 50 and 99 of 100.
    pub told: [Duration; 2],
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} timers wait: {:.0} bytes each at the gateway, {:.2} % of a core",
            self.plan.waiting,
            self.bytes_each,
            100.0 * self.cpu_waiting
        )?;
        writeln!(
            f,
            "{:.0} run out a second beside them: {:.0} % of a core for gateway and worker, 99 of 100 at \
             most {:.1} ms late; the bar is 20 ms",
            self.ran_out,
            100.0 * self.cpu_running,
            1e3 * self.late.as_secs_f64()
        )?;
        let [median, most] = self.told.map(|it| 1e3 * it.as_secs_f64());
        write!(
            f,
            "a client has the message of its own timer {median:.1} ms after its time, 99 of 100 at most \
             {most:.1} ms, both ways to the handler included"
        )
    }
}

/// Makes a run.
///
/// # Errors
/// When timers are refused, or do not run out.
pub async fn run(plan: Plan) -> Result<Found> {
    let cluster = Cluster::apart(1, 1)
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let mut clients = Vec::new();
    for _ in 0..plan.waiting.div_ceil(AT_ONCE) {
        clients.push(connect(gateway).await?);
    }
    let before = gateway.process()?.resident_bytes()?;
    for (nth, client) in clients.iter_mut().enumerate() {
        let count = AT_ONCE.min(plan.waiting - nth * AT_ONCE);
        let set = json!({"op": "after", "ms": 3_600_000, "run": {"do": [], "quiet": true}});
        let sets = json!({"do": vec![set; count], "quiet": true});
        client.tell(&sets).await?;
    }
    waits(gateway, plan.waiting as f64).await?;
    let grown = gateway.process()?.resident_bytes()?.saturating_sub(before);
    let (cpu_waiting, ()) = during(&[gateway], plan.time, async { Ok(()) }).await?;
    let running = running(plan, &cluster).await?;
    Ok(Found {
        plan,
        bytes_each: grown as f64 / plan.waiting as f64,
        cpu_waiting,
        ..running
    })
}

async fn connect(gateway: &Node) -> Result<Probe> {
    Probe::connect(gateway.listener(crate::Transport::Ws)?, "").await
}

async fn waits(gateway: &Node, timers: f64) -> Result<()> {
    eventually("all timers are set", async || {
        let found = gateway.metric("tidegate_gateway_timers", "").await?;
        Ok((found == timers).then_some(()))
    })
    .await
}

/// Timers that repeat, and a client that sets one after the other.
async fn running(plan: Plan, cluster: &Cluster) -> Result<Found> {
    let gateway = cluster.gateway(0)?;
    let mut clients = Vec::new();
    let repeating = (plan.per_second * PERIOD_MS).div_ceil(1_000);
    for _ in 0..repeating {
        let mut client = connect(gateway).await?;
        let every = json!({"op": "every", "ms": PERIOD_MS, "run": {"do": [], "quiet": true}});
        client.ask(&every).await?.map_err(anyhow::Error::msg)?;
        clients.push(client);
    }
    let mut own = connect(gateway).await?;
    let before = gateway.metrics().await?;
    let nodes = [gateway, cluster.worker(0)?];
    let (cpu_running, told) = during(&nodes, plan.time, tell(&mut own, plan.time)).await?;
    let after = gateway.metrics().await?;
    let count = |text| count(text, "+Inf").context("no histogram of timers");
    let ran_out = count(&after)? - count(&before)?;
    Ok(Found {
        plan,
        bytes_each: 0.0,
        cpu_waiting: 0.0,
        ran_out: ran_out / plan.time.as_secs_f64(),
        cpu_running,
        late: late(&before, &after, 0.99).context("no timer has run out")?,
        told,
    })
}

/// Sets a timer again and again; how long after its time the client has its message.
async fn tell(client: &mut Probe, time: Duration) -> Result<[Duration; 2]> {
    let begun = Instant::now();
    let mut late = Vec::new();
    let after = json!({"do": [{"op": "after", "ms": OWN_MS, "run": {"do": []}}], "quiet": true});
    while begun.elapsed() < time {
        let due = Instant::now() + Duration::from_millis(OWN_MS);
        client.tell(&after).await?;
        client.heard().await?;
        late.push(due.elapsed());
    }
    late.sort_unstable();
    let at = |hundredth: usize| late.get(late.len() * hundredth / 100).copied();
    let both = at(50).zip(at(99)).context("no timer was told")?;
    Ok(both.into())
}

/// How many cores these processes use on average while something is done, for so long.
async fn during<T>(
    nodes: &[&Node],
    time: Duration,
    what: impl Future<Output = Result<T>>,
) -> Result<(f64, T)> {
    let cpu = || -> Result<f64> {
        let times = nodes.iter().map(|node| node.process()?.cpu_time());
        times.map(|time| Ok(time?.as_secs_f64())).sum()
    };
    let (before, begun) = (cpu()?, Instant::now());
    let result = what.await?;
    sleep(time.saturating_sub(begun.elapsed())).await;
    Ok(((cpu()? - before) / begun.elapsed().as_secs_f64(), result))
}

/// What the histogram has counted up to a bound.
fn count(metrics: &str, bound: &str) -> Option<f64> {
    let bucket = format!("{LATENESS}_bucket");
    let bound = format!("le=\"{bound}\"");
    let counts = metrics.lines().filter(|line| line.starts_with(&bucket));
    let counts = counts.filter(|line| line.contains(&bound));
    let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.reduce(|a, b| a + b)
}

/// The lowest bound of the histogram under which this share of what came between two looks lies.
fn late(before: &str, after: &str, share: f64) -> Option<Duration> {
    let bounds = after.lines().filter_map(|line| {
        let rest = line.strip_prefix(LATENESS)?.strip_prefix("_bucket")?;
        let (_, rest) = rest.split_once("le=\"")?;
        rest.split('"').next()
    });
    let between = |bound| Some(count(after, bound)? - count(before, bound).unwrap_or_default());
    let all = between("+Inf").filter(|all| *all > 0.0)?;
    let mut within: Vec<f64> = bounds
        .filter(|bound| between(bound).is_some_and(|count| count >= share * all))
        .filter_map(|bound| bound.parse().ok())
        .filter(|bound: &f64| bound.is_finite())
        .collect();
    within.sort_unstable_by(f64::total_cmp);
    Some(
        within
            .first()
            .map_or(Duration::MAX, |it| Duration::from_secs_f64(*it)),
    )
}

/// That a run keeps what the guide says of lateness and of what waits.
///
/// # Errors
/// What it does not keep.
pub fn check(found: &Found) -> Result<()> {
    ensure!(found.late <= Duration::from_millis(20), "{found}");
    ensure!(found.bytes_each < 1_000.0, "{found}");
    Ok(())
}
