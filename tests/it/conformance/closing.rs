//! Rows 9 to 11: closing. A farewell comes last, then the end; a destroyed client gets none. Both
//! are told once, with the reason `server`.

use serde_json::{Value, json};
use tidegate_tests::{Outcome, Probe};

use super::actor::Actor;
use super::trial::{ELSEWHERE, MALFORMED, Trial};

/// What the group of watchers is told of a client, which has this uid and these groups.
fn close_of(id: &str, uid: &str, groups: &str) -> Value {
    json!(format!("closed:{id}:server:{uid}:{groups}"))
}

/// The next thing that a watcher is told of this client. Closes of an earlier trial may still be
/// told: they are of others.
async fn told(watcher: &mut Probe, id: &str) -> anyhow::Result<Value> {
    loop {
        let heard = watcher.heard().await?;
        if is_of(&heard, id) {
            return Ok(heard);
        }
    }
}

/// What else a watcher was told of these clients.
async fn told_again(watcher: &mut Probe, ids: &[String]) -> anyhow::Result<Value> {
    let rest = watcher.rest().await?;
    let rest = rest.as_array().into_iter().flatten();
    Ok(rest
        .filter(|heard| ids.iter().any(|id| is_of(heard, id)))
        .cloned()
        .collect())
}

fn is_of(heard: &Value, id: &str) -> bool {
    let text = heard.as_str().unwrap_or_default();
    text.starts_with(&format!("closed:{id}:"))
}

pub(super) async fn row_09(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut watcher = trial.client(0, "group=watchers").await?;
    let close = |id: &str, farewell: Value| json!({"op": "close_client", "client": id, "farewell": farewell});
    let mut closed = Vec::new();
    for gateway in 0..3 {
        let mut client = trial.client(gateway, "uid=ann&group=red").await?;
        let id = client.id().to_owned();
        closed.push(id.clone());
        let before = json!({"op": "send_to_client", "client": id, "message": "before"});
        actor.together(&[before, close(&id, json!("bye"))]).await?;
        let words = client.last_words().await?;
        trial.check(
            "what was sent, the farewell, the end",
            words,
            json!(["before", "bye"]),
        )?;
        trial.check(
            "its close is told",
            told(&mut watcher, &id).await?,
            close_of(&id, "ann", "red"),
        )?;
        let again = actor.ask(close(&id, json!("bye"))).await?;
        trial.check("closing it again does nothing", again.is_ok(), true)?;
    }
    let mut client = trial.client(1, "").await?;
    actor.get(close(client.id(), Value::Null)).await?;
    trial.check(
        "no farewell, only the end",
        client.last_words().await?,
        json!([]),
    )?;
    let mut client = trial.client(2, "").await?;
    actor
        .get(close(client.id(), json!({"binary": "AP8="})))
        .await?;
    let words = json!([{"binary": [0, 255]}]);
    trial.check("a binary farewell", client.last_words().await?, words)?;

    let answer = actor.ask(close(ELSEWHERE, json!("bye"))).await?;
    trial.check("an offline client is skipped", answer.is_ok(), true)?;
    for id in MALFORMED {
        let answer = actor.ask(close(id, Value::Null)).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    let mut client = trial.client(1, "").await?;
    actor
        .in_vain(&[close(client.id(), json!("in vain"))])
        .await?;
    trial.check(
        "what is dropped closes nobody",
        client.rest().await?,
        json!([]),
    )?;
    let again = told_again(&mut watcher, &closed).await?;
    trial.check("each close was told once", again, json!([]))?;
    kicked(trial, &mut actor).await
}

/// Closing by uid, which none of the five systems had and users asked for.
async fn kicked(trial: &mut Trial, actor: &mut Actor) -> Outcome {
    let mut devices = trial.three("uid=kicked").await?;
    let mut other = trial.client(1, "uid=other").await?;
    let close = |uid: &str| json!({"op": "close_uid", "uid": uid, "farewell": "out"});
    actor.get(close("kicked")).await?;
    for device in &mut devices {
        trial.check("every device", device.last_words().await?, json!(["out"]))?;
    }
    trial.check("nobody else", other.rest().await?, json!([]))?;
    let answer = actor.ask(close("unknown")).await?;
    trial.check("an unknown uid closes nobody", answer.is_ok(), true)?;
    let answer = actor.ask(close("")).await?;
    trial.refused("no uid", &answer, "invalid-argument")
}

pub(super) async fn row_10(trial: &mut Trial) -> Outcome {
    let actor = trial.actor().await?;
    match actor {
        Actor::Inside(mut me) => {
            let mut watcher = trial.client(1, "group=watchers").await?;
            let close = json!({"op": "close_client", "client": "me", "farewell": "bye"});
            me.tell(&json!({"do": [close], "then": "fail"})).await?;
            trial.check("a dropped close closes nobody", me.rest().await?, json!([]))?;
            let id = me.id().to_owned();
            me.tell(&json!({"do": [close], "quiet": true})).await?;
            trial.check(
                "the farewell, then the end",
                me.last_words().await?,
                json!(["bye"]),
            )?;
            trial.check(
                "it is told",
                told(&mut watcher, &id).await?,
                close_of(&id, "-", ""),
            )?;
            let again = told_again(&mut watcher, &[id]).await?;
            trial.check("once", again, json!([]))?;
        }
        Actor::Outside(api) => {
            // Only a handler has a current client; a request's handler has none either.
            let reply = api.post("/v1/clients/me/close", &json!({})).await?;
            trial.check("nobody is me outside", reply.problem()?, "invalid-argument")?;
            let reply = api.post("/v1/close", &json!({})).await?;
            trial.check("there is no such path", reply.status, 404)?;
            let run = json!({"do": [{"op": "close_client", "client": "me"}]});
            let body = json!({"name": "run", "text": run.to_string()});
            let reply = api.post("/v1/requests", &body).await?;
            trial.check(
                "nor in a request",
                reply.body.to_string().contains("error"),
                true,
            )?;
        }
    }
    Ok(())
}

pub(super) async fn row_11(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut watcher = trial.client(0, "group=watchers").await?;
    let destroy = |id: &str| json!({"op": "destroy_client", "client": id});
    let mut closed = Vec::new();
    for gateway in 0..3 {
        let mut client = trial.client(gateway, "uid=0&group=red").await?;
        let id = client.id().to_owned();
        closed.push(id.clone());
        actor.get(destroy(&id)).await?;
        trial.check(
            "the end and nothing else",
            client.last_words().await?,
            json!([]),
        )?;
        trial.check(
            "it is told",
            told(&mut watcher, &id).await?,
            close_of(&id, "0", "red"),
        )?;
        let again = actor.ask(destroy(&id)).await?;
        trial.check("destroying it again does nothing", again.is_ok(), true)?;
    }
    let answer = actor.ask(destroy(ELSEWHERE)).await?;
    trial.check("an offline client is skipped", answer.is_ok(), true)?;
    for id in MALFORMED {
        let answer = actor.ask(destroy(id)).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    let mut client: Probe = trial.client(1, "").await?;
    actor.in_vain(&[destroy(client.id())]).await?;
    trial.check(
        "what is dropped destroys nobody",
        client.rest().await?,
        json!([]),
    )?;
    let again = told_again(&mut watcher, &closed).await?;
    trial.check("each was told once", again, json!([]))
}
