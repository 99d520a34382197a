//! The clients of a chaos run. Each sends numbered messages and checks every answer: the number
//! must be the next one and the session's count must go up with it, or a message was lost, repeated
//! or out of order. It passes some on to another client, and now and then it leaves and comes back.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::holdings;
use super::ledger::{Asked, Ledger};
use crate::load::{Lean, encode};

/// No answer for so long, while its connection stays open, is a loss.
const STALLED: Duration = Duration::from_secs(40);
/// The most messages that a client sends at once.
const BATCH_MAX: u64 = 4;
/// Clients with one uid.
const UID: u64 = 2;
/// One batch in so many is the last one of its connection.
const LEAVES: u32 = 40;
/// So long may a connect take.
const CONNECTING: Duration = Duration::from_secs(5);
/// Every so many batches messages are passed on.
const PASSES_ON: u64 = 4;
/// One message in so many sets a session value; the first one of a connection does.
const SETS: u32 = 60;

/// What the clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Send, leave, come back.
    Run,
    /// Get the answers that are due and stay.
    Rest,
    /// Leave for good.
    Leave,
}

/// What all clients share.
#[derive(Debug)]
pub(super) struct World {
    /// Where clients connect.
    pub(super) doors: Vec<SocketAddrV4>,
    /// What they saw.
    pub(super) ledger: Ledger,
    /// The longest pause of a client between two batches.
    pub(super) pause_max: Duration,
    /// What they are to do.
    pub(super) phase: watch::Sender<Phase>,
    /// Who rests: its number, once.
    pub(super) resting: mpsc::Sender<u64>,
}

/// The pause that makes so many clients send so many messages a second.
pub(super) fn pause_max(clients: u64, rate: u64) -> Duration {
    // A batch has half of the most messages, a pause half of the longest time.
    Duration::from_millis(clients * (1 + BATCH_MAX) * 1000 / rate.max(1))
}

/// The version that a stranger is served.
pub(super) async fn version(door: SocketAddrV4) -> Result<String> {
    let mut lean = timeout(CONNECTING, Lean::connect(door, None)).await??;
    first(&mut lean).await?;
    lean.write(&encode(b"version")).await?;
    let answer = timeout(STALLED, lean.next()).await??;
    Ok(String::from_utf8_lossy(answer).into_owned())
}

/// One client, until it is told to leave.
pub(super) async fn client(world: Arc<World>, number: u64, seed: u64) {
    let rng = StdRng::seed_from_u64(seed ^ (number << 20));
    let mut client = Client {
        phase: world.phase.subscribe(),
        world,
        number,
        rng,
        rested: false,
    };
    while *client.phase.borrow() == Phase::Run {
        client.once().await;
        let pause = client.rng.random_range(50..300);
        sleep(Duration::from_millis(pause)).await;
    }
    // One that was not connected when the rest began rests as well.
    client.rests().await;
}

struct Client {
    world: Arc<World>,
    phase: watch::Receiver<Phase>,
    number: u64,
    rng: StdRng,
    rested: bool,
}

/// So long after its start every gateway is known to all others: a send to a client whose gateway
/// nobody has heard of yet is one to nobody.
const ACQUAINTED: Duration = Duration::from_secs(8);

/// One connection under way.
struct Life {
    lean: Lean,
    id: String,
    sent: u64,
    answered: u64,
    batches: u64,
    partner: Option<(String, u64)>,
}

/// Why a connection is no more.
enum Ended {
    /// The client has left.
    Left,
    /// The other side has ended it.
    Broken(anyhow::Error),
}

impl Client {
    async fn once(&mut self) {
        let gateway = self.rng.random_range(0..self.world.doors.len());
        let Some(&door) = self.world.doors.get(gateway) else {
            return;
        };
        let asked = Asked {
            gateway,
            at: std::time::Instant::now(),
            uid: format!("u{}", self.number / UID),
            groups: holdings::draw_groups(&mut self.rng),
        };
        let groups: Vec<_> = asked.groups.iter().map(u64::to_string).collect();
        let target = format!("/?uid={}&groups={}", asked.uid, groups.join("."));
        // A gateway that is not there, or frozen, is nothing to note.
        let connecting = timeout(CONNECTING, Lean::connect_to(door, None, &target));
        let Ok(Ok(mut lean)) = connecting.await else {
            return;
        };
        let ledger = &self.world.ledger;
        let id = match first(&mut lean).await {
            Ok(id) => id,
            Err(error) => return ledger.broken(None, &asked, &format!("{error:#}")),
        };
        ledger.connected(&id, asked.clone());
        let mut life = Life {
            lean,
            id,
            sent: 0,
            answered: 0,
            batches: 0,
            partner: None,
        };
        match self.live(&mut life).await {
            Ended::Left => self.world.ledger.left(&life.id),
            Ended::Broken(error) => {
                let why = format!("{error:#}");
                self.world.ledger.broken(Some(&life.id), &asked, &why);
            }
        }
    }

    async fn live(&mut self, life: &mut Life) -> Ended {
        while *self.phase.borrow() == Phase::Run {
            if let Err(error) = self.batch(life).await {
                return Ended::Broken(error);
            }
            if self.rng.random_range(0..LEAVES) == 0 {
                return self.leave(life).await;
            }
            let until =
                Instant::now() + self.rng.random_range(Duration::ZERO..self.world.pause_max);
            if let Err(error) = life.idle(until, &self.world.ledger).await {
                return Ended::Broken(error);
            }
        }
        self.rests().await;
        while *self.phase.borrow() == Phase::Rest {
            tokio::select! {
                idle = life.idle(Instant::now() + STALLED, &self.world.ledger) => {
                    if let Err(error) = idle {
                        return Ended::Broken(error);
                    }
                }
                _ = self.phase.changed() => {}
            }
        }
        self.leave(life).await
    }

