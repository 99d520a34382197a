//! Rows 20 to 28: groups and their members. A group exists while it has members; joining twice is
//! joining once.

use serde_json::{Value, json};
use tidegate_tests::Outcome;

use super::actor::Actor;
use super::trial::{ELSEWHERE, MALFORMED, Trial, ids, names, not_names};

pub(super) fn join(client: &str, group: &str) -> Value {
    json!({"op": "join_group", "client": client, "group": group})
}

fn leave(client: &str, group: &str) -> Value {
    json!({"op": "leave_group", "client": client, "group": group})
}

fn ungroup(group: &str) -> Value {
    json!({"op": "ungroup", "group": group})
}

fn count(groups: &[&str]) -> Value {
    json!({"op": "client_count", "of": [{"groups": groups}]})
}

fn is(count: u64) -> Value {
    json!({"count": count, "missing": []})
}

/// The members of a group, whole and in order.
async fn members(actor: &mut Actor, group: &str) -> anyhow::Result<Value> {
    actor
        .list(json!({"op": "clients", "of": [{"groups": [group]}]}))
        .await
}

pub(super) async fn row_20(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let three = trial.three("").await?;
    for client in &three {
        actor
            .together(&[join(client.id(), "red"), join(client.id(), "red")])
            .await?;
        actor.get(join(client.id(), "red")).await?;
    }
    let got = members(&mut actor, "red").await?;
    trial.check("each once, at once", got, ids(&three))?;
    let mut other = trial.actor_at(1).await?;
    other
        .until("counted once elsewhere", count(&["red"]), is(3))
        .await?;
    let [one, two, _] = &three;
    actor
        .in_vain(&[join(one.id(), "vain"), join(two.id(), "vain")])
        .await?;
    trial.check(
        "a dropped join leaves nothing",
        actor.get(count(&["vain"])).await?,
        is(0),
    )?;
    for (at, name) in names().iter().enumerate() {
        let client = trial.client(at, "").await?;
        actor.get(join(client.id(), name)).await?;
        let got = members(&mut actor, name).await?;
        trial.check("a name at the edge", got, ids([&client]))?;
    }
    for name in not_names() {
        // An empty part of a path leads to no resource at all.
        let answer = actor.ask(join(one.id(), &name)).await?;
        trial.refused("no group", &answer, "invalid-argument")?;
    }
    for id in MALFORMED {
        let answer = actor.ask(join(id, "red")).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    let answer = actor.ask(join(ELSEWHERE, "far")).await?;
    trial.check("an offline client is skipped", answer.is_ok(), true)?;
    trial.check(
        "and no group made",
        actor.get(count(&["far"])).await?,
        is(0),
    )?;
    own_event(trial).await
}

/// The first edge that the table's rows share: a join that is queried in the same event is there,
/// for this event alone, and gone when the event traps.
async fn own_event(trial: &mut Trial) -> Outcome {
    if !trial.is_inside() {
        return Ok(());
    }
    let mut me = trial.client(0, "").await?;
    let far = trial.client(1, "").await?;
    let near = trial.client(0, "").await?;
    let mut steps = vec![
        join("me", "own"),
        join(far.id(), "own"),
        join(near.id(), "own"),
    ];
    steps.push(count(&["own"]));
    let mut looks = steps.clone();
    looks.push(ungroup("own"));
    looks.push(count(&["own"]));
    let Ok(got) = me.ask(&json!({"do": looks})).await? else {
        anyhow::bail!("the steps are refused")
    };
    trial.check("the event sees its joins", got[3].clone(), is(3))?;
    trial.check("and that they are undone", got[5].clone(), is(0))?;
    me.tell(&json!({"do": steps, "then": "trap"})).await?;
    let got = me.ask(&count(&["own"])).await?;
    trial.check("a trap leaves nothing", json!(got.ok()), is(0))?;
    let mut other = trial.client(1, "").await?;
    let got = other.ask(&count(&["own"])).await?;
    trial.check("nothing elsewhere", json!(got.ok()), is(0))
}

pub(super) async fn row_21(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let three = trial.three("group=red&group=blue").await?;
    let [one, two, three] = &three;
    actor.get(leave(one.id(), "red")).await?;
    let got = members(&mut actor, "red").await?;
    trial.check("only this client, at once", got, ids([two, three]))?;
    trial.check("only this group", actor.get(count(&["blue"])).await?, is(3))?;
    for group in ["red", "unknown"] {
        let answer = actor.ask(leave(one.id(), group)).await?;
        trial.check("a group that it is not in", answer.is_ok(), true)?;
    }
    actor.in_vain(&[leave(two.id(), "red")]).await?;
    trial.check("a dropped one", actor.get(count(&["red"])).await?, is(2))?;
    actor
        .together(&[leave(two.id(), "red"), leave(three.id(), "red")])
        .await?;
    let groups = actor.list(json!({"op": "groups"})).await?;
    trial.check("without members there is no group", groups, json!(["blue"]))?;
    let answer = actor.ask(leave(ELSEWHERE, "blue")).await?;
    trial.check("an offline client is skipped", answer.is_ok(), true)?;
    for id in MALFORMED {
        let answer = actor.ask(leave(id, "blue")).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_22(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut three = trial.three("group=red&group=blue").await?;
    actor.in_vain(&[ungroup("red")]).await?;
    trial.check("a dropped one", actor.get(count(&["red"])).await?, is(3))?;
    actor.get(ungroup("red")).await?;
    trial.check(
        "nobody is left, at once",
        actor.get(count(&["red"])).await?,
        is(0),
    )?;
    let got = members(&mut actor, "blue").await?;
    trial.check("other groups stay", got, ids(&three))?;
    for client in &mut three {
        trial.check("they stay connected", client.rest().await?, json!([]))?;
    }
    let answer = actor.ask(ungroup("unknown")).await?;
    trial.check("an unknown group", answer.is_ok(), true)?;
    actor
        .together(&[ungroup("blue"), join(three[2].id(), "blue")])
        .await?;
    let got = members(&mut actor, "blue").await?;
    trial.check("a later join counts", got, ids([&three[2]]))?;
    for name in names() {
        actor.get(join(three[1].id(), &name)).await?;
        actor.get(ungroup(&name)).await?;
        let got = members(&mut actor, &name).await?;
        trial.check("a name at the edge", got, json!([]))?;
    }
    let answer = actor.ask(ungroup(&"ü".repeat(128))).await?;
    trial.refused("no group", &answer, "invalid-argument")
}

pub(super) async fn row_23(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let red = trial.three("group=red").await?;
    let both = trial.three("group=red&group=blue").await?;
    let blue = trial.three("group=blue").await?;
    let of = |of: Value| json!({"op": "clients", "of": of});
    let got = members(&mut actor, "red").await?;
    trial.check("the members of one", got, ids(red.iter().chain(&both)))?;
    let got = actor
        .list(of(json!([{"groups": ["red", "blue", "red", "unknown"]}])))
        .await?;
    let all = ids(red.iter().chain(&both).chain(&blue));
    trial.check("the union of several, each once", got, all.clone())?;
    let got = actor
        .list(of(json!([{"groups": ["red"]}, {"groups": ["blue"]}])))
        .await?;
    trial.check("said in two selectors", got, all)?;
    let got = actor
        .list(of(json!([{"all_of_groups": ["red", "blue"]}])))
        .await?;
    trial.check("in all of them", got, ids(&both))?;
    let got = actor
        .list(of(json!([{"all_of_groups": ["red", "unknown"]}])))
        .await?;
    trial.check("in one that nobody is in", got, json!([]))?;
    for nobody in [
        json!([]),
        json!([{"groups": []}]),
        json!([{"all_of_groups": []}]),
    ] {
        let got = actor.list(of(nobody)).await?;
        trial.check("of nothing there is nobody", got, json!([]))?;
    }
    for (limit, after) in [
        (0, Value::Null),
        (1001, Value::Null),
        (5, json!("no cursor")),
    ] {
        let mut step = of(json!([{"groups": ["red"]}]));
        step["limit"] = json!(limit);
        step["after"] = after;
        let answer = actor.ask(step).await?;
        trial.refused("no page", &answer, "invalid-argument")?;
    }
    if !trial.is_inside() {
        let got = trial
            .api()?
            .get("/v1/clients?group=red&group=blue&limit=1000")
            .await?
            .ok()?;
        let items = got["items"].as_array().map_or(0, Vec::len);
        trial.check("in the address", items, 9)?;
    }
    Ok(())
}

pub(super) async fn row_24(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let three = trial.three("group=red&uid=ann").await?;
    let _other = trial.client(1, "group=blue").await?;
    trial.check("its members", actor.get(count(&["red"])).await?, is(3))?;
    trial.check(
        "of several",
        actor.get(count(&["red", "blue", "red"])).await?,
        is(4),
    )?;
    trial.check("unknown", actor.get(count(&["unknown"])).await?, is(0))?;
    let everyone = json!({"op": "client_count", "of": [{"everyone": true}]});
    let all = 4 + u64::from(actor.id().is_some());
    trial.check("of no group: all", actor.get(everyone).await?, is(all))?;
    actor
        .get(json!({"op": "destroy_client", "client": three[1].id()}))
        .await?;
    trial.check(
        "less one, at once",
        actor.get(count(&["red"])).await?,
        is(2),
    )?;
    if !trial.is_inside() {
        let got = trial.api()?.get("/v1/groups/red").await?.ok()?;
        let wanted = json!({"group": "red", "clients": 2, "uids": 1, "missing": []});
        trial.check("as a resource", got, wanted)?;
        let got = trial.api()?.get("/v1/groups/unknown").await?.ok()?;
        let wanted = json!({"group": "unknown", "clients": 0, "uids": 0, "missing": []});
        trial.check("an unknown one", got, wanted)?;
        let got = trial.api()?.get("/v1/clients/count").await?.ok()?;
        trial.check("all, in the address", got, is(3))?;
    }
    Ok(())
}

pub(super) async fn row_25(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let _red = trial.three("group=red").await?;
    let _both = trial.three("group=red&group=0").await?;
    let of = |groups: Value| json!({"op": "client_counts_of_groups", "groups": groups});
    let got = actor.get(of(json!(["0", "unknown", "red"]))).await?;
    let wanted = json!({"counts": [3, 0, 6], "missing": []});
    trial.check("in the order asked", got, wanted)?;
    let got = actor.get(of(json!(["red", "0", "red"]))).await?;
    let wanted = json!({"counts": [6, 3, 6], "missing": []});
    trial.check("the same one twice", got, wanted)?;
    let got = actor.get(of(json!([]))).await?;
    trial.check(
        "nothing asked for",
        got,
        json!({"counts": [], "missing": []}),
    )?;
    let many = |count: usize| Value::from_iter((0..count).map(|at| format!("group {at}")));
    let got = actor.get(of(many(1000))).await?;
    trial.check(
        "a thousand",
        got["counts"].as_array().map_or(0, Vec::len),
        1000,
    )?;
    let answer = actor.ask(of(many(1001))).await?;
    trial.refused("more than a thousand", &answer, "invalid-argument")?;
    let answer = actor.ask(of(json!(["red", ""]))).await?;
    trial.refused("no group", &answer, "invalid-argument")
}

pub(super) async fn row_26(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let three = trial.three("group=red").await?;
    let _other = trial.client(1, "group=blue").await?;
    for (at, client) in three.iter().enumerate() {
        let entries = json!({"n": at, "deep": {"a": [1, {"b": null}]}});
        let set = json!({"op": "set_session", "client": client.id(), "entries": entries});
        actor.get(set).await?;
    }
    let step = json!({"op": "infos", "of": [{"groups": ["red"]}], "fields": ["session"]});
    let got = actor.list(step.clone()).await?;
    let found = Value::from_iter(
        got.as_array()
            .into_iter()
            .flatten()
            .map(|info| json!({"client": info["client"], "session": info["session"]})),
    );
    let mut wanted: Vec<_> = three
        .iter()
        .enumerate()
        .map(|(at, client)| {
            json!({"client": client.id(), "session": {"n": at, "deep": {"a": [1, {"b": null}]}}})
        })
        .collect();
    wanted.sort_unstable_by_key(|info| info["client"].to_string());
    trial.check("each member with its session", found, json!(wanted))?;
    actor
        .get(json!({"op": "delete_session", "client": three[0].id()}))
        .await?;
    let got = actor.list(step).await?;
    let empty = got.as_array().into_iter().flatten();
    let empty = empty.filter(|info| info["session"] == json!({})).count();
    trial.check("an empty one is there too", empty, 1)?;
    let step = json!({"op": "infos", "of": [{"groups": ["unknown"]}], "fields": ["session"]});
    trial.check("of an unknown group", actor.list(step).await?, json!([]))
}

pub(super) async fn row_27(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let _ann = trial.three("group=red&uid=ann").await?;
    let _bob = trial.client(2, "group=red&group=blue&uid=bob").await?;
    let _zoe = trial.client(1, "group=blue&uid=%C3%BCzoe").await?;
    let _without = trial.three("group=red").await?;
    let _elsewhere = trial.client(0, "uid=eve").await?;
    let of = |of: Value| json!({"op": "uids", "of": of});
    let got = actor.list(of(json!([{"groups": ["red"]}]))).await?;
    trial.check(
        "distinct, without those that have none",
        got,
        json!(["ann", "bob"]),
    )?;
    let got = actor
        .list(of(json!([{"groups": ["blue", "red", "unknown"]}])))
        .await?;
    trial.check(
        "of several, by their bytes",
        got,
        json!(["ann", "bob", "üzoe"]),
    )?;
    let got = actor
        .list(of(json!([{"all_of_groups": ["blue", "red"]}])))
        .await?;
    trial.check("in all of them", got, json!(["bob"]))?;
    let got = actor.list(of(json!([{"groups": ["unknown"]}]))).await?;
    trial.check("of an unknown group", got, json!([]))?;
    let mut step = of(json!([{"groups": ["red"]}]));
    step["limit"] = json!(1001);
    let answer = actor.ask(step).await?;
    trial.refused("a limit over a thousand", &answer, "invalid-argument")
}

pub(super) async fn row_28(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let ann = trial.three("group=red&uid=ann").await?;
    let _bob = trial.three("group=red&uid=bob").await?;
    let _without = trial.client(2, "group=red").await?;
    let count = |groups: Value| json!({"op": "uid_count", "of": [{"groups": groups}]});
    trial.check("distinct", actor.get(count(json!(["red"]))).await?, is(2))?;
    trial.check(
        "of several",
        actor.get(count(json!(["red", "red", "x"]))).await?,
        is(2),
    )?;
    trial.check("unknown", actor.get(count(json!(["x"]))).await?, is(0))?;
    for (left, client) in ann.iter().enumerate() {
        actor
            .get(json!({"op": "unbind_uid", "client": client.id()}))
            .await?;
        let got = actor.get(count(json!(["red"]))).await?;
        trial.check(
            "until its last client",
            got,
            is(if left < 2 { 2 } else { 1 }),
        )?;
    }
    Ok(())
}
