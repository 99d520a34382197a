//! The admin port: alive, ready, counters.

use anyhow::ensure;
use tidegate_tests::{Cluster, Node, Outcome, eventually, http};

#[tokio::test]
async fn a_gateway_is_ready_only_with_a_worker_and_says_what_is_missing() -> Outcome {
    let mut cluster = Cluster::apart(1, 1).start().await?;
    let admin = cluster.gateway(0)?.admin()?;
    let alive = http::get(admin, "/healthz").await?;
    ensure!(alive.status == 200, "{alive:?}");
    cluster.worker_named("worker-0")?.kill().await?;
    let text = eventually("the gateway is not ready", async || {
        let response = http::get(admin, "/readyz").await?;
        Ok((response.status == 503).then_some(response.body))
    })
    .await?;
    ensure!(
        text.contains("worker"),
        "it does not name the worker: {text:?}"
    );
    let alive = http::get(admin, "/healthz").await?;
    ensure!(alive.status == 200, "{alive:?}");
    let nothing = http::get(admin, "/nothing").await?;
    ensure!(nothing.status == 404, "{nothing:?}");
    cluster.worker_named("worker-0")?.start()?;
    cluster.gateway_mut(0)?.ready().await
}

#[tokio::test]
async fn metrics_count_what_happens() -> Outcome {
    let cluster = Cluster::apart(1, 1).start().await?;
    let mut client = cluster.ws(0).await?;
    for _ in 0..10 {
        client.nothing_else().await?;
    }
    let mut bad = cluster.ws(0).await?;
    bad.send("X:trap").await?;
    bad.nothing_else().await?;
    let gateway = cluster.gateway(0)?;
    at_least(gateway, "tidegate_gateway_clients", 2.0).await?;
    at_least(gateway, "tidegate_gateway_connections_total", 2.0).await?;
    at_least(gateway, "tidegate_gateway_messages_in_total", 12.0).await?;
    at_least(gateway, "tidegate_gateway_messages_out_total", 11.0).await?;
    at_least(gateway, "tidegate_gateway_bytes_in_total", 100.0).await?;
    at_least(gateway, "tidegate_gateway_commits_total", 12.0).await?;
    let worker = cluster.worker(0)?;
    at_least(worker, "tidegate_worker_events_total", 12.0).await?;
    at_least(worker, "tidegate_worker_commits_total", 12.0).await?;
    at_least(worker, "tidegate_worker_links", 1.0).await?;
    // It trapped on a fresh instance as well, then it was set aside.
    at_least(worker, "tidegate_worker_traps_total", 2.0).await?;
    at_least(worker, "tidegate_worker_dead_letters_total", 1.0).await
}

async fn at_least(node: &Node, name: &str, least: f64) -> Outcome {
    eventually(&format!("{name} is at least {least}"), async || {
        let value = node.metric(name, "").await?;
        ensure!(value >= least, "it is {value}");
        Ok(Some(()))
    })
    .await
}
