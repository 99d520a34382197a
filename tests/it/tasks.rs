//! Tasks run beside the events of clients; each of their steps happens once and in order, whatever becomes of
//! workers and versions, and their end is told once.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::plugins::{Plugin, another_build, replace};
use tidegate_tests::{Cluster, Outcome, Probe, Transport, eventually};

/// Submits a task; gives its id.
async fn submit(probe: &mut Probe, task: Value) -> Result<Value> {
    let submit = json!({"op": "submit", "task": task});
    let id = probe.ask(&submit).await?.map_err(anyhow::Error::msg)?;
    ensure!(id.is_string(), "{id} is no task");
    Ok(id)
}

/// What the probe is told next of a task.
async fn told(probe: &mut Probe) -> Result<Value> {
    let heard = probe.heard().await?;
    let text = heard.as_str().with_context(|| format!("heard {heard}"))?;
    serde_json::from_str(text).with_context(|| format!("heard {heard}"))
}

/// Hears steps, each once and in order; gives which worker made the last one.
async fn steps(probe: &mut Probe, task: &Value, steps: std::ops::Range<u32>) -> Result<String> {
    let mut worker = String::new();
    for step in steps {
        let told = told(probe).await?;
        ensure!(told.get("task") == Some(task), "{told}, not of {task}");
        ensure!(told.get("step") == Some(&json!(step)), "{told}, not {step}");
        worker = told
            .get("worker")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
    }
    Ok(worker)
}

/// Hears the end of a task.
async fn end(probe: &mut Probe, task: &Value) -> Result<Value> {
    let mut told = told(probe).await?;
    ensure!(told.get("task") == Some(task), "{told}, not of {task}");
    let end = told.get_mut("finished").map(Value::take);
    end.with_context(|| format!("{told} is no end"))
}

async fn one(settings: &str) -> Result<(Cluster, SocketAddrV4)> {
    let builder = Cluster::serve()
        .tenant("default", &[Transport::Ws])
        .plugin_settings(settings);
    let cluster = builder
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let door = cluster.gateway(0)?.door("default", Transport::Ws)?;
    Ok((cluster, door))
}

async fn count(cluster: &Cluster, labels: &str) -> Result<f64> {
    let node = cluster.gateway(0)?;
    node.metric("tidegate_gateway_tasks_total", labels).await
}

#[tokio::test]
async fn a_task_tells_its_steps_then_its_answer_then_its_end() -> Outcome {
    let (cluster, door) = one("").await?;
    let mut client = Probe::connect(door, "").await?;
    let who = json!([{"op": "who"}, {"op": "session_get", "key": "k"}]);
    let task = submit(&mut client, json!({"steps": 3, "do": who})).await?;
    steps(&mut client, &task, 0..3).await?;
    let told = told(&mut client).await?;
    for refused in [0, 1] {
        let error = told.pointer(&format!("/answer/ok/{refused}/error"));
        let error = error.and_then(Value::as_str).unwrap_or_default();
        ensure!(error.starts_with("not-permitted"), "{told}");
    }
    let end = end(&mut client, &task).await?;
    ensure!(end == json!({"ok": "3 steps"}), "{end}");
    ensure!(count(&cluster, "outcome=\"done\"").await? == 1.0);
    Ok(())
}

#[tokio::test]
async fn promise_2_what_fails_begins_no_task_and_a_task_that_fails_keeps_its_steps_alone() -> Outcome
{
    let (_cluster, door) = one("").await?;
    let mut client = Probe::connect(door, "").await?;
    let begin = json!({"op": "submit", "task": {"steps": 1}});
    client.tell(&json!({"do": [begin], "then": "fail"})).await?;
    client.tell(&json!({"do": [begin], "then": "trap"})).await?;
    let task = submit(&mut client, json!({"steps": 2, "do": [], "then": "fail"})).await?;
    steps(&mut client, &task, 0..2).await?;
    let end = end(&mut client, &task).await?;
    ensure!(end == json!({"error": "told to fail"}), "{end}");
    let rest = client.rest().await?;
    ensure!(rest == json!([]), "{rest}");
    Ok(())
}

