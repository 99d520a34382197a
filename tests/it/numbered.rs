//! Many clients that each send numbered messages and check that the answers come back complete,
//! once and in order, while a test does something to the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_tests::load::{Lean, encode};
use tidegate_tests::{Cluster, Transport};
use tokio::task::JoinSet;

pub(crate) const CLIENTS: usize = 50;
pub(crate) const MESSAGES: u64 = 10_000;

/// Messages of one client that are under way at a time.
const BATCH: u64 = 100;

/// For the whole of a run, on a slow machine that also does other things.
const RUN: Duration = Duration::from_secs(150);

/// A run under way.
pub(crate) struct Numbered {
    running: JoinSet<Result<()>>,
    answered: Arc<AtomicU64>,
    total: u64,
}

impl Numbered {
    /// Connects the clients, spread over the gateways, and lets them begin.
    pub(crate) async fn start(cluster: &Cluster, clients: usize, messages: u64) -> Result<Self> {
        Self::start_with(cluster, clients, messages, |_, _| None).await
    }

    /// The same. Before each batch of its messages a client sends what `before` says for its number
    /// and that of the batch, a command without an answer.
    pub(crate) async fn start_with(
        cluster: &Cluster,
        clients: usize,
        messages: u64,
        before: fn(usize, u64) -> Option<String>,
    ) -> Result<Self> {
        let answered = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for number in 0..clients {
            let gateway = cluster.gateway(number % cluster.gateways.len())?;
            let lean = Lean::connect(gateway.listener(Transport::Ws)?, None).await?;
            let answered = answered.clone();
            running.spawn(async move {
                one(lean, messages, &answered, |batch| before(number, batch))
                    .await
                    .with_context(|| format!("client {number}"))
            });
        }
        Ok(Self {
            running,
            answered,
            total: clients as u64 * messages,
        })
    }

    /// Waits until so many percent of all messages are answered.
    pub(crate) async fn reached(&mut self, percent: u64) -> Result<()> {
        let goal = self.total * percent / 100;
        let reaching = async {
            while self.answered.load(Ordering::Relaxed) < goal {
                tokio::select! {
                    Some(ended) = self.running.join_next() => ended??,
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
            }
            Ok(())
        };
        tokio::time::timeout(RUN, reaching)
            .await
            .with_context(|| self.so_far())?
    }

    /// Waits until every client has all of its answers and nothing else.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let finishing = async {
            while let Some(ended) = self.running.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        let finished = tokio::time::timeout(RUN, finishing).await;
        finished.with_context(|| self.so_far())??;
        let answered = self.answered.load(Ordering::Relaxed);
        ensure!(answered == self.total, "{}", self.so_far());
        Ok(())
    }

    fn so_far(&self) -> String {
        let answered = self.answered.load(Ordering::Relaxed);
        format!("{answered} of {} messages are answered", self.total)
    }
}

async fn one(
    mut lean: Lean,
    messages: u64,
    answered: &AtomicU64,
    before: impl Fn(u64) -> Option<String>,
) -> Result<()> {
    let mut next = 0;
    while next < messages {
        let batch = next..(next + BATCH).min(messages);
        let lines = batch.clone().map(|number| format!("E:{number}"));
        let lines = before(next / BATCH).into_iter().chain(lines);
        let frames: Vec<u8> = lines.flat_map(|line| encode(line.as_bytes())).collect();
        lean.write(&frames).await?;
        for number in batch.clone() {
            let answer = lean.next().await?;
            ensure!(
                answer == number.to_string().as_bytes(),
                "{} came where {number} was due",
                String::from_utf8_lossy(answer)
            );
            answered.fetch_add(1, Ordering::Relaxed);
        }
        next = batch.end;
    }
    // What is answered twice would come before this.
    lean.write(&encode(b"E:end")).await?;
    let answer = lean.next().await?;
    ensure!(
        answer == b"end",
        "{} came where the end was due",
        String::from_utf8_lossy(answer)
    );
    Ok(())
}
