//! The last versions stay compiled, and it is known what became of each.

use tidegate_runtime::{Deployment, PluginError, VersionState};
use tidegate_wire::deploy::version_of;

use crate::harness::{Home, client, deploy, guest, guest_version, plugin, said, settings};

fn states(deployment: &Deployment) -> Vec<(String, VersionState)> {
    let history = deployment.history();
    assert!(history.is_sorted_by_key(|record| record.at));
    let entry = |record: &tidegate_runtime::VersionRecord| {
        (record.version.to_string(), record.state.clone())
    };
    history.iter().map(entry).collect()
}

fn version(mark: u8) -> String {
    version_of(&guest_version(mark)).to_string()
}

#[tokio::test]
async fn a_rollback_serves_the_version_before_and_keeps_order() {
    let deployment = deploy(settings("back")).await;
    let home = Home::new();
    let first = version_of(&guest()).to_string();
    deployment
        .swap(plugin(guest_version(50)).await)
        .await
        .unwrap();
    let mut events = vec![home.script(&deployment, client(1), "sleep 50\nversion")];
    events.extend((0..100).map(|_| home.script(&deployment, client(1), "version")));
    deployment.rollback(None).await.unwrap();
    assert_eq!(**deployment.version().borrow(), *first);
    events.push(home.script(&deployment, client(1), "version"));
    let mut versions = Vec::new();
    for event in &events {
        versions.push(said(&home.commit_of(*event).await).remove(0));
    }
    assert_eq!(
        (versions.remove(0), versions.pop()),
        (version(50), Some(first.clone()))
    );
    let order = home.commits();
    let order: Vec<u64> = order.iter().map(|commit| commit.event.sequence).collect();
    assert_eq!(order, events);
    let reason = "told to".to_owned();
    assert_eq!(
        states(&deployment),
        [
            (first.clone(), VersionState::Replaced),
            (version(50), VersionState::RolledBack { reason }),
            (first, VersionState::Active),
        ]
    );
    let error = deployment.rollback(None).await.unwrap_err();
    assert!(matches!(error, PluginError::NoPrevious { .. }), "{error}");
}

#[tokio::test]
async fn the_last_few_versions_are_kept_and_older_ones_are_not() {
    let mut settings = settings("few");
    settings.rollout.versions_kept = 3;
    let deployment = deploy(settings).await;
    for mark in 51..55 {
        deployment
            .swap(plugin(guest_version(mark)).await)
            .await
            .unwrap();
    }
    let kept = |mark| deployment.kept(&version(mark)).is_some();
    assert_eq!([51, 52, 53, 54].map(kept), [false, true, true, true]);
    let error = deployment.rollback(Some(&version(51))).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&version(51)) && text.contains(&version(53)),
        "{text}"
    );
    deployment.rollback(Some(&version(52))).await.unwrap();
    assert_eq!(**deployment.version().borrow(), version(52));
    // Used again, it is the last to go.
    deployment
        .swap(plugin(guest_version(55)).await)
        .await
        .unwrap();
    assert_eq!([52, 53, 54, 55].map(kept), [true, false, true, true]);
}

#[tokio::test]
async fn a_version_that_did_not_start_is_in_the_history_with_its_reason() {
    let mut settings = settings("history");
    let only = format!(r#"{{"only-version":"{}"}}"#, version_of(&guest()));
    settings.config = serde_json::from_str(&only).unwrap();
    let deployment = deploy(settings).await;
    deployment
        .swap(plugin(guest_version(56)).await)
        .await
        .unwrap_err();
    let [
        (_, VersionState::Active),
        (failed, VersionState::FailedToStart { reason }),
    ] = &states(&deployment)[..]
    else {
        panic!("{:?}", deployment.history());
    };
    assert_eq!(*failed, version(56));
    assert!(reason.contains("not the version that was told"), "{reason}");
    assert!(deployment.kept(&version(56)).is_none());
}
