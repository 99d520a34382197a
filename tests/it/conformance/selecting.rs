//! Row 51: fields of clients that are selected by several predicates, which mean their union.

use serde_json::{Value, json};
use tidegate_tests::Outcome;

use super::trial::{ELSEWHERE, Trial, sorted};

pub(super) async fn row_51(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let red = trial.three("uid=ann&group=red").await?;
    let blue = trial.three("uid=bob&group=blue&group=red2").await?;
    let eve = trial.client(1, "uid=eve").await?;
    let listed = trial.client(2, "").await?;
    let _other = trial.client(0, "uid=other&group=other").await?;
    let gone = trial.gone().await?;
    let of = json!([
        {"clients": [listed.id(), listed.id(), red[0].id(), gone, ELSEWHERE]},
        {"uids": ["eve", "nobody"]},
        {"groups": ["red", "unknown"]},
        {"all_of_groups": ["blue", "red2"]},
    ]);
    let step = json!({"op": "infos", "of": of, "fields": ["uid", "groups"]});
    let got = actor.list(step).await?;
    let mut wanted: Vec<(String, Value, Value)> = Vec::new();
    for client in &red {
        wanted.push((client.id().into(), json!("ann"), json!(["red"])));
    }
    for client in &blue {
        wanted.push((client.id().into(), json!("bob"), json!(["blue", "red2"])));
    }
    wanted.push((eve.id().into(), json!("eve"), json!([])));
    wanted.push((listed.id().into(), Value::Null, json!([])));
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    let found = got.as_array().into_iter().flatten();
    let found =
        Value::from_iter(found.map(|info| json!([info["client"], info["uid"], info["groups"]])));
    trial.check(
        "the union, each once, with its fields",
        found,
        json!(wanted),
    )?;
    let count = json!({"op": "client_count", "of": of});
    let is = json!({"count": 8, "missing": []});
    trial.check("counted the same", actor.get(count).await?, is)?;
    let uids = json!({"op": "uids", "of": of});
    trial.check(
        "their uids",
        actor.list(uids).await?,
        json!(["ann", "bob", "eve"]),
    )?;
    let uids = json!({"op": "uid_count", "of": of});
    let is = json!({"count": 3, "missing": []});
    trial.check("their count", actor.get(uids).await?, is)?;
    let nobody = json!({"op": "infos", "of": [], "fields": ["uid"]});
    trial.check("no predicate, nobody", actor.list(nobody).await?, json!([]))?;
    for of in [
        json!([{"clients": ["nobody"]}]),
        json!([{"groups": [""]}]),
        json!([{"uids": Value::from_iter((0..1001).map(|at| at.to_string()))}]),
    ] {
        let step = json!({"op": "infos", "of": of, "fields": [], "limit": 10});
        let answer = actor.ask(step).await?;
        trial.refused("no predicate", &answer, "invalid-argument")?;
    }
    if !trial.is_inside() {
        in_the_address(trial, listed.id()).await?;
    }
    Ok(())
}

/// The same question as a plain GET.
async fn in_the_address(trial: &mut Trial, listed: &str) -> Outcome {
    let api = trial.api()?;
    let target = format!(
        "/v1/clients?client={listed}&uid=ann&all_of_groups=blue&all_of_groups=red2&fields=uid&limit=1000"
    );
    let got = api.get(&target).await?.ok()?;
    let items = got["items"].as_array().into_iter().flatten();
    let uids = sorted(items.map(|info| info["uid"].as_str().unwrap_or("-")));
    let wanted = json!(["-", "ann", "ann", "ann", "bob", "bob", "bob"]);
    trial.check("in the address", uids, wanted)?;
    let all = api.get("/v1/clients?limit=3").await?.ok()?;
    trial.check(
        "nothing said: everybody",
        all["items"].as_array().map_or(0, Vec::len),
        3,
    )?;
    trial.check("and a cursor", all["next"].is_string(), true)?;
    let error = api.get("/v1/clients?fields=shoe-size").await?.problem()?;
    trial.check("no field", error, "invalid-argument")
}
