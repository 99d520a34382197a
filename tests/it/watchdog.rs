//! Told or dead, never silent: each thread and task on which all depend is made to panic, or to hang,
//! and the process says so and ends. Release builds know no such orders.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use tidegate_tests::{Alone, Outcome, Signal, eventually, http, ports, tools};

/// Those of `serve` in a cluster.
const VITAL: [&str; 18] = [
    "shard 0",
    "seat 0 of tenant default",
    "the quarantine of tenant default",
    "the main task",
    "the runtime",
    "the control thread",
    "the admin listener",
    "the Client API",
    "the listener 0 for clients",
    "the listener for nodes",
    "the links to other gateways",
    "the register's listener",
    "the membership",
    "the worker",
    "the clock of plugins",
    "the deploy coordinator",
    "the deploy client",
    "the deploy agent",
];

/// Those that answer for the others: nobody asks `/healthz` without them.
const WITNESSES: [&str; 2] = ["the control thread", "the admin listener"];

/// A process in which `fault` happens to `name` at the word that is given back.
async fn doomed(fault: &str, name: &str) -> anyhow::Result<(Alone, PathBuf)> {
    let (alone, word, _) = doomed_with_api(fault, name).await?;
    Ok((alone, word))
}

/// The same, with the address of its Client API.
async fn doomed_with_api(
    fault: &str,
    name: &str,
) -> anyhow::Result<(Alone, PathBuf, SocketAddrV4)> {
    let folder = tools::target_dir()?.join("harness-logs/faults");
    std::fs::create_dir_all(&folder)?;
    let word = folder.join(format!("{fault} {name}"));
    if word.exists() {
        // Of an earlier run.
        std::fs::remove_file(&word)?;
    }
    let order = format!("{fault}:{}:{name}", word.display());
    let (register, lan, api) = (ports::free()?, ports::free()?, ports::free()?);
    let alone = Alone::named(&format!("{fault} {name}"))
        .env("TIDEGATE_TEST_FAULT", &order)
        .env(
            "TIDEGATE_SECRET",
            "the secret of a test cluster, long enough",
        )
        .env(
            "TIDEGATE_API_TOKEN__0__TOKEN",
            "a-token-of-a-test-0123456789",
        )
        .set(&format!("register.listen={register}"))
        .set(&format!("gateway.lan={lan}"))
        .set(&format!("api.listen={api}"))
        .set("watchdog.stuck-ms=2000")
        .set("watchdog.end-ms=6000")
        .set("gateway.shutdown-ms=1000")
        .set("worker.shutdown-ms=1000")
        .start()
        .await?;
    let healthy = http::get(alone.admin, "/healthz").await?;
    ensure!(healthy.status == 200, "{name}: {healthy:?}");
    Ok((alone, word, api))
}

async fn dies_with_its_reason(mut alone: Alone, name: &str, reason: &str) -> Outcome {
    let status = alone.process.ended().await?;
    ensure!(status.code() == Some(70), "{name}: {status}");
    let log = alone.process.log();
    let lines = log.lines().filter(|it| it.contains("cannot go on"));
    let told: Vec<&str> = lines.collect();
    let first = told
        .first()
        .with_context(|| format!("{name}: no reason is told"))?;
    ensure!(first.contains(reason), "{name}: {first}");
    Ok(())
}

async fn panics(name: &'static str) -> Outcome {
    let (alone, word) = doomed("panic", name).await?;
    std::fs::write(word, "")?;
    dies_with_its_reason(alone, name, "ordered by a test").await
}

async fn hangs(name: &'static str) -> Outcome {
    let (alone, word) = doomed("hang", name).await?;
    std::fs::write(word, "")?;
    let mut alone = alone;
    if !WITNESSES.contains(&name) {
        let (process, admin) = (&mut alone.process, alone.admin);
        eventually("health says who is stuck", async || {
            if process.status().is_some() {
                bail!("{name}: it has ended without a word");
            }
            let health = http::get(admin, "/healthz").await?;
            let told = health.status == 503 && health.body.contains("has not turned");
            Ok((told && health.body.contains(name)).then_some(()))
        })
        .await?;
    }
    dies_with_its_reason(alone, name, "has not turned").await
}

/// Some at a time, since each is a process.
async fn each<F: Future<Output = Outcome>>(check: fn(&'static str) -> F) -> Outcome {
    for names in VITAL.chunks(4) {
        try_join_all(names.iter().map(|name| check(name))).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_of_anybody_on_whom_all_depend_ends_the_process_with_its_reason() -> Outcome {
    each(panics).await
}

#[tokio::test]
async fn whoever_hangs_is_told_by_health_and_ends_the_process() -> Outcome {
    each(hangs).await
}

#[tokio::test]
async fn a_panic_of_the_logs_own_thread_is_told_without_it() -> Outcome {
    let (mut alone, word) = doomed("panic", "the log's writer").await?;
    std::fs::write(word, "")?;
    let status = alone.process.ended().await?;
    ensure!(status.code() == Some(70), "{status}");
    let log = alone.process.log();
    ensure!(log.contains("error: the process cannot go on"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_panic_in_the_task_of_one_client_closes_that_client_alone() -> Outcome {
    let (mut alone, word) = doomed("panic", "the task of a client").await?;
    let (mut other, mut unlucky) = (alone.client().await?, alone.client().await?);
    other.nothing_else().await?;
    unlucky.nothing_else().await?;
    std::fs::write(&word, "")?;
    unlucky.send("E:hi").await?;
    unlucky.closed().await?;
    std::fs::remove_file(&word)?;
    eventually("it is counted", async || {
        let panics = alone.metric("tidegate_panics_total").await?;
        let clients = alone.metric("tidegate_gateway_clients").await?;
        Ok((panics >= 1.0 && clients <= 1.0).then_some(()))
    })
    .await?;
    other.nothing_else().await?;
    alone.client().await?.nothing_else().await?;
    let healthy = http::get(alone.admin, "/healthz").await?;
    ensure!(healthy.status == 200, "{healthy:?}");
    alone.process.signal(Signal::Terminate)?;
    let status = alone.process.ended().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_panic_in_the_task_of_one_caller_closes_that_connection_alone() -> Outcome {
    let (alone, word, api) = doomed_with_api("panic", "the task of a caller").await?;
    std::fs::write(&word, "")?;
    ensure!(
        http::get(api, "/v1/openapi.json").await.is_err(),
        "it was answered"
    );
    std::fs::remove_file(&word)?;
    let answered = http::get(api, "/v1/openapi.json").await?;
    ensure!(answered.status == 200, "{answered:?}");
    ensure!(
        alone.metric("tidegate_panics_total").await? >= 1.0,
        "it is not counted"
    );
    Ok(())
}

/// Longer than the bound after which a thread counts as stuck.
const FROZEN: Duration = Duration::from_secs(9);

#[tokio::test]
async fn a_process_that_was_frozen_as_a_whole_is_not_taken_for_stuck() -> Outcome {
    let (mut alone, _word) = doomed("hang", "nobody").await?;
    alone.process.signal(Signal::Stop)?;
    tokio::time::sleep(FROZEN).await;
    alone.process.signal(Signal::Continue)?;
    eventually("it is healthy", async || {
        let health = http::get(alone.admin, "/healthz").await?;
        Ok((health.status == 200).then_some(()))
    })
    .await?;
    alone.client().await?.nothing_else().await?;
    let log = alone.process.log();
    ensure!(!log.contains("has not turned"), "{log}");
    Ok(())
}
