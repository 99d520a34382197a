//! Clients of the recorder that send numbered messages at a steady pace, whatever the answers do.
//! An error at the end says what was lost, repeated, out of order, or which connection was closed.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::load::{Lean, encode};
use crate::wait::eventually;

/// No answer for so long is a loss; a busy machine compiles slowly.
const STALLED: Duration = Duration::from_secs(40);

/// Clients that talk.
#[derive(Debug)]
pub struct Talkers {
    running: JoinSet<Result<()>>,
    ending: watch::Sender<bool>,
    answered: Arc<AtomicU64>,
}

impl Talkers {
    /// Connects so many clients, evenly to these doors; each sends a message so often.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn start(doors: &[SocketAddrV4], clients: u32, every: Duration) -> Result<Self> {
        let (ending, _) = watch::channel(false);
        let answered = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for (number, door) in (0..clients).zip(doors.iter().cycle()) {
            let mut lean = Lean::connect(*door, None).await?;
            ensure!(
                timeout(STALLED, lean.next()).await??.starts_with(b"id:"),
                "a wrong first answer"
            );
            // Evenly spread, as strangers would be.
            let start = Instant::now() + every * number / clients;
            let talk = talk(
                lean,
                start,
                every,
                ending.subscribe(),
                Arc::clone(&answered),
            );
            running.spawn(async move { talk.await.with_context(|| format!("client {number}")) });
        }
        Ok(Self {
            running,
            ending,
            answered,
        })
    }

    /// Waits for so many more answers.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn go_on(&self, answers: u64) -> Result<()> {
        let until = self.answered.load(Ordering::Relaxed) + answers;
        eventually("clients are answered", async || {
            Ok((self.answered.load(Ordering::Relaxed) >= until).then_some(()))
        })
        .await
    }

    /// Ends them, when each has all of its answers.
    ///
    /// # Errors
    /// What one of them missed.
    pub async fn end(mut self) -> Result<u64> {
        // They may have ended by themselves.
        let _ = self.ending.send(true);
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        Ok(self.answered.load(Ordering::Relaxed))
    }
}

async fn talk(
    mut lean: Lean,
    start: Instant,
    every: Duration,
    ending: watch::Receiver<bool>,
    all_answered: Arc<AtomicU64>,
) -> Result<()> {
    let mut pace = interval_at(start, every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut answered) = (0_u64, 0_u64);
    loop {
        let is_ending = *ending.borrow();
        tokio::select! {
            _ = pace.tick(), if !is_ending => {
                lean.write(&encode(sent.to_string().as_bytes())).await?;
                sent += 1;
            }
            answer = timeout(STALLED, lean.next()), if answered < sent => {
                check(answer.context("an answer is lost")??, answered)?;
                answered += 1;
                all_answered.fetch_add(1, Ordering::Relaxed);
            }
            else => break,
        }
    }
    one_more(&mut lean, sent).await
}

/// Sends a last message, this number. What was answered twice would come before its answer.
pub(crate) async fn one_more(lean: &mut Lean, number: u64) -> Result<()> {
    lean.write(&encode(number.to_string().as_bytes())).await?;
    check(timeout(STALLED, lean.next()).await??, number)
}

/// Whether this is the answer that is due.
pub(crate) fn check(answer: &[u8], due: u64) -> Result<()> {
    let due = format!("{due}:{}", due + 1);
    ensure!(
        answer == due.as_bytes(),
        "{} came where {due} was due",
        String::from_utf8_lossy(answer)
    );
    Ok(())
}
