//! Rows 39 and 40: what is known of a client; 49 and 50: where clients and gateways are.

use serde_json::{Value, json};
use tidegate_tests::{Outcome, Transport};

use super::actor::{Actor, address_in};
use super::trial::{ELSEWHERE, MALFORMED, Trial, sorted};

fn info(client: &str, fields: &[&str]) -> Value {
    json!({"op": "info", "client": client, "fields": fields})
}

/// What a client is when nothing is asked for.
fn nothing(client: &str) -> Value {
    json!({
        "client": client, "peer": null, "uid": null, "groups": [], "session": {},
        "connected_at": null, "last_message_at": null, "bytes_in": null, "bytes_out": null,
    })
}

pub(super) async fn row_39(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    for gateway in 0..3 {
        let mut client = trial
            .client(gateway, "uid=ann&group=red&group=blue")
            .await?;
        let id = client.id().to_owned();
        let set = json!({"op": "set_session", "client": id, "entries": {"k": {"n": [1]}}});
        actor.get(set).await?;
        client.rest().await?;
        let mut wanted = nothing(&id);
        trial.check("nothing", actor.get(info(&id, &[])).await?, wanted.clone())?;
        wanted["uid"] = json!("ann");
        trial.check("uid", actor.get(info(&id, &["uid"])).await?, wanted.clone())?;
        wanted["groups"] = json!(["blue", "red"]);
        let got = actor.get(info(&id, &["groups", "uid"])).await?;
        trial.check("groups, sorted", got, wanted.clone())?;
        wanted["session"] = json!({"k": {"n": [1]}});
        let got = actor.get(info(&id, &["uid", "session", "groups"])).await?;
        trial.check("session", got, wanted)?;
        times_and_traffic(trial, &mut actor, &id).await?;
    }
    for transport in Transport::ALL {
        peers(trial, &mut actor, transport).await?;
    }
    let gone = trial.gone().await?;
    for id in [gone.as_str(), ELSEWHERE] {
        let got = actor.get(info(id, &["uid", "peer"])).await?;
        trial.check("nothing of a client that is gone", got, Value::Null)?;
    }
    for id in MALFORMED {
        let answer = actor.ask(info(id, &["uid"])).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    Ok(())
}

async fn times_and_traffic(trial: &mut Trial, actor: &mut Actor, id: &str) -> Outcome {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now = u64::try_from(now.as_millis())?;
    let got = actor.get(info(id, &["times", "traffic"])).await?;
    let recent = |name: &str| {
        let at = got[name].as_u64().unwrap_or_default();
        (now.saturating_sub(60_000)..=now + 1_000).contains(&at)
    };
    trial.check("connected just now", recent("connected_at"), true)?;
    trial.check("it has said something", recent("last_message_at"), true)?;
    let event_id = r#"{"op":"event_id"}"#.len();
    let bytes_in = got["bytes_in"].clone();
    trial.check("bytes of its messages", bytes_in, event_id)?;
    let out = got["bytes_out"].as_u64().unwrap_or_default();
    trial.check("it was sent its id and an answer", out > 30, true)
}

async fn peers(trial: &mut Trial, actor: &mut Actor, transport: Transport) -> Outcome {
    let client = trial.client_over(1, transport, "").await?;
    let got = actor.get(info(client.id(), &["peer"])).await?;
    let kind = match transport {
        Transport::Ws => "web-socket",
        Transport::Tcp => "tcp",
        Transport::Text => "text-lines",
        Transport::Frame => "length-prefixed",
    };
    let peer = &got["peer"];
    trial.check("its transport", peer["transport"].clone(), kind)?;
    trial.check("not encrypted", peer["secure"].clone(), false)?;
    let address = peer["address"].as_str().unwrap_or_default();
    trial.check("its address", address.starts_with("127.0.0.1:"), true)?;
    let listener = peer["listener"].as_str().unwrap_or_default();
    let scheme = format!("{}://", transport.scheme());
    trial.check("its listener", listener.starts_with(&scheme), true)
}

pub(super) async fn row_40(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    for gateway in 0..3 {
        let client = trial.client(gateway, "").await?;
        let mut wanted = nothing(client.id());
        let step = info(client.id(), &["groups"]);
        trial.check("none", actor.get(step.clone()).await?, wanted.clone())?;
        for group in ["ü", "b", "0", "b"] {
            let join = json!({"op": "join_group", "client": client.id(), "group": group});
            actor.get(join).await?;
        }
        wanted["groups"] = json!(["0", "b", "ü"]);
        trial.check(
            "each once, sorted, at once",
            actor.get(step.clone()).await?,
            wanted.clone(),
        )?;
        actor.get(json!({"op": "ungroup", "group": "b"})).await?;
        wanted["groups"] = json!(["0", "ü"]);
        trial.check("less one", actor.get(step.clone()).await?, wanted)?;
    }
    let gone = trial.gone().await?;
    let got = actor.get(info(&gone, &["groups"])).await?;
    trial.check("nothing of a client that is gone", got, Value::Null)
}

pub(super) async fn row_49(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let gone = trial.gone().await?;
    let three = trial.three("").await?;
    let mut all: Vec<&str> = three.iter().map(tidegate_tests::Probe::id).collect();
    all.extend([gone.as_str(), ELSEWHERE]);
    for id in all {
        let address = address_in(id)?;
        let at = json!({
            "op": "client_at", "gateway": address["gateway"], "connection": address["connection"],
        });
        trial.check("the id of an address", actor.get(at).await?, id)?;
        if trial.is_inside() {
            let of = json!({"op": "address_of", "client": id});
            trial.check("the address of an id", actor.get(of).await?, address)?;
        }
    }
    for client in &three {
        let address = address_in(client.id())?;
        let gateways = actor.get(json!({"op": "gateways"})).await?;
        let known = gateways
            .as_array()
            .is_some_and(|all| all.contains(&address["gateway"]));
        trial.check("it names a live gateway", known, true)?;
    }
    for gateway in ["nowhere", "1.2.3.4", "1.2.3.4:99999", "[::1]:2000"] {
        let at = json!({"op": "client_at", "gateway": gateway, "connection": 1});
        let answer = actor.ask(at).await?;
        trial.refused(gateway, &answer, "invalid-argument")?;
    }
    if trial.is_inside() {
        for id in MALFORMED {
            let answer = actor.ask(json!({"op": "address_of", "client": id})).await?;
            trial.refused(id, &answer, "invalid-argument")?;
        }
    }
    Ok(())
}

pub(super) async fn row_50(trial: &mut Trial) -> Outcome {
    let mut addresses = Vec::new();
    for gateway in 0..trial.gateways() {
        // A client's id tells the announced address of its gateway.
        let client = trial.client(gateway, "").await?;
        let address = address_in(client.id())?["gateway"].clone();
        addresses.push(address.as_str().unwrap_or_default().to_owned());
    }
    // By the four bytes of the address, then by its port.
    let mut ordered = addresses.clone();
    ordered.sort_by_key(|address| address.parse::<std::net::SocketAddrV4>().ok());
    for (gateway, address) in addresses.iter().enumerate() {
        let mut actor = trial.actor_at(gateway).await?;
        let got = actor.get(json!({"op": "gateways"})).await?;
        trial.check("all of them, in order", got, json!(ordered))?;
        if let Actor::Outside(api) = &actor {
            let got = api.get("/v1/gateways").await?.ok()?;
            trial.check("who answers", got["answering"].clone(), address.as_str())?;
            let status = api.get("/v1/status").await?.ok()?;
            trial.check(
                "status: who answers",
                status["gateway"].clone(),
                address.as_str(),
            )?;
            trial.check(
                "status: all",
                sorted(
                    status["gateways"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(Value::as_str),
                ),
                sorted(&ordered),
            )?;
            trial.check(
                "status: whose",
                status["tenant"].clone(),
                trial.tenant.clone(),
            )?;
        }
    }
    Ok(())
}
