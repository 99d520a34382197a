//! A handler that misbehaves for one client hurts nobody else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Client, Cluster, Outcome};

use crate::watcher::Watcher;

/// Limits that are reached soon. One instance: everybody is on the one that misbehaves.
const LIMITS: &str = "cpu-ms = 200\nwall-ms = 1000\nmemory-mib = 32\ninstances = 1";

async fn misbehaves(command: &str) -> Result<(Cluster, Client)> {
    let cluster = Cluster::serve().plugin_settings(LIMITS).start().await?;
    let mut neighbour = cluster.ws(0).await?;
    neighbour.send("J:neighbours").await?;
    neighbour.send("S:k:\"kept\"").await?;
    neighbour.nothing_else().await?;
    let mut bad = cluster.ws(0).await?;
    bad.send(command).await?;
    // Sent while the bad event is under way: it waits for a fresh instance and is answered.
    neighbour.nothing_else().await?;
    ensure!(
        neighbour.ask("?:k").await? == "\"kept\"",
        "the session is lost"
    );
    // The event is set aside; what the bad client sends next is handled.
    bad.nothing_else()
        .await
        .context("the bad client's next event")?;
    bad.send("G:neighbours:still here").await?;
    neighbour.expect("still here").await?;
    Ok((cluster, neighbour))
}

#[tokio::test]
async fn a_handler_that_traps_hurts_nobody_else() -> Outcome {
    misbehaves("X:trap").await.map(drop)
}

#[tokio::test]
async fn a_handler_that_loops_is_stopped_and_hurts_nobody_else() -> Outcome {
    let started = Instant::now();
    let (_cluster, _neighbour) = misbehaves("X:spin").await?;
    // Two attempts of 200 ms, and a start on a busy machine.
    ensure!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_handler_that_eats_memory_is_stopped_and_hurts_nobody_else() -> Outcome {
    let (cluster, _neighbour) = misbehaves("X:grow").await?;
    let resident = cluster.gateway(0)?.process()?.resident_bytes()?;
    ensure!(
        resident < 400 << 20,
        "the process has grown to {resident} bytes"
    );
    Ok(())
}

#[tokio::test]
async fn a_handler_that_fails_leaves_nothing_behind() -> Outcome {
    let (_cluster, mut neighbour) = misbehaves("X:err").await?;
    // Neither `leak` to all nor membership of the group `leak`.
    neighbour.nothing_else().await
}

#[tokio::test]
async fn a_client_whose_messages_trap_is_closed_and_the_others_are_answered_meanwhile() -> Outcome {
    let cluster = Cluster::serve().plugin_settings(LIMITS).start().await?;
    let mut watcher = Watcher::join(&cluster, 0).await?;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(cluster.ws(0).await?);
    }
    let mut bad = cluster.ws(0).await?;
    let id = bad.id().await?;
    for _ in 0..200 {
        bad.send("X:trap").await?;
    }
    for _ in 0..20 {
        for other in &mut others {
            other.nothing_else().await?;
        }
    }
    let code = bad.closed().await?;
    ensure!(code == Some(1011), "closed with {code:?}");
    watcher.expect(&id, "server:-::null").await?;
    watcher.quiet_about(&id).await?;
    let gateway = cluster.gateway(0)?;
    let traps = gateway.metric(
        "tidegate_worker_traps_total",
        "tenant=\"default\",kind=\"trap\"",
    );
    let traps = traps.await?;
    ensure!(
        traps <= 6.0,
        "the instance and its quarantine broke {traps} times"
    );
    // The next one of its kind starts anew.
    let mut next = cluster.ws(0).await?;
    next.nothing_else().await
}

#[tokio::test]
async fn a_loop_in_one_process_does_not_disturb_another_client_of_another_instance() -> Outcome {
    let cluster = Cluster::apart(1, 1)
        .plugin_settings("cpu-ms = 3000\nwall-ms = 6000\ninstances = 2")
        .start()
        .await?;
    let mut bad = cluster.ws(0).await?;
    let bad_instance = bad.who().await?.instance;
    let mut others = Vec::new();
    let mut other = loop {
        let mut client = cluster.ws(0).await?;
        if client.who().await?.instance != bad_instance {
            break client;
        }
        others.push(client);
        ensure!(others.len() < 64, "all 64 clients are on one instance");
    };
    bad.send("X:spin").await?;
    let started = Instant::now();
    for _ in 0..100 {
        other.nothing_else().await?;
    }
    let took = started.elapsed();
    ensure!(
        took < Duration::from_secs(3),
        "100 round trips took {took:?}"
    );
    Ok(())
}
