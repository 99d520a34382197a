//! What instances say to each other: to all others of the tenant and not to themselves, in order, at most
//! once, and never in the way of events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::{Bounds, Deployment, VersionState};
use tidegate_wire::deploy::version_of;
use tidegate_wire::effect::{Commit, Effect, Outcome};
use tidegate_wire::id::ClientId;
use tidegate_wire::peers::{InstanceId, PAYLOAD_BYTES_MAX, PeerMessage};
use tokio::sync::Notify;

use crate::harness::{
    DEADLINE, Home, Told, client, close, deploy, eventually, guest, guest_version, logged, message,
    plugin, runtime, said, settings, without,
};

/// Messages that wait for one instance at the most.
const WAITING_MAX: usize = 1024;

/// A client of each instance, in the order of their numbers.
async fn one_each(home: &Arc<Home>, deployment: &Deployment, instances: usize) -> Vec<ClientId> {
    let mut found = BTreeMap::new();
    for number in 1..1000 {
        let who = said(&home.run(deployment, client(number), "who").await).remove(0);
        let instance: usize = who.split(' ').nth(2).unwrap().parse().unwrap();
        found.entry(instance).or_insert(client(number));
        if found.len() == instances {
            return found.into_values().collect();
        }
    }
    panic!("no thousand clients reach {instances} instances");
}

/// What a commit says to other instances.
fn told(commit: &Commit) -> Vec<PeerMessage> {
    let messages = commit.effects.iter().filter_map(|effect| {
        if let Effect::PeerMessage(message) = effect {
            return Some((**message).clone());
        }
        None
    });
    messages.collect()
}

/// What the instance of a client has heard.
async fn heard(home: &Arc<Home>, deployment: &Deployment, client: ClientId) -> Vec<String> {
    let heard = said(&home.run(deployment, client, "heard").await).remove(0);
    heard.lines().map(str::to_owned).collect()
}

