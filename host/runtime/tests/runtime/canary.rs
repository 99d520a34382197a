//! Some clients try a new version first; it is promoted, or rolled back by itself, and through all of
//! it each event is committed once and in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_runtime::{Bounds, Deployment, DeploymentSettings, PluginError, VersionState};
use tidegate_wire::deploy::version_of;
use tidegate_wire::effect::Outcome;
use tidegate_wire::id::ClientId;

use crate::harness::{
    Home, client, deploy, eventually, guest, guest_version, logged, plugin, said, settings,
};
use crate::stream::Stream;

/// A deployment of which half the clients try a new version until told.
fn half(tenant: &str) -> DeploymentSettings {
    let mut settings = settings(tenant);
    settings.instances = 2;
    settings.rollout.canary_percent = 50;
    settings.rollout.canary_ms = 0;
    settings
}

fn version(mark: u8) -> String {
    version_of(&guest_version(mark)).to_string()
}

fn first() -> String {
    version_of(&guest()).to_string()
}

async fn seen(home: &Arc<Home>, deployment: &Deployment, client: ClientId) -> String {
    said(&home.run(deployment, client, "version").await).remove(0)
}

/// Of the first clients those that see this version.
async fn who_sees(home: &Arc<Home>, deployment: &Deployment, version: &str) -> Vec<u32> {
    let mut who = Vec::new();
    for number in 0..40 {
        if seen(home, deployment, client(number)).await == version {
            who.push(number);
        }
    }
    who
}

#[tokio::test]
async fn a_share_of_the_clients_tries_a_version_and_keeps_to_it() {
    let deployment = deploy(half("tried")).await;
    let home = Home::new();
    deployment
        .swap(plugin(guest_version(70)).await)
        .await
        .unwrap();
    assert_eq!(deployment.canary().unwrap().to_string(), version(70));
    assert_eq!(**deployment.version().borrow(), *first());
    let who = who_sees(&home, &deployment, &version(70)).await;
    assert!((10..=30).contains(&who.len()), "{who:?}");
    assert_eq!(who_sees(&home, &deployment, &version(70)).await, who);
    assert_eq!(deployment.history()[1].state, VersionState::Canary);

    deployment.rollback(None).await.unwrap();
    assert_eq!(deployment.canary(), None);
    assert!(who_sees(&home, &deployment, &version(70)).await.is_empty());
    let reason = "told to".to_owned();
    assert_eq!(
        deployment.history()[1].state,
        VersionState::RolledBack { reason }
    );
    let error = deployment.promote().await.unwrap_err();
    assert!(matches!(error, PluginError::NoCanary { .. }), "{error}");
    // The next one is tried by the same clients.
    deployment
        .swap(plugin(guest_version(71)).await)
        .await
        .unwrap();
    assert_eq!(who_sees(&home, &deployment, &version(71)).await, who);
}

#[tokio::test]
async fn a_promoted_version_takes_the_memory_of_the_old_one_and_the_canary_starts_empty() {
    let mut settings = half("promoted");
    settings.instances = 1;
    let deployment = deploy(settings).await;
    let home = Home::new();
    for number in 0..100 {
        home.run(&deployment, client(number), "version").await;
    }
    deployment
        .swap(plugin(guest_version(72)).await)
        .await
        .unwrap();
    let count = async |number| {
        let commit = home
            .run(&deployment, client(number), "version\ncount")
            .await;
        let said = said(&commit);
        (said[0].clone(), said[1].parse::<u32>().unwrap())
    };
    let mut counts = Vec::new();
    for number in 0..20 {
        counts.push(count(number).await);
    }
    let tried = counts.iter().filter(|(seen, _)| *seen == version(72));
    let tried: Vec<u32> = tried.map(|(_, count)| *count).collect();
    assert_eq!(
        tried,
        (0..u32::try_from(tried.len()).unwrap()).collect::<Vec<_>>()
    );
    let old = 120 - u32::try_from(tried.len()).unwrap();
    deployment.promote().await.unwrap();
    assert_eq!(deployment.canary(), None);
    assert_eq!(**deployment.version().borrow(), *version(72));
    for number in 0..20 {
        assert_eq!(count(number).await, (version(72), old + number));
    }
    let history = deployment.history();
    let states: Vec<_> = history.iter().map(|record| record.state.clone()).collect();
    assert_eq!(states, [VersionState::Replaced, VersionState::Active]);
}

