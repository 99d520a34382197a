//! What handshakes through a handler cost, and how long other clients wait meanwhile: so many a second are
//! accepted, and then rejected, while some clients send messages at a steady pace.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::client::Transport;
use crate::cluster::Cluster;
use crate::load::{Lean, encode};
use crate::plugins::Plugin;

/// No answer for so long is an error.
const STALLED: Duration = Duration::from_secs(20);
/// How long the load runs before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Handshakes that are due come this far apart: as evenly as timers can be.
const BEAT: Duration = Duration::from_millis(1);
/// Handshakes that are under way at most; what would be more is not made, and so shows in the rate.
const UNDER_WAY_MAX: usize = 1_000;
/// Source addresses that they come from, so that no address runs out of ports.
const SOURCES: u32 = 100;

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Clients that send messages.
    pub others: u32,
    /// How often each of them does.
    pub every: Duration,
    /// Handshakes a second.
    pub per_second: u32,
    /// How long each part is measured.
    pub time: Duration,
    /// The server on this core.
    pub pin: Option<usize>,
}

/// What was measured in one part.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Handshakes a second that were answered.
    pub rate: f64,
    /// How long 99 of 100 messages of the others took at most, there and back.
    pub wait: Duration,
    /// Of one core.
    pub cpu: f64,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    plan: Plan,
    /// Without handshakes.
    pub alone: Part,
    /// While they are accepted; each client leaves at once.
    pub accepted: Part,
    /// While they are rejected.
    pub rejected: Part,
}

impl Found {
    /// CPU of one handshake, in microseconds.
    fn cost(&self, part: Part) -> f64 {
        1e6 * (part.cpu - self.alone.cpu) / part.rate
    }

    /// How many times as long the others wait.
    fn times(&self, part: Part) -> f64 {
        part.wait.as_secs_f64() / self.alone.wait.as_secs_f64()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "without handshakes 99 of 100 messages of {} other clients take at most {:.2} ms",
            self.plan.others,
            1e3 * self.alone.wait.as_secs_f64()
        )?;
        for (what, part) in [("accepted", self.accepted), ("rejected", self.rejected)] {
            writeln!(
                f,
                "{:.0} handshakes a second are {what}: {:.2} ms, {:.2} times as long; one costs {:.0} us",
                part.rate,
                1e3 * part.wait.as_secs_f64(),
                self.times(part),
                self.cost(part)
            )?;
        }
        write!(
            f,
            "the bars: twofold, and rejecting costs less than accepting"
        )
    }
}

/// What the handler says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Reject,
}

/// Waits of the other clients.
type Waits = Rc<RefCell<Vec<Duration>>>;

/// Makes a run.
///
/// # Errors
/// When a client is not answered, or a handshake otherwise than it should be.
pub async fn run(plan: Plan) -> Result<Found> {
    let cluster = Cluster::serve()
        .pinned(plan.pin)
        .listener("sign-in = \"reject\"")
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    LocalSet::new().run_until(measure(plan, &cluster)).await
}

async fn measure(plan: Plan, cluster: &Cluster) -> Result<Found> {
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let (waits, mut others) = (Waits::default(), JoinSet::new());
    for number in 0..plan.others {
        let client = Lean::connect(door, None).await?;
        let waits = waits.clone();
        others.spawn_local(async move {
            sleep(plan.every * number / plan.others).await;
            other(client, plan.every, waits).await
        });
    }
    let measuring = async {
        let alone = part(plan, cluster, door, None, &waits).await?;
        let accepted = part(plan, cluster, door, Some(Verdict::Accept), &waits).await?;
        let rejected = part(plan, cluster, door, Some(Verdict::Reject), &waits).await?;
        anyhow::Ok(Found {
            plan,
            alone,
            accepted,
            rejected,
        })
    };
    tokio::select! {
        found = measuring => found,
        ended = others.join_next() => {
            ended.context("there are no others")??.context("another client")?;
            bail!("another client has ended")
        }
    }
}

async fn part(
    plan: Plan,
    cluster: &Cluster,
    door: SocketAddrV4,
    verdict: Option<Verdict>,
    waits: &Waits,
) -> Result<Part> {
    let made = Rc::new(Cell::new(0_u64));
    let process = cluster.gateway(0)?.process()?;
    let measuring = async {
        sleep(WARM_UP).await;
        waits.take();
        let (begun, before, cpu) = (Instant::now(), made.get(), process.cpu_time()?);
        sleep(plan.time).await;
        let took = begun.elapsed().as_secs_f64();
        let cpu = process.cpu_time()?.saturating_sub(cpu);
        let mut waits = waits.take();
        waits.sort_unstable();
        let wait = waits.get(waits.len() * 99 / 100);
        anyhow::Ok(Part {
            rate: (made.get() - before) as f64 / took,
            wait: *wait.context("nobody was answered")?,
            cpu: cpu.as_secs_f64() / took,
        })
    };
    let Some(verdict) = verdict else {
        return measuring.await;
    };
    tokio::select! {
        part = measuring => part,
        failed = arrivals(plan, door, verdict, &made) => {
            failed?;
            bail!("no handshakes come any more")
        }
    }
}

/// Makes handshakes at the plan's pace, whatever becomes of those before.
async fn arrivals(
    plan: Plan,
    door: SocketAddrV4,
    verdict: Verdict,
    made: &Rc<Cell<u64>>,
) -> Result<()> {
    let mut under_way = JoinSet::new();
    let mut pace = interval(BEAT);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut come, begun) = (0_u32, Instant::now());
    loop {
        pace.tick().await;
        while let Some(ended) = under_way.try_join_next() {
            ended??;
            made.set(made.get() + 1);
        }
        let due = begun.elapsed().as_secs_f64() * f64::from(plan.per_second);
        while f64::from(come) < due {
            come += 1;
            if under_way.len() < UNDER_WAY_MAX {
                let [a, b, c, d] = Ipv4Addr::LOCALHOST.octets();
                let last = u8::try_from(come % SOURCES)?;
                let source = Ipv4Addr::new(a, b, c, d + last);
                under_way.spawn_local(handshake(door, source, verdict));
            }
        }
    }
}

async fn handshake(door: SocketAddrV4, source: Ipv4Addr, verdict: Verdict) -> Result<()> {
    match verdict {
        Verdict::Accept => {
            let mut client = Lean::connect_to(door, Some(source), "/?accept=u").await?;
            client.close().await?;
            // Its id, then the end.
            while timeout(STALLED, client.next()).await?.is_ok() {}
            Ok(())
        }
        Verdict::Reject => turned_away(door, source).await,
    }
}

async fn turned_away(door: SocketAddrV4, source: Ipv4Addr) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let mut stream = timeout(STALLED, socket.connect(door.into())).await??;
    let request = format!(
        "GET /?reject=401 HTTP/1.1\r\nHost: {door}\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(STALLED, stream.read_to_end(&mut answer)).await??;
    ensure!(
        answer.starts_with(b"HTTP/1.1 401"),
        "not rejected: {}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// Sends at its pace, and notes how long each answer takes.
async fn other(mut client: Lean, every: Duration, waits: Waits) -> Result<()> {
    let mut pace = interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Its id comes first.
    timeout(STALLED, client.next()).await??;
    loop {
        pace.tick().await;
        let asked = Instant::now();
        client.write(&encode(b"{\"do\":[]}")).await?;
        let answer = timeout(STALLED, client.next()).await??;
        ensure!(
            answer == b"{\"ok\":[]}",
            "a wrong answer: {}",
            String::from_utf8_lossy(answer)
        );
        waits.borrow_mut().push(asked.elapsed());
    }
}
