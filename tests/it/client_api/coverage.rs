//! What the live feed cannot tell it says: which gateways are not heard, and how much was missed by
//! one who reads too slowly.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::{Api, Cluster, Feed, Outcome, Plugin, Probe, Transport, eventually};

use super::Place;

const TENANT: &str = "coverage";

/// A cluster that notices soon who is lost.
async fn three_gateways() -> Result<Cluster> {
    let quick = "[link]\nheartbeat-ms = 250\nlease-ms = 1500\n[register]\nlease-ms = 1500";
    let cluster = Cluster::apart(3, 1)
        .other_plugin_file(&Plugin::Probe.path()?)
        .settings(quick)
        .tenant(TENANT, &[Transport::Ws])
        .start()
        .await?;
    all_are_known(&cluster).await?;
    Ok(cluster)
}

async fn all_are_known(cluster: &Cluster) -> Outcome {
    let api = cluster.gateway(0)?.api(TENANT)?;
    eventually("the first gateway knows all", async || {
        let status = api.get("/v1/status").await?.ok()?;
        let known = status["gateways"].as_array().map_or(0, Vec::len);
        Ok((known == 3 && status["missing"] == json!([])).then_some(()))
    })
    .await
}

async fn client(cluster: &Cluster, gateway: usize) -> Result<Probe> {
    let door = cluster.gateway(gateway)?.door(TENANT, Transport::Ws)?;
    Probe::connect(door, "").await
}

/// Reads on until the feed says that these are missing.
async fn until_missing(feed: &mut Feed, missing: &Value) -> Outcome {
    loop {
        let told = feed.next().await?;
        if told.kind == "coverage" && told.data == json!({"missing": missing}) {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_is_named_until_it_has_left_and_heard_when_it_is_back() -> Outcome
{
    let mut cluster = three_gateways().await?;
    let _lost = client(&cluster, 2).await?;
    let mut feed = Feed::open(&cluster.gateway(0)?.api(TENANT)?, "").await?;
    let killed = json!([cluster.gateway(2)?.lan()?.to_string()]);
    cluster.gateway_mut(2)?.kill().await?;
    until_missing(&mut feed, &killed).await?;
    // The others are told as before, while it is missing and after.
    let other = client(&cluster, 1).await?;
    is_told_first(&mut feed, other.id(), "nobody").await?;
    until_missing(&mut feed, &json!([])).await?;

    cluster.gateway_mut(2)?.start()?;
    cluster.gateway_mut(2)?.ready().await?;
    all_are_known(&cluster).await?;
    eventually("the gateway that is back is heard", async || {
        let back = client(&cluster, 2).await?;
        let other = client(&cluster, 1).await?;
        is_told_first(&mut feed, back.id(), other.id()).await
    })
    .await
}

#[tokio::test]
async fn a_gateway_that_no_register_has_taken_in_speaks_for_nobody() -> Outcome {
    let mut cluster = three_gateways().await?;
    let _client = client(&cluster, 0).await?;
    cluster.register_mut()?.kill().await?;
    cluster.gateway_mut(2)?.kill().await?;
    cluster.gateway_mut(2)?.start()?;
    let api = cluster.gateway(2)?.api(TENANT)?;
    let count = eventually("its API answers", async || {
        Ok(Some(api.get("/v1/clients/count").await?))
    })
    .await?;
    ensure!(count.status == 503, "it counts its own clients alone");
    count.problem()?;
    let detail = count.body["detail"].to_string();
    ensure!(detail.contains("no register has taken"), "{detail}");
    let send = json!({"to": "everyone", "message": {"text": "hello"}});
    let sent = api.post("/v1/messages", &send).await?;
    ensure!(sent.status == 503, "it sends to its own clients alone");

    cluster.register_mut()?.start()?;
    eventually("it speaks for all once it is taken in", async || {
        let count = api.get("/v1/clients/count").await?.ok()?;
        Ok((count == json!({"count": 1, "missing": []})).then_some(()))
    })
    .await
}

/// Whether the connect of the first is told, and before that of the second.
async fn is_told_first(feed: &mut Feed, first: &str, second: &str) -> Result<Option<()>> {
    loop {
        let told = feed.next().await?;
        let id = told.data["client"].as_str().unwrap_or_default();
        if told.kind == "connected" && (id == first || id == second) {
            return Ok((id == first).then_some(()));
        }
    }
}

/// One commit of joins and leaves with long names.
async fn churn(api: &Api, client: &str) -> Outcome {
    let actions: Vec<Value> = (0..ACTIONS)
        .map(|number| {
            let group = format!("{:0>255}", number / 2);
            let member = json!({"client": client, "group": group});
            match number % 2 {
                0 => json!({"join": member}),
                _ => json!({"leave": member}),
            }
        })
        .collect();
    let done = api.post("/v1/batch", &json!({"actions": actions})).await?;
    done.ok()?;
    Ok(())
}

const ACTIONS: u64 = 1000;
/// More than all buffers on the way hold.
const COMMITS: u64 = 40;

#[tokio::test]
async fn whoever_reads_too_slowly_is_told_how_much_was_missed() -> Outcome {
    let [place, _] = Place::both("feed")?;
    let api = place.api(0)?;
    let client = place.client(0, "uid=slow-reader").await?;
    let mut feed = Feed::narrow(&api, "kind=joined,left&uid=slow-reader").await?;
    for _ in 0..COMMITS {
        churn(&api, client.id()).await?;
    }
    let (mut told, mut missed) = (0, 0);
    while told + missed < ACTIONS * COMMITS {
        let next = feed.next().await?;
        match next.kind.as_str() {
            "joined" | "left" => told += 1,
            "missed" => missed += next.data["missed"].as_u64().unwrap_or_default(),
            other => ensure!(false, "{other} was not asked for"),
        }
    }
    ensure!(told + missed == ACTIONS * COMMITS, "{told} and {missed}");
    ensure!(told > 0 && missed > 0, "{told} told, {missed} missed");
    Ok(())
}
