//! Queries over a hundred thousand clients: every page, each client once, while others come and
//! go, and without the asked gateway growing.

#![allow(
    clippy::indexing_slicing,
    reason = "an absent member of a JSON value is null, and fails a check"
)]

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidegate_tests::{Api, Cluster, Node, Outcome, Plugin, Transport, eventually, tools};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const CLIENTS: usize = 100_000;
/// How many of them leave, while as many come.
const CHURN: usize = 1_000;
/// Gateways, if a process may have enough file descriptors.
const GATEWAYS: usize = 3;
/// What a process needs besides its clients.
const SPARE_DESCRIPTORS: usize = 1_000;
/// Two clients have one uid.
const SAY: &str = r#"{"do":[{"op":"bind_uid","client":"me","uid":"u{n/2}"}],"quiet":true}"#;
/// More than the buffers of some pages, far less than a list of all clients.
const GROWTH_BYTES_MAX: u64 = 8 << 20;
const TENANT: &str = "crowd";

/// Clients of one gateway, in a process of their own.
struct Crowd {
    _process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Crowd {
    fn start(server: SocketAddrV4, numbers: std::ops::Range<usize>) -> Result<Self> {
        let binary = tools::profile_dir()?.join("crowd");
        let mut process = Command::new(&binary)
            .args([server.to_string(), numbers.start.to_string()])
            .args([numbers.end.to_string().as_str(), SAY])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let orders = process.stdin.take().context("it has an input")?;
        let output = process.stdout.take().context("it has an output")?;
        Ok(Self {
            _process: process,
            orders,
            answers: BufReader::new(output).lines(),
        })
    }

    async fn order(&mut self, order: &str) -> Result<()> {
        Ok(self
            .orders
            .write_all(format!("{order}\n").as_bytes())
            .await?)
    }

    async fn answer(&mut self) -> Result<String> {
        let line = self.answers.next_line().await?;
        line.context("the crowd has ended before it answered")
    }
}

/// As many gateways as their file descriptors ask for; three, if they may have enough.
fn gateways() -> Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().nth(1))
        .context("no limit of open files")?;
    let descriptors = hard.parse().unwrap_or(CLIENTS * 2);
    ensure!(
        descriptors > 2 * SPARE_DESCRIPTORS,
        "at most {hard} open files are too few"
    );
    Ok(CLIENTS
        .div_ceil(descriptors - SPARE_DESCRIPTORS)
        .max(GATEWAYS))
}

fn count(answer: &Value) -> Result<usize> {
    whole(answer)?;
    Ok(usize::try_from(
        answer["count"].as_u64().context("a count")?,
    )?)
}

fn whole(answer: &Value) -> Result<()> {
    let missing = answer["missing"].as_array();
    ensure!(missing.is_some_and(Vec::is_empty), "not whole: {answer}");
    Ok(())
}

/// Every page of a list; fails when an entry comes twice or out of order.
async fn every(
    api: &Api,
    target: &str,
    id: impl Fn(&Value) -> Option<&str>,
) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    let mut after = String::new();
    loop {
        let page = api
            .get(&format!("{target}?limit=1000{after}"))
            .await?
            .ok()?;
        whole(&page)?;
        for item in page["items"].as_array().context("items")? {
            let item = id(item).context("an item")?;
            let last = all.last().map_or("", String::as_str);
            ensure!(last < item, "{item} came after {last}");
            all.push(item.to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(all),
        }
    }
}

async fn clients(api: &Api) -> Result<Vec<String>> {
    every(api, "/v1/clients", |item| item["client"].as_str()).await
}

/// Waits for a number, beyond the usual deadline as long as it comes nearer: so many clients take their
/// time on a busy machine.
async fn counted(api: &Api, target: &str, wanted: usize) -> Result<()> {
    let mut away = usize::MAX;
    loop {
        let mut counted = 0;
        let reached = eventually(&format!("{target} counts {wanted}"), async || {
            counted = count(&api.get(target).await?.ok()?)?;
            ensure!(counted == wanted, "it counts {counted}");
            Ok(Some(()))
        })
        .await;
        let Err(error) = reached else {
            return Ok(());
        };
        let still = counted.abs_diff(wanted);
        if still >= away {
            return Err(error);
        }
        away = still;
    }
}

