//! Rows 29 to 38: everything of a tenant. Pages cover each entry once, in order, over all gateways;
//! only groups that have members exist.

use serde_json::{Value, json};
use tidegate_tests::{Outcome, Probe};

use super::actor::Actor;
use super::trial::{Trial, ids, sorted};

/// Clients in groups, with uids: three in `red` with one uid, two in `red` and `blue` with one
/// each, one in `blue` without, one in none.
struct Crowd {
    ann: [Probe; 3],
    bob: Probe,
    eve: Probe,
    without: Probe,
    alone: Probe,
}

impl Crowd {
    async fn gather(trial: &Trial) -> anyhow::Result<Self> {
        Ok(Self {
            ann: trial.three("uid=ann&group=red").await?,
            bob: trial.client(1, "uid=bob&group=red&group=blue").await?,
            eve: trial.client(2, "uid=eve&group=red&group=blue").await?,
            without: trial.client(1, "group=blue").await?,
            alone: trial.client(2, "uid=%C3%BC").await?,
        })
    }

    fn red(&self) -> impl Iterator<Item = &Probe> {
        self.ann.iter().chain([&self.bob, &self.eve])
    }

    fn blue(&self) -> impl Iterator<Item = &Probe> {
        [&self.bob, &self.eve, &self.without].into_iter()
    }

    fn all<'a>(&'a self, actor: &'a Actor) -> Value {
        let crowd = self.red().chain([&self.without, &self.alone]);
        sorted(crowd.map(Probe::id).chain(actor.id()))
    }

    /// Destroys whoever is in `blue`, so that there is no such group any more.
    async fn without_blue(&self, actor: &mut Actor) -> Outcome {
        for client in self.blue() {
            let destroy = json!({"op": "destroy_client", "client": client.id()});
            actor.get(destroy).await?;
        }
        Ok(())
    }
}

/// Every list refuses these in the same way.
async fn bad_pages(trial: &mut Trial, actor: &mut Actor, step: &Value) -> Outcome {
    for (limit, after) in [
        (0, Value::Null),
        (1001, Value::Null),
        (5, json!("no cursor")),
    ] {
        let mut step = step.clone();
        step["limit"] = json!(limit);
        step["after"] = after;
        let answer = actor.ask(step).await?;
        trial.refused("no page", &answer, "invalid-argument")?;
    }
    Ok(())
}

/// Pairs of a group and something else, ordered by both.
fn pairs(name: &str, groups: &[(&str, Vec<&str>)]) -> Value {
    let mut all = Vec::new();
    for (group, members) in groups {
        let mut members = members.clone();
        members.sort_unstable();
        all.extend(
            members
                .into_iter()
                .map(|member| json!({"group": group, name: member})),
        );
    }
    Value::Array(all)
}

pub(super) async fn row_29(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let step = json!({"op": "groups"});
    trial.check("there are none", actor.list(step.clone()).await?, json!([]))?;
    let crowd = Crowd::gather(trial).await?;
    let _more = trial.client(2, "group=0&group=%C3%BC&group=a%20b").await?;
    let got = actor.list(step.clone()).await?;
    let wanted = json!(["0", "a b", "blue", "red", "ü"]);
    trial.check("each once, by their bytes", got, wanted)?;
    crowd.without_blue(&mut actor).await?;
    let got = actor.list(step.clone()).await?;
    trial.check(
        "without members there is none",
        got,
        json!(["0", "a b", "red", "ü"]),
    )?;

    let mut first = step.clone();
    first["limit"] = json!(2);
    let page = actor.get(first.clone()).await?;
    actor.get(json!({"op": "ungroup", "group": "a b"})).await?;
    first["after"] = page["next"].clone();
    let page = actor.get(first).await?;
    trial.check(
        "a cursor behind a group that is gone",
        page["items"].clone(),
        json!(["red", "ü"]),
    )?;
    bad_pages(trial, &mut actor, &step).await
}

