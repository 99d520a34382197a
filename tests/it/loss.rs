//! Workers that die, freeze, leave or are not there yet.

use std::time::Duration;

use anyhow::ensure;
use tidegate_tests::{Cluster, Outcome, Received, Signal, eventually};
use tokio::time::sleep;

use crate::numbered::Numbered;

/// Links that are given up soon.
const QUICK_LINKS: &str = "[link]\nheartbeat-ms = 200\nlease-ms = 1000";
/// Just below their lease.
const STOPPED: Duration = Duration::from_millis(950);

#[tokio::test]
async fn who_was_stopped_itself_takes_nobody_for_silent() -> Outcome {
    let mut cluster = Cluster::apart(1, 1).settings(QUICK_LINKS).start().await?;
    for _ in 0..8 {
        let worker = cluster.worker_named("worker-0")?;
        worker.signal(Signal::Stop)?;
        // Its timers run out meanwhile; what the others said waits in its sockets.
        sleep(STOPPED).await;
        worker.signal(Signal::Continue)?;
        cluster.meshed().await?;
    }
    let log = cluster.worker(0)?.process()?.log();
    let silent = log
        .lines()
        .find(|line| line.contains("the peer was silent"));
    ensure!(silent.is_none(), "{silent:?}");
    cluster.ws(0).await?.nothing_else().await
}

#[tokio::test]
async fn a_frozen_worker_loses_nothing_and_changes_nothing_when_it_thaws() -> Outcome {
    let mut cluster = Cluster::apart(1, 2).settings(QUICK_LINKS).start().await?;
    let mut client = cluster.ws_at_worker(0, "worker-0").await?;
    cluster.worker_named("worker-0")?.signal(Signal::Stop)?;
    for number in 0..100 {
        client.send(&format!("E:{number}")).await?;
    }
    for number in 0..100 {
        client.expect(&number.to_string()).await?;
    }
    ensure!(
        client.worker().await? == "worker-1",
        "a frozen worker answers"
    );
    cluster.worker_named("worker-0")?.signal(Signal::Continue)?;
    // It is used again, so it has thawed and spoken; the client has heard nothing of it.
    cluster.meshed().await?;
    client.nothing_else().await
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_loses_nothing() -> Outcome {
    let mut cluster = Cluster::apart(1, 2).start().await?;
    let mut run = Numbered::start(&cluster, 20, 2000).await?;
    run.reached(30).await?;
    let status = cluster.worker_named("worker-0")?.terminate().await?;
    ensure!(status.success(), "it ends with {status}");
    run.finish().await?;
    let mut client = cluster.ws(0).await?;
    ensure!(
        client.worker().await? == "worker-1",
        "worker-0 is gone and serves"
    );
    Ok(())
}

#[tokio::test]
async fn events_wait_while_no_worker_is_there() -> Outcome {
    let mut cluster = Cluster::apart(1, 1).start().await?;
    let mut client = cluster.ws(0).await?;
    client.nothing_else().await?;
    cluster.worker_named("worker-0")?.kill().await?;
    let mut late = cluster.ws(0).await?;
    for number in 0..100 {
        client.send(&format!("E:{number}")).await?;
        late.send(&format!("E:{number}")).await?;
    }
    cluster.worker_named("worker-0")?.start()?;
    for number in 0..100 {
        client.expect(&number.to_string()).await?;
        late.expect(&number.to_string()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn messages_are_dropped_while_no_worker_is_there_if_so_configured() -> Outcome {
    let mut cluster = Cluster::apart(1, 1)
        .settings("[gateway]\nno-worker = \"drop\"")
        .start()
        .await?;
    let mut client = cluster.ws(0).await?;
    client.nothing_else().await?;
    let gateway = cluster.gateway(0)?.admin()?;
    cluster.worker_named("worker-0")?.kill().await?;
    not_ready(gateway).await?;
    client.send("E:dropped").await?;
    // The worker comes only when the gateway has had the time to drop: it says that it has none.
    client.send("E:dropped as well").await?;
    not_ready(gateway).await?;
    cluster.worker_named("worker-0")?.start()?;
    let answer = eventually("a message is answered", async || {
        client.send("E:kept").await?;
        match tokio::time::timeout(std::time::Duration::from_millis(100), client.next()).await {
            Ok(received) => received.map(Some),
            Err(_) => Ok(None),
        }
    })
    .await?;
    ensure!(
        answer == Received::Text("kept".into()),
        "received {answer:?}"
    );
    Ok(())
}

#[tokio::test]
async fn clients_that_talk_are_closed_while_no_worker_is_there_if_so_configured() -> Outcome {
    let mut cluster = Cluster::apart(1, 1)
        .settings("[gateway]\nno-worker = \"close\"")
        .start()
        .await?;
    let mut client = cluster.ws(0).await?;
    client.nothing_else().await?;
    let gateway = cluster.gateway(0)?.admin()?;
    cluster.worker_named("worker-0")?.kill().await?;
    not_ready(gateway).await?;
    client.send("E:nobody").await?;
    client.closed().await.map(drop)
}

async fn not_ready(gateway: std::net::SocketAddrV4) -> Outcome {
    eventually("the gateway says that it has no worker", async || {
        let response = tidegate_tests::http::get(gateway, "/readyz").await?;
        Ok((response.status == 503).then_some(()))
    })
    .await
}
