//! Messages that trap, and how long the other clients of the same instance wait meanwhile: from one
//! client, and from one that comes again and again.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::wait::within;

/// How long the load runs before anything is measured, and without traps.
const NORMAL: Duration = Duration::from_secs(2);
/// What a client that comes again sends before it is closed.
const AT_ONCE: u32 = 5;
/// How often each of the others sends a message.
const EVERY: Duration = Duration::from_millis(5);

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Messages that trap.
    pub traps: u32,
    /// Other clients.
    pub others: u32,
    /// All processes on this core.
    pub pin: Option<usize>,
}

/// The longest waits for an answer of any other client.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// How many messages trapped.
    pub traps: u32,
    /// Without traps.
    pub normal: Duration,
    /// While all come from one client.
    pub from_one: Duration,
    /// While they come from a client that comes again whenever it is closed.
    pub from_many: Duration,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the longest wait of another client while {} traps arrive: {} ms from one client, {} ms from \
             one that comes again and again, {} ms without; the bar is 1000 ms",
            self.traps,
            self.from_one.as_millis(),
            self.from_many.as_millis(),
            self.normal.as_millis()
        )
    }
}

/// Makes a run.
///
/// # Errors
/// When another client is not answered, or the one that traps is not closed.
pub async fn run(plan: Plan) -> Result<Found> {
    // One instance: everybody is on the one that breaks.
    let cluster = Cluster::serve()
        .pinned(plan.pin)
        .plugin_settings("instances = 1")
        .start()
        .await?;
    LocalSet::new().run_until(measure(plan, &cluster)).await
}

async fn measure(plan: Plan, cluster: &Cluster) -> Result<Found> {
    let longest = Rc::new(Cell::new(Duration::ZERO));
    let mut others = JoinSet::new();
    for _ in 0..plan.others {
        let client = cluster.ws(0).await?;
        others.spawn_local(other(client, longest.clone()));
    }
    let measuring = async {
        sleep(NORMAL).await;
        longest.take();
        sleep(NORMAL).await;
        let normal = longest.take();
        bad_client(cluster, plan.traps).await?;
        let from_one = longest.take();
        for _ in 0..plan.traps / AT_ONCE {
            bad_client(cluster, AT_ONCE).await?;
        }
        let from_many = longest.take();
        anyhow::Ok(Found {
            traps: plan.traps,
            normal,
            from_one,
            from_many,
        })
    };
    tokio::select! {
        found = measuring => found,
        ended = others.join_next() => {
            ended.context("there are no others")??.context("another client")?;
            anyhow::bail!("another client has ended")
        }
    }
}

/// Sends messages that trap until it is closed.
async fn bad_client(cluster: &Cluster, traps: u32) -> Result<()> {
    let mut client = cluster.ws(0).await?;
    for _ in 0..traps {
        client.send("X:trap").await?;
    }
    let code = within("a client whose messages trap is closed", client.closed()).await?;
    ensure!(code == Some(1011), "closed with {code:?}, not 1011");
    Ok(())
}

/// Asks again and again, and notes how long it waits.
async fn other(mut client: Client, longest: Rc<Cell<Duration>>) -> Result<()> {
    for number in 0_u64.. {
        let asked = Instant::now();
        client.send(&format!("E:{number}")).await?;
        client.expect(&number.to_string()).await?;
        longest.set(longest.get().max(asked.elapsed()));
        sleep(EVERY).await;
    }
    Ok(())
}