pub(super) async fn row_30(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let crowd = Crowd::gather(trial).await?;
    let step = json!({"op": "group_uids"});
    let got = actor.list(step.clone()).await?;
    let wanted = [
        ("blue", vec!["bob", "eve"]),
        ("red", vec!["ann", "bob", "eve"]),
    ];
    trial.check("all of them, distinct", got, pairs("uid", &wanted))?;
    crowd.without_blue(&mut actor).await?;
    let got = actor.list(step.clone()).await?;
    trial.check("at once", got, pairs("uid", &[("red", vec!["ann"])]))?;
    bad_pages(trial, &mut actor, &step).await
}

pub(super) async fn row_31(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let crowd = Crowd::gather(trial).await?;
    let step = json!({"op": "group_infos"});
    let got = actor.list(step.clone()).await?;
    let wanted = json!([
        {"group": "blue", "clients": 3, "uids": 2},
        {"group": "red", "clients": 5, "uids": 3},
    ]);
    trial.check("exact, also when gateways share a uid", got, wanted)?;
    for client in &crowd.ann {
        actor
            .get(json!({"op": "unbind_uid", "client": client.id()}))
            .await?;
    }
    let got = actor.list(step.clone()).await?;
    trial.check("at once", got[1]["uids"].clone(), 2)?;
    bad_pages(trial, &mut actor, &step).await
}

pub(super) async fn row_32(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let crowd = Crowd::gather(trial).await?;
    let step = json!({"op": "group_clients"});
    let got = actor.list(step.clone()).await?;
    let red: Vec<_> = crowd.red().map(Probe::id).collect();
    let wanted = [
        ("blue", crowd.blue().map(Probe::id).collect()),
        ("red", red),
    ];
    trial.check("every pair once", got, pairs("client", &wanted))?;
    crowd.without_blue(&mut actor).await?;
    let got = actor.list(step.clone()).await?;
    let left = crowd.ann.iter().map(Probe::id).collect();
    trial.check("at once", got, pairs("client", &[("red", left)]))?;
    bad_pages(trial, &mut actor, &step).await
}

pub(super) async fn row_33(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let crowd = Crowd::gather(trial).await?;
    let step = json!({"op": "group_infos"});
    let counts = |groups: &Value| {
        let groups = groups.as_array().into_iter().flatten();
        Value::from_iter(groups.map(|info| json!([info["group"], info["clients"]])))
    };
    let got = actor.list(step.clone()).await?;
    trial.check(
        "every group",
        counts(&got),
        json!([["blue", 3], ["red", 5]]),
    )?;
    actor
        .get(json!({"op": "join_group", "client": crowd.alone.id(), "group": "a"}))
        .await?;
    crowd.without_blue(&mut actor).await?;
    let got = actor.list(step.clone()).await?;
    trial.check("at once", counts(&got), json!([["a", 1], ["red", 3]]))
}

pub(super) async fn row_34(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let crowd = Crowd::gather(trial).await?;
    let step = json!({"op": "clients", "of": [{"everyone": true}]});
    let got = actor.list(step.clone()).await?;
    trial.check("everybody once, in order", got, crowd.all(&actor))?;
    crowd.without_blue(&mut actor).await?;
    let left = sorted(
        crowd
            .ann
            .iter()
            .chain([&crowd.alone])
            .map(Probe::id)
            .chain(actor.id()),
    );
    let got = actor.list(step.clone()).await?;
    trial.check("at once", got, left)?;
    let mut elsewhere = trial.actor_at(2).await?;
    let own = sorted(
        elsewhere
            .id()
            .into_iter()
            .chain(actor.id())
            .chain(crowd.ann.iter().chain([&crowd.alone]).map(Probe::id)),
    );
    let whole = json!({"op": "clients", "of": [{"everyone": true}], "limit": 1000});
    let page = json!({"items": own, "next": null, "missing": []});
    elsewhere.until("the same elsewhere", whole, page).await?;
    bad_pages(trial, &mut actor, &step).await
}

