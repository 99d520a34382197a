//! Rows 15 to 19, and 53: uids. A client has at most one, many clients may share one; `0` is a uid
//! like any other.

use serde_json::{Value, json};
use tidegate_tests::{Outcome, Probe};

use super::actor::Actor;
use super::trial::{ELSEWHERE, MALFORMED, Trial, ids, names, not_names};

fn bind(client: &str, uid: &str) -> Value {
    json!({"op": "bind_uid", "client": client, "uid": uid})
}

fn unbind(client: &str) -> Value {
    json!({"op": "unbind_uid", "client": client})
}

/// The clients of a uid, whole and in order.
async fn clients(actor: &mut Actor, uid: &str) -> anyhow::Result<Value> {
    actor
        .list(json!({"op": "clients", "of": [{"uids": [uid]}]}))
        .await
}

/// The uid of a client.
async fn uid_of(actor: &mut Actor, client: &str) -> anyhow::Result<Value> {
    let info = actor
        .get(json!({"op": "info", "client": client, "fields": ["uid"]}))
        .await?;
    Ok(info["uid"].clone())
}

pub(super) async fn row_15(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let three = trial.three("").await?;
    for client in &three {
        actor.get(bind(client.id(), "ann")).await?;
    }
    let got = clients(&mut actor, "ann").await?;
    trial.check("many clients of one uid, at once", got, ids(&three))?;
    let [one, two, _] = &three;
    actor.get(bind(one.id(), "bob")).await?;
    let got = clients(&mut actor, "bob").await?;
    trial.check("the last one wins", got, ids([one]))?;
    let got = uid_of(&mut actor, one.id()).await?;
    trial.check("and there is one only", got, "bob")?;
    actor
        .in_vain(&[bind(two.id(), "eve"), bind(one.id(), "eve")])
        .await?;
    let got = clients(&mut actor, "eve").await?;
    trial.check("what is dropped binds nobody", got, json!([]))?;
    let got = uid_of(&mut actor, two.id()).await?;
    trial.check("and takes nothing away", got, "ann")?;

    for (at, name) in names().iter().enumerate() {
        let client = trial.client(at, "").await?;
        actor.get(bind(client.id(), name)).await?;
        let got = uid_of(&mut actor, client.id()).await?;
        trial.check("a name at the edge", got, name.as_str())?;
    }
    for name in not_names() {
        let answer = actor.ask(bind(two.id(), &name)).await?;
        trial.refused("no uid", &answer, "invalid-argument")?;
    }
    for id in MALFORMED {
        let answer = actor.ask(bind(id, "ann")).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    let answer = actor.ask(bind(ELSEWHERE, "far")).await?;
    trial.check("an offline client is skipped", answer.is_ok(), true)?;
    let got = clients(&mut actor, "far").await?;
    trial.check("and has no uid", got, json!([]))?;
    closing_unbinds(trial, &mut actor, three).await?;
    own_event(trial).await
}

async fn closing_unbinds(trial: &mut Trial, actor: &mut Actor, three: [Probe; 3]) -> Outcome {
    let [one, two, three] = three;
    actor
        .get(json!({"op": "destroy_client", "client": one.id()}))
        .await?;
    let got = clients(actor, "bob").await?;
    trial.check("who is destroyed has no uid, at once", got, json!([]))?;
    two.close().await?;
    let step = json!({"op": "clients", "of": [{"uids": ["ann"]}], "limit": 10});
    let wanted = json!({"items": [three.id()], "next": null, "missing": []});
    actor
        .until("who closes loses its uid", step, wanted)
        .await?;
    trial.checks += 1;
    Ok(())
}

/// A handler sees its own event's changes, and nobody does when the event is dropped.
async fn own_event(trial: &mut Trial) -> Outcome {
    if !trial.is_inside() {
        return Ok(());
    }
    let mut me = trial.client(1, "uid=old").await?;
    let far = trial.client(2, "").await?;
    let count = |uid: &str| json!({"op": "client_count", "of": [{"uids": [uid]}]});
    let steps = json!({"do": [
        bind("me", "new"), bind(far.id(), "new"), count("new"), count("old"), unbind("me"), count("new"),
    ]});
    let Ok(got) = me.ask(&steps).await? else {
        anyhow::bail!("the steps are refused")
    };
    let is = |count: u64| json!({"count": count, "missing": []});
    let counts = json!([got[2], got[3], got[5]]);
    trial.check(
        "an event sees its own changes",
        counts,
        json!([is(2), is(0), is(1)]),
    )
}

pub(super) async fn row_16(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let three = trial.three("uid=ann").await?;
    let [one, two, three] = &three;
    actor.get(unbind(one.id())).await?;
    let got = clients(&mut actor, "ann").await?;
    trial.check("only this client, at once", got, ids([two, three]))?;
    actor.get(unbind(one.id())).await?;
    trial.check(
        "it has none",
        uid_of(&mut actor, one.id()).await?,
        Value::Null,
    )?;
    actor.in_vain(&[unbind(two.id())]).await?;
    trial.check("a dropped one", uid_of(&mut actor, two.id()).await?, "ann")?;
    actor
        .together(&[unbind(two.id()), bind(two.id(), "bob"), unbind(three.id())])
        .await?;
    trial.check("in order", uid_of(&mut actor, two.id()).await?, "bob")?;
    let got = clients(&mut actor, "ann").await?;
    trial.check("nobody is left", got, json!([]))?;
    let answer = actor.ask(unbind(ELSEWHERE)).await?;
    trial.check("an offline client is skipped", answer.is_ok(), true)?;
    for id in MALFORMED {
        let answer = actor.ask(unbind(id)).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_17(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut of_ann = Vec::new();
    for gateway in 0..7 {
        of_ann.push(trial.client(gateway, "uid=ann").await?);
    }
    let _bob = trial.client(1, "uid=bob").await?;
    let got = clients(&mut actor, "ann").await?;
    trial.check("all of its clients, each once", got, ids(&of_ann))?;
    let got = clients(&mut actor, "nobody").await?;
    trial.check("an unknown uid has none", got, json!([]))?;

    let step = json!({"op": "clients", "of": [{"uids": ["ann"]}], "limit": 3});
    let first = actor.get(step.clone()).await?;
    let mut next = step;
    next["after"] = first["next"].clone();
    let last = first["items"][2].as_str().unwrap_or_default().to_owned();
    of_ann.retain(|client| !first["items"].to_string().contains(client.id()));
    actor
        .get(json!({"op": "destroy_client", "client": last}))
        .await?;
    next["limit"] = json!(1000);
    let rest = actor.get(next).await?;
    trial.check(
        "a cursor behind a client that is gone",
        rest["items"].clone(),
        ids(&of_ann),
    )?;
    let answer = actor
        .ask(json!({"op": "clients", "of": [{"uids": [""]}], "limit": 3}))
        .await?;
    trial.refused("no uid", &answer, "invalid-argument")
}

pub(super) async fn row_18(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let ann = trial.three("uid=ann").await?;
    let zero = trial.client(1, "uid=0").await?;
    let of = |uids: Value| json!({"op": "clients_of_uids", "uids": uids});
    let got = actor.get(of(json!(["nobody", "ann", "0"]))).await?;
    let wanted = json!({"clients": [[], ids(&ann), ids([&zero])], "missing": []});
    trial.check("each with its clients", got, wanted)?;
    let got = actor.get(of(json!(["0", "ann", "0"]))).await?;
    let wanted = json!({"clients": [ids([&zero]), ids(&ann), ids([&zero])], "missing": []});
    trial.check("the same one twice", got, wanted)?;
    let got = actor.get(of(json!([]))).await?;
    trial.check(
        "nobody asked for",
        got,
        json!({"clients": [], "missing": []}),
    )?;
    let many = Value::from_iter((0..1001).map(|at| format!("uid {at}")));
    let answer = actor.ask(of(many)).await?;
    trial.refused("more than a thousand", &answer, "invalid-argument")?;
    let answer = actor.ask(of(json!(["ann", "ü".repeat(128)]))).await?;
    trial.refused("no uid", &answer, "invalid-argument")
}

pub(super) async fn row_19(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    for gateway in 0..3 {
        let with = trial.client(gateway, "uid=%C3%BCn%C3%AF").await?;
        trial.check("its uid", uid_of(&mut actor, with.id()).await?, "ünï")?;
        let without = trial.client(gateway, "").await?;
        let got = uid_of(&mut actor, without.id()).await?;
        trial.check("none when it has none", got, Value::Null)?;
    }
    let gone = trial.gone().await?;
    for id in [gone.as_str(), ELSEWHERE] {
        let info = json!({"op": "info", "client": id, "fields": ["uid"]});
        trial.check(
            "nothing of a client that is gone",
            actor.get(info).await?,
            Value::Null,
        )?;
    }
    for id in MALFORMED {
        let info = json!({"op": "info", "client": id, "fields": ["uid"]});
        let answer = actor.ask(info).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_53(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let count = |uids: Value| json!({"op": "client_count", "of": [{"uids": uids}]});
    let is = |count: u64| json!({"count": count, "missing": []});
    let three = trial.three("uid=ann").await?;
    let _bob = trial.client(2, "uid=bob").await?;
    trial.check(
        "all of its clients",
        actor.get(count(json!(["ann"]))).await?,
        is(3),
    )?;
    let got = actor
        .get(count(json!(["ann", "bob", "ann", "nobody"])))
        .await?;
    trial.check("of several, each once", got, is(4))?;
    trial.check("unknown", actor.get(count(json!(["nobody"]))).await?, is(0))?;
    trial.check("of no uid", actor.get(count(json!([]))).await?, is(0))?;
    actor.get(unbind(three[2].id())).await?;
    trial.check(
        "less one, at once",
        actor.get(count(json!(["ann"]))).await?,
        is(2),
    )?;
    if !trial.is_inside() {
        let got = trial.api()?.get("/v1/uids/ann").await?.ok()?;
        let wanted = json!({"uid": "ann", "online": true, "clients": 2, "missing": []});
        trial.check("as a resource", got, wanted)?;
        let got = trial.api()?.get("/v1/uids/nobody").await?.ok()?;
        let wanted = json!({"uid": "nobody", "online": false, "clients": 0, "missing": []});
        trial.check("an unknown one", got, wanted)?;
        let got = trial
            .api()?
            .get("/v1/clients/count?uid=ann&uid=bob")
            .await?
            .ok()?;
        trial.check("in the address", got, is(3))?;
    }
    Ok(())
}