async fn churn(crowds: &mut [Crowd]) -> Result<()> {
    let share = CHURN.div_ceil(crowds.len());
    for crowd in crowds.iter_mut() {
        crowd.order(&format!("churn {share}")).await?;
    }
    for crowd in crowds {
        crowd.answer().await?;
    }
    Ok(())
}

fn resident(node: &Node) -> Result<u64> {
    node.process()?.resident_bytes()
}

#[tokio::test]
async fn pages_cover_a_hundred_thousand_clients_each_once_while_others_come_and_go() -> Outcome {
    let gateways = gateways()?;
    let cluster = Cluster::apart(gateways, 1)
        .other_plugin_file(&Plugin::Probe.path()?)
        .tenant(TENANT, &[Transport::Tcp])
        // These clients never answer a ping, and a busy machine may take longer than their time.
        .listener("ping-interval-ms = 0")
        .start()
        .await?;
    let begin = Instant::now();
    let mut crowds = Vec::new();
    for (number, gateway) in cluster.gateways.iter().enumerate() {
        let numbers = CLIENTS * number / gateways..CLIENTS * (number + 1) / gateways;
        crowds.push(Crowd::start(
            gateway.door(TENANT, Transport::Tcp)?,
            numbers,
        )?);
    }
    for crowd in &mut crowds {
        crowd.answer().await?;
    }
    let asked = cluster.gateway(gateways - 1)?;
    let api = asked.api(TENANT)?;
    counted(&api, "/v1/clients/count", CLIENTS).await?;
    counted(&api, "/v1/uids/count", CLIENTS / 2).await?;
    eprintln!(
        "{CLIENTS} clients on {gateways} gateways after {:?}",
        begin.elapsed()
    );

    let before = clients(&api).await?;
    ensure!(before.len() == CLIENTS, "{} clients", before.len());
    let resident_before = resident(asked)?;
    let begin = Instant::now();
    let (during, churned) = tokio::join!(clients(&api), churn(&mut crowds));
    churned?;
    let during = during?;
    let elapsed = begin.elapsed();
    let growth = resident(asked)?.saturating_sub(resident_before);
    counted(&api, "/v1/clients/count", CLIENTS).await?;
    let after: HashSet<String> = clients(&api).await?.into_iter().collect();

    // `every` has seen to it that none came twice.
    let listed: HashSet<&String> = during.iter().collect();
    let stayed = before.iter().filter(|client| after.contains(*client));
    let absent = stayed.filter(|client| !listed.contains(client)).count();
    ensure!(
        absent == 0,
        "{absent} clients that were there all the while were not listed"
    );
    let left = before
        .iter()
        .filter(|client| !after.contains(*client))
        .count();
    ensure!(left >= CHURN / 2, "only {left} clients left meanwhile");
    eprintln!(
        "{} clients listed in {elapsed:?} while {left} left; the asked gateway grew by {growth} bytes",
        during.len()
    );
    ensure!(
        growth <= GROWTH_BYTES_MAX,
        "the asked gateway grew by {growth} bytes"
    );

    let uids = every(&api, "/v1/uids", Value::as_str).await?;
    let exact = count(&api.get("/v1/uids/count").await?.ok()?)?;
    ensure!(
        uids.len() == exact,
        "{} uids listed, {exact} counted",
        uids.len()
    );
    let estimate = count(&api.get("/v1/uids/count?estimate=true").await?.ok()?)?;
    // Five standard errors.
    ensure!(
        estimate.abs_diff(exact) * 10 <= exact,
        "estimated {estimate} of {exact}"
    );
    Ok(())
}