pub(super) async fn row_35(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let step = json!({"op": "client_count", "of": [{"everyone": true}]});
    let own = u64::from(actor.id().is_some());
    let is = |count: u64| json!({"count": count + own, "missing": []});
    trial.check("nobody yet", actor.get(step.clone()).await?, is(0))?;
    let crowd = Crowd::gather(trial).await?;
    trial.check("everybody", actor.get(step.clone()).await?, is(7))?;
    let all_twice = json!([{"everyone": true}, {"groups": ["red"]}, {"uids": ["ann"]}]);
    let twice = json!({"op": "client_count", "of": all_twice});
    trial.check("each counts once", actor.get(twice).await?, is(7))?;
    crowd.without_blue(&mut actor).await?;
    trial.check("at once", actor.get(step.clone()).await?, is(4))?;
    crowd.alone.close().await?;
    actor
        .until("who closes is not counted", step, is(3))
        .await?;
    trial.checks += 1;
    Ok(())
}

pub(super) async fn row_36(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let step = json!({"op": "uids", "of": [{"everyone": true}]});
    trial.check("there are none", actor.list(step.clone()).await?, json!([]))?;
    let crowd = Crowd::gather(trial).await?;
    let _zero = trial.client(0, "uid=0").await?;
    let got = actor.list(step.clone()).await?;
    let wanted = json!(["0", "ann", "bob", "eve", "ü"]);
    trial.check("distinct, by their bytes", got, wanted)?;
    crowd.without_blue(&mut actor).await?;
    let got = actor.list(step.clone()).await?;
    trial.check("at once", got, json!(["0", "ann", "ü"]))?;
    bad_pages(trial, &mut actor, &step).await
}

pub(super) async fn row_37(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let exact = json!({"op": "uid_count", "of": [{"everyone": true}]});
    let estimate = json!({"op": "uid_count_estimate"});
    let is = |count: u64| json!({"count": count, "missing": []});
    for step in [&exact, &estimate] {
        trial.check("there are none", actor.get(step.clone()).await?, is(0))?;
    }
    let crowd = Crowd::gather(trial).await?;
    trial.check("distinct", actor.get(exact.clone()).await?, is(4))?;
    let mut many = Vec::new();
    for number in 0..60 {
        many.push(trial.client(number, &format!("uid=user-{number}")).await?);
    }
    trial.check("exactly", actor.get(exact.clone()).await?, is(64))?;
    let about = actor.get(estimate).await?["count"]
        .as_u64()
        .unwrap_or_default();
    trial.check("about", (60..=68).contains(&about), true)?;
    crowd.without_blue(&mut actor).await?;
    trial.check("at once", actor.get(exact).await?, is(62))
}

pub(super) async fn row_38(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let crowd = Crowd::gather(trial).await?;
    let set = |client: &Probe, entries: Value| json!({"op": "set_session", "client": client.id(), "entries": entries});
    actor.get(set(&crowd.bob, json!({"a": 1}))).await?;
    actor
        .get(set(&crowd.alone, json!({"ü": {"b": [true, null, "x"]}})))
        .await?;
    let step = json!({"op": "infos", "of": [{"everyone": true}], "fields": ["session"]});
    let got = actor.list(step).await?;
    let found = got.as_array().into_iter().flatten();
    let whose = sorted(found.clone().filter_map(|info| info["client"].as_str()));
    trial.check("everybody once", whose, crowd.all(&actor))?;
    for info in found {
        let wanted = match info["client"].as_str() {
            Some(id) if id == crowd.bob.id() => json!({"a": 1}),
            Some(id) if id == crowd.alone.id() => json!({"ü": {"b": [true, null, "x"]}}),
            Some(_) | None => json!({}),
        };
        trial.check("with its session", info["session"].clone(), wanted)?;
    }
    let red = ids(crowd.red());
    let step = json!({"op": "infos", "of": [{"groups": ["red"]}], "fields": ["session"]});
    let got = actor.list(step).await?;
    let found = got.as_array().into_iter().flatten();
    let whose = sorted(found.filter_map(|info| info["client"].as_str()));
    trial.check("or those of a group", whose, red)
}
