//! A gateway that is frozen with SIGSTOP: questions come back within their deadline, marked
//! partial and naming it; what is sent to it is bounded; everything else goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::{Api, Cluster, Outcome, Plugin, Probe, Signal, Transport, eventually};

const TENANT: &str = "frozen";

/// The most that a question may take: its own deadline, and time for a busy machine.
const QUESTION: Duration = Duration::from_secs(5);

/// An answer that costs no waiting.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Asks and says how long it took.
async fn timed(api: &Api, target: &str) -> Result<(Value, Duration)> {
    let start = Instant::now();
    let got = api.get(target).await?.ok()?;
    Ok((got, start.elapsed()))
}

async fn client(cluster: &Cluster, gateway: usize, query: &str) -> Result<Probe> {
    let door = cluster.gateway(gateway)?.door(TENANT, Transport::Ws)?;
    Probe::connect(door, query).await
}

#[tokio::test]
async fn a_frozen_gateway_is_named_and_not_waited_for_again() -> Outcome {
    let mut cluster = Cluster::apart(3, 1)
        .other_plugin_file(&Plugin::Probe.path()?)
        // The links outlast the test: it is about a gateway that is slow, not one that is lost.
        .settings("[link]\nheartbeat-ms = 500\nlease-ms = 60000\n[register]\nlease-ms = 60000")
        .tenant(TENANT, &[Transport::Ws])
        .start()
        .await?;
    let api = cluster.gateway(0)?.api(TENANT)?;
    eventually("the first gateway knows all", async || {
        let status = api.get("/v1/status").await?.ok()?;
        let known = status["gateways"].as_array().map_or(0, Vec::len);
        Ok((known == 3 && status["missing"] == json!([])).then_some(()))
    })
    .await?;
    let mut asker = client(&cluster, 0, "uid=asker&group=all").await?;
    let mut other = client(&cluster, 1, "uid=other&group=all").await?;
    let mut stuck = client(&cluster, 2, "uid=stuck&group=all").await?;
    let frozen = json!([cluster.gateway(2)?.lan()?.to_string()]);
    cluster.gateway_mut(2)?.signal(Signal::Stop)?;

    let (got, took) = timed(&api, "/v1/clients/count?group=all").await?;
    ensure!(got == json!({"count": 2, "missing": frozen}), "{got}");
    ensure!(took < QUESTION, "it took {took:?}");
    let (got, took) = timed(&api, "/v1/clients?group=all").await?;
    ensure!(got["items"].as_array().map_or(0, Vec::len) == 2, "{got}");
    ensure!(got["missing"] == frozen, "{got}");
    ensure!(took < AT_ONCE, "it is waited for again: {took:?}");
    let count = json!({"op": "client_count", "of": [{"groups": ["all"]}]});
    let start = Instant::now();
    let got = asker.ask(&count).await?;
    let took = start.elapsed();
    let partial = json!({"count": 2, "missing": frozen});
    ensure!(got == Ok(partial), "inside: {got:?}");
    ensure!(took < QUESTION, "inside it took {took:?}");
    one_client(&api, &mut asker, stuck.id()).await?;
    commands_need_no_keeper_of_a_key(&cluster, &mut other).await?;
    sends_are_bounded(&api, &mut asker, &mut other).await?;

    cluster.gateway_mut(2)?.signal(Signal::Continue)?;
    eventually("the thawed gateway is part of the whole", async || {
        let got = api.get("/v1/clients/count?group=all").await?.ok()?;
        Ok((got == json!({"count": 3, "missing": []})).then_some(()))
    })
    .await?;
    // What was sent to it meanwhile has come, in order.
    for number in 0..100 {
        let heard = stuck.heard().await?;
        ensure!(heard == json!(number.to_string()), "{heard}, not {number}");
    }
    Ok(())
}

/// A question that only the frozen gateway could answer.
async fn one_client(api: &Api, asker: &mut Probe, stuck: &str) -> Outcome {
    let reply = api.get(&format!("/v1/clients/{stuck}")).await?;
    ensure!(
        reply.status == 504,
        "status {}: {}",
        reply.status,
        reply.body
    );
    ensure!(reply.problem()? == "timeout", "{}", reply.body);
    let answer = asker
        .ask(&json!({"op": "is_online", "client": stuck}))
        .await?;
    ensure!(answer == Err("timeout".to_owned()), "{answer:?}");
    Ok(())
}

/// What a person does through a gateway that lives, to a client of one that lives, is done. Under a key it
/// may need the frozen one: then it is said what may have come of it.
async fn commands_need_no_keeper_of_a_key(cluster: &Cluster, other: &mut Probe) -> Outcome {
    let gateway = cluster.gateway(0)?;
    for number in 0..8 {
        let text = number.to_string();
        let args = ["send", "--uid", "other", "--timeout-ms", "4000", &text];
        gateway.run(TENANT, &args).await?.ok()?;
        ensure!(other.heard().await? == json!(text), "{text}");
        let session = format!("{{\"n\":{number}}}");
        let merge = ["session", "merge", other.id(), &session];
        gateway.run(TENANT, &merge).await?.ok()?;
    }
    // Of many keys the frozen one keeps some.
    for number in 0..32 {
        let key = format!("key {number}");
        let args = [
            "send",
            "--uid",
            "nobody",
            "--timeout-ms",
            "1000",
            "--key",
            &key,
            "x",
        ];
        let ran = gateway.run(TENANT, &args).await?;
        if ran.code == 0 {
            continue;
        }
        ensure!(ran.code == 1, "{ran:?}");
        for says in ["keeps this idempotency key", "under the same --key"] {
            ensure!(ran.error.contains(says), "no {says:?}: {ran:?}");
        }
        return Ok(());
    }
    anyhow::bail!("the frozen gateway keeps no key")
}

/// Sends to all take no longer than ever, and those who are not frozen hear them.
async fn sends_are_bounded(api: &Api, asker: &mut Probe, other: &mut Probe) -> Outcome {
    for number in 0..100 {
        let start = Instant::now();
        let body = json!({"to": {"groups": ["all"]}, "text": number.to_string()});
        api.post("/v1/messages", &body).await?.ok()?;
        let took = start.elapsed();
        ensure!(took < QUESTION, "a send took {took:?}");
        for client in [&mut *asker, &mut *other] {
            let heard = client.heard().await?;
            ensure!(heard == json!(number.to_string()), "{heard}, not {number}");
        }
    }
    Ok(())
}