    async fn batch(&mut self, life: &mut Life) -> Result<()> {
        let count = self.rng.random_range(1..=BATCH_MAX);
        life.batches += 1;
        let (mut frames, mut values) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let mut text = format!("{}@", life.sent);
            if life.sent == 0 || self.rng.random_range(0..SETS) == 0 {
                text.push_str(&format!("*{}", holdings::draw_bytes(&mut self.rng)));
                values.push(life.sent + 1);
            }
            if life.batches.is_multiple_of(PASSES_ON) {
                let nth = self.rng.random_range(0..1 << 16);
                if let Some(tail) = life.pass_on(nth, &self.world.ledger) {
                    text.push_str(&tail);
                }
            }
            life.sent += 1;
            frames.extend(encode(text.as_bytes()));
        }
        self.world.ledger.sent(&life.id, life.sent, &values);
        life.lean.write(&frames).await?;
        let deadline = Instant::now() + STALLED;
        while life.answered < life.sent {
            let Ok(heard) = timeout_at(deadline, life.hear(&self.world.ledger)).await else {
                let Life {
                    id, answered, sent, ..
                } = life;
                let text = format!("{id}: {answered} of {sent} messages answered for {STALLED:?}");
                self.world.ledger.violation(text);
                bail!("stalled");
            };
            heard?;
        }
        Ok(())
    }

    /// Half of those who leave say so, the others are just gone.
    async fn leave(&mut self, life: &mut Life) -> Ended {
        if self.rng.random() {
            let _ = life.lean.close().await;
            let ledger = &self.world.ledger;
            let ended = async { while life.hear(ledger).await.is_ok() {} };
            let _ = timeout(Duration::from_secs(1), ended).await;
        }
        Ended::Left
    }

    async fn rests(&mut self) {
        if !std::mem::replace(&mut self.rested, true) {
            let _ = self.world.resting.send(self.number).await;
        }
    }
}

impl Life {
    /// The tail of a message that is passed on to this connection's partner.
    fn pass_on(&mut self, nth: usize, ledger: &Ledger) -> Option<String> {
        if self.partner.is_none() {
            self.partner = ledger
                .any_open(nth, &self.id, ACQUAINTED)
                .map(|partner| (partner, 0));
        }
        let (partner, sent) = self.partner.as_mut()?;
        let tail = format!(">{partner}:{sent}");
        *sent += 1;
        ledger.passed_on(&self.id, partner, *sent);
        Some(tail)
    }

    /// Hears what others send, until then.
    async fn idle(&mut self, until: Instant, ledger: &Ledger) -> Result<()> {
        while let Ok(heard) = timeout_at(until, self.hear(ledger)).await {
            heard?;
        }
        Ok(())
    }

    /// Takes one message.
    async fn hear(&mut self, ledger: &Ledger) -> Result<()> {
        let text = std::str::from_utf8(self.lean.next().await?)?.to_owned();
        if let Some((from, number)) = text.strip_prefix("from:").and_then(|it| it.split_once(':')) {
            ledger.heard(from, &self.id, number.parse()?);
            return Ok(());
        }
        let due = format!("{}:{}", self.answered, self.answered + 1);
        let (answer, worker) = text.split_once('@').unwrap_or((&text, ""));
        if answer != due {
            let id = &self.id;
            ledger.violation(format!("{id}: the answer {text} came where {due} was due"));
        }
        ensure!(answer == due, "a wrong answer");
        self.answered += 1;
        let worker = worker.strip_prefix("worker-").map(str::parse).transpose()?;
        ledger.answered(&self.id, self.answered, worker);
        Ok(())
    }
}

/// The id, which a handler sends first.
async fn first(lean: &mut Lean) -> Result<String> {
    let Ok(first) = timeout(STALLED, lean.next()).await else {
        bail!("no answer to the connect for {STALLED:?}");
    };
    let text = String::from_utf8_lossy(first?).into_owned();
    let id = text.strip_prefix("id:");
    Ok(id
        .with_context(|| format!("{text} came where the id was due"))?
        .to_owned())
}

/// A watcher at one gateway, which comes back whenever its connection breaks, until `leave`.
pub(super) async fn watcher(world: Arc<World>, gateway: usize, mut leave: watch::Receiver<bool>) {
    let Some(&door) = world.doors.get(gateway) else {
        return;
    };
    while !*leave.borrow() {
        tokio::select! {
            _ = watch_once(&world.ledger, gateway, door) => {}
            _ = leave.changed() => {}
        }
        tokio::select! {
            () = sleep(Duration::from_millis(100)) => {}
            _ = leave.changed() => {}
        }
    }
}

async fn watch_once(ledger: &Ledger, gateway: usize, door: SocketAddrV4) -> Result<()> {
    let connecting = Lean::connect_to(door, None, "/?watch");
    let mut lean = timeout(CONNECTING, connecting).await??;
    let id = first(&mut lean).await?;
    let watch = ledger.watches(gateway, id);
    loop {
        let Ok(text) = lean.next().await else {
            ledger.watched(watch);
            return Ok(());
        };
        ledger.told(watch, &String::from_utf8_lossy(text));
    }
}
