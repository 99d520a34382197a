//! Many clients with large sessions, and one of two workers goes: the other one serves them all.

use std::time::Duration;

use anyhow::{Context, ensure};
use tidegate_tests::bulk::{self, By, Plan};
use tidegate_tests::{Client, Cluster, Outcome};

const CLIENTS: usize = 1_300;
/// Near the limit of a session: all together are more than a link's queue may hold.
const SESSION: usize = 60 << 10;

fn value(number: usize) -> String {
    format!("\"{number} {}\"", "x".repeat(SESSION))
}

/// Clients whose sessions are set.
async fn gather(cluster: &Cluster) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let mut client = cluster.ws(0).await?;
        client.send(&format!("S:k:{}", value(number))).await?;
        client.send("E:set").await?;
        clients.push(client);
    }
    for client in &mut clients {
        client.expect("set").await?;
    }
    Ok(clients)
}

/// Everybody is answered, by the other worker and with the session that was set.
async fn all_are_served(cluster: &Cluster, mut clients: Vec<Client>) -> Outcome {
    for client in &mut clients {
        client.send("E:hello").await?;
    }
    for client in &mut clients {
        client.expect("hello").await?;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.ask("?:k").await?;
        ensure!(
            answer == value(number),
            "client {number} has another session"
        );
        if number % 100 == 0 {
            ensure!(client.worker().await? == "worker-1", "worker-0 is gone");
        }
    }
    for node in [cluster.gateway(0)?, cluster.worker(1)?] {
        let log = node.process()?.log();
        ensure!(!log.contains("does not read"), "a link was ended: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_worker_with_large_sessions_costs_nobody_the_other_one() -> Outcome {
    let mut cluster = Cluster::apart(1, 2).start().await?;
    let clients = gather(&cluster).await?;
    cluster.worker_named("worker-0")?.kill().await?;
    all_are_served(&cluster, clients).await
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_hands_large_sessions_over_and_ends_well() -> Outcome {
    let mut cluster = Cluster::apart(1, 2).start().await?;
    let clients = gather(&cluster).await?;
    let status = cluster.worker_named("worker-0")?.terminate().await?;
    ensure!(status.success(), "it ends with {status}");
    all_are_served(&cluster, clients)
        .await
        .context("after its end")
}

/// What `make bulk` does where the machine does not allow enough sockets, with few clients.
#[tokio::test]
async fn a_killed_worker_costs_clients_by_pipes_no_answer() -> Outcome {
    let plan = Plan {
        by: By::Pipes,
        clients: 300,
        session_bytes: 1 << 10,
        before: Duration::from_secs(1),
    };
    let loss = bulk::loss(plan, &mut |_| {}).await?;
    // Half of the clients had the killed worker as their custodian.
    let custody = loss.custody_bytes();
    ensure!(custody > (100 << 10).into(), "{custody} bytes: {loss}");
    Ok(())
}
