//! Metrics: each says what it is, is there from the start, and shows who is slow.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_tests::{
    Client, Cluster, Node, Outcome, Plugin, Transport, eventually, prometheus, tools,
};

/// Of a process without command components and codecs.
const OF_COMPONENTS: [&str; 2] = ["tidegate_gateway_command_", "tidegate_gateway_codec_"];

#[tokio::test]
async fn every_metric_has_help_and_type_and_is_there_from_the_start() -> Outcome {
    let mut cluster = Cluster::serve();
    cluster = cluster.other_plugin_file(&Plugin::Bench.path()?);
    let cluster = cluster.start().await?;
    let node = cluster.gateway(0)?;
    let fresh = prometheus::check(&node.metrics().await?)?;
    let readme = std::fs::read_to_string(tools::root().join("README.md"))?;
    for name in fresh.keys() {
        ensure!(
            readme.contains(&format!("`{name}")),
            "{name} is not in the README"
        );
    }
    for name in named(&readme) {
        ensure!(
            fresh.contains_key(&name) || OF_COMPONENTS.iter().any(|of| name.starts_with(of)),
            "{name} of the README is not there from the start"
        );
    }
    let mut client = node.ws().await?;
    client.nothing_else().await?;
    let used = prometheus::check(&node.metrics().await?)?;
    let (fresh, used): (BTreeSet<_>, BTreeSet<_>) = (fresh.keys().collect(), used.keys().collect());
    ensure!(fresh == used, "{:?}", used.difference(&fresh));
    Ok(())
}

