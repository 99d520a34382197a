//! Requests under load while a worker is killed and the plugin is swapped: each is answered, and what it
//! asked for has happened once.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use tidegate_tests::http::Kept;
use tidegate_tests::plugins::{Plugin, another_build, replace};
use tidegate_tests::{Cluster, Outcome, Probe, Transport};

const CALLERS: usize = 12;
const REQUESTS: usize = 250;

/// One caller after the other of its requests on one connection; says when each is answered.
async fn caller(
    door: SocketAddrV4,
    number: usize,
    answered: tokio::sync::mpsc::Sender<()>,
) -> Outcome {
    let mut kept = Kept::connect(door).await?;
    for nth in 0..REQUESTS {
        let told = format!("{number}-{nth}");
        let length = told.len();
        let request = format!(
            "POST /tell?group=told HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n{told}"
        );
        kept.send(request.as_bytes()).await?;
        let answer = kept.response(false).await?;
        ensure!(
            answer.status == 200 && answer.body == told,
            "{told}: {answer:?}"
        );
        answered.send(()).await?;
    }
    Ok(())
}

async fn told(watcher: &mut Probe, times: &mut BTreeMap<String, usize>) -> Result<()> {
    let heard = watcher.heard().await?;
    let text = heard.as_str().with_context(|| format!("heard {heard}"))?;
    *times.entry(text.to_owned()).or_default() += 1;
    Ok(())
}

#[tokio::test]
async fn promise_3_what_was_answered_has_happened_once_over_a_killed_worker_and_a_swap() -> Outcome
{
    let folder = tempfile::tempdir()?;
    let file = Plugin::Probe.copy_to(folder.path())?;
    let mut cluster = Cluster::apart(3, 3)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .listener("queue-bytes-max = 16_777_216")
        .other_plugin_file(&file)
        .start()
        .await?;
    let mut watchers = Vec::new();
    let mut calling = tokio::task::JoinSet::new();
    let (answered, mut answers) = tokio::sync::mpsc::channel(1);
    for gateway in 0..3 {
        let door = cluster.gateway(gateway)?.listener(Transport::Ws)?;
        let mut watcher = Probe::connect(door, "group=told").await?;
        watcher.rest().await?;
        watchers.push(watcher);
    }
    for number in 0..CALLERS {
        let door = cluster.gateway(number % 3)?.listener(Transport::Ws)?;
        calling.spawn(caller(door, number, answered.clone()));
    }
    drop(answered);
    let component = std::fs::read(&file)?;
    let mut count = 0;
    while answers.recv().await.is_some() {
        count += 1;
        match count {
            500 | 2_000 => _ = cluster.worker_named("worker-1")?.kill().await?,
            900 => cluster.worker_named("worker-1")?.start()?,
            1_300 => replace(&file, &another_build(&component, "second")?)?,
            _ => {}
        }
    }
    while let Some(called) = calling.join_next().await {
        called??;
    }
    ensure!(count == CALLERS * REQUESTS, "{count} answers");
    for watcher in &mut watchers {
        let mut times = BTreeMap::new();
        while times.len() < CALLERS * REQUESTS {
            told(watcher, &mut times).await?;
        }
        let rest = watcher.rest().await?;
        ensure!(
            rest.as_array().is_some_and(Vec::is_empty),
            "told again: {rest}"
        );
        let again: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
        ensure!(again.is_empty(), "not told once: {again:?}");
    }
    Ok(())
}
