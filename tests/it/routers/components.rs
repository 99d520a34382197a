//! Routers that are components: events go where they say, those of a client stay in order, and one that
//! fails costs its tenant its choice and nobody else anything.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tidegate_tests::plugins::{another_build, replace};
use tidegate_tests::{Client, Cluster, Outcome, Plugin, Transport, eventually};

use super::{GATEWAYS, WORKERS, logs};
use crate::numbered::Numbered;

const ROUTED: &str = "tidegate_gateway_routed_total";

/// A `[[router]]` of the scripted component.
fn router(file: &Path, more: &str) -> String {
    format!("[[router]]\nfile = {file:?}\n{more}")
}

#[tokio::test]
async fn promise_1_events_of_a_client_go_to_all_workers_and_stay_in_order_over_a_loss_and_a_swap()
-> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::ScriptedRouter.copy_to(folder.path())?;
    let mut cluster = Cluster::apart(GATEWAYS, WORKERS)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        // No worker would be asked who it is by its greeting.
        .other_plugin_file(&Plugin::Bench.path()?)
        .settings(&router(
            &file,
            "config = { mode = \"spread\" }\nwall-ms = 5000\ncpu-ms = 5000",
        ))
        .start()
        .await?;
    let mut run = Numbered::start(&cluster, 20, 1_500).await?;
    let mut client = cluster.ws(1).await?;
    let mut seen = BTreeSet::new();
    for number in 0..30 {
        // Each has another sum, so that it may go elsewhere.
        client.send(&format!("E:{}", "x".repeat(number))).await?;
        client.expect(&"x".repeat(number)).await?;
        seen.insert(client.worker().await?);
    }
    ensure!(seen.len() == 1, "one message went to {seen:?}");
    run.reached(25).await?;
    cluster.worker_named("worker-1")?.kill().await?;
    run.reached(45).await?;
    replace(&file, &another_build(&std::fs::read(&file)?, "second")?)?;
    run.reached(60).await?;
    cluster.worker_named("worker-1")?.start()?;
    run.finish().await?;
    for gateway in 0..GATEWAYS {
        let node = cluster.gateway(gateway)?;
        let chosen = node.metric(ROUTED, "outcome=\"chosen\"").await?;
        let failed = node.metric(ROUTED, "outcome=\"failed\"").await?;
        ensure!(chosen > 10_000.0 && failed == 0.0, "{chosen} and {failed}");
        logs(node, &["scripted-router", "version"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn clients_are_where_their_session_says_and_where_they_were_if_it_says_nothing() -> Outcome {
    let file = Plugin::ScriptedRouter.path()?;
    let more = "session-keys = [\"at\"]\nconfig = { mode = \"session\" }";
    let cluster = Cluster::apart(1, WORKERS)
        .settings(&router(&file, more))
        .start()
        .await?;
    let mut client = cluster.ws(0).await?;
    for name in ["worker-1", "worker-0", "worker-2", "worker-1"] {
        client.send(&format!("S:at:\"{name}\"")).await?;
        for _ in 0..5 {
            let worker = client.worker().await?;
            ensure!(worker == name, "{worker}, not {name}");
        }
    }
    // Nobody is called so: it stays.
    client.send("S:at:\"worker-9\"").await?;
    for _ in 0..5 {
        let worker = client.worker().await?;
        ensure!(worker == "worker-1", "{worker}, not where it was");
    }
    let kept = client.ask("?:at").await?;
    ensure!(kept == "\"worker-9\"", "{kept}");
    Ok(())
}

#[tokio::test]
async fn promise_4_a_router_that_loops_traps_grows_or_answers_nonsense_is_named_and_others_go_on()
-> Outcome {
    let file = Plugin::ScriptedRouter.path()?;
    let more = "tenant = \"routed\"\ncpu-ms = 50\nwall-ms = 200\nmemory-mib = 8";
    let cluster = Cluster::apart(1, 2)
        .other_plugin_file(&Plugin::Bench.path()?)
        .tenant("routed", &[Transport::Ws])
        .tenant("other", &[Transport::Ws])
        .settings(&router(&file, more))
        .start()
        .await?;
    let node = cluster.gateway(0)?;
    let api = node.api("routed")?;
    let mut other = Client::connect(Transport::Ws, node.door("other", Transport::Ws)?).await?;
    let door = node.door("routed", Transport::Ws)?;
    let mut same = Client::connect(Transport::Ws, door).await?;
    for (script, why) in [
        ("!trap", "unreachable"),
        ("!loop", "CPU limit of 50 ms"),
        ("!sleep", "time limit of 200 ms"),
        ("!grow", "memory limit"),
        ("!far", "number 99 of 2 workers"),
    ] {
        let mut bad = Client::connect(Transport::Ws, door).await?;
        bad.send(&format!("E:{script}")).await?;
        bad.expect(script).await?;
        let status = api.get("/v1/status").await?.ok()?;
        let fault = status["router_fault"].as_str().unwrap_or_default();
        ensure!(fault.contains(why), "{script}: {status}");
        eventually("the log says why", async || {
            bad.send(&format!("E:{script}")).await?;
            bad.expect(script).await?;
            let log = node.process()?.log();
            let says = |line: &str| line.contains("the router failed") && line.contains(why);
            Ok(log.lines().any(says).then_some(()))
        })
        .await?;
        let failed = node.metric(ROUTED, "outcome=\"failed\"").await?;
        for number in 0..20 {
            bad.send(&format!("E:{number}{script}")).await?;
        }
        for number in 0..20 {
            let begun = Instant::now();
            same.send("E:same").await?;
            same.expect("same").await?;
            other.send("E:other").await?;
            other.expect("other").await?;
            bad.expect(&format!("{number}{script}")).await?;
            ensure!(begun.elapsed() < Duration::from_secs(10), "{script}");
        }
        ensure!(node.metric(ROUTED, "outcome=\"failed\"").await? > failed);
        // Again and again: it is left alone, so that nobody waits for it.
        let paused = node.metric(ROUTED, "outcome=\"paused\"").await?;
        for number in 0..20 {
            bad.send(&format!("E:{number}{script}")).await?;
        }
        for number in 0..20 {
            bad.expect(&format!("{number}{script}")).await?;
        }
        ensure!(node.metric(ROUTED, "outcome=\"paused\"").await? > paused);
        eventually(
            "it is asked again and nothing is wrong with it",
            async || {
                same.send("E:route=worker-1;").await?;
                same.text().await?;
                let status = api.get("/v1/status").await?.ok()?;
                Ok(status["router_fault"].is_null().then_some(()))
            },
        )
        .await?;
    }
    Ok(())
}
