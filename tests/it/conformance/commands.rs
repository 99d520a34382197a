//! Rows 47 and 48: custom commands beside the hub of one, some or all gateways, waited for or not.
//! A command that fails, traps, loops or floods is named and hurts nobody.

use serde_json::{Value, json};
use tidegate_tests::{Outcome, Probe};

use super::actor::{Actor, address_in};
use super::trial::Trial;

fn wait(gateways: Value, name: &str, text: &str) -> Value {
    json!({
        "op": "command_wait", "gateways": gateways, "name": name, "text": text, "timeout_ms": 5000,
    })
}

/// The address of a client's gateway.
fn home(client: &Probe) -> anyhow::Result<String> {
    let address = address_in(client.id())?;
    Ok(address["gateway"].as_str().unwrap_or_default().to_owned())
}

/// The addresses of all gateways, in the order of answers.
async fn addresses(actor: &mut Actor) -> anyhow::Result<Vec<String>> {
    let gateways = actor.get(json!({"op": "gateways"})).await?;
    let gateways = gateways.as_array().into_iter().flatten();
    Ok(gateways
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

/// The name of the error of each answer, or `ok`.
fn errors(answers: &Value) -> Vec<String> {
    let answers = answers.as_array().into_iter().flatten();
    answers
        .map(|answer| match answer["error"].as_str() {
            Some(error) => tidegate_tests::probe::error_name(error),
            None => "ok".to_owned(),
        })
        .collect()
}

pub(super) async fn row_47(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut three = trial.three("").await?;
    let there = home(&three[1])?;
    let one = json!([there]);
    for text in ["hello", "", "zwei 二 🌊"] {
        let got = actor.get(wait(one.clone(), "echo", text)).await?;
        trial.check("it answers", got, json!([{"gateway": there, "text": text}]))?;
    }
    let got = actor.get(wait(one.clone(), "address", "")).await?;
    trial.check(
        "beside its hub",
        got,
        json!([{"gateway": there, "text": there}]),
    )?;
    for (name, text, wanted) in [
        ("fail", "wrong", "other"),
        ("trap", "", "other"),
        ("no such command", "", "other"),
    ] {
        let got = actor.get(wait(one.clone(), name, text)).await?;
        trial.check(name, json!(errors(&got)), json!([wanted]))?;
    }
    let mut hasty = wait(one.clone(), "loop", "");
    hasty["timeout_ms"] = json!(300);
    let got = actor.get(hasty).await?;
    trial.check(
        "a loop ends at the deadline",
        json!(errors(&got)),
        json!(["timeout"]),
    )?;
    let got = actor.get(wait(one.clone(), "flood", "")).await?;
    trial.check("a flood is cut", errors(&got) == ["ok"], false)?;
    for client in &mut three {
        trial.check("clients are unhurt", client.rest().await?, json!([]))?;
    }
    let got = actor.get(wait(one.clone(), "echo", "again")).await?;
    trial.check(
        "and so are commands",
        got,
        json!([{"gateway": there, "text": "again"}]),
    )?;
    not_waited_for(trial, &mut actor, &mut three).await?;
    absent(trial).await
}

/// A command that nobody waits for still does what it does.
async fn not_waited_for(trial: &mut Trial, actor: &mut Actor, three: &mut [Probe; 3]) -> Outcome {
    let there = home(&three[2])?;
    let broadcast =
        json!({"op": "command", "gateways": [there], "name": "broadcast", "text": "all"});
    actor.in_vain(std::slice::from_ref(&broadcast)).await?;
    actor.get(broadcast).await?;
    for client in &mut *three {
        trial.check(
            "its effects reach all gateways",
            client.heard().await?,
            "all",
        )?;
    }
    // Waited for, so that a second copy would have come before.
    actor.get(wait(json!([there]), "broadcast", "end")).await?;
    for client in three {
        trial.check("once", client.heard().await?, "end")?;
    }
    Ok(())
}

/// A tenant without a command component.
async fn absent(trial: &mut Trial) -> Outcome {
    let api = trial.fixture.cluster.gateway(0)?.api("stranger")?;
    let body = json!({"name": "echo", "text": "x"});
    let got = api.post("/v1/commands", &body).await?.ok()?;
    let names = errors(&got["answers"]);
    let wanted = vec!["not-permitted"; trial.gateways()];
    trial.check("without a component", json!(names), json!(wanted))
}

pub(super) async fn row_48(trial: &mut Trial) -> Outcome {
    let mut actor = trial.actor().await?;
    let mut three = trial.three("").await?;
    let all = addresses(&mut actor).await?;
    let each = |wanted: &[String]| {
        Value::from_iter(wanted.iter().map(|at| json!({"gateway": at, "text": at})))
    };
    let got = actor.get(wait(Value::Null, "address", "")).await?;
    trial.check("all of them, in order", got, each(&all))?;
    let some = all.get(1..).unwrap_or_default();
    let got = actor.get(wait(json!(some), "address", "")).await?;
    trial.check("some of them", got, each(some))?;
    let got = actor.get(wait(json!([]), "address", "")).await?;
    trial.check("none of them", got, json!([]))?;
    let twice = json!([all[0], all[0]]);
    let got = actor.get(wait(twice, "address", "")).await?;
    trial.check("one named twice", got, each(&all[..1]))?;
    let got = actor
        .get(wait(json!([all[0], "10.99.99.99:2000"]), "echo", "x"))
        .await?;
    let mut names = errors(&got);
    names.sort_unstable();
    trial.check(
        "a gateway that is not there",
        json!(names),
        json!(["offline", "ok"]),
    )?;
    for address in ["nowhere", "1.2.3.4", ""] {
        let answer = actor.ask(wait(json!([address]), "echo", "x")).await?;
        trial.refused("no address", &answer, "invalid-argument")?;
    }
    let answer = actor.ask(wait(Value::Null, "", "x")).await?;
    trial.refused("no name", &answer, "invalid-argument")?;

    let got = actor.get(wait(Value::Null, "count", "")).await?;
    let counts = got.as_array().into_iter().flatten();
    let sum: u64 = counts
        .filter_map(|count| count["text"].as_str()?.parse::<u64>().ok())
        .sum();
    let clients = 3 + u64::from(actor.id().is_some());
    trial.check("each counts its own", sum, clients)?;
    let mut listed = Vec::new();
    let got = actor.get(wait(Value::Null, "list", "")).await?;
    for list in got.as_array().into_iter().flatten() {
        let ids: Vec<String> = serde_json::from_str(list["text"].as_str().unwrap_or_default())?;
        listed.extend(ids);
    }
    let wanted = super::trial::sorted(three.iter().map(Probe::id).chain(actor.id()));
    trial.check("each lists its own", super::trial::sorted(listed), wanted)?;

    let all_at_once = json!({"op": "command", "name": "broadcast", "text": "from each"});
    actor.get(all_at_once).await?;
    for client in &mut three {
        for _ in 0..trial.gateways() {
            trial.check("once at each gateway", client.heard().await?, "from each")?;
        }
    }
    let mut hasty = wait(Value::Null, "loop", "");
    hasty["timeout_ms"] = json!(300);
    let got = actor.get(hasty).await?;
    let wanted = vec!["timeout"; all.len()];
    trial.check("a deadline for all", json!(errors(&got)), json!(wanted))?;
    for client in &mut three {
        trial.check("nobody is hurt", client.rest().await?, json!([]))?;
    }
    Ok(())
}
