//! The end of a process takes no longer than it may, whoever does not do their part.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Client, Cluster, Outcome, Plugin, Signal, Transport, eventually};

/// What ends are configured to take, and what a process needs beyond that at most.
const SHUTDOWN: Duration = Duration::from_secs(3);
const AND_SOME: Duration = Duration::from_millis(1_500);

const TIMES: &str = "[gateway]\nshutdown-ms = 3000\n[worker]\nshutdown-ms = 3000\n";
/// Handlers that sleep may do so for longer than any end.
const SLOW: &str = "wall-ms = 60000\n";

async fn client(cluster: &Cluster) -> Result<Client> {
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut client = Client::connect(Transport::Ws, address).await?;
    let hello = client.text().await?;
    ensure!(hello.starts_with("hello"), "{hello}");
    Ok(client)
}

/// Clients with far more to be done than an end has time for.
async fn backlog(cluster: &Cluster) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(client(cluster).await?);
    }
    for client in &mut clients {
        for _ in 0..20 {
            client.send("sleep 2000").await?;
        }
    }
    let gateway = cluster.gateway(0)?;
    eventually("the events are there", async || {
        let events = gateway
            .metric("tidegate_gateway_pending_events", "")
            .await?;
        Ok((events >= 600.0).then_some(()))
    })
    .await?;
    Ok(clients)
}

#[tokio::test]
async fn a_process_with_a_backlog_ends_in_its_time_and_says_what_it_cut() -> Outcome {
    let mut cluster = Cluster::serve()
        .other_plugin_file(&Plugin::Scripted.path()?)
        .plugin_settings(SLOW)
        .settings(TIMES)
        .start()
        .await?;
    let _clients = backlog(&cluster).await?;
    let begun = Instant::now();
    let status = cluster.gateway_mut(0)?.terminate().await?;
    let took = begun.elapsed();
    ensure!(took < SHUTDOWN + AND_SOME, "it took {took:?}");
    ensure!(status.code() == Some(0), "{status}");
    let log = cluster.gateway(0)?.process()?.log();
    for line in [
        "the end waits",
        "before these closes were committed",
        "they are cut",
    ] {
        ensure!(log.contains(line), "{line}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn workers_that_end_together_take_their_time_and_not_longer_without_a_register() -> Outcome {
    let mut cluster = Cluster::apart(1, 3)
        .other_plugin_file(&Plugin::Scripted.path()?)
        .plugin_settings(SLOW)
        .settings(TIMES)
        .start()
        .await?;
    let _clients = backlog(&cluster).await?;
    // It takes no leave.
    let register = cluster.register_mut()?;
    register.signal(Signal::Stop)?;
    let begun = Instant::now();
    for worker in &mut cluster.workers {
        worker.signal(Signal::Terminate)?;
    }
    for worker in &mut cluster.workers {
        let status = worker.process_mut()?.ended().await?;
        let took = begun.elapsed();
        ensure!(
            took < SHUTDOWN + AND_SOME,
            "{} took {took:?}",
            worker.name()
        );
        ensure!(status.code() == Some(0), "{status}");
    }
    let log = cluster.worker(0)?.process()?.log();
    for line in ["the drain waits", "the drain took too long"] {
        ensure!(log.contains(line), "{line}: {log}");
    }
    cluster.register_mut()?.signal(Signal::Continue)?;
    drop(cluster.register.take().context("no register")?);
    Ok(())
}
