//! Clients that go on talking at a steady pace, whatever the answers do, and how long they wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::crowd::Member;

/// No answer for so long is a loss.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Talk {
    shared: Rc<Shared>,
    running: RefCell<JoinSet<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    ending: Cell<bool>,
    waits: RefCell<Vec<Duration>>,
    /// When a client was first answered by another worker than before, and by which it was before.
    moves: RefCell<Vec<(String, Instant)>>,
}

impl Talk {
    /// Lets these clients send a message so often, evenly spread. Within a local set only.
    pub(super) fn start(members: Vec<Member>, every: Duration) -> Self {
        let shared: Rc<Shared> = Rc::default();
        let mut running = JoinSet::new();
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX).max(1);
        for (number, member) in (0..).zip(members) {
            let start = Instant::now() + every * number / count;
            let talk = talk(member, start, every, shared.clone());
            running
                .spawn_local(async move { talk.await.with_context(|| format!("talker {number}")) });
        }
        Self {
            shared,
            running: RefCell::new(running),
        }
    }

    /// How long answers took in this time, which begins now.
    ///
    /// # Errors
    /// When a client has ended.
    pub(super) async fn waits_for(&self, time: Duration) -> Result<Waits> {
        sleep(time / 5).await;
        self.forget();
        sleep(time).await;
        self.check()?;
        Ok(self.waits())
    }

    /// From now on counts.
    pub(super) fn forget(&self) {
        self.shared.waits.borrow_mut().clear();
        self.shared.moves.borrow_mut().clear();
    }

    /// What was counted.
    pub(super) fn waits(&self) -> Waits {
        Waits::of(self.shared.waits.borrow().clone())
    }

    /// None of them has ended.
    ///
    /// # Errors
    /// When one has.
    pub(super) fn check(&self) -> Result<()> {
        match self.running.borrow_mut().try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended??;
                bail!("a client has ended")
            }
        }
    }

    /// How long after `start` the first and the last client of a worker were answered by another.
    ///
    /// # Errors
    /// When none was.
    pub(super) fn moved(&self, from: &str, start: Instant) -> Result<(Duration, Duration)> {
        let moves = self.shared.moves.borrow();
        let times = moves.iter().filter(|(worker, _)| worker == from);
        let times: Vec<_> = times.map(|(_, at)| *at - start).collect();
        let first = times.iter().min();
        let (Some(first), Some(last)) = (first, times.iter().max()) else {
            bail!("no client of {from} talked");
        };
        Ok((*first, *last))
    }

    /// Ends them, when each has all of its answers.
    ///
    /// # Errors
    /// What one of them missed.
    pub(super) async fn end(self) -> Result<()> {
        self.shared.ending.set(true);
        let mut running = self.running.into_inner();
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn talk(
    mut member: Member,
    start: Instant,
    every: Duration,
    shared: Rc<Shared>,
) -> Result<()> {
    let mut pace = interval_at(start, every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered = member.sent;
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut worker = None;
    loop {
        let ending = shared.ending.get();
        tokio::select! {
            _ = pace.tick(), if !ending => {
                let text = format!("{}@", member.sent);
                member.connection.send(&text).await?;
                member.sent += 1;
                waiting.push_back(Instant::now());
            }
            answer = timeout(STALLED, member.connection.next()), if !waiting.is_empty() => {
                let answer = answer.context("an answer is lost")??;
                let text = std::str::from_utf8(answer)?;
                let (answer, by) = text.split_once('@').unwrap_or((text, ""));
                let due = format!("{answered}:{}", answered + 1);
                ensure!(answer == due, "{answer} came where {due} was due");
                answered += 1;
                let since = waiting.pop_front().context("an answer to nothing")?;
                shared.waits.borrow_mut().push(since.elapsed());
                if worker.as_deref() != Some(by)
                    && let Some(before) = worker.replace(by.to_owned())
                {
                    shared.moves.borrow_mut().push((before, Instant::now()));
                }
            }
            else => return Ok(()),
        }
    }
}

/// How long answers took.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    count: usize,
    half: Duration,
    p99: Duration,
    longest: Duration,
}

impl Waits {
    fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        let part = |of_a_thousand: usize| {
            let place = waits.len() * of_a_thousand / 1000;
            waits
                .get(place)
                .or(waits.last())
                .copied()
                .unwrap_or_default()
        };
        Self {
            count: waits.len(),
            half: part(500),
            p99: part(990),
            longest: part(1000),
        }
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let (half, p99, longest) = (ms(self.half), ms(self.p99), ms(self.longest));
        write!(
            f,
            "p50 {half:.1} ms, p99 {p99:.1} ms, longest {longest:.0} ms of {} answers",
            self.count
        )
    }
}
