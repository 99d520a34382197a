//! A version is made ready beside the one that serves, and goes over, or goes away, when told.

use std::time::Duration;

use tidegate_runtime::{Bounds, PluginError, Tried, VersionState};
use tidegate_wire::deploy::version_of;
use tidegate_wire::effect::Outcome;

use crate::harness::{
    Home, client, deploy, eventually, guest, guest_version, logged, plugin, said, settings,
};
use crate::stream::Stream;

fn version(mark: u8) -> String {
    version_of(&guest_version(mark)).to_string()
}

/// These clients alone, until told.
fn chosen(numbers: &[u32]) -> Option<Tried> {
    Some(Tried {
        percent: 0,
        clients: numbers.iter().map(|number| client(*number)).collect(),
        within: None,
    })
}

#[tokio::test]
async fn what_is_prepared_serves_nobody_until_it_is_activated_and_no_event_is_lost() {
    let mut settings = settings("readied");
    settings.instances = 3;
    let deployment = deploy(settings).await;
    let stream = Stream::start(&deployment, 20, |_| "version".to_owned());
    let prepared = deployment
        .prepare(plugin(guest_version(110)).await, None)
        .await
        .unwrap();
    assert_eq!(**prepared.version(), *version(110));
    stream.committed(50).await;
    assert_eq!(
        deployment.version().borrow().to_string(),
        version_of(&guest()).to_string()
    );
    assert_eq!(deployment.history().len(), 1, "it is not part of it yet");
    prepared.activate().await.unwrap();
    assert_eq!(deployment.version().borrow().to_string(), version(110));
    stream.committed(50).await;
    let outcomes = stream.end(&deployment).await;
    assert_eq!(outcomes.iter().find(|it| **it != Outcome::Done), None);
}

#[tokio::test]
async fn what_is_discarded_is_told_to_stop_and_leaves_nothing() {
    let mut settings = settings("discarded");
    settings.instances = 3;
    let deployment = deploy(settings).await;
    let prepared = deployment
        .prepare(plugin(guest_version(111)).await, None)
        .await
        .unwrap();
    prepared.discard().await;
    assert_eq!(logged(&["discarded", "stopped after 0 events"]).len(), 3);
    assert_eq!(deployment.history().len(), 1);
    let home = Home::new();
    let commit = home.run(&deployment, client(1), "version").await;
    assert_eq!(said(&commit), [version_of(&guest()).to_string()]);
}

#[tokio::test]
async fn a_version_that_serves_is_ready_as_it_is() {
    let deployment = deploy(settings("as-it-is")).await;
    let home = Home::new();
    home.run(&deployment, client(1), "count").await;
    let prepared = deployment
        .prepare(plugin(guest()).await, None)
        .await
        .unwrap();
    // Another one comes and goes meanwhile.
    deployment
        .swap(plugin(guest_version(112)).await)
        .await
        .unwrap();
    deployment.rollback(None).await.unwrap();
    prepared.activate().await.unwrap();
    assert_eq!(deployment.history().len(), 3, "{:?}", deployment.history());

    let prepared = deployment
        .prepare(plugin(guest()).await, None)
        .await
        .unwrap();
    deployment
        .swap(plugin(guest_version(112)).await)
        .await
        .unwrap();
    prepared.activate().await.unwrap();
    assert_eq!(
        deployment.version().borrow().to_string(),
        version_of(&guest()).to_string(),
        "what served when it was prepared is started anew"
    );
}

#[tokio::test]
async fn what_was_prepared_for_a_deployment_that_has_stopped_is_refused() {
    let deployment = deploy(settings("too-late")).await;
    let prepared = deployment
        .prepare(plugin(guest_version(113)).await, None)
        .await
        .unwrap();
    deployment.stop(Duration::from_secs(20)).await;
    let error = prepared.activate().await.unwrap_err();
    assert!(matches!(error, PluginError::Stopped { .. }), "{error}");
    let error = deployment
        .prepare(plugin(guest_version(113)).await, None)
        .await
        .unwrap_err();
    assert!(matches!(error, PluginError::Stopped { .. }), "{error}");
}

#[tokio::test]
async fn chosen_clients_try_a_version_until_it_is_abandoned_by_its_name() {
    let mut settings = settings("chosen");
    settings.instances = 2;
    let deployment = deploy(settings).await;
    let home = Home::new();
    let prepared = deployment
        .prepare(plugin(guest_version(114)).await, chosen(&[3, 7]))
        .await
        .unwrap();
    prepared.activate().await.unwrap();
    let mut who = Vec::new();
    for number in 0..20 {
        let commit = home.run(&deployment, client(number), "version").await;
        if said(&commit) == [version(114)] {
            who.push(number);
        }
    }
    assert_eq!(who, [3, 7]);

    let reason = || "the others did".to_owned();
    let other = version(115).as_str().into();
    assert!(!deployment.abandon(&other, reason()).await.unwrap());
    let tried = version(114).as_str().into();
    assert!(deployment.abandon(&tried, reason()).await.unwrap());
    assert!(!deployment.abandon(&tried, reason()).await.unwrap());
    assert_eq!(deployment.canary(), None);
    assert_eq!(
        deployment.history()[1].state,
        VersionState::RolledBack { reason: reason() }
    );
}

#[tokio::test]
async fn a_version_that_crosses_a_bound_is_told_to_who_listens() {
    let mut settings = settings("condemned");
    settings.rollout.bounds = Bounds {
        traps: 2,
        window_ms: 60_000,
        ..Bounds::NONE
    };
    let deployment = deploy(settings).await;
    let mut condemned = deployment.condemned();
    let home = Home::new();
    for tried in [None, chosen(&[1])] {
        let prepared = deployment
            .prepare(plugin(guest_version(116)).await, tried)
            .await
            .unwrap();
        prepared.activate().await.unwrap();
        for _ in 0..2 {
            let commit = home.run(&deployment, client(1), "trap now").await;
            assert_eq!(commit.outcome, Outcome::DeadLettered);
        }
        let told = condemned.recv().await.unwrap();
        assert_eq!(*told.version, *version(116));
        assert!(told.reason.contains("2 is the bound"), "{}", told.reason);
        eventually("the first one serves again", || {
            deployment.canary().is_none()
                && **deployment.version().borrow() == *version_of(&guest())
        })
        .await;
    }
}