#[tokio::test]
async fn a_canary_without_a_violation_is_promoted_when_its_time_is_over() {
    let mut settings = half("in-time");
    settings.rollout.canary_ms = 100;
    let deployment = deploy(settings).await;
    let stream = Stream::start(&deployment, 20, |_| "version".to_owned());
    deployment
        .swap(plugin(guest_version(73)).await)
        .await
        .unwrap();
    let mut serving = deployment.version();
    serving
        .wait_for(|serving| **serving == *version(73))
        .await
        .unwrap();
    eventually("the canary is over", || deployment.canary().is_none()).await;
    let outcomes = stream.end(&deployment).await;
    assert_eq!(outcomes.iter().find(|it| **it != Outcome::Done), None);
}

#[tokio::test]
async fn a_canary_that_traps_is_given_up_and_its_clients_go_on_in_order() {
    let mut settings = half("trapping");
    settings.rollout.bounds.traps = 3;
    let deployment = deploy(settings).await;
    let bad = version(74);
    let stream = Stream::start(&deployment, 20, move |_| {
        format!("on {bad} trap now\nversion")
    });
    stream.committed(100).await;
    deployment
        .swap(plugin(guest_version(74)).await)
        .await
        .unwrap();
    eventually("the canary is given up", || deployment.canary().is_none()).await;
    stream.committed(200).await;
    let outcomes = stream.end(&deployment).await;
    assert!(!outcomes.contains(&Outcome::Returned));
    assert!(
        outcomes.iter().all(|it| *it == Outcome::Done),
        "what breaks under a canary is run by the version before"
    );
    assert_eq!(**deployment.version().borrow(), *first());
    let VersionState::RolledBack { reason } = &deployment.history()[1].state else {
        panic!("{:?}", deployment.history());
    };
    assert!(reason.contains("3 is the bound"), "{reason}");
    let told = logged(&["WARN", "trapping", &version(74), "is given up", reason]);
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn a_version_that_crosses_a_bound_after_a_swap_is_rolled_back() {
    let bounds = |set: fn(&mut Bounds)| {
        let mut bounds = Bounds {
            window_ms: 60_000,
            ..Bounds::NONE
        };
        set(&mut bounds);
        bounds
    };
    for (mark, tenant, bounds, does, words) in [
        (
            75,
            "after-traps",
            bounds(|it| it.traps = 3),
            "trap now",
            "instances broke",
        ),
        (
            76,
            "after-errors",
            bounds(|it| it.errors_percent = 50),
            "err no",
            "of its events failed",
        ),
        (
            77,
            "after-latency",
            bounds(|it| it.latency_ms = 5),
            "sleep 10",
            "longer than 5 ms",
        ),
    ] {
        let mut settings = settings(tenant);
        settings.instances = 2;
        settings.rollout.bounds = bounds;
        let deployment = deploy(settings).await;
        let bad = version(mark);
        let stream = Stream::start(&deployment, 20, move |_| {
            format!("on {bad} {does}\nversion")
        });
        stream.committed(50).await;
        deployment
            .swap(plugin(guest_version(mark)).await)
            .await
            .unwrap();
        let mut serving = deployment.version();
        serving
            .wait_for(|serving| **serving == *first())
            .await
            .unwrap();
        stream.committed(50).await;
        let outcomes = stream.end(&deployment).await;
        assert!(!outcomes.contains(&Outcome::Returned), "{tenant}");
        let VersionState::RolledBack { reason } = &deployment.history()[1].state else {
            panic!("{tenant}: {:?}", deployment.history());
        };
        assert!(reason.contains(words), "{reason}");
        assert_eq!(
            logged(&["WARN", tenant, "a version is rolled back", reason]).len(),
            1
        );
    }
}

#[tokio::test]
async fn what_a_version_does_after_its_first_time_does_not_roll_it_back() {
    let mut settings = settings("trusted");
    settings.rollout.bounds = Bounds {
        traps: 1,
        window_ms: 50,
        ..Bounds::NONE
    };
    let deployment = deploy(settings).await;
    let home = Home::new();
    deployment
        .swap(plugin(guest_version(78)).await)
        .await
        .unwrap();
    eventually("its first time is over", || {
        !logged(&["trusted", "first time is over"]).is_empty()
    })
    .await;
    let commit = home.run(&deployment, client(1), "trap late").await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
    assert_eq!(seen(&home, &deployment, client(1)).await, version(78));
    assert_eq!(deployment.history()[1].state, VersionState::Active);
}

#[tokio::test]
async fn a_canary_that_hangs_holds_up_its_own_clients_only_when_they_come_back() {
    let mut settings = half("hanging");
    settings.instances = 1;
    let deployment = deploy(settings).await;
    let home = Home::new();
    deployment
        .swap(plugin(guest_version(79)).await)
        .await
        .unwrap();
    let who = who_sees(&home, &deployment, &version(79)).await;
    let tried = client(who[0]);
    let other = client((0..).find(|number| !who.contains(number)).unwrap());
    let mut events = vec![home.script(&deployment, tried, "sleep 3000\nversion")];
    events.push(home.script(&deployment, tried, "version"));
    eventually("the canary hangs", || deployment.queued_events() == 2).await;
    let back = tokio::spawn({
        let deployment = deployment.clone();
        async move { deployment.rollback(None).await }
    });
    eventually("they are on their way back", || {
        deployment.canary().is_none()
    })
    .await;
    events.push(home.script(&deployment, tried, "version"));
    let start = Instant::now();
    home.run(&deployment, other, "version").await;
    assert!(start.elapsed() < Duration::from_secs(2) && !back.is_finished());
    let mut versions = Vec::new();
    for event in events {
        versions.push(said(&home.commit_of(event).await).remove(0));
    }
    assert_eq!(versions, [version(79), first(), first()]);
    back.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_newer_version_takes_the_place_of_the_one_that_is_tried() {
    let deployment = deploy(half("newer")).await;
    let stream = Stream::start(&deployment, 20, |_| "version".to_owned());
    for mark in [80, 81, 82] {
        deployment
            .swap(plugin(guest_version(mark)).await)
            .await
            .unwrap();
        stream.committed(50).await;
    }
    assert_eq!(deployment.canary().unwrap().to_string(), version(82));
    // The version that serves, deployed again, only ends the trial.
    deployment.swap(plugin(guest()).await).await.unwrap();
    assert_eq!(deployment.canary(), None);
    let reason = "another version came".to_owned();
    let tried = deployment.history().split_off(1);
    assert!(tried.iter().all(|it| it.state
        == VersionState::RolledBack {
            reason: reason.clone()
        }));
    let outcomes = stream.end(&deployment).await;
    assert_eq!(outcomes.iter().find(|it| **it != Outcome::Done), None);
}

#[tokio::test]
async fn a_stop_finishes_what_waits_for_a_canary_too() {
    let deployment = deploy(half("ended-early")).await;
    let home = Home::new();
    deployment
        .swap(plugin(guest_version(83)).await)
        .await
        .unwrap();
    let events: Vec<u64> = (0..100)
        .map(|number| home.script(&deployment, client(number), "version"))
        .collect();
    deployment.stop(Duration::from_secs(20)).await;
    for event in events {
        assert_eq!(home.commit_of(event).await.outcome, Outcome::Done);
    }
    // Two of the deployment and one of the canary.
    assert_eq!(logged(&["ended-early", "stopped after"]).len(), 3);
    let error = deployment.rollback(None).await.unwrap_err();
    assert!(matches!(error, PluginError::Stopped { .. }), "{error}");
}

#[tokio::test]
async fn a_version_that_did_badly_with_few_events_is_taken_back_when_its_time_is_over() {
    for (tenant, percent) in [("few-of-some", 50), ("few-of-all", 0)] {
        let mut settings = half(tenant);
        settings.rollout.canary_percent = percent;
        settings.rollout.bounds = Bounds {
            traps: 20,
            errors_percent: 50,
            latency_ms: 0,
            window_ms: 2_000,
        };
        let deployment = deploy(settings).await;
        let home = Home::new();
        let next = plugin(guest_version(79)).await;
        deployment.swap(next).await.unwrap();
        // Fewer than any bound.
        let script = format!("on {} trap now\nversion", version(79));
        for number in 0..16 {
            let ran = home.run(&deployment, client(number), &script).await;
            assert_eq!(said(&ran), [first()], "{tenant}");
        }
        if percent > 0 {
            assert!(deployment.canary().is_some());
            let error = deployment.promote().await.unwrap_err();
            assert!(matches!(error, PluginError::DidBadly { .. }), "{error}");
        }
        eventually("it is taken back", || {
            let state = &deployment.history()[1].state;
            matches!(state, VersionState::RolledBack { .. })
        })
        .await;
        assert_eq!(**deployment.version().borrow(), *first());
        assert!(deployment.canary().is_none());
        assert_eq!(deployment.dead_letters(), []);
    }
}