#[tokio::test]
async fn promise_4_a_task_that_breaks_ends_alone_and_is_told_so() -> Outcome {
    let (_cluster, door) = one("task-cpu-ms = 200").await?;
    let mut client = Probe::connect(door, "").await?;
    // Once: it goes on behind its steps.
    let task = submit(
        &mut client,
        json!({"steps": 4, "trap_at": 2, "quiet": true, "do": []}),
    )
    .await?;
    steps(&mut client, &task, 0..4).await?;
    ensure!(end(&mut client, &task).await?.get("ok").is_some());
    // Again and again.
    let task = submit(&mut client, json!({"steps": 1, "do": [], "then": "trap"})).await?;
    steps(&mut client, &task, 0..1).await?;
    let end = end(&mut client, &task).await?;
    let error = end.get("error").and_then(Value::as_str).unwrap_or_default();
    ensure!(
        error.starts_with("it broke its instance at each try"),
        "{end}"
    );
    let rest = client.rest().await?;
    ensure!(rest == json!([]), "{rest}");
    Ok(())
}

#[tokio::test]
async fn a_task_that_is_cancelled_is_stopped_or_never_begins_and_tells_nothing_more() -> Outcome {
    let (cluster, door) = one("task-instances = 1").await?;
    let mut client = Probe::connect(door, "").await?;
    let mut other = Probe::connect(door, "").await?;
    let long = json!({"steps": 1_000_000, "ms": 1});
    let runs = submit(&mut client, long).await?;
    steps(&mut client, &runs, 0..3).await?;
    let waits = submit(&mut client, json!({"steps": 1})).await?;
    for task in [&waits, &runs] {
        let cancel = json!({"op": "cancel_task", "task": task});
        ensure!(other.ask(&cancel).await?.is_ok());
    }
    eventually("both are over", async || {
        Ok((count(&cluster, "outcome=\"cancelled\"").await? == 2.0).then_some(()))
    })
    .await?;
    client.rest().await?;
    // There is room again, and nobody hears of the others.
    let next = submit(&mut client, json!({"steps": 1, "quiet": true, "do": []})).await?;
    steps(&mut client, &next, 0..1).await?;
    ensure!(end(&mut client, &next).await?.get("ok").is_some());
    Ok(())
}

#[tokio::test]
async fn a_task_goes_on_without_its_client_and_one_from_outside_is_nobodys() -> Outcome {
    let (cluster, door) = one("").await?;
    let mut watcher = Probe::connect(door, "group=tasks").await?;
    let mut client = Probe::connect(door, "").await?;
    let task = submit(
        &mut client,
        json!({"steps": 20, "ms": 10, "quiet": true, "do": []}),
    )
    .await?;
    steps(&mut client, &task, 0..1).await?;
    client.close().await?;
    let end_of_client = end(&mut watcher, &task).await?;
    ensure!(
        end_of_client == json!({"ok": "20 steps"}),
        "{end_of_client}"
    );

    let set = json!({"op": "submit", "task": {"steps": 2, "quiet": true, "do": []}}).to_string();
    let call = json!({"name": "run", "text": set});
    let api = cluster.gateway(0)?.api("default")?;
    let reply = api.post("/v1/requests", &call).await?;
    ensure!(reply.status == 200, "{reply:?}");
    let text = reply.body.get("text").and_then(Value::as_str);
    let answer: Value = serde_json::from_str(text.unwrap_or_default())?;
    let task = answer.get("ok").cloned().unwrap_or_default();
    steps(&mut watcher, &task, 0..2).await?;
    ensure!(end(&mut watcher, &task).await?.get("ok").is_some());
    Ok(())
}

