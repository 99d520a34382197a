//! Rows 41 to 46: sessions, which are objects of JSON values. Two writers of different keys both
//! win; a merge happens where the session is.

use serde_json::{Value, json};
use tidegate_tests::Outcome;

use super::actor::Actor;
use super::trial::{ELSEWHERE, MALFORMED, Trial};

/// A session with every kind of JSON value.
fn rich() -> Value {
    json!({
        "text": "ü\"\\\n🌊", "number": -1.5e10, "large": 9007199254740993_i64, "flag": true,
        "nothing": null, "list": [1, [2, []], {}], "object": {"a": {"b": {"c": [null]}}},
        "schlüssel \"/?": "a name",
    })
}

fn get(client: &str) -> Value {
    json!({"op": "session_of", "client": client})
}

fn set(client: &str, entries: Value) -> Value {
    json!({"op": "set_session", "client": client, "entries": entries})
}

fn update(client: &str, entries: Value, deep: bool) -> Value {
    json!({"op": "update_session", "client": client, "entries": entries, "deep": deep})
}

/// Every change skips who is offline, and refuses what is no id.
async fn edges(trial: &mut Trial, actor: &mut Actor, step: impl Fn(&str) -> Value) -> Outcome {
    let gone = trial.gone().await?;
    for id in [gone.as_str(), ELSEWHERE] {
        let answer = actor.ask(step(id)).await?;
        trial.check("an offline client is skipped", answer.is_ok(), true)?;
    }
    for id in MALFORMED {
        let answer = actor.ask(step(id)).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_41(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    for client in trial.three("").await? {
        let id = client.id();
        trial.check("empty at first", actor.get(get(id)).await?, json!({}))?;
        actor.get(set(id, rich())).await?;
        trial.check("as it was set, at once", actor.get(get(id)).await?, rich())?;
    }
    let gone = trial.gone().await?;
    for id in [gone.as_str(), ELSEWHERE] {
        trial.check(
            "none of a client that is gone",
            actor.get(get(id)).await?,
            Value::Null,
        )?;
    }
    for id in MALFORMED {
        let answer = actor.ask(get(id)).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_42(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    for client in trial.three("").await? {
        let id = client.id();
        actor.get(set(id, rich())).await?;
        actor.get(set(id, json!({"only": {"this": 1}}))).await?;
        let only = json!({"only": {"this": 1}});
        trial.check(
            "the old keys are gone",
            actor.get(get(id)).await?,
            only.clone(),
        )?;
        actor.in_vain(&[set(id, json!({"vain": 1}))]).await?;
        trial.check("a dropped one", actor.get(get(id)).await?, only)?;
        actor.get(set(id, json!({}))).await?;
        trial.check("by nothing", actor.get(get(id)).await?, json!({}))?;
    }
    edges(trial, &mut actor, |id| set(id, json!({"k": 1}))).await?;
    let client = trial.client(1, "").await?;
    let long = json!({"ü".repeat(128): 1});
    let answer = actor.ask(set(client.id(), long)).await?;
    trial.refused("a key over 255 bytes", &answer, "invalid-argument")?;
    if let Actor::Outside(api) = &actor {
        let target = format!("/v1/clients/{}/session", client.id());
        for body in [json!(["list"]), json!("text"), json!(7)] {
            let error = api.send("PUT", &target, &body).await?.problem()?;
            trial.check("no object", error, "invalid-argument")?;
        }
    }
    Ok(())
}

pub(super) async fn row_43(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let before = json!({"a": {"x": 1, "y": {"z": 1}}, "b": [1, 2], "c": 3});
    let change = json!({"a": {"y": {"w": 2}}, "b": [3], "d": null});
    for client in trial.three("").await? {
        let id = client.id();
        actor.get(set(id, before.clone())).await?;
        actor.get(update(id, change.clone(), false)).await?;
        let shallow = json!({"a": {"y": {"w": 2}}, "b": [3], "c": 3, "d": null});
        trial.check(
            "shallow: keys are replaced",
            actor.get(get(id)).await?,
            shallow,
        )?;
        actor.get(set(id, before.clone())).await?;
        actor.get(update(id, change.clone(), true)).await?;
        let deep = json!({"a": {"x": 1, "y": {"z": 1, "w": 2}}, "b": [3], "c": 3, "d": null});
        trial.check(
            "deep: objects are merged",
            actor.get(get(id)).await?,
            deep.clone(),
        )?;
        actor.get(update(id, json!({}), true)).await?;
        actor.in_vain(&[update(id, json!({"c": 4}), false)]).await?;
        trial.check(
            "by nothing, and a dropped one",
            actor.get(get(id)).await?,
            deep,
        )?;
    }
    both_win(trial).await?;
    edges(trial, &mut actor, |id| update(id, json!({"k": 1}), true)).await
}

/// Two actors at different gateways write different keys of one session.
async fn both_win(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut other = trial.actor_at(1).await?;
    let client = trial.client(2, "").await?;
    let id = client.id();
    for number in 0..20 {
        actor
            .get(update(id, json!({"one": {"n": number}}), false))
            .await?;
        other.get(update(id, json!({"two": number}), true)).await?;
    }
    let both = json!({"one": {"n": 19}, "two": 19});
    actor.until("both writers win", get(id), both).await?;
    trial.checks += 1;
    Ok(())
}

pub(super) async fn row_44(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let delete = |id: &str| json!({"op": "delete_session", "client": id});
    for client in trial.three("uid=ann&group=red").await? {
        let id = client.id();
        actor.get(set(id, rich())).await?;
        actor.in_vain(&[delete(id)]).await?;
        trial.check("a dropped one", actor.get(get(id)).await?, rich())?;
        actor.get(delete(id)).await?;
        trial.check(
            "nothing is left, at once",
            actor.get(get(id)).await?,
            json!({}),
        )?;
        actor
            .together(&[set(id, rich()), delete(id), set(id, json!({"k": 1}))])
            .await?;
        trial.check("in order", actor.get(get(id)).await?, json!({"k": 1}))?;
        let info = json!({"op": "info", "client": id, "fields": ["uid", "groups"]});
        let info = actor.get(info).await?;
        let kept = json!([info["uid"], info["groups"]]);
        trial.check("uid and groups stay", kept, json!(["ann", ["red"]]))?;
    }
    edges(trial, &mut actor, delete).await
}

pub(super) async fn row_45(trial: &mut Trial) -> Outcome {
    let actor = trial.actor().await?;
    let Actor::Inside(mut me) = actor else {
        // Only a handler has a current client.
        let api = trial.api()?;
        let error = api.get("/v1/clients/me/session").await?.problem()?;
        trial.check("nobody is me outside", error, "invalid-argument")?;
        let reply = api.get("/v1/session").await?;
        trial.check("there is no such path", reply.status, 404)?;
        return trial.check(
            "and a problem says so",
            reply.problem()?,
            "invalid-argument",
        );
    };
    let value = |key: &str| json!({"op": "session_get", "key": key});
    let entries = json!({"op": "session_entries"});
    let keep = |key: &str, value: Value| json!({"op": "session_set", "key": key, "value": value});
    let steps = [
        value("k"),
        keep("k", rich()),
        value("k"),
        keep("l", json!(null)),
        entries.clone(),
    ];
    let got = me
        .ask(&json!({"do": steps}))
        .await?
        .map_err(anyhow::Error::msg)?;
    trial.check("absent at first", got[0].clone(), Value::Null)?;
    trial.check("what was set", got[2].clone(), rich())?;
    let both = json!({"k": rich(), "l": null});
    trial.check("all of it", got[4].clone(), both.clone())?;
    let got = me.ask(&entries).await?;
    trial.check(
        "written back with the commit",
        json!(got.ok()),
        both.clone(),
    )?;
    let clear = json!({"op": "session_clear"});
    me.tell(&json!({"do": [keep("m", json!(1)), clear], "then": "trap"}))
        .await?;
    let got = me.ask(&entries).await?;
    trial.check("not after a trap", json!(got.ok()), both.clone())?;
    let got = trial
        .api_at(1)?
        .get(&format!("/v1/clients/{}/session", me.id()))
        .await?
        .ok()?;
    trial.check("others see the same", got, both)?;

    let id = me.id().to_owned();
    let mut other = trial.client(1, "").await?;
    let theirs = update(&id, json!({"theirs": 1}), false);
    other.ask(&theirs).await?.map_err(anyhow::Error::msg)?;
    tidegate_tests::eventually("what others write is seen", async || {
        let got = me.ask(&value("theirs")).await?;
        Ok((got == Ok(json!(1))).then_some(()))
    })
    .await?;
    trial.checks += 1;
    let remove = json!({"op": "session_remove", "key": "k"});
    let got = me
        .ask(&json!({"do": [remove, entries]}))
        .await?
        .map_err(anyhow::Error::msg)?;
    trial.check(
        "one removed",
        got[1].clone(),
        json!({"l": null, "theirs": 1}),
    )?;
    let got = me
        .ask(&json!({"do": [clear, entries]}))
        .await?
        .map_err(anyhow::Error::msg)?;
    trial.check("all cleared", got[1].clone(), json!({}))?;
    let got = me.ask(&entries).await?;
    trial.check("and it stays so", json!(got.ok()), json!({}))
}

pub(super) async fn row_46(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    for client in trial.three("").await? {
        let id = client.id();
        // The whole session at once, in and out, as JSON.
        actor.get(set(id, rich())).await?;
        let whole = actor.get(get(id)).await?;
        trial.check("the whole of it", whole.clone(), rich())?;
        actor.get(set(id, whole)).await?;
        trial.check("put back as it came", actor.get(get(id)).await?, rich())?;
        let info = json!({"op": "info", "client": id, "fields": ["session"]});
        let info = actor.get(info).await?;
        trial.check(
            "the same in the client's info",
            info["session"].clone(),
            rich(),
        )?;
    }
    let client = trial.client(2, "").await?;
    swaps(trial, &mut actor, client.id()).await
}

/// Compare-and-set, for those who wrote the raw session to get it.
async fn swaps(trial: &mut Trial, actor: &mut Actor, id: &str) -> Outcome {
    let swap = |expected: Option<Value>, new: Option<Value>| {
        let mut step = json!({"op": "compare_and_set_session", "client": id, "key": "k"});
        for (name, value) in [("expected", expected), ("new", new)] {
            if let Some(value) = value {
                step[name] = value;
            }
        }
        step
    };
    let one = json!({"a": 1, "b": [1.0, "x"]});
    let answer = actor.ask(swap(Some(json!(1)), Some(json!(2)))).await?;
    trial.refused("it is absent", &answer, "conflict")?;
    actor.get(swap(None, Some(one.clone()))).await?;
    trial.check(
        "absent, then set",
        actor.get(get(id)).await?,
        json!({"k": one}),
    )?;
    let answer = actor.ask(swap(None, Some(json!(2)))).await?;
    trial.refused("it is there", &answer, "conflict")?;
    let answer = actor
        .ask(swap(Some(json!({"a": 1})), Some(json!(3))))
        .await?;
    trial.refused("another value", &answer, "conflict")?;
    match actor {
        Actor::Inside(_) => drop(actor.get(swap(Some(one), Some(json!("two")))).await?),
        Actor::Outside(api) => {
            // Values count, not how they are written.
            let body = r#"{"key": "k", "new": "two", "expected": { "b":[1.0, "x"],"a" : 1}}"#;
            let target = format!("/v1/clients/{id}/session/compare-and-set");
            let json = [("Content-Type", "application/json")];
            let reply = api.call("POST", &target, &json, Some(body)).await?;
            trial.check("written otherwise", reply.ok()?, json!({"status": "done"}))?;
        }
    }
    trial.check(
        "the same value",
        actor.get(get(id)).await?,
        json!({"k": "two"}),
    )?;
    actor.get(swap(Some(json!("two")), None)).await?;
    trial.check("removed", actor.get(get(id)).await?, json!({}))?;
    for other in [ELSEWHERE, &trial.gone().await?] {
        let mut step = swap(None, Some(json!(1)));
        step["client"] = json!(other);
        let answer = actor.ask(step).await?;
        trial.refused("nobody is there", &answer, "offline")?;
    }
    let mut step = swap(None, Some(json!(1)));
    step["client"] = json!("nobody");
    let answer = actor.ask(step).await?;
    trial.refused("no client id", &answer, "invalid-argument")
}
