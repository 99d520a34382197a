//! Schedules begin a task at each of their times, once in the cluster and in order, whatever becomes of
//! gateways, workers and versions meanwhile.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::plugins::{Plugin, another_build, replace};
use tidegate_tests::{Builder, Cluster, Node, Outcome, Probe, Transport, eventually};

/// The task of a tick makes one step, takes its time and answers.
const PAYLOAD: &str = r#"{"steps":1,"ms":200,"do":[{"op":"event_id"}],"at":"{at}"}"#;
const TIMES: &str = "[link]\nheartbeat-ms = 200\nlease-ms = 1500\n[register]\nlease-ms = 1500\n";

fn schedule(missed: &str) -> String {
    format!(
        "[[schedule]]\nname = \"beat\"\ncron = \"* * * * * *\"\ntime-zone = \"Europe/Berlin\"\n\
         missed = \"{missed}\"\npayload = '{PAYLOAD}'\n"
    )
}

fn cluster(missed: &str, file: &std::path::Path) -> Builder {
    Cluster::apart(3, 3)
        .settings(TIMES)
        .settings(&schedule(missed))
        .deploys()
        .other_plugin_file(file)
}

/// What a watcher has heard of ticks: the second of each, which stands in its task's id.
#[derive(Debug, Default)]
struct Heard {
    /// How often each was answered.
    answers: BTreeMap<u64, usize>,
    order: Vec<u64>,
    /// The worker of the last step.
    worker: String,
}

impl Heard {
    async fn more(&mut self, watcher: &mut Probe, count: usize) -> Result<()> {
        let before = self.order.len();
        while self.order.len() < before + count {
            let heard = watcher.heard().await?;
            let text = heard.as_str().with_context(|| format!("heard {heard}"))?;
            let told: Value = serde_json::from_str(text)?;
            let task = told.get("task").and_then(Value::as_str).unwrap_or_default();
            let tick = task.rsplit('-').nth(1).and_then(|it| it.parse().ok());
            let tick: u64 = tick.with_context(|| format!("{told} is of no task"))?;
            if let Some(worker) = told.get("worker").and_then(Value::as_str) {
                worker.clone_into(&mut self.worker);
            }
            if told.get("answer").is_some() {
                *self.answers.entry(tick).or_default() += 1;
                self.order.push(tick);
            }
        }
        Ok(())
    }

    /// Each second has its answer; so many may have two.
    fn check(&self, twice_max: usize) -> Result<()> {
        let (first, last) = (self.answers.keys().next(), self.answers.keys().next_back());
        let (first, last) = (first.context("nothing")?, last.context("nothing")?);
        let left_out: Vec<u64> = (*first..=*last)
            .filter(|tick| !self.answers.contains_key(tick))
            .collect();
        ensure!(left_out.is_empty(), "lost {left_out:?} of {:?}", self.order);
        let twice = self.answers.values().filter(|count| **count > 1).count();
        ensure!(twice <= twice_max, "{twice} came twice: {:?}", self.order);
        let pairs = self.order.iter().zip(self.order.iter().skip(1));
        let backwards = pairs.filter(|(one, next)| one >= next).count();
        ensure!(backwards <= twice_max, "not in order: {:?}", self.order);
        Ok(())
    }
}

async fn ticks(node: &Node, outcome: &str) -> Result<f64> {
    let labels = format!("outcome=\"{outcome}\"");
    node.metric("tidegate_gateway_schedule_ticks_total", &labels)
        .await
}

/// The gateway that begins the ticks.
async fn beginner(cluster: &Cluster) -> Result<usize> {
    let mut found = None;
    for number in 0..3 {
        if ticks(cluster.gateway(number)?, "begun").await? > 0.0 {
            ensure!(found.is_none(), "two gateways have begun ticks");
            found = Some(number);
        }
    }
    found.context("nobody has begun a tick")
}

#[tokio::test]
async fn promise_3_each_tick_is_done_once_though_its_gateway_and_a_worker_are_killed_and_a_swap_comes()
-> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Probe.copy_to(folder.path())?;
    let mut cluster = cluster("all", &file).start().await?;
    let first = {
        let mut watcher =
            Probe::connect(cluster.gateway(0)?.listener(Transport::Ws)?, "group=tasks").await?;
        Heard::default().more(&mut watcher, 2).await?;
        beginner(&cluster).await?
    };
    // From a gateway that lives all the while.
    let watching = cluster.gateway((first + 1) % 3)?;
    let mut watcher = Probe::connect(watching.listener(Transport::Ws)?, "group=tasks").await?;
    let mut heard = Heard::default();
    heard.more(&mut watcher, 3).await?;
    cluster.gateway_mut(first)?.kill().await?;
    heard.more(&mut watcher, 3).await?;
    cluster.gateway_mut(first)?.start()?;
    cluster.gateway_mut(first)?.ready().await?;
    heard.more(&mut watcher, 2).await?;
    let worker = heard.worker.clone();
    let node = cluster.worker_named(&worker)?;
    node.kill().await?;
    node.start()?;
    heard.more(&mut watcher, 3).await?;
    replace(&file, &another_build(&std::fs::read(&file)?, "second")?)?;
    heard.more(&mut watcher, 4).await?;
    // Who was killed may have answered and not said so any more.
    heard.check(1)?;
    let mut missed = 0.0;
    for number in 0..3 {
        missed += ticks(cluster.gateway(number)?, "missed").await?;
    }
    ensure!(missed == 0.0, "{missed} missed");
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_ends_in_peace_leaves_its_ticks_to_the_next_one_and_none_comes_twice()
-> Outcome {
    let mut cluster = cluster("all", &Plugin::Probe.path()?).start().await?;
    let mut watcher =
        Probe::connect(cluster.gateway(0)?.listener(Transport::Ws)?, "group=tasks").await?;
    let mut heard = Heard::default();
    heard.more(&mut watcher, 2).await?;
    let first = beginner(&cluster).await?;
    if first == 0 {
        watcher =
            Probe::connect(cluster.gateway(1)?.listener(Transport::Ws)?, "group=tasks").await?;
        heard = Heard::default();
    }
    heard.more(&mut watcher, 2).await?;
    cluster.gateway_mut(first)?.terminate().await?;
    heard.more(&mut watcher, 3).await?;
    heard.check(0)?;
    let mut done = 0.0;
    for number in (0..3).filter(|number| *number != first) {
        done += ticks(cluster.gateway(number)?, "done").await?;
    }
    ensure!(done >= 2.0, "{done} done by the others");
    Ok(())
}