#[tokio::test]
async fn promise_8_tasks_beyond_a_limit_are_refused_and_events_do_not_wait_for_the_others()
-> Outcome {
    let (cluster, door) = one("task-instances = 1").await?;
    let mut client = Probe::connect(door, "").await?;
    let long = json!({"op": "submit", "task": {"steps": 1_000_000, "ms": 5, "quiet": true}});
    let many: Vec<Value> = (0..110).map(|_| long.clone()).collect();
    ensure!(client.ask(&json!({"do": many})).await?.is_ok());
    let node = cluster.gateway(0)?;
    eventually("those beyond a hundred are refused", async || {
        let refused = node
            .metric("tidegate_gateway_refused_effects_total", "")
            .await?;
        let tasks = node.metric("tidegate_gateway_tasks", "").await?;
        Ok((refused == 10.0 && tasks == 100.0).then_some(()))
    })
    .await?;
    // Its events go on, with a hundred of its tasks waiting.
    client.rest().await?;
    let wrong = json!({"op": "cancel_task", "task": "1"});
    let refused = client.ask(&wrong).await?;
    ensure!(refused == Err("invalid-argument".to_owned()), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn tasks_are_seen_and_ended_from_outside_through_any_gateway() -> Outcome {
    let cluster = Cluster::apart(2, 1)
        .deploys()
        .plugin_settings("task-instances = 1")
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let door = cluster.gateway(1)?.listener(Transport::Ws)?;
    let mut client = Probe::connect(door, "").await?;
    let long = json!({"steps": 1_000_000, "ms": 5});
    let runs = submit(&mut client, long.clone()).await?;
    steps(&mut client, &runs, 0..3).await?;
    submit(&mut client, long.clone()).await?;
    submit(&mut client, long).await?;

    let node = cluster.gateway(0)?;
    let api = node.api("default")?;
    let all = eventually("all three are seen", async || {
        let tasks = api.get("/v1/tasks").await?.ok()?;
        let number = |key| tasks.get(key).and_then(Value::as_u64).unwrap_or(0);
        Ok((number("waiting") + number("under_way") == 3).then_some(tasks))
    })
    .await?;
    let items = all.get("items").and_then(Value::as_array);
    let items = items.context("no items")?;
    let first = items.iter().find(|it| it.get("task") == Some(&runs));
    let first = first.with_context(|| format!("no {runs} in {all}"))?;
    let steps = first.get("steps").and_then(Value::as_u64).unwrap_or(0);
    ensure!(
        steps >= 3 && first.get("under_way") == Some(&json!(true)),
        "{first}"
    );
    ensure!(first.get("client") == Some(&json!(client.id())), "{first}");
    ensure!(first.get("attempt") == Some(&json!(0)), "{first}");
    // Page by page.
    let page = api.get("/v1/tasks?limit=2").await?.ok()?;
    let next = page.get("next").and_then(Value::as_str);
    let next = next.context("no next")?;
    let rest = api.get(&format!("/v1/tasks?after={next}")).await?.ok()?;
    let number = |page: &Value| page.get("items").and_then(Value::as_array).map(Vec::len);
    ensure!(
        (number(&page), number(&rest)) == (Some(2), Some(1)),
        "{page} {rest}"
    );
    let ran = node.run("default", &["status"]).await?;
    ensure!(ran.out.contains("under way, "), "{}", ran.out);

    for item in items {
        let task = item.get("task").and_then(Value::as_str);
        let target = format!("/v1/tasks/{}", task.unwrap_or_default());
        let reply = api.send("DELETE", &target, &Value::Null).await?;
        ensure!(reply.status == 200, "{target}: {reply:?}");
    }
    eventually("none is left", async || {
        let tasks = api.get("/v1/tasks").await?.ok()?;
        Ok((tasks.get("items") == Some(&json!([]))).then_some(()))
    })
    .await?;
    let wrong = api.get("/v1/tasks?after=7").await?;
    ensure!(wrong.status == 400, "{wrong:?}");
    client.rest().await?;
    Ok(())
}

const STEPS: u32 = 1_000;
const KILLS: u32 = 10;

#[tokio::test]
async fn promise_3_each_of_1000_steps_is_told_once_though_the_worker_is_killed_ten_times() -> Outcome
{
    let folder = tempfile::tempdir()?;
    let file = Plugin::Probe.copy_to(folder.path())?;
    let mut cluster = Cluster::apart(3, 3)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .other_plugin_file(&file)
        .start()
        .await?;
    let door = cluster.gateway(1)?.listener(Transport::Ws)?;
    let mut client = Probe::connect(door, "").await?;
    let work = json!({"steps": STEPS, "ms": 2, "quiet": true, "do": []});
    let task = submit(&mut client, work).await?;
    let component = std::fs::read(&file)?;
    let part = STEPS / (KILLS + 1);
    for kill in 0..KILLS {
        let from = kill * part;
        let worker = steps(&mut client, &task, from..from + part).await?;
        let node = cluster.worker_named(&worker)?;
        node.kill().await?;
        node.start()?;
        if kill == KILLS / 2 {
            replace(&file, &another_build(&component, "second")?)?;
        }
    }
    steps(&mut client, &task, KILLS * part..STEPS).await?;
    let end = end(&mut client, &task).await?;
    ensure!(end == json!({"ok": "1000 steps"}), "{end}");
    let rest = client.rest().await?;
    ensure!(rest == json!([]), "told more than once: {rest}");
    Ok(())
}

#[tokio::test]
async fn promise_3_who_makes_all_steps_again_tells_none_of_them_twice() -> Outcome {
    let mut cluster = Cluster::apart(1, 2)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut client = Probe::connect(door, "").await?;
    let work = json!({"steps": 60, "ms": 5, "from_the_start": true, "quiet": true, "do": []});
    let task = submit(&mut client, work).await?;
    let worker = steps(&mut client, &task, 0..30).await?;
    cluster.worker_named(&worker)?.kill().await?;
    steps(&mut client, &task, 30..60).await?;
    ensure!(end(&mut client, &task).await?.get("ok").is_some());
    Ok(())
}
