//! Deploys to the whole cluster over the command line: all workers switch, or none does, and it is so
//! after every restart.

mod bad;
mod canary;
mod outcomes;
mod restart;
mod violence;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidegate_tests::plugins::another_build;
use tidegate_tests::{
    Builder, Cluster, Node, Outcome, Plugin, Ran, Talkers, Transport, eventually,
};

/// Short, and a node is back before a restarted register misses it.
const TIMES: &str = "[register]\ngrace-ms = 3000\n[link]\nreconnect-ms-max = 500";

/// A release of the recorder in a file of its own.
struct Build {
    file: PathBuf,
    version: String,
}

impl Build {
    fn new(folder: &Path, label: &str) -> Result<Self> {
        let component = std::fs::read(Plugin::Recorder.path()?)?;
        Self::of(folder, label, &another_build(&component, label)?)
    }

    fn of(folder: &Path, label: &str, bytes: &[u8]) -> Result<Self> {
        let file = folder.join(label).with_extension("wasm");
        std::fs::write(&file, bytes)?;
        let version = blake3::hash(bytes).to_hex().to_string();
        Ok(Self { file, version })
    }

    /// What deploys it.
    fn args(&self) -> Result<Vec<&str>> {
        let file = self.file.to_str().context("a path that is not UTF-8")?;
        Ok(vec!["deploy", file, "--tenant", "default"])
    }

    async fn deploy(&self, at: &Node) -> Result<Ran> {
        at.run("default", &self.args()?).await
    }
}

/// A register, gateways and workers with the recorder.
fn recorder(gateways: usize, workers: usize) -> Result<Builder> {
    with_times(gateways, workers, TIMES)
}

/// The same with other times.
fn with_times(gateways: usize, workers: usize, times: &str) -> Result<Builder> {
    Ok(Cluster::apart(gateways, workers)
        .other_plugin_file(&Plugin::Recorder.path()?)
        .worker_flags(&["--instances", "2"])
        .settings(times)
        .deploys())
}

/// What the Client API says of the deployment.
async fn state(at: &Node) -> Result<Value> {
    at.api("default")?.get("/v1/deployment").await?.ok()
}

/// Waits until no order has to wait for workers any more.
async fn settled(at: &Node) -> Outcome {
    eventually("the register has settled", async || {
        let state = state(at).await?;
        Ok((state.pointer("/settles_in_ms") == Some(&Value::from(0))).then_some(()))
    })
    .await
}

fn doors(cluster: &Cluster) -> Result<Vec<std::net::SocketAddrV4>> {
    let doors = cluster.gateways.iter();
    doors.map(|node| node.listener(Transport::Ws)).collect()
}

/// Waits until these workers, and no others, all run this version and none lags behind.
async fn all_run(cluster: &Cluster, version: &str) -> Outcome {
    let workers = cluster.workers.len().max(1);
    eventually(&format!("{workers} workers run {version}"), async || {
        let state = state(cluster.gateway(0)?).await?;
        let found = state
            .pointer("/workers")
            .and_then(Value::as_array)
            .context("no workers")?;
        let right = found
            .iter()
            .filter(|it| at(it, "/version") == version && !is_behind(it));
        ensure!(
            right.count() == workers && found.len() == workers && at(&state, "/version") == version,
            "{state}"
        );
        Ok(Some(()))
    })
    .await
}

/// A text in an answer.
fn at<'a>(answer: &'a Value, pointer: &str) -> &'a str {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

fn is_behind(worker: &Value) -> bool {
    worker.get("behind") != Some(&Value::Bool(false))
}

/// So many new clients of a gateway meet this version, and no other.
async fn all_meet(cluster: &Cluster, gateway: usize, clients: usize, version: &str) -> Outcome {
    let met = met(cluster, gateway, clients).await?;
    ensure!(met == [version], "{met:?} instead of {version}");
    Ok(())
}

/// The versions that so many new clients of a gateway meet.
async fn met(cluster: &Cluster, gateway: usize, clients: usize) -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for _ in 0..clients {
        let mut client = cluster.gateway(gateway)?.ws().await?;
        let id = client.text().await?;
        ensure!(id.starts_with("id:"), "{id}");
        client.send("version").await?;
        let said = client.text().await?;
        let version = said.strip_prefix("version:").context("no version")?;
        versions.push(version.to_owned());
    }
    versions.sort();
    versions.dedup();
    Ok(versions)
}