#[tokio::test]
async fn what_was_missed_while_nobody_was_there_is_made_up_for_if_the_schedule_says_so() -> Outcome
{
    let mut cluster = Cluster::serve()
        .settings(&schedule("all"))
        .deploys()
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut watcher = Probe::connect(door, "group=tasks").await?;
    let mut heard = Heard::default();
    heard.more(&mut watcher, 2).await?;
    let file = cluster.folder().join("serve.state/schedules.json");
    let last = *heard.order.last().context("nothing")?;
    eventually("what is over stands in the file", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let kept: Value = serde_json::from_str(&text).unwrap_or_default();
        let over = kept.pointer("/0/over").and_then(Value::as_u64);
        Ok(over.filter(|over| *over >= last))
    })
    .await?;
    cluster.gateway_mut(0)?.kill().await?;
    let until = now_s()? + 3;
    eventually("some ticks are missed", async || {
        Ok((now_s()? >= until).then_some(()))
    })
    .await?;
    cluster.gateway_mut(0)?.start()?;
    // Who is there before the first of them hears all that were missed.
    cluster.gateway_mut(0)?.ready().await?;
    let mut watcher = Probe::connect(door, "group=tasks").await?;
    let mut after = Heard::default();
    after.more(&mut watcher, 2).await?;
    let node = cluster.gateway(0)?;
    eventually("it has caught up", async || {
        let api = node.api("default")?;
        let got = api.get("/v1/schedules").await?;
        let last = got.body.pointer("/schedules/0/last_at");
        let last = last.and_then(Value::as_u64).unwrap_or(0) / 1_000;
        let begun = ticks(node, "begun").await?;
        Ok((last + 2 > now_s()? && begun >= 4.0).then_some(()))
    })
    .await?;
    let missed = ticks(node, "missed").await?;
    ensure!(missed == 0.0, "{missed} missed");
    Ok(())
}

fn now_s() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

#[tokio::test]
async fn a_schedule_is_seen_from_outside_and_what_its_task_runs_into_is_told() -> Outcome {
    let mut settings = schedule("skip");
    settings.push_str(
        "[[schedule]]\nname = \"night\"\ncron = \"30 2 * * *\"\ntime-zone = \"Europe/Berlin\"\n\
         [[schedule]]\nname = \"wrong\"\ncron = \"*/2 * * * * *\"\npayload = '{\"then\":\"fail\"}'\n",
    );
    let cluster = Cluster::serve()
        .settings(&settings)
        .deploys()
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let node = cluster.gateway(0)?;
    eventually("ticks are done, and fail", async || {
        let [done, failed] = [ticks(node, "done").await?, ticks(node, "failed").await?];
        Ok((done >= 2.0 && failed >= 1.0).then_some(()))
    })
    .await?;
    let got = node.api("default")?.get("/v1/schedules").await?;
    ensure!(got.status == 200, "{got:?}");
    let at = |name: &str| {
        let list = got.body.pointer("/schedules").and_then(Value::as_array);
        let mut list = list.into_iter().flatten();
        list.find(|it| it.get("name") == Some(&json!(name)))
            .cloned()
    };
    let night = at("night").context("no night")?;
    ensure!(night.get("last_at") == Some(&Value::Null), "{night}");
    let next = night.get("next_at").and_then(Value::as_u64).unwrap_or(0);
    ensure!(next / 1_000 > now_s()? && next % 1_800_000 == 0, "{night}");
    let beat = at("beat").context("no beat")?;
    ensure!(
        beat.get("last_at").and_then(Value::as_u64).is_some(),
        "{beat}"
    );
    let ran = node.run("default", &["status"]).await?;
    for text in [
        "schedule beat",
        "* * * * * * Europe/Berlin, last 20",
        "last none yet, next 20",
    ] {
        ensure!(ran.out.contains(text), "no {text:?} in {}", ran.out);
    }
    Ok(())
}
