//! Idempotency keys: an action with a key happens once, whichever gateway is asked again.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::{Api, Cluster, Outcome, Plugin, Probe, Reply, Transport, eventually};

use super::Place;

async fn with_key(api: &Api, key: &str, method: &str, target: &str, body: &Value) -> Result<Reply> {
    let headers = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", key),
    ];
    api.call(method, target, &headers, Some(&body.to_string()))
        .await
}

#[tokio::test]
async fn a_key_is_remembered_by_every_gateway() -> Outcome {
    for place in Place::both("keys")? {
        let mut client = place.client(1, "uid=ann").await?;
        let send = json!({"to": {"uids": ["ann"]}, "text": "once"});
        for number in 0..10 {
            let key = format!("key {number} of a test");
            let api = place.api(number)?;
            let first = with_key(&api, &key, "POST", "/v1/messages", &send).await?;
            ensure!(first.ok()? == json!({"status": "done"}), "the first");
            for gateway in 0..3 {
                let api = place.api(gateway)?;
                let again = with_key(&api, &key, "POST", "/v1/messages", &send).await?;
                let again = again.ok()?;
                ensure!(again == json!({"status": "repeated"}), "again: {again}");
            }
            let other = json!({"to": {"uids": ["ann"]}, "text": "another"});
            let other = with_key(&place.api(2)?, &key, "POST", "/v1/messages", &other).await?;
            ensure!(other.problem()? == "conflict", "{}", other.body);
            ensure!(other.status == 409, "{}", other.status);
        }
        let end = json!({"to": {"uids": ["ann"]}, "text": "end"});
        for gateway in 0..3 {
            place.api(gateway)?.post("/v1/messages", &end).await?.ok()?;
        }
        let (mut once, mut ends) = (0, 0);
        while ends < 3 {
            match client.heard().await? {
                text if text == "once" => once += 1,
                text if text == "end" => ends += 1,
                other => anyhow::bail!("heard {other}"),
            }
        }
        ensure!(once == 10, "each send once, not {once} in all");
    }
    Ok(())
}

#[tokio::test]
async fn two_redundant_callers_of_a_request_have_it_done_once() -> Outcome {
    for place in Place::both("keys")? {
        let mut client = place.client(1, "uid=paying").await?;
        let send = |text: &str| json!({"op": "send_to_uids", "uids": ["paying"], "message": text});
        let run =
            |text: &str| json!({"name": "run", "text": json!({"do": [send(text)]}).to_string()});
        for number in 0..10 {
            let key = format!("request {number} of a test");
            let (one, two) = (place.api(number)?, place.api(number + 1)?);
            let body = run("once");
            let (one, two) = tokio::join!(
                with_key(&one, &key, "POST", "/v1/requests", &body),
                with_key(&two, &key, "POST", "/v1/requests", &body),
            );
            let (one, two) = (one?.ok()?, two?.ok()?);
            ensure!(one == two && one["text"].is_string(), "{one} and {two}");
            let again = with_key(&place.api(2)?, &key, "POST", "/v1/requests", &body).await?;
            let again = again.ok()?;
            ensure!(again == one, "another reply: {again}");
            let other = run("another");
            let other = with_key(&place.api(0)?, &key, "POST", "/v1/requests", &other).await?;
            ensure!(other.problem()? == "conflict", "{}", other.body);
        }
        // Behind all that was sent through any gateway.
        for gateway in 0..3 {
            let body = run("end");
            place
                .api(gateway)?
                .post("/v1/requests", &body)
                .await?
                .ok()?;
        }
        let (mut once, mut ends) = (0, 0);
        while ends < 3 {
            match client.heard().await? {
                text if text == "once" => once += 1,
                text if text == "end" => ends += 1,
                other => anyhow::bail!("heard {other}"),
            }
        }
        ensure!(once == 10, "each request once, not {once} in all");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_counts_for_one_tenant_and_every_kind_of_action() -> Outcome {
    for place in Place::both("keys")? {
        let client = place.client(2, "").await?;
        let target = format!("/v1/clients/{}/uid", client.id());
        let body = json!({"uid": "bob"});
        let key = "a-key-of-two-tenants";
        let reply = with_key(&place.api(0)?, key, "PUT", &target, &body).await?;
        ensure!(reply.ok()? == json!({"status": "done"}), "the first");
        let reply = with_key(&place.api(1)?, key, "PUT", &target, &body).await?;
        ensure!(reply.ok()? == json!({"status": "repeated"}), "again");
        // The same key on another resource is another request.
        let elsewhere = "/v1/batch";
        let batch = json!({"actions": []});
        let reply = with_key(&place.api(1)?, key, "POST", elsewhere, &batch).await?;
        ensure!(reply.problem()? == "conflict", "{}", reply.body);
        let stranger = place.fixture.cluster.gateway(0)?.api("stranger")?;
        let reply = with_key(&stranger, key, "PUT", &target, &body).await?;
        ensure!(reply.ok()? == json!({"status": "done"}), "another tenant");
        for key in ["", "ü", &"k".repeat(256)] {
            let reply = with_key(&place.api(0)?, key, "PUT", &target, &body).await?;
            ensure!(reply.problem()? == "invalid-argument", "{key:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn keys_go_on_when_a_gateway_that_remembers_some_is_killed() -> Outcome {
    let mut cluster = Cluster::apart(3, 1)
        .other_plugin_file(&Plugin::Probe.path()?)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1000\n[register]\nlease-ms = 1000")
        .tenant("killed", &[Transport::Ws])
        .start()
        .await?;
    let apis = [
        cluster.gateway(0)?.api("killed")?,
        cluster.gateway(1)?.api("killed")?,
    ];
    whole(&apis, 3).await?;
    let door = cluster.gateway(1)?.door("killed", Transport::Ws)?;
    let mut client = Probe::connect(door, "uid=ann").await?;
    cluster.gateway_mut(2)?.kill().await?;
    for number in 0..30 {
        let key = format!("a key of nobody {number}");
        let body = json!({"to": {"uids": ["ann"]}, "text": number.to_string()});
        let again = async |api: &Api| {
            let reply = with_key(api, &key, "POST", "/v1/messages", &body).await?;
            // Until the dead gateway is no longer in the view its keys have no place.
            let waits = reply.status == 504;
            Ok::<_, anyhow::Error>(if waits { None } else { Some(reply.ok()?) })
        };
        let first = eventually("the key has a place", async || again(&apis[0]).await).await?;
        ensure!(first == json!({"status": "done"}), "{key}: {first}");
        let second = eventually("the key has a place", async || again(&apis[1]).await).await?;
        ensure!(second == json!({"status": "repeated"}), "{key}: {second}");
        let heard = client.heard().await?;
        ensure!(heard == json!(number.to_string()), "{heard}, not {number}");
    }
    Ok(())
}

/// Waits until these gateways know so many.
async fn whole(apis: &[Api], gateways: usize) -> Outcome {
    for api in apis {
        eventually("the gateways know each other", async || {
            let status = api.get("/v1/status").await?.ok()?;
            let known = status["gateways"].as_array().map_or(0, Vec::len);
            Ok((known == gateways && status["missing"] == json!([])).then_some(()))
        })
        .await?;
    }
    Ok(())
}
