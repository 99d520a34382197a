//! Row 52: the external client. Any program with a token reaches the clients of its tenant, and
//! nobody else's; neither does a handler of another tenant.

use serde_json::{Value, json};
use tidegate_tests::cluster::token_of;
use tidegate_tests::{Api, Outcome, Probe, Transport};

use super::trial::Trial;

const STRANGER: &str = "stranger";

/// What a stranger to the tenant tries, all by names that the tenant has as well.
fn attempts(client: &str) -> [Value; 9] {
    [
        json!({"op": "send_to_client", "client": client, "message": "x"}),
        json!({"op": "send_to_uids", "uids": ["ann"], "message": "x"}),
        json!({"op": "send_to_groups", "groups": ["red"], "message": "x"}),
        json!({"op": "send_to_all", "message": "x", "except": []}),
        json!({"op": "bind_uid", "client": client, "uid": "mine"}),
        json!({"op": "join_group", "client": client, "group": "mine"}),
        json!({"op": "ungroup", "group": "red"}),
        json!({"op": "set_session", "client": client, "entries": {"mine": 1}}),
        json!({"op": "close_uid", "uid": "ann"}),
    ]
}

pub(super) async fn row_52(trial: &mut Trial) -> Outcome {
    let mut three = trial.three("uid=ann&group=red").await?;
    let id = three[1].id().to_owned();
    let mut stranger = match trial.side {
        super::trial::Side::Inside => {
            let node = trial.fixture.cluster.gateway(0)?;
            let door = node.door(STRANGER, Transport::Ws)?;
            super::actor::Actor::Inside(Box::new(Probe::connect(door, "").await?))
        }
        super::trial::Side::Outside => {
            tokens(trial).await?;
            super::actor::Actor::Outside(trial.fixture.cluster.gateway(0)?.api(STRANGER)?)
        }
    };
    for step in attempts(&id) {
        let answer = stranger.ask(step).await?;
        trial.check("an effect that finds nobody", answer.is_ok(), true)?;
    }
    for (step, wanted) in [
        (json!({"op": "is_online", "client": id}), json!(false)),
        (
            json!({"op": "info", "client": id, "fields": ["uid"]}),
            Value::Null,
        ),
        (json!({"op": "session_of", "client": id}), Value::Null),
        (
            json!({"op": "client_count", "of": [{"groups": ["red"]}, {"uids": ["ann"]}, {"clients": [id]}]}),
            json!({"count": 0, "missing": []}),
        ),
        (
            json!({"op": "groups", "limit": 9}),
            json!({"items": [], "next": null, "missing": []}),
        ),
        (
            json!({"op": "are_uids_online", "uids": ["ann"]}),
            json!({"online": [false], "missing": []}),
        ),
    ] {
        trial.check(
            "another tenant sees nothing",
            stranger.get(step).await?,
            wanted,
        )?;
    }
    let swap = json!({"op": "compare_and_set_session", "client": id, "key": "k", "new": 1});
    let answer = stranger.ask(swap).await?;
    trial.refused("nor changes anything", &answer, "offline")?;

    let mut actor = trial.actor().await?;
    let info = json!({"op": "info", "client": id, "fields": ["uid", "groups", "session"]});
    let info = actor.get(info).await?;
    let kept = json!([info["uid"], info["groups"], info["session"]]);
    trial.check("everything is as it was", kept, json!(["ann", ["red"], {}]))?;
    for client in &mut three {
        trial.check("nobody has heard anything", client.rest().await?, json!([]))?;
    }
    Ok(())
}

/// With its own token everything, without one or with another nothing.
async fn tokens(trial: &mut Trial) -> Outcome {
    for gateway in 0..trial.gateways() {
        let api = trial.api_at(gateway)?;
        let status = api.get("/v1/status").await?.ok()?;
        trial.check("its tenant", status["tenant"].clone(), trial.tenant.clone())?;
        let mut wrong = token_of(&trial.tenant);
        wrong.pop();
        for token in [None, Some("wrong"), Some(wrong.as_str()), Some("")] {
            let other = Api::new(api.address(), token);
            for target in [
                "/v1/status",
                "/v1/clients",
                "/v1/feed",
                "/v1/clients/count?uid=ann",
            ] {
                let reply = other.get(target).await?;
                trial.check("no token, no answer", reply.status, 401)?;
                trial.check("its name", reply.problem()?, "not-permitted")?;
                let asks = reply.head.contains("www-authenticate: bearer");
                trial.check("it says what is wanted", asks, true)?;
            }
            let send = json!({"to": {"everyone": true}, "text": "x"});
            let reply = other.post("/v1/messages", &send).await?;
            trial.check("nor any effect", reply.status, 401)?;
        }
        let open = Api::new(api.address(), None);
        let document = open.get("/v1/openapi.json").await?.ok()?;
        trial.check(
            "the document is open",
            document["openapi"].is_string(),
            true,
        )?;
    }
    Ok(())
}