/// The metrics that a page names.
fn named(page: &str) -> BTreeSet<String> {
    let names = page.split('`').filter(|it| it.starts_with("tidegate_"));
    let names = names.filter_map(|it| it.split('{').next());
    // Names of crates are in the lines of the log that the page shows.
    let names = names.filter(|it| !it.contains(':'));
    names.map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn nodes_apart_have_metrics_of_their_own_that_follow_the_rules() -> Outcome {
    let cluster = Cluster::apart(1, 1).start().await?;
    let gateway = prometheus::check(&cluster.gateway(0)?.metrics().await?)?;
    let worker = prometheus::check(&cluster.worker(0)?.metrics().await?)?;
    ensure!(
        !gateway
            .keys()
            .any(|name| name.starts_with("tidegate_worker_"))
    );
    ensure!(
        !worker
            .keys()
            .any(|name| name.starts_with("tidegate_gateway_"))
    );
    Ok(())
}

#[tokio::test]
async fn how_long_things_take_is_counted_by_tenant() -> Outcome {
    let cluster = late(1, "").await?;
    let (gateway, worker) = (cluster.gateway(0)?, cluster.worker(0)?);
    let mut client = client(&cluster).await?;
    client.send("sleep 300\necho slept").await?;
    client.expect("slept").await?;
    client.send("echo quick").await?;
    client.expect("quick").await?;
    let tenant = "tenant=\"default\"";
    for (node, name) in [
        (gateway, "tidegate_gateway_event_seconds"),
        (gateway, "tidegate_gateway_event_wait_seconds"),
        (gateway, "tidegate_gateway_delivery_seconds"),
        (worker, "tidegate_worker_event_seconds"),
        (worker, "tidegate_worker_event_wait_seconds"),
    ] {
        let count = node.metric(&format!("{name}_count"), tenant).await?;
        ensure!(
            count >= 3.0,
            "{name} counts {count}: connect and two messages"
        );
    }
    for (node, name) in [
        (gateway, "tidegate_gateway_event_seconds"),
        (worker, "tidegate_worker_event_seconds"),
    ] {
        let within = format!("{tenant},le=\"0.25\"");
        let within = node.metric(&format!("{name}_bucket"), &within).await?;
        let count = node.metric(&format!("{name}_count"), tenant).await?;
        ensure!(
            count - within >= 1.0,
            "{name}: all {count} within a quarter of a second"
        );
        let sum = node.metric(&format!("{name}_sum"), tenant).await?;
        ensure!((0.3..20.0).contains(&sum), "{name} took {sum} s together");
    }
    client.send("ask uid-count-estimate").await?;
    client.text().await?;
    eventually("the question is counted", async || {
        let name = "tidegate_gateway_question_seconds_count";
        Ok((gateway.metric(name, tenant).await? >= 1.0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_slow_handler_shows_in_the_gauges_and_is_named() -> Outcome {
    let cluster = late(1, "").await?;
    let gateway = cluster.gateway(0)?;
    let mut client = client(&cluster).await?;
    client.send("sleep 3500\necho slept").await?;
    client.send("echo behind").await?;
    eventually("the gauges show it", async || {
        let events = gateway
            .metric("tidegate_gateway_pending_events", "")
            .await?;
        let bytes = gateway.metric("tidegate_gateway_pending_bytes", "").await?;
        let age = gateway
            .metric("tidegate_gateway_oldest_event_age_seconds", "")
            .await?;
        let fill = gateway
            .metric("tidegate_gateway_window_fill_ratio", "")
            .await?;
        ensure!(fill < 1.0, "the window is {fill} full");
        Ok((events >= 2.0 && bytes >= 256.0 && age >= 1.5).then_some(()))
    })
    .await?;
    let line = named_late(gateway).await?;
    ensure!(line.contains("slow-handler"), "{line}");
    client.expect("slept").await?;
    client.expect("behind").await?;
    eventually("the gauges show that it is over", async || {
        let events = gateway
            .metric("tidegate_gateway_pending_events", "")
            .await?;
        let age = gateway
            .metric("tidegate_gateway_oldest_event_age_seconds", "")
            .await?;
        Ok((events == 0.0 && age == 0.0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_tenant_without_a_worker_is_named() -> Outcome {
    let mut cluster = late(1, "").await?;
    let mut client = client(&cluster).await?;
    cluster.worker_named("worker-0")?.kill().await?;
    client.send("echo back").await?;
    let line = named_late(cluster.gateway(0)?).await?;
    ensure!(line.contains("no-worker"), "{line}");
    cluster.worker_named("worker-0")?.start()?;
    client.expect("back").await
}

#[tokio::test]
async fn a_tenant_that_sends_more_than_its_handlers_do_is_named_for_its_window() -> Outcome {
    let cluster = late(1, "[worker]\nwindow-events = 2\ninstances = 1\n").await?;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(client(&cluster).await?);
    }
    for client in &mut clients {
        client.send("sleep 100\necho done").await?;
    }
    let gateway = cluster.gateway(0)?;
    let line = named_late(gateway).await?;
    ensure!(line.contains("reason=\"window\""), "{line}");
    for client in &mut clients {
        client.expect("done").await?;
    }
    Ok(())
}

/// A cluster of one shard that names whose oldest event is a second old.
async fn late(workers: usize, settings: &str) -> Result<Cluster> {
    Cluster::apart(1, workers)
        .other_plugin_file(&Plugin::Scripted.path()?)
        .settings("[gateway]\nshards = 1\nlate-event-ms = 1000\n")
        .settings(settings)
        .start()
        .await
}

async fn client(cluster: &Cluster) -> Result<Client> {
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut client = Client::connect(Transport::Ws, address).await?;
    let hello = client.text().await?;
    ensure!(hello.starts_with("hello"), "{hello}");
    Ok(client)
}

/// The one line that names a tenant.
async fn named_late(gateway: &Node) -> Result<String> {
    let is_named = |line: &&str| line.contains("a tenant's oldest event is late");
    eventually("the log names the tenant", async || {
        let log = gateway.process()?.log();
        Ok(log.lines().find(is_named).map(drop))
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let log = gateway.process()?.log();
    let mut lines = log.lines().filter(is_named);
    let line = lines.next().context("the line is gone")?;
    ensure!(lines.next().is_none(), "it is named again within a minute");
    Ok(line.to_owned())
}
