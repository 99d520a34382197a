//! Order: 50 clients with 10,000 numbered messages each, while the plugin is replaced, a
//! neighbour traps, or a worker is killed. Nothing is lost, repeated or out of order.

use anyhow::ensure;
use tidegate_tests::plugins::{another_build, replace};
use tidegate_tests::{Cluster, Outcome, Plugin, eventually};

use crate::numbered::{CLIENTS, MESSAGES, Numbered};

#[tokio::test]
async fn answers_stay_in_order_during_a_hot_reload() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Bench.copy_to(folder.path())?;
    let component = std::fs::read(&file)?;
    let cluster = Cluster::apart(1, 2).plugin_file(&file).start().await?;
    let mut probe = cluster.ws(0).await?;
    let mut versions = vec![probe.who().await?.version];
    let mut run = Numbered::start(&cluster, CLIENTS, MESSAGES).await?;
    for (percent, label) in [(20, "second"), (50, "third")] {
        run.reached(percent).await?;
        replace(&file, &another_build(&component, label)?)?;
        let next = eventually("another version answers", async || {
            let version = probe.who().await?.version;
            Ok((!versions.contains(&version)).then_some(version))
        })
        .await?;
        versions.push(next);
    }
    run.finish().await
}

#[tokio::test]
async fn answers_stay_in_order_while_a_neighbour_traps() -> Outcome {
    // One instance, so that everybody is the neighbour of the one that traps.
    let cluster = Cluster::serve()
        .worker_flags(&["--instances", "1"])
        .start()
        .await?;
    let mut neighbour = cluster.ws(0).await?;
    let mut run = Numbered::start(&cluster, CLIENTS, MESSAGES).await?;
    for percent in [20, 40, 60] {
        run.reached(percent).await?;
        neighbour.send("X:trap").await?;
        neighbour.nothing_else().await?;
    }
    run.finish().await
}

#[tokio::test]
async fn answers_stay_in_order_when_a_worker_is_killed() -> Outcome {
    let mut cluster = Cluster::apart(2, 2).start().await?;
    let mut run = Numbered::start(&cluster, CLIENTS, MESSAGES).await?;
    run.reached(30).await?;
    cluster.worker_named("worker-0")?.kill().await?;
    run.reached(60).await?;
    cluster.worker_named("worker-0")?.start()?;
    run.finish().await?;
    cluster.meshed().await
}

#[tokio::test]
async fn answers_stay_in_order_with_a_router_that_chooses_per_event() -> Outcome {
    let mut cluster = Cluster::apart(1, 2)
        .gateway_flags(&["--router", "rand"])
        .start()
        .await?;
    let mut run = Numbered::start(&cluster, 10, 1000).await?;
    run.reached(30).await?;
    let status = cluster.worker_named("worker-1")?.kill().await?;
    ensure!(!status.success(), "a killed worker ends well: {status}");
    run.finish().await
}
