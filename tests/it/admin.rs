//! The admin port: alive, ready, counters.

use anyhow::ensure;
use tidegate_tests::{Cluster, Outcome, eventually, http};

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
    for node in [cluster.gateway(0)?, cluster.worker(0)?] {
        let metrics = node.metrics().await?;
        let counters = metrics
            .lines()
            .filter(|line| line.starts_with("tidegate_"))
            .count();
        ensure!(
            counters >= 3,
            "{} counts {counters} things: {metrics}",
            node.name()
        );
    }
    Ok(())
}
