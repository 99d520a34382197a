//! What one instance says reaches every other one of the tenant, on each worker, at most once; and in calm
//! each of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::cluster::Builder;
use tidegate_tests::plugins::{Plugin, another_build, replace};
use tidegate_tests::{Cluster, Outcome, Probe, Signal, Transport, eventually};

/// A worker, and the number of an instance there.
type Place = (String, u64);
/// What an instance has heard: by voice the numbers, in the order in which they came.
type Heard = BTreeMap<usize, Vec<u64>>;

/// A client, in whose events its instance says numbers.
struct Voice {
    name: usize,
    probe: Probe,
    next: u64,
}

impl Voice {
    async fn connect(cluster: &Cluster, gateway: usize, name: usize) -> Result<Self> {
        let door = cluster.gateway(gateway)?.listener(Transport::Ws)?;
        let probe = Probe::connect(door, "").await?;
        let next = 0;
        Ok(Self { name, probe, next })
    }

    /// Says the next number.
    async fn say(&mut self) -> Result<()> {
        self.say_with(0).await
    }

    /// The same with so many bytes more.
    async fn say_with(&mut self, bytes: usize) -> Result<()> {
        let payload = format!("{} {} {}", self.name, self.next, "x".repeat(bytes));
        self.next += 1;
        let say = json!({"op": "peer_send", "topic": "voices", "payload": payload});
        let said = self.probe.ask(&say).await?;
        ensure!(said.is_ok(), "{said:?}");
        Ok(())
    }

    /// Where its instance is and what that has heard: of each voice what is newer each time, so nothing
    /// twice.
    async fn heard(&mut self) -> Result<(Place, Heard)> {
        let answer = self.probe.ask(&json!({"op": "peers_said"})).await?;
        let answer = answer.map_err(anyhow::Error::msg)?;
        let worker = answer.get("worker").and_then(Value::as_str);
        let instance = answer.get("instance").and_then(Value::as_u64);
        let place = worker.map(str::to_owned).zip(instance);
        let place = place.with_context(|| format!("{answer}"))?;
        let mut heard = Heard::new();
        let said: Vec<(String, String)> =
            serde_json::from_value(answer.get("said").cloned().unwrap_or_default())?;
        for (topic, payload) in said {
            let mut words = payload.split(' ');
            let mut number = || words.next().and_then(|it| it.parse().ok());
            let (voice, number) = (number(), number());
            let (voice, number) = voice.zip(number).context("a voice and a number")?;
            ensure!(topic == "voices", "{topic}");
            let before = heard.entry(usize::try_from(voice)?).or_default();
            ensure!(
                before.last().is_none_or(|before| *before < number),
                "{place:?} heard {number} of {voice} after {before:?}"
            );
            before.push(number);
        }
        Ok((place, heard))
    }
}

/// A voice at each instance, over all gateways.
async fn voices(cluster: &Cluster, instances: usize) -> Result<Vec<Voice>> {
    let (mut places, mut voices, mut others) = (BTreeSet::new(), Vec::new(), Vec::new());
    for number in 0..40 * instances {
        let gateway = number % cluster.gateways.len();
        let mut voice = Voice::connect(cluster, gateway, voices.len()).await?;
        let (place, _) = voice.heard().await?;
        if places.insert(place) {
            voices.push(voice);
        } else {
            // It stays until the end, so that others go elsewhere.
            others.push(voice);
        }
        if voices.len() == instances {
            return Ok(voices);
        }
    }
    anyhow::bail!("{places:?} are not {instances} instances")
}