#[tokio::test]
async fn a_deploy_reaches_all_workers_and_no_client_notices() -> Outcome {
    let cluster = recorder(2, 3)?.start().await?;
    let talkers = Talkers::start(&doors(&cluster)?, 60, Duration::from_millis(40)).await?;
    talkers.go_on(300).await?;
    for label in ["one", "two", "three"] {
        let build = Build::new(cluster.folder(), label)?;
        let ran = build.deploy(cluster.gateway(1)?).await?.ok()?;
        for worker in ["worker-0", "worker-1", "worker-2"] {
            for step in ["fetched", "compiled", "started", "switched"] {
                let line = format!("{worker}  {step}");
                ensure!(ran.out.contains(&line), "no {line:?}: {}", ran.out);
            }
        }
        let last = format!("done: {} at 3 workers", build.version);
        ensure!(ran.out.contains(&last), "{}", ran.out);
        all_run(&cluster, &build.version).await?;
        for gateway in 0..2 {
            all_meet(&cluster, gateway, 8, &build.version).await?;
        }
        talkers.go_on(100).await?;
    }
    let answered = talkers.end().await?;
    eprintln!("{answered} messages");

    let ran = cluster
        .gateway(0)?
        .run("default", &["history"])
        .await?
        .ok()?;
    let lines: Vec<&str> = ran.out.lines().collect();
    let [_, three, two, one] = lines.as_slice() else {
        anyhow::bail!("{}", ran.out);
    };
    for (line, state, file) in [
        (three, "active", "three.wasm"),
        (two, "replaced", "two.wasm"),
        (one, "replaced", "one.wasm"),
    ] {
        ensure!(
            line.contains(state) && line.contains(file) && line.contains("tests"),
            "{line}"
        );
    }
    let status = cluster
        .gateway(0)?
        .run("default", &["status"])
        .await?
        .ok()?;
    ensure!(status.out.contains("at 3 of 3 workers"), "{}", status.out);
    for worker in 0..3 {
        let worker = cluster.worker(worker)?;
        let generation = worker.metric("tidegate_deploy_generation", "").await?;
        ensure!(generation == 3.0, "{generation}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_switches_if_one_worker_cannot_start_the_version() -> Outcome {
    let cluster = recorder(1, 3)?
        .worker_plugin_settings(1, "config = { at-start = \"trap\" }\n")
        .start()
        .await?;
    let talkers = Talkers::start(&doors(&cluster)?, 20, Duration::from_millis(40)).await?;
    let gateway = cluster.gateway(0)?;
    let good = Build::new(cluster.folder(), "good")?;
    good.deploy(gateway).await?.ok()?;
    let bad = std::fs::read(Plugin::Scripted.path()?)?;
    let bad = Build::of(cluster.folder(), "bad", &bad)?;
    let ran = bad.deploy(gateway).await?;
    ensure!(ran.code == 1, "{ran:?}");
    ensure!(
        ran.error.contains("worker-1") && ran.error.contains("nobody switches"),
        "{ran:?}"
    );
    ensure!(!ran.out.contains("switched"), "{}", ran.out);
    all_run(&cluster, &good.version).await?;
    all_meet(&cluster, 0, 12, &good.version).await?;
    let state = state(gateway).await?;
    ensure!(
        at(&state, "/releases/0/fate") == "failed"
            && at(&state, "/releases/0/version") == bad.version,
        "{state}"
    );
    talkers.end().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_handler_is_refused_with_a_reason_and_a_code() -> Outcome {
    let cluster = recorder(1, 1)?.start().await?;
    let gateway = cluster.gateway(0)?;
    let component = std::fs::read(Plugin::Recorder.path()?)?;
    let half = component.get(..component.len() / 2).unwrap_or_default();
    for (label, bytes, words) in [
        (
            "garbage",
            b"this is no wasm at all".as_slice(),
            "is not a WebAssembly component",
        ),
        ("half", half, "is cut short"),
        (
            "command",
            &std::fs::read(Plugin::ProbeCommand.path()?)?,
            "a handler is wanted here",
        ),
    ] {
        let build = Build::of(cluster.folder(), label, bytes)?;
        let ran = build.deploy(gateway).await?;
        ensure!(
            ran.code == 1 && ran.error.contains(words),
            "{label}: {ran:?}"
        );
        ensure!(ran.error.contains(&format!("{label}.wasm")), "{ran:?}");
    }
    let other = gateway
        .run(
            "default",
            &["deploy", "nowhere.wasm", "--tenant", "default"],
        )
        .await?;
    ensure!(other.code == 2, "{other:?}");
    let build = Build::new(cluster.folder(), "fine")?;
    let mut args = build.args()?;
    *args.last_mut().context("no tenant")? = "another";
    let other = gateway.run("default", &args).await?;
    ensure!(
        other.code == 2 && other.error.contains("`another`"),
        "{other:?}"
    );
    ensure!(gateway.run("default", &["rollback"]).await?.code != 0);
    Ok(())
}

#[tokio::test]
async fn an_earlier_version_comes_back_by_the_beginning_of_its_hash() -> Outcome {
    let cluster = recorder(1, 2)?.start().await?;
    let gateway = cluster.gateway(0)?;
    let mut builds = Vec::new();
    for label in ["one", "two", "three"] {
        let build = Build::new(cluster.folder(), label)?;
        build.deploy(gateway).await?.ok()?;
        builds.push(build);
    }
    let [one, two, three] = builds.as_slice() else {
        anyhow::bail!("three were built");
    };
    let talkers = Talkers::start(&doors(&cluster)?, 20, Duration::from_millis(40)).await?;
    gateway.run("default", &["rollback"]).await?.ok()?;
    all_run(&cluster, &two.version).await?;
    let to = one.version.get(..16).unwrap_or_default();
    gateway
        .run("default", &["rollback", "--to", to])
        .await?
        .ok()?;
    all_run(&cluster, &one.version).await?;
    all_meet(&cluster, 0, 8, &one.version).await?;
    let unknown = gateway
        .run("default", &["rollback", "--to", "0123456789abcdef"])
        .await?;
    ensure!(unknown.code != 0, "{unknown:?}");
    let lines = gateway.run("default", &["history"]).await?.ok()?.out;
    ensure!(
        lines.lines().count() == 6 && lines.contains("rolled-back"),
        "{lines}"
    );
    ensure!(lines.contains(&three.version.chars().take(12).collect::<String>()));
    talkers.end().await?;
    Ok(())
}

#[tokio::test]
async fn serve_alone_takes_a_deploy_follows_its_file_no_more_and_keeps_it() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Recorder.copy_to(folder.path())?;
    let mut cluster = Cluster::serve()
        .other_plugin_file(&file)
        .deploys()
        .start()
        .await?;
    let talkers = Talkers::start(&doors(&cluster)?, 10, Duration::from_millis(40)).await?;
    let build = Build::new(cluster.folder(), "deployed")?;
    build.deploy(cluster.gateway(0)?).await?.ok()?;
    all_meet(&cluster, 0, 4, &build.version).await?;
    let log = cluster.gateway(0)?.process()?.log();
    ensure!(log.contains("is not followed any more"), "it is not said");
    let ran = cluster
        .gateway(0)?
        .run("default", &["deploy", "--json", "--tenant", "default"])
        .await?;
    ensure!(ran.code == 2, "a deploy of nothing: {ran:?}");
    talkers.end().await?;

    let node = cluster.gateway_mut(0)?;
    node.kill().await?;
    node.start()?;
    node.ready().await?;
    all_meet(&cluster, 0, 4, &build.version).await?;
    let ran = cluster
        .gateway(0)?
        .run("default", &["withdraw", "--json"])
        .await?
        .ok()?;
    ensure!(ran.out.contains("\"event\":\"done\""), "{}", ran.out);
    let decisions = "tidegate_register_deploy_decisions_total";
    let withdrawn = (cluster.gateway(0)?)
        .metric(decisions, "change=\"withdraw\"")
        .await?;
    ensure!(withdrawn == 1.0, "{withdrawn}");
    let node = cluster.gateway_mut(0)?;
    node.kill().await?;
    node.start()?;
    node.ready().await?;
    let own = blake3::hash(&std::fs::read(&file)?).to_hex().to_string();
    ensure!(
        met(&cluster, 0, 4).await? == [own],
        "its own file serves again"
    );
    Ok(())
}
