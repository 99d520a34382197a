//! Closing is always told, exactly once, with its reason and what the client was.

use anyhow::ensure;
use tidegate_tests::{Cluster, Outcome, Signal};

use crate::behaviour::Named;
use crate::watcher::Watcher;

/// A lost gateway is known soon.
const QUICK: &str = "[link]\nheartbeat-ms = 200\nlease-ms = 1000\n\
                     [register]\nlease-ms = 1000\ngrace-ms = 500";

#[tokio::test]
async fn a_gateway_that_is_told_to_stop_closes_its_clients_as_going_away() -> Outcome {
    let mut cluster = Cluster::apart(2, 1).start().await?;
    let mut watcher = Watcher::join(&cluster, 0).await?;
    let mut leaving = Named::connect(&cluster, 1).await?;
    for command in ["U:eve", "J:club", "S:k:7"] {
        leaving.does(command).await?;
    }
    cluster.gateway_mut(1)?.signal(Signal::Terminate)?;
    let code = leaving.client.closed().await?;
    ensure!(code == Some(1001), "closed with {code:?}, not 1001");
    watcher.expect(&leaving.id, "going-away:eve:club:7").await?;
    let status = cluster.gateway_mut(1)?.process_mut()?.ended().await?;
    ensure!(status.success(), "the gateway ends with {status}");
    watcher.quiet_about(&leaving.id).await
}

#[tokio::test]
async fn the_clients_of_a_lost_gateway_are_told_closed_once() -> Outcome {
    let mut cluster = Cluster::apart(2, 2).settings(QUICK).start().await?;
    let mut watcher = Watcher::join(&cluster, 0).await?;
    let mut clients = Vec::new();
    for number in 0..10 {
        let mut client = Named::connect(&cluster, 1).await?;
        client.does(&format!("U:user{number}")).await?;
        client.does("J:club").await?;
        client.does(&format!("S:k:{number}")).await?;
        clients.push(client);
    }
    cluster.gateway_mut(1)?.kill().await?;
    for (number, client) in clients.iter().enumerate() {
        let expected = format!("gateway-lost:user{number}:club:{number}");
        watcher.expect(&client.id, &expected).await?;
    }
    for client in &clients {
        watcher.quiet_about(&client.id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_close_is_told_once_when_its_worker_is_lost_at_the_same_time() -> Outcome {
    let mut cluster = Cluster::apart(1, 2).start().await?;
    let mut watcher = Watcher::with(cluster.ws_at_worker(0, "worker-1").await?).await?;
    let mut ids = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = Named::connect(&cluster, 0).await?;
        ids.push(client.id.clone());
        clients.push(client);
    }
    cluster.worker_named("worker-0")?.signal(Signal::Stop)?;
    for client in clients {
        client.client.close().await?;
    }
    cluster.worker_named("worker-0")?.kill().await?;
    for id in &ids {
        watcher.expect(id, "client:-::null").await?;
    }
    for id in &ids {
        watcher.quiet_about(id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_id_of_a_closed_client_reaches_nobody() -> Outcome {
    let mut cluster = Cluster::apart(2, 1).start().await?;
    let gone = Named::connect(&cluster, 1).await?;
    gone.client.close().await?;
    let mut sender = Named::connect(&cluster, 0).await?;
    let mut bystander = Named::connect(&cluster, 1).await?;
    sender.does(&format!("C:{}:hello?", gone.id)).await?;
    bystander.heard_nothing_from(&mut sender).await?;
    cluster.gateway_mut(1)?.kill().await?;
    sender.does(&format!("C:{}:hello?", bystander.id)).await?;
    sender.client.send("B:alone").await?;
    sender.client.expect("alone").await?;
    sender.client.nothing_else().await
}