/// Waits until the instance of a client has heard so much.
async fn hears(home: &Arc<Home>, deployment: &Deployment, client: ClientId, lines: &[&str]) {
    let all = async {
        while heard(home, deployment, client).await != lines {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, all).await.is_err() {
        let heard = heard(home, deployment, client).await;
        panic!("{client} heard {heard:?}, not {lines:?}");
    }
}

/// Somebody who is none of the instances says this.
fn from_elsewhere(topic: &str, payload: &str) -> PeerMessage {
    PeerMessage {
        from: InstanceId(1),
        topic: topic.into(),
        payload: payload.as_bytes().to_vec().into(),
    }
}

#[tokio::test]
async fn every_other_instance_hears_what_one_says_on_each_worker_and_itself_does_not() {
    let mut settings = settings("peers");
    settings.instances = 3;
    let workers = [deploy(settings.clone()).await, deploy(settings).await];
    let home = Home::new();
    let clients = [
        one_each(&home, &workers[0], 3).await,
        one_each(&home, &workers[1], 3).await,
    ];
    let script = "tell prices tea\ntell prices coffee";
    let commit = home.run(&workers[0], clients[0][1], script).await;
    for message in told(&commit) {
        // As every gateway does.
        workers.iter().for_each(|it| it.tell_peers(message.clone()));
    }
    let all = ["prices=tea", "prices=coffee"];
    for (worker, clients) in workers.iter().zip(&clients) {
        for client in clients {
            let own = std::ptr::eq(worker, &workers[0]) && *client == clients[1];
            if !own {
                hears(&home, worker, *client, &all).await;
            }
        }
    }
    // A later one is a barrier for the first instance: had it heard its own, that would be there.
    let later = home.run(&workers[1], clients[1][0], "tell x later").await;
    workers[0].tell_peers(told(&later).remove(0));
    hears(&home, &workers[0], clients[0][1], &["x=later"]).await;
}

#[tokio::test]
async fn an_event_that_fails_or_breaks_says_nothing() {
    let deployment = deploy(settings("mute")).await;
    let home = Home::new();
    for (script, outcome) in [
        ("tell a b\nerr no", Outcome::Failed),
        ("tell a b\ntrap no", Outcome::DeadLettered),
    ] {
        let commit = home.run(&deployment, client(1), script).await;
        assert_eq!((commit.outcome, commit.effects), (outcome, Vec::new()));
    }
}

#[tokio::test]
async fn what_may_be_said_is_checked_at_once_and_counts_as_effects_do() {
    let mut settings = settings("said-too-much");
    settings.limits.effects_max = 3;
    let deployment = deploy(settings).await;
    let home = Home::new();
    let long = "t".repeat(256);
    for (script, error) in [
        ("tell  x".to_owned(), "a topic has 1 to 255 bytes"),
        (format!("tell {long} x"), "this one has 256"),
        (
            format!("tell-large t {}", PAYLOAD_BYTES_MAX + 1),
            "may have 65536 bytes",
        ),
        ("tell-many t 4".to_owned(), "may have 3 effects"),
    ] {
        let commit = home.run(&deployment, client(1), &script).await;
        assert_eq!(commit.outcome, Outcome::Failed, "{script}");
        let lines = logged(&["said-too-much", "WARN", error]);
        assert_eq!(lines.len(), 1, "{error}");
    }
    let script = format!("tell-large {} {PAYLOAD_BYTES_MAX}", "t".repeat(255));
    let commit = home.run(&deployment, client(1), &script).await;
    assert_eq!(told(&commit)[0].payload.len(), PAYLOAD_BYTES_MAX);
    // A client that is gone may be spoken of.
    let closed = home
        .commit_of(home.send(&deployment, client(1), 0, close()))
        .await;
    assert_eq!(closed.outcome, Outcome::Done);
}

#[tokio::test]
async fn bytes_that_are_said_count_against_the_event() {
    let mut settings = settings("said-too-long");
    settings.limits.effect_bytes_max = 10_000;
    let deployment = deploy(settings).await;
    let home = Home::new();
    let commit = home.run(&deployment, client(1), "tell-large t 10000").await;
    assert_eq!(commit.outcome, Outcome::Failed);
    let error = "the effects of an event may have 10000 bytes";
    assert_eq!(logged(&["said-too-long", "WARN", error]).len(), 1);
}

#[tokio::test]
async fn a_call_by_another_instance_changes_memory_and_nothing_else() {
    let mut settings = settings("no-effects");
    settings.config.insert("greeting".into(), "hi".into());
    let deployment = deploy(settings).await;
    let home = Home::new();
    home.run(&deployment, client(1), "set k 1").await;
    deployment.tell_peers(from_elsewhere("script", "effects"));
    deployment.tell_peers(from_elsewhere("t", "last"));
    let all = async {
        loop {
            let heard = heard(&home, &deployment, client(1)).await;
            if heard.last().is_some_and(|it| it == "t=last") {
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let heard = tokio::time::timeout(DEADLINE, all).await.unwrap();
    for refused in &heard[..4] {
        assert!(refused.contains("NotPermitted"), "{heard:?}");
        assert!(refused.contains("on-peer-message may not"), "{heard:?}");
    }
    assert_eq!(heard[4], "Some(\"hi\")");
    assert!(home.asked().is_empty());
}

#[tokio::test]
async fn a_trap_costs_one_instance_and_an_error_none_and_neither_is_repeated() {
    let mut settings = settings("broken-peers");
    settings.instances = 2;
    let deployment = deploy(settings).await;
    let home = Home::new();
    let clients = one_each(&home, &deployment, 2).await;
    let own = told(&home.run(&deployment, clients[0], "tell script trap").await);
    deployment.tell_peers(from_elsewhere("t", "before"));
    deployment.tell_peers(from_elsewhere("script", "err not today"));
    deployment.tell_peers(own[0].clone());
    let broke = || logged(&["tenant=\"broken-peers\"", "ERROR", "on-peer-message broke"]);
    eventually("one instance breaks", || !broke().is_empty()).await;
    hears(&home, &deployment, clients[0], &["t=before"]).await;
    // The other one is built anew, and hears what is said then.
    assert_eq!(
        heard(&home, &deployment, clients[1]).await,
        Vec::<String>::new()
    );
    deployment.tell_peers(from_elsewhere("t", "after"));
    hears(&home, &deployment, clients[1], &["t=after"]).await;
    hears(&home, &deployment, clients[0], &["t=before", "t=after"]).await;
    assert_eq!(broke().len(), 1);
    assert_eq!(
        logged(&["broken-peers", "on-peer-message returned", "not today"]).len(),
        2
    );
    assert!(deployment.dead_letters().is_empty());
}

#[tokio::test]
async fn what_there_is_no_room_for_is_dropped_and_neither_events_nor_other_instances_wait() {
    let mut settings = settings("crowded");
    settings.instances = 2;
    settings.mailbox_events = 4;
    settings.limits.wall_ms = 600_000;
    settings.limits.query_ms = 500_000;
    let deployment = deploy(settings).await;
    let home = Home::new();
    let clients = one_each(&home, &deployment, 2).await;
    let gate = Arc::new(Notify::new());
    home.tell(Told::When(Arc::clone(&gate)));
    let asking = home.script(&deployment, clients[0], "ask gateways");
    eventually("an instance waits for an answer", || {
        !home.asked().is_empty()
    })
    .await;
    let number = |number: usize| from_elsewhere("n", &number.to_string());
    for n in 0..WAITING_MAX + 100 {
        deployment.tell_peers(number(n));
        // The other instance is not held up.
        let last = format!("n={n}");
        if n % 500 == 499 {
            let hears = async {
                while heard(&home, &deployment, clients[1]).await.last() != Some(&last) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(DEADLINE, hears).await.unwrap();
        }
    }
    // The mailbox of events has all of its room.
    let events: Vec<u64> = (0..4)
        .map(|_| home.send(&deployment, clients[0], 0, message("count")))
        .collect();
    gate.notify_one();
    assert_eq!(home.commit_of(asking).await.outcome, Outcome::Done);
    for event in events {
        assert_eq!(home.commit_of(event).await.outcome, Outcome::Done);
    }
    let lines: Vec<String> = (0..WAITING_MAX).map(|n| format!("n={n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    hears(&home, &deployment, clients[0], &lines).await;
    assert_eq!(
        logged(&["tenant=\"crowded\"", "WARN", "does not keep up"]).len(),
        1
    );
    // There is room again.
    deployment.tell_peers(from_elsewhere("n", "again"));
    let lines = [lines, vec!["n=again"]].concat();
    hears(&home, &deployment, clients[0], &lines).await;
}

#[tokio::test]
async fn versions_side_by_side_hear_the_same_and_one_that_is_replaced_hears_no_more() {
    let mut settings = settings("peers-of-a-canary");
    settings.instances = 2;
    settings.rollout.canary_percent = 50;
    settings.rollout.canary_ms = 0;
    let deployment = deploy(settings).await;
    let home = Home::new();
    deployment
        .swap(plugin(guest_version(140)).await)
        .await
        .unwrap();
    let new = version_of(&guest_version(140)).to_string();
    let mut of = BTreeMap::new();
    for number in 1..100 {
        let version = said(&home.run(&deployment, client(number), "version").await).remove(0);
        of.entry(version == new).or_insert(client(number));
    }
    let (old, tried) = (of[&false], of[&true]);
    let said = told(&home.run(&deployment, tried, "tell v new").await).remove(0);
    deployment.tell_peers(said);
    hears(&home, &deployment, old, &["v=new"]).await;
    let said = told(&home.run(&deployment, old, "tell v old").await).remove(0);
    deployment.tell_peers(said);
    hears(&home, &deployment, tried, &["v=old"]).await;
    deployment.promote().await.unwrap();
    deployment.tell_peers(from_elsewhere("v", "all"));
    hears(&home, &deployment, old, &["v=all"]).await;
}

#[tokio::test]
async fn a_version_that_takes_no_messages_is_told_none() {
    let plugin = plugin(without(guest(), "peer-events")).await;
    assert!(!plugin.exports().iter().any(|it| it.contains("peer")));
    let deployment = Deployment::start(&runtime(), plugin, settings("deaf-peers"))
        .await
        .unwrap();
    let home = Home::new();
    for _ in 0..=WAITING_MAX {
        deployment.tell_peers(from_elsewhere("script", "trap"));
    }
    let commit = home.run(&deployment, client(1), "tell t x\nheard").await;
    assert_eq!(
        (said(&commit), told(&commit).len()),
        (vec![String::new()], 1)
    );
    let words = ["tenant=\"deaf-peers\""];
    assert_eq!(logged(&words), Vec::<String>::new());
    // The next version takes them.
    deployment
        .swap(crate::harness::plugin(guest()).await)
        .await
        .unwrap();
    deployment.tell_peers(from_elsewhere("t", "now"));
    hears(&home, &deployment, client(1), &["t=now"]).await;
}

#[tokio::test]
async fn an_instance_in_quarantine_speaks_and_is_spoken_to_by_none() {
    let deployment = deploy(settings("quarantined-peers")).await;
    let home = Home::new();
    // Under way at two losses of workers.
    let alone = |text: &str| home.send(&deployment, client(1), 2, message(text));
    let commit = home.commit_of(alone("tell t x\nheard")).await;
    assert_eq!(said(&commit), [""]);
    deployment.tell_peers(told(&commit).remove(0));
    hears(&home, &deployment, client(2), &["t=x"]).await;
    let commit = home.commit_of(alone("heard")).await;
    assert_eq!(said(&commit), [""]);
}

#[tokio::test]
async fn a_version_on_trial_that_breaks_on_what_others_say_is_taken_back() {
    for (tenant, mark, does) in [
        ("traps-on-peers", 141, "trap"),
        ("fails-on-peers", 142, "err no"),
    ] {
        let mut settings = settings(tenant);
        settings.rollout.bounds = Bounds {
            window_ms: 600_000,
            traps: 3,
            errors_percent: 50,
            ..Bounds::NONE
        };
        let deployment = deploy(settings).await;
        let home = Home::new();
        let next = plugin(guest_version(mark)).await;
        deployment.swap(next).await.unwrap();
        let bad = version_of(&guest_version(mark));
        let taken_back = || {
            let state = &deployment.history()[1].state;
            matches!(state, VersionState::RolledBack { .. })
        };
        let until = async {
            while !taken_back() {
                deployment.tell_peers(from_elsewhere("script", &format!("on {bad} {does}")));
                // Events are served all the while, and build what broke anew.
                let commit = home.run(&deployment, client(1), "count").await;
                assert_eq!(commit.outcome, Outcome::Done);
            }
        };
        tokio::time::timeout(DEADLINE, until).await.unwrap();
    }
}