/// Waits until each instance has heard all that the others have said, and looks that it has heard nothing
/// else.
async fn all_is_heard(voices: &mut [Voice]) -> Result<()> {
    let said: Vec<u64> = voices.iter().map(|it| it.next).collect();
    for voice in voices {
        let others = said.iter().enumerate().filter(|(it, _)| *it != voice.name);
        let expected: Heard = others
            .map(|(name, next)| (name, (0..*next).collect()))
            .collect();
        eventually("all others to be heard", async || {
            let (place, heard) = voice.heard().await?;
            let counts: Vec<usize> = heard.values().map(Vec::len).collect();
            ensure!(heard == expected, "{place:?} heard {counts:?} of {said:?}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// Waits until everybody hears somebody new at every other place: whoever moves meanwhile is heard from
/// there.
async fn all_are_heard_again(voices: &mut [Voice]) -> Result<()> {
    let begun: Vec<u64> = voices.iter().map(|it| it.next).collect();
    eventually("all to hear each other again", async || {
        for voice in voices.iter_mut() {
            voice.say().await?;
        }
        let (mut places, mut all) = (Vec::new(), Vec::new());
        for voice in voices.iter_mut() {
            let (place, heard) = voice.heard().await?;
            places.push(place);
            all.push(heard);
        }
        for (place, heard) in places.iter().zip(&all) {
            for (name, (other, begun)) in places.iter().zip(&begun).enumerate() {
                let last = heard.get(&name).and_then(|it| it.last());
                let new = last.is_some_and(|it| it >= begun);
                ensure!(new || other == place, "{place:?} has not heard {name}");
            }
        }
        Ok(Some(()))
    })
    .await
}

fn probe(builder: Builder, instances: usize) -> Result<Builder> {
    let plugin = Plugin::Probe.path()?;
    let settings = format!("instances = {instances}");
    Ok(builder
        .other_plugin_file(&plugin)
        .plugin_settings(&settings))
}

#[tokio::test]
async fn every_other_instance_of_one_process_hears_what_one_says() -> Outcome {
    let cluster = probe(Cluster::serve(), 4)?.start().await?;
    let mut voices = voices(&cluster, 4).await?;
    for round in 0..50 {
        for voice in &mut voices {
            voice.say().await?;
        }
        if round == 20 {
            let no = json!({"op": "peer_send", "topic": "no", "payload": "0 0"});
            let failed = json!({"do": [no], "then": "fail"});
            voices[0].probe.tell(&failed).await?;
        }
    }
    all_is_heard(&mut voices).await?;
    for (wrong, name) in [
        (json!({"topic": "", "payload": ""}), "invalid-argument"),
        (
            json!({"topic": "t".repeat(256), "payload": ""}),
            "invalid-argument",
        ),
        (
            json!({"topic": "t", "payload": "x".repeat(65 << 10)}),
            "quota-exceeded",
        ),
    ] {
        let mut wrong = wrong;
        wrong["op"] = json!("peer_send");
        let refused = voices[0].probe.ask(&wrong).await?;
        ensure!(refused == Err(name.to_owned()), "{refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn every_instance_of_three_workers_hears_each_other_one_once_over_three_gateways() -> Outcome
{
    let cluster = probe(Cluster::apart(3, 3), 2)?.start().await?;
    let mut voices = voices(&cluster, 6).await?;
    for _ in 0..50 {
        for voice in &mut voices {
            voice.say().await?;
        }
    }
    all_is_heard(&mut voices).await?;
    let dropped = "tidegate_gateway_dropped_total";
    for gateway in &cluster.gateways {
        let dropped = gateway.metric(dropped, "reason=\"peer-message\"").await?;
        ensure!(dropped == 0.0, "{dropped} dropped");
    }
    let mut heard = 0.0;
    for worker in &cluster.workers {
        let of = "tidegate_worker_peer_messages_total";
        heard += worker.metric(of, "outcome=\"done\"").await?;
    }
    ensure!(heard == 6.0 * 5.0 * 50.0, "{heard} heard");
    Ok(())
}

#[tokio::test]
async fn nothing_is_heard_twice_over_swaps_and_the_loss_of_a_worker() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Probe.copy_to(folder.path())?;
    let component = std::fs::read(&file)?;
    let mut cluster = Cluster::apart(3, 3)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .other_plugin_file(&file)
        .plugin_settings("instances = 2")
        .start()
        .await?;
    let mut voices = voices(&cluster, 6).await?;
    for label in ["second", "third", "fourth"] {
        replace(&file, &another_build(&component, label)?)?;
        if label == "third" {
            cluster.worker_named("worker-1")?.kill().await?;
        }
        for _ in 0..30 {
            for voice in &mut voices {
                voice.say().await?;
                voice.heard().await?;
            }
        }
    }
    all_are_heard_again(&mut voices).await
}

#[tokio::test]
async fn a_frozen_worker_holds_up_nobody_who_speaks_and_hears_again_when_it_thaws() -> Outcome {
    let links = "[link]\nheartbeat-ms = 200\nlease-ms = 1000";
    let builder = Cluster::apart(1, 3).settings(links);
    let mut cluster = probe(builder, 1)?.start().await?;
    let mut voices = voices(&cluster, 3).await?;
    let mut frozen = None;
    for (number, voice) in voices.iter_mut().enumerate() {
        if voice.heard().await?.0.0 == "worker-0" {
            frozen = Some(number);
        }
    }
    let frozen = voices.remove(frozen.context("nobody is at worker-0")?);
    cluster.worker_named("worker-0")?.signal(Signal::Stop)?;
    for _ in 0..100 {
        for voice in &mut voices {
            voice.say_with(15_000).await?;
        }
    }
    let said: Vec<(usize, u64)> = voices.iter().map(|it| (it.name, it.next)).collect();
    for voice in &mut voices {
        eventually("those that run to hear each other", async || {
            let (_, heard) = voice.heard().await?;
            let others = said.iter().filter(|(name, _)| *name != voice.name);
            for (name, next) in others {
                let all: Vec<u64> = (0..*next).collect();
                ensure!(heard.get(name) == Some(&all), "not all of {name}");
            }
            Ok(Some(()))
        })
        .await?;
    }
    cluster.worker_named("worker-0")?.signal(Signal::Continue)?;
    let thawed = eventually("worker-0 to serve again", async || {
        let mut voice = Voice::connect(&cluster, 0, frozen.name).await?;
        let (place, _) = voice.heard().await?;
        Ok((place.0 == "worker-0").then_some(voice))
    })
    .await?;
    voices.insert(thawed.name, thawed);
    all_are_heard_again(&mut voices).await
}
