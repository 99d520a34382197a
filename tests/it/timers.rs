//! Timers run out once and among the events of their client, whatever becomes of workers and versions;
//! those that are nobody's outlive the client that set them.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::plugins::{Plugin, another_build, replace};
use tidegate_tests::timers::{self, Plan};
use tidegate_tests::{Cluster, Outcome, Probe, Transport, eventually};

/// Sets a timer that does `run` then; gives its id.
async fn after(probe: &mut Probe, ms: u64, run: Value) -> Result<Value> {
    let set = json!({"op": "after", "ms": ms, "run": run});
    let id = probe.ask(&set).await?.map_err(anyhow::Error::msg)?;
    ensure!(id.is_string(), "{id} is no timer");
    Ok(id)
}

/// The next timer of which the probe is told: its id, and what its run gave.
async fn told(probe: &mut Probe) -> Result<(Value, Value)> {
    let heard = probe.heard().await?;
    let text = heard.as_str().with_context(|| format!("heard {heard}"))?;
    let mut told: Value = serde_json::from_str(text)?;
    let mut take = |key| told.get_mut(key).map(Value::take);
    let (timer, answer) = (take("timer"), take("answer"));
    Ok((
        timer.with_context(|| format!("heard {heard}"))?,
        answer.unwrap_or_default(),
    ))
}

async fn one() -> Result<(Cluster, SocketAddrV4)> {
    let plugin = Plugin::Probe.path()?;
    let builder = Cluster::serve().tenant("default", &[Transport::Ws, Transport::Text]);
    let cluster = builder.other_plugin_file(&plugin).start().await?;
    let door = cluster.gateway(0)?.door("default", Transport::Ws)?;
    Ok((cluster, door))
}

fn nothing() -> Value {
    json!({"do": []})
}

