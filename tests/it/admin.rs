//! The admin port: alive, ready, counters.

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Cluster, Node, Outcome, Plugin, Transport, eventually, http};

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

/// Waits until a node is not ready, and says why.
async fn unready(node: &Node, why: &str) -> Result<String> {
    eventually(
        &format!("{} is not ready: {why}", node.name()),
        async || {
            let answer = http::get(node.admin()?, "/readyz").await?;
            ensure!(answer.status == 503, "{}", answer.body);
            ensure!(answer.body.contains(why), "{}", answer.body);
            Ok(Some(answer.body))
        },
    )
    .await
}

#[tokio::test]
async fn a_gateway_whose_workers_serve_none_of_its_tenants_is_not_ready() -> Outcome {
    let mut cluster = Cluster::apart(1, 1)
        .other_plugin_file(&Plugin::Scripted.path()?)
        .deploys()
        .without_file()
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    unready(gateway, "none serves a tenant of this gateway: default").await?;
    let file = Plugin::Scripted.path()?;
    let file = file.to_str().context("a path that is no text")?;
    gateway.run("default", &["deploy", file]).await?.ok()?;
    let gateway = cluster.gateway_mut(0)?;
    gateway.ready().await?;
    let answer = http::get(gateway.admin()?, "/readyz").await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_cannot_run_what_the_cluster_runs_is_not_ready() -> Outcome {
    let mut cluster = Cluster::apart(1, 2)
        .other_plugin_file(&Plugin::Scripted.path()?)
        .deploys()
        .without_file()
        .worker_plugin_settings(1, "config = { at-start = \"refuse\" }\n")
        .start()
        .await?;
    cluster.worker_named("worker-1")?.kill().await?;
    let file = Plugin::Scripted.path()?;
    let file = file.to_str().context("a path that is no text")?;
    eventually("it is deployed without worker-1", async || {
        let ran = cluster
            .gateway(0)?
            .run("default", &["deploy", file])
            .await?;
        Ok((ran.code == 0).then_some(()))
    })
    .await?;
    cluster.worker_named("worker-1")?.start()?;
    let text = unready(cluster.worker(1)?, "lags behind").await?;
    ensure!(
        text.contains("told to refuse"),
        "it does not say why: {text}"
    );
    let other = http::get(cluster.worker(0)?.admin()?, "/readyz").await?;
    ensure!(other.status == 200, "{other:?}");
    Ok(())
}

#[tokio::test]
async fn a_register_that_cannot_write_is_not_ready() -> Outcome {
    let cluster = Cluster::apart(1, 1).deploys().start().await?;
    let register = cluster.register.as_ref().context("no register")?;
    let folder = cluster.folder().join("register.state/register");
    let away = folder.with_extension("away");
    std::fs::rename(&folder, &away)?;
    unready(register, "state-dir: what is deployed cannot be written").await?;
    std::fs::rename(&away, &folder)?;
    eventually("it is ready again", async || {
        let answer = http::get(register.admin()?, "/readyz").await?;
        Ok((answer.status == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_node_with_another_secret_says_so() -> Outcome {
    let cluster = Cluster::apart(1, 1).start().await?;
    let mut worker = cluster.stranger("stranger", "another secret, long enough as well")?;
    worker.start()?;
    let text = unready(&worker, "registers: no register has taken this node in").await?;
    let text = match text.contains("the cluster secret differs") {
        true => text,
        false => unready(&worker, "the cluster secret differs").await?,
    };
    ensure!(text.contains("gateways: no gateway is linked"), "{text}");
    Ok(())
}

#[tokio::test]
async fn at_connections_max_a_gateway_is_not_ready_and_tells_web_sockets_when_to_come_again()
-> Outcome {
    let cluster = Cluster::serve()
        .listener("connections-max = 3")
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let address = gateway.listener(Transport::Ws)?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(cluster.ws(0).await?);
    }
    unready(gateway, "connections: the listener").await?;
    for _ in 0..20 {
        let refused = http::get(address, "/").await?;
        ensure!(refused.status == 503, "{refused:?}");
        let head = refused.head.to_lowercase();
        ensure!(head.contains("retry-after: 5"), "{refused:?}");
    }
    at_least(gateway, "tidegate_gateway_refused_connections_total", 20.0).await?;
    let log = gateway.process()?.log();
    let lines = log
        .lines()
        .filter(|it| it.contains("connections are refused"));
    let lines = lines.count();
    ensure!((1..=3).contains(&lines), "{lines} lines about it: {log}");
    for client in &mut clients {
        client.nothing_else().await?;
    }
    clients.pop().context("no client")?.close().await?;
    eventually("it is ready again", async || {
        let answer = http::get(gateway.admin()?, "/readyz").await?;
        Ok((answer.status == 200).then_some(()))
    })
    .await
}

async fn at_least(node: &Node, name: &str, least: f64) -> Outcome {
    eventually(&format!("{name} is at least {least}"), async || {
        let value = node.metric(name, "").await?;
        ensure!(value >= least, "it is {value}");
        Ok(Some(()))
    })
    .await
}
