//! Rows 1 to 8: sends. Each reaches everybody that it is for once, whatever gateway they are on,
//! and nobody else; whoever is offline is skipped without an error.

use serde_json::{Value, json};
use tidegate_tests::{Outcome, Probe, Transport};

use super::actor::Actor;
use super::trial::{ELSEWHERE, MALFORMED, Trial, names, not_names};

/// The last message of a check: what comes before it has come, what has not will not.
const END: &str = "end";

/// What each client hears up to a last message, which the same actor sends.
async fn heard<'a>(
    actor: &mut Actor,
    clients: impl IntoIterator<Item = &'a mut Probe>,
) -> anyhow::Result<Value> {
    let mut all = Vec::new();
    for client in clients {
        let last = json!({"op": "send_to_client", "client": client.id(), "message": END});
        actor.get(last).await?;
        let mut heard = Vec::new();
        loop {
            match client.heard().await? {
                Value::String(text) if text == END => break,
                message => heard.push(message),
            }
        }
        all.push(Value::Array(heard));
    }
    Ok(Value::Array(all))
}

pub(super) async fn row_01(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut clients = trial.three("").await?;
    let to = |client: &str, message: Value| json!({"op": "send_to_client", "client": client, "message": message});
    for client in &clients {
        actor.get(to(client.id(), json!("one"))).await?;
        actor
            .get(to(client.id(), json!({"binary": "AP+A"})))
            .await?;
        actor.get(to(client.id(), json!("zwei 二 🌊"))).await?;
        actor.get(to(client.id(), json!(""))).await?;
    }
    let each = json!(["one", {"binary": [0, 255, 128]}, "zwei 二 🌊", ""]);
    let got = heard(&mut actor, &mut clients).await?;
    trial.check(
        "each gets its own, in order and kind",
        got,
        json!([each, each, each]),
    )?;

    let gone = trial.gone().await?;
    for offline in [gone.as_str(), ELSEWHERE] {
        let answer = actor.ask(to(offline, json!("hello"))).await?;
        trial.check("an offline client is skipped", answer.is_ok(), true)?;
    }
    for id in MALFORMED {
        let answer = actor.ask(to(id, json!("hello"))).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    let sends: Vec<_> = clients
        .iter()
        .map(|client| to(client.id(), json!("in vain")))
        .collect();
    actor.in_vain(&sends).await?;
    actor.together(&sends).await?;
    let got = heard(&mut actor, &mut clients).await?;
    let once = json!([["in vain"], ["in vain"], ["in vain"]]);
    trial.check("what is dropped is not sent", got, once)?;
    if !trial.is_inside() {
        bad_messages(trial, clients[0].id()).await?;
    }
    Ok(())
}

/// Messages that are none.
async fn bad_messages(trial: &mut Trial, client: &str) -> Outcome {
    let api = trial.api()?;
    let to = json!({"clients": [client]});
    for body in [
        json!({"to": to}),
        json!({"to": to, "text": "a", "binary": "AA=="}),
        json!({"to": to, "binary": "not base64!"}),
        json!({"to": to, "text": 7}),
        json!({"text": "to nobody"}),
        json!({"to": {"somebody": []}, "text": "a"}),
        json!({"to": {"all_of_groups": ["g"]}, "text": "a"}),
        json!(["a list"]),
    ] {
        let error = api.post("/v1/messages", &body).await?.problem()?;
        trial.check(&body.to_string(), error, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_02(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let send = json!({"op": "send_to_client", "client": "me", "message": "to myself"});
    match &mut actor {
        Actor::Inside(probe) => {
            for message in ["to myself", "and again"] {
                let send = json!({"op": "send_to_client", "client": "me", "message": message});
                let answer = probe.ask(&send).await?;
                trial.check("it is taken", answer.is_ok(), true)?;
                trial.check(
                    "it arrives before the answer",
                    probe.rest().await?,
                    json!([message]),
                )?;
            }
            actor.in_vain(std::slice::from_ref(&send)).await?;
            let Actor::Inside(probe) = &mut actor else {
                return Ok(());
            };
            trial.check(
                "what is dropped is not sent",
                probe.rest().await?,
                json!([]),
            )?;
        }
        Actor::Outside(api) => {
            // Only a handler has a current client.
            let body = json!({"to": {"clients": ["me"]}, "text": "x"});
            let error = api.post("/v1/messages", &body).await?.problem()?;
            trial.check("nobody is me outside", error, "invalid-argument")?;
            let reply = api
                .post("/v1/clients/current/messages", &json!({"text": "x"}))
                .await?;
            trial.check("there is no such path", reply.status, 404)?;
            trial.check(
                "and a problem says so",
                reply.problem()?,
                "invalid-argument",
            )?;
        }
    }
    Ok(())
}

pub(super) async fn row_03(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut ann = trial.three("uid=ann").await?;
    let mut bob = trial.client(2, "uid=bob").await?;
    let mut nobody = trial.client(1, "").await?;
    let to = |uids: Value, message: &str| json!({"op": "send_to_uids", "uids": uids, "message": message});
    actor.get(to(json!(["ann"]), "ann")).await?;
    actor
        .get(to(json!(["ann", "bob", "ann", "unknown"]), "both"))
        .await?;
    actor.get(to(json!([]), "nobody")).await?;
    let mut but = to(json!(["ann", "bob"]), "but");
    but["except"] = json!([ann[0].id(), bob.id(), bob.id(), ELSEWHERE]);
    actor.get(but).await?;
    let [one, two, three] = &mut ann;
    let got = heard(&mut actor, [one, two, three, &mut bob, &mut nobody]).await?;
    let wanted = json!([
        ["ann", "both"],
        ["ann", "both", "but"],
        ["ann", "both", "but"],
        ["both"],
        []
    ]);
    trial.check("each device once, but for those left out", got, wanted)?;

    for (at, name) in names().into_iter().enumerate() {
        let mut client = trial.client(at, "").await?;
        let bind = json!({"op": "bind_uid", "client": client.id(), "uid": name});
        actor.get(bind).await?;
        actor.get(to(json!([name]), "you")).await?;
        let got = heard(&mut actor, [&mut client]).await?;
        trial.check(
            &format!("the uid {name:?} is reached"),
            got,
            json!([["you"]]),
        )?;
    }
    for name in not_names() {
        let answer = actor.ask(to(json!(["ann", name]), "you")).await?;
        trial.refused("no uid", &answer, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_04(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut both = trial.three("group=red&group=blue").await?;
    let mut red = trial.client(2, "group=red").await?;
    let mut outside = trial.client(1, "group=green").await?;
    let to = |groups: Value, message: &str| json!({"op": "send_to_groups", "groups": groups, "message": message});
    actor.get(to(json!(["red"]), "red")).await?;
    actor
        .get(to(json!(["blue", "red", "blue", "unknown"]), "overlap"))
        .await?;
    actor.get(to(json!([]), "nobody")).await?;
    let mut but = to(json!(["red", "blue"]), "but");
    but["except"] = json!([both[1].id(), ELSEWHERE]);
    actor.get(but).await?;
    let [one, two, three] = &mut both;
    let got = heard(&mut actor, [one, two, three, &mut red, &mut outside]).await?;
    let wanted = json!([
        ["red", "overlap", "but"],
        ["red", "overlap"],
        ["red", "overlap", "but"],
        ["red", "overlap", "but"],
        []
    ]);
    trial.check("overlapping groups deliver once", got, wanted)?;

    for (at, name) in names().into_iter().enumerate() {
        let mut client = trial.client(at, "").await?;
        let join = json!({"op": "join_group", "client": client.id(), "group": name});
        actor.get(join).await?;
        actor.get(to(json!([name]), "you")).await?;
        let got = heard(&mut actor, [&mut client]).await?;
        trial.check(
            &format!("the group {name:?} is reached"),
            got,
            json!([["you"]]),
        )?;
    }
    for name in not_names() {
        let answer = actor.ask(to(json!([name]), "you")).await?;
        trial.refused("no group", &answer, "invalid-argument")?;
    }
    Ok(())
}

pub(super) async fn row_05(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut clients = trial.three("").await?;
    let all = json!({"op": "send_to_all", "message": "all"});
    actor.get(all.clone()).await?;
    let got = heard(&mut actor, &mut clients).await?;
    trial.check("everybody once", got, json!([["all"], ["all"], ["all"]]))?;
    if let Actor::Inside(probe) = &mut actor {
        trial.check("the sender as well", probe.rest().await?, json!(["all"]))?;
    }
    actor
        .get(json!({"op": "send_to_all", "message": {"binary": "AAH/"}}))
        .await?;
    let binary = json!([{"binary": [0, 1, 255]}]);
    let got = heard(&mut actor, &mut clients).await?;
    trial.check("binary stays binary", got, json!([binary, binary, binary]))?;
    actor.in_vain(std::slice::from_ref(&all)).await?;
    let got = heard(&mut actor, &mut clients).await?;
    trial.check("what is dropped is not sent", got, json!([[], [], []]))
}

pub(super) async fn row_06(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut clients = trial.three("").await?;
    let gone = trial.gone().await?;
    let but = |except: Value| json!({"op": "send_to_all", "message": "but", "except": except});
    for (left_out, client) in clients.iter().enumerate() {
        let mut but = but(json!([client.id(), client.id(), gone, ELSEWHERE]));
        but["message"] = json!(left_out.to_string());
        actor.get(but).await?;
    }
    let got = heard(&mut actor, &mut clients).await?;
    let wanted = json!([["1", "2"], ["0", "2"], ["0", "1"]]);
    trial.check("all but the one that is named", got, wanted)?;
    actor.get(but(json!([]))).await?;
    let got = heard(&mut actor, &mut clients).await?;
    trial.check(
        "an empty list leaves out nobody",
        got,
        json!([["but"], ["but"], ["but"]]),
    )?;
    let answer = actor.ask(but(json!(["nobody"]))).await?;
    trial.refused("no client id", &answer, "invalid-argument")
}

pub(super) async fn row_07(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut clients = trial.three("").await?;
    let gone = trial.gone().await?;
    let [a, b, c] = clients.each_ref().map(|client| client.id().to_owned());
    let to = |clients: Value, message: &str, except: Value| json!({"op": "send_to_clients", "clients": clients, "message": message, "except": except});
    actor.get(to(json!([a, b]), "two", json!([]))).await?;
    actor
        .get(to(json!([c, a, gone, c, ELSEWHERE]), "again", json!([])))
        .await?;
    actor.get(to(json!([]), "nobody", json!([]))).await?;
    actor
        .get(to(json!([a, b, c]), "but", json!([b, gone])))
        .await?;
    let got = heard(&mut actor, &mut clients).await?;
    let wanted = json!([["two", "again", "but"], ["two"], ["again", "but"]]);
    trial.check("whoever is on the list, once", got, wanted)?;
    for id in MALFORMED {
        let answer = actor.ask(to(json!([a, id]), "bad", json!([]))).await?;
        trial.refused(id, &answer, "invalid-argument")?;
        let answer = actor.ask(to(json!([a]), "bad", json!([id]))).await?;
        trial.refused(id, &answer, "invalid-argument")?;
    }
    let got = heard(&mut actor, &mut clients).await?;
    trial.check("a refused send reaches nobody", got, json!([[], [], []]))
}

pub(super) async fn row_08(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut framed = trial.client_over(1, Transport::Frame, "").await?;
    let mut lines = trial.client_over(2, Transport::Text, "").await?;
    let raw = |to: Value, text: &str| json!({"op": "send_raw", "to": to, "text": text});
    // Whole frames of the listener's kind, made here: two messages in one send.
    let two = "\0\0\0\u{7}one\0\0\0\u{7}two";
    actor
        .get(raw(json!({"clients": [framed.id()]}), two))
        .await?;
    actor
        .get(raw(json!({"clients": [lines.id()]}), "one\ntwo\n"))
        .await?;
    let got = heard(&mut actor, [&mut framed, &mut lines]).await?;
    trial.check(
        "bytes as they are",
        got,
        json!([["one", "two"], ["one", "two"]]),
    )?;
    let join = |client: &Probe| json!({"op": "join_group", "client": client.id(), "group": "raw"});
    actor.get(join(&lines)).await?;
    actor.get(join(&framed)).await?;
    let mut but = raw(json!({"groups": ["raw"]}), "all\n");
    but["except"] = json!([framed.id()]);
    actor.get(but).await?;
    let got = heard(&mut actor, [&mut framed, &mut lines]).await?;
    trial.check("to a group but one", got, json!([[], ["all"]]))?;
    if let Actor::Outside(api) = &actor {
        // A WebSocket frame: text, final, three bytes.
        let mut client = trial.client(2, "").await?;
        let to = json!({"clients": [client.id()]});
        let body = json!({"to": to, "binary": "gQNyYXc=", "raw": true});
        let reply = api.post("/v1/messages", &body).await?;
        trial.check(
            "raw binary is taken",
            reply.ok()?,
            json!({"status": "done"}),
        )?;
        trial.check("the frame is a message", client.heard().await?, "raw")?;
    }
    Ok(())
}