#[tokio::test]
async fn promise_1_a_timer_of_a_client_is_one_of_its_events() -> Outcome {
    let (_cluster, door) = one().await?;
    let mut client = Probe::connect(door, "").await?;
    let set = json!({"op": "session_set", "key": "k", "value": 7});
    ensure!(client.ask(&set).await?.is_ok());
    let run = json!({"do": [{"op": "session_get", "key": "k"}, {"op": "who"}]});
    let late = after(&mut client, 60, run).await?;
    let soon = after(&mut client, 1, nothing()).await?;
    ensure!(told(&mut client).await?.0 == soon);
    let (timer, answer) = told(&mut client).await?;
    ensure!(timer == late, "{timer} before {late}");
    let answer = answer.get("ok").and_then(Value::as_array).cloned();
    let answer = answer.unwrap_or_default();
    ensure!(answer.first() == Some(&json!(7)), "{answer:?}");
    let id = answer.get(1).and_then(|it| it.get("id"));
    ensure!(id == Some(&json!(client.id())), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn promise_2_what_fails_sets_no_timer_and_a_timer_that_traps_is_set_aside() -> Outcome {
    let (cluster, door) = one().await?;
    let mut client = Probe::connect(door, "").await?;
    let set = json!({"op": "after", "ms": 1, "run": nothing()});
    client.tell(&json!({"do": [set], "then": "fail"})).await?;
    client.tell(&json!({"do": [set], "then": "trap"})).await?;
    after(&mut client, 1, json!({"do": [], "then": "trap"})).await?;
    eventually("the timer is set aside", async || {
        let node = cluster.gateway(0)?;
        let commits = "tidegate_gateway_commits_total";
        let dead = node.metric(commits, "outcome=\"dead-lettered\"").await?;
        Ok((dead == 2.0).then_some(()))
    })
    .await?;
    let last = after(&mut client, 30, nothing()).await?;
    let (timer, _) = told(&mut client).await?;
    ensure!(timer == last, "{timer} was set by an event that failed");
    Ok(())
}

#[tokio::test]
async fn a_timer_that_repeats_does_so_until_it_is_cancelled_by_whom_ever() -> Outcome {
    let (cluster, door) = one().await?;
    let mut client = Probe::connect(door, "").await?;
    let mut other = Probe::connect(door, "").await?;
    let every = json!({"op": "every", "ms": 5, "run": nothing()});
    let timer = client.ask(&every).await?.map_err(anyhow::Error::msg)?;
    for _ in 0..20 {
        ensure!(told(&mut client).await?.0 == timer);
    }
    let cancel = json!({"op": "cancel", "timer": timer});
    ensure!(other.ask(&cancel).await?.is_ok());
    eventually("no timer waits", async || {
        let timers = cluster
            .gateway(0)?
            .metric("tidegate_gateway_timers", "")
            .await?;
        Ok((timers == 0.0).then_some(()))
    })
    .await?;
    // What was under way is over.
    client.rest().await?;
    let last = after(&mut client, 30, nothing()).await?;
    ensure!(told(&mut client).await?.0 == last);
    Ok(())
}

#[tokio::test]
async fn a_timer_ends_with_its_client_and_one_set_in_its_close_does_not() -> Outcome {
    let (cluster, door) = one().await?;
    let mut watcher = Probe::connect(door, "group=timers&group=watchers").await?;
    let mut client = Probe::connect(door, "").await?;
    let tell = |text: &str| json!({"op": "send_to_groups", "groups": ["timers"], "message": text});
    after(&mut client, 60_000, tell("of the client")).await?;
    let at_close = json!({"op": "after", "ms": 20, "run": tell("after the close")});
    let set = json!({"op": "session_set", "key": "at_close", "value": at_close});
    ensure!(client.ask(&set).await?.is_ok());
    let id = client.id().to_owned();
    client.close().await?;
    let closed = watcher.heard().await?;
    ensure!(
        closed == json!(format!("closed:{id}:client:-:")),
        "{closed}"
    );
    ensure!(watcher.heard().await? == json!("after the close"));
    // A timer that is no client's is told to the group by the probe.
    let (_, answer) = told(&mut watcher).await?;
    ensure!(answer == json!({"ok": null}), "{answer}");
    let timers = cluster
        .gateway(0)?
        .metric("tidegate_gateway_timers", "")
        .await?;
    ensure!(timers == 0.0, "{timers} timers wait");
    Ok(())
}

#[tokio::test]
async fn a_call_from_outside_sets_timers_that_are_nobodys() -> Outcome {
    let (cluster, door) = one().await?;
    let mut watcher = Probe::connect(door, "group=timers").await?;
    let session = json!({"op": "session_get", "key": "k"});
    let set = json!({"op": "after", "ms": 5, "run": session}).to_string();
    let call = json!({"name": "run", "text": set});
    let api = cluster.gateway(0)?.api("default")?;
    let reply = api.post("/v1/requests", &call).await?;
    ensure!(reply.status == 200, "{reply:?}");
    let (_, answer) = told(&mut watcher).await?;
    let error = answer.get("error").and_then(Value::as_str);
    let error = error.unwrap_or_default();
    ensure!(error.starts_with("not-permitted"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn what_no_timer_may_be_set_to_is_refused_by_name() -> Outcome {
    let (_cluster, door) = one().await?;
    let mut client = Probe::connect(door, "").await?;
    let year = 366 * 24 * 3_600 * 1_000_u64;
    let large = "x".repeat(65 << 10);
    for (wrong, name) in [
        (
            json!({"op": "every", "ms": 0, "run": null}),
            "invalid-argument",
        ),
        (
            json!({"op": "after", "ms": year + 1, "run": null}),
            "invalid-argument",
        ),
        (json!({"op": "cancel", "timer": "1"}), "invalid-argument"),
        (
            json!({"op": "after", "ms": 1, "run": large}),
            "quota-exceeded",
        ),
    ] {
        let refused = client.ask(&wrong).await?;
        ensure!(refused == Err(name.to_owned()), "{refused:?}");
    }
    let longest = json!({"op": "after", "ms": year, "run": null});
    ensure!(client.ask(&longest).await?.is_ok());
    Ok(())
}

const CLIENTS: usize = 60;
const TIMERS: u64 = 30;

#[tokio::test]
async fn promise_3_timers_are_told_once_and_in_order_over_swaps_and_the_loss_of_workers() -> Outcome
{
    let folder = tempfile::tempdir()?;
    let file = Plugin::Probe.copy_to(folder.path())?;
    let mut cluster = Cluster::apart(3, 3)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .other_plugin_file(&file)
        .start()
        .await?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let gateway = cluster.gateway(number % 3)?;
        clients.push(Probe::connect(gateway.listener(Transport::Ws)?, "").await?);
    }
    let mut expected = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let offset = number as u64;
        // In an order of their own: the times decide.
        let times = (0..TIMERS).map(|nth| 200 + offset + (nth * 7 % TIMERS) * 80);
        let mut times: Vec<(u64, usize)> = times.zip(0..).collect();
        let sets = times
            .iter()
            .map(|(ms, _)| json!({"op": "after", "ms": ms, "run": nothing()}));
        let sets = json!({"do": sets.collect::<Vec<_>>()});
        let ids = client.ask(&sets).await?.map_err(anyhow::Error::msg)?;
        times.sort_unstable();
        let id = |nth: usize| ids.get(nth).cloned();
        expected.push(
            times
                .into_iter()
                .map(|(_, nth)| id(nth))
                .collect::<Vec<_>>(),
        );
    }
    let component = std::fs::read(&file)?;
    let disturb = async {
        replace(&file, &another_build(&component, "second")?)?;
        cluster.worker_named("worker-1")?.kill().await?;
        replace(&file, &another_build(&component, "third")?)?;
        anyhow::Ok(())
    };
    let listen = async {
        for (client, expected) in clients.iter_mut().zip(&expected) {
            for timer in expected {
                let (told, _) = told(client).await?;
                ensure!(Some(&told) == timer.as_ref(), "{told}, not {timer:?}");
            }
        }
        Ok(())
    };
    let (disturbed, listened) = tokio::join!(disturb, listen);
    disturbed?;
    listened?;
    for client in &mut clients {
        let rest = client.rest().await?;
        ensure!(rest == json!([]), "told more than once: {rest}");
    }
    Ok(())
}

#[tokio::test]
async fn many_timers_wait_beside_those_that_run_out() -> Outcome {
    let found = timers::run(Plan {
        waiting: 20_000,
        per_second: 200,
        time: Duration::from_secs(2),
    })
    .await?;
    // How late and how large is for `make timers` to say; that all of them run out is said here.
    ensure!(found.ran_out > 150.0, "{found}");
    Ok(())
}

#[tokio::test]
async fn timers_are_listed_wherever_they_live() -> Outcome {
    let cluster = Cluster::apart(2, 1)
        .tenant("default", &[Transport::Ws])
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let door = |number: usize| cluster.gateway(number)?.door("default", Transport::Ws);
    let mut client = Probe::connect(door(0)?, "").await?;
    let mut ids = Vec::new();
    for ms in [60_000, 70_000, 80_000] {
        ids.push(after(&mut client, ms, json!({ "ms": ms })).await?);
    }
    let every = json!({"op": "every", "ms": 90_000, "run": nothing()});
    ids.push(client.ask(&every).await?.map_err(anyhow::Error::msg)?);
    let mut found = Vec::new();
    let mut list = json!({"op": "timers", "limit": 3});
    loop {
        let page = client.ask(&list).await?.map_err(anyhow::Error::msg)?;
        let timers = page.get("timers").and_then(Value::as_array);
        found.extend(timers.cloned().unwrap_or_default());
        match page.get("next") {
            Some(Value::String(next)) => list["after"] = json!(next),
            _ => break,
        }
    }
    let listed: Vec<&Value> = found.iter().filter_map(|it| it.get("timer")).collect();
    ensure!(listed == ids.iter().collect::<Vec<_>>(), "{found:?}");
    let of = |nth: usize, key| found.get(nth).and_then(|it| it.get(key)).cloned();
    ensure!(
        of(0, "payload") == Some(json!("{\"ms\":60000}")),
        "{found:?}"
    );
    ensure!(of(3, "period_ms") == Some(json!(90_000)), "{found:?}");
    let due = of(1, "due_in_ms").and_then(|it| it.as_u64());
    ensure!(
        due.is_some_and(|it| (1..=70_000).contains(&it)),
        "{found:?}"
    );

    // Those of nobody, at both gateways; asked by who has no client.
    for gateway in [0, 1] {
        let set = json!({"op": "after", "ms": 60_000, "run": nothing()}).to_string();
        let call = json!({"name": "run", "text": set});
        let api = cluster.gateway(gateway)?.api("default")?;
        ensure!(api.post("/v1/requests", &call).await?.status == 200);
    }
    let call = json!({"name": "run", "text": json!({"op": "timers"}).to_string()});
    let api = cluster.gateway(1)?.api("default")?;
    let reply = api.post("/v1/requests", &call).await?;
    let text = reply.body.get("text").and_then(Value::as_str);
    let answer: Value = serde_json::from_str(text.unwrap_or_default())?;
    let timers = answer.pointer("/ok/timers").and_then(Value::as_array);
    ensure!(timers.is_some_and(|it| it.len() == 2), "{answer}");
    ensure!(
        answer.pointer("/ok/missing") == Some(&json!([])),
        "{answer}"
    );
    Ok(())
}
