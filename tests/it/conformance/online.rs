//! Rows 12 to 14: who is online.

use serde_json::{Value, json};
use tidegate_tests::Outcome;

use super::trial::{ELSEWHERE, MALFORMED, Trial, names, not_names};

pub(super) async fn row_12(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut other = trial.actor_at(1).await?;
    let online = |id: &str| json!({"op": "is_online", "client": id});
    for client in trial.three("").await? {
        let id = client.id().to_owned();
        trial.check("it is connected", actor.get(online(&id)).await?, true)?;
        trial.check("also from elsewhere", other.get(online(&id)).await?, true)?;
        actor
            .get(json!({"op": "close_client", "client": id}))
            .await?;
        trial.check(
            "closed: not any more, at once",
            actor.get(online(&id)).await?,
            false,
        )?;
        other
            .until("it is offline everywhere", online(&id), json!(false))
            .await?;
        trial.checks += 1;
    }
    let gone = trial.gone().await?;
    for id in [gone.as_str(), ELSEWHERE] {
        trial.check("it is gone", actor.get(online(id)).await?, false)?;
    }
    for id in MALFORMED {
        let answer = actor.ask(online(id)).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    if trial.is_inside() {
        let client = trial.client(1, "").await?;
        let close = json!({"op": "close_client", "client": client.id()});
        let steps = json!({"do": [close, online(client.id())]});
        let both = actor.get(steps).await?;
        trial.check("the same event sees its close", both[1].clone(), false)?;
    }
    Ok(())
}

pub(super) async fn row_13(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let online = |uid: &str| json!({"op": "are_uids_online", "uids": [uid]});
    let is = |online: bool| json!({"online": [online], "missing": []});
    trial.check(
        "nobody has it yet",
        actor.get(online("ann")).await?,
        is(false),
    )?;
    let clients = trial.three("uid=ann").await?;
    trial.check(
        "any client will do",
        actor.get(online("ann")).await?,
        is(true),
    )?;
    for (left, client) in clients.iter().enumerate() {
        actor
            .get(json!({"op": "unbind_uid", "client": client.id()}))
            .await?;
        let got = actor.get(online("ann")).await?;
        trial.check("until the last is unbound", got, is(left < 2))?;
    }
    for name in names() {
        let client = trial.client(2, "").await?;
        actor
            .get(json!({"op": "bind_uid", "client": client.id(), "uid": name}))
            .await?;
        trial.check(
            &format!("{name:?}"),
            actor.get(online(&name)).await?,
            is(true),
        )?;
        if !trial.is_inside() {
            let target = format!("/v1/uids/{}", tidegate_tests::api::part(&name));
            let got = trial.api_at(2)?.get(&target).await?.ok()?;
            let wanted = json!({"uid": name, "online": true, "clients": 1, "missing": []});
            trial.check(&target, got, wanted)?;
        }
        client.close().await?;
        actor
            .until("its uid goes with it", online(&name), is(false))
            .await?;
        trial.checks += 1;
    }
    for name in not_names() {
        let answer = actor.ask(online(&name)).await?;
        trial.refused("no uid", &answer, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_14(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let _ann = trial.client(1, "uid=ann").await?;
    let _bob = trial.client(2, "uid=bob").await?;
    let online = |uids: Value| json!({"op": "are_uids_online", "uids": uids});
    let got = actor
        .get(online(json!(["nobody", "bob", "0", "ann"])))
        .await?;
    let wanted = json!({"online": [false, true, false, true], "missing": []});
    trial.check("in the order asked", got, wanted)?;
    let got = actor.get(online(json!(["ann", "nobody", "ann"]))).await?;
    let wanted = json!({"online": [true, false, true], "missing": []});
    trial.check("the same one twice", got, wanted)?;
    let got = actor.get(online(json!([]))).await?;
    trial.check(
        "nobody asked for",
        got,
        json!({"online": [], "missing": []}),
    )?;
    let many = |count: usize| Value::from_iter((0..count).map(|at| format!("uid {at}")));
    let got = actor.get(online(many(1000))).await?;
    trial.check(
        "a thousand",
        got["online"].as_array().map_or(0, Vec::len),
        1000,
    )?;
    let answer = actor.ask(online(many(1001))).await?;
    trial.refused("more than a thousand", &answer, "invalid-argument")?;
    let answer = actor.ask(online(json!(["ann", ""]))).await?;
    trial.refused("no uid", &answer, "invalid-argument")
}
