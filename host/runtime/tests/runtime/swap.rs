//! Versions change between two events, or not at all; a stop finishes what was begun.

use std::time::Duration;

use tidegate_runtime::{Deployment, PluginError};
use tidegate_wire::deploy::version_of;
use tidegate_wire::effect::Outcome;

use crate::harness::{
    Home, client, deploy, eventually, guest, guest_version, logged, plugin, runtime, said, settings,
};

fn config(text: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_swap_keeps_waiting_events_and_their_order() {
    let deployment = deploy(settings("swapped")).await;
    let home = Home::new();
    let next = plugin(guest_version(1)).await;
    let new = next.version().to_string();
    let mut events = vec![home.script(&deployment, client(1), "sleep 50\nversion")];
    events.extend((0..200).map(|_| home.script(&deployment, client(1), "version")));
    deployment.swap(next).await.unwrap();
    assert_eq!(**deployment.version().borrow(), *new);
    events.extend((0..50).map(|_| home.script(&deployment, client(1), "version")));
    let mut versions = Vec::new();
    for event in &events {
        versions.push(said(&home.commit_of(*event).await).remove(0));
    }
    let order: Vec<u64> = home
        .commits()
        .iter()
        .map(|commit| commit.event.sequence)
        .collect();
    assert_eq!(order, events);
    let changes = versions
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .count();
    assert_eq!(changes, 1, "old ones first, then new ones");
    assert_ne!(versions[0], new);
    assert_eq!(*versions.last().unwrap(), new);
    eventually("the old instance says goodbye", || {
        logged(&["swapped", "stopped after"]).len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_version_that_refuses_to_start_leaves_the_old_one_serving() {
    let mut settings = settings("choosy");
    let old = version_of(&guest());
    settings.instances = 3;
    settings.config = config(&format!(r#"{{"only-version":"{old}"}}"#));
    let deployment = deploy(settings).await;
    let home = Home::new();
    home.run(&deployment, client(1), "echo hi").await;
    let error = deployment
        .swap(plugin(guest_version(2)).await)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("refused to start: not the version that was told"),
        "{error}"
    );
    assert_eq!(*deployment.version().borrow(), old);
    let commit = home.run(&deployment, client(1), "version\ncount").await;
    assert_eq!(said(&commit), [&*old, "1"], "even its memory is kept");
}

#[tokio::test]
async fn a_plugin_that_traps_or_spins_in_on_start_is_not_deployed() {
    for (how, words) in [
        ("refuse", "refused to start: told to refuse"),
        ("trap", "told to trap at start"),
        ("spin", "CPU limit of 50 ms reached"),
    ] {
        let mut settings = settings("at-start");
        settings.limits.cpu_ms = 50;
        settings.config = config(&format!(r#"{{"at-start":"{how}"}}"#));
        let result = Deployment::start(&runtime(), plugin(guest()).await, settings).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_stop_finishes_what_waits_and_says_goodbye() {
    let deployment = deploy(settings("says-goodbye")).await;
    let home = Home::new();
    let events: Vec<u64> = (0..100)
        .map(|_| home.script(&deployment, client(1), "count"))
        .collect();
    deployment.stop(Duration::from_secs(20)).await;
    for event in events {
        assert_eq!(home.commit_of(event).await.outcome, Outcome::Done);
    }
    assert_eq!(
        logged(&["says-goodbye", "stopped after 100 events"]).len(),
        1
    );
    let late = home.run(&deployment, client(1), "count").await;
    assert_eq!(late.outcome, Outcome::Returned);
    let error = deployment.swap(plugin(guest()).await).await.unwrap_err();
    assert!(matches!(error, PluginError::Stopped { .. }), "{error}");
}

#[tokio::test]
async fn a_stop_gives_back_what_is_not_done_by_its_deadline() {
    let deployment = deploy(settings("hurried")).await;
    let home = Home::new();
    let events: Vec<u64> = (0..5)
        .map(|_| home.script(&deployment, client(1), "sleep 2000"))
        .collect();
    deployment.stop(Duration::from_millis(20)).await;
    for event in events {
        assert_eq!(home.commit_of(event).await.outcome, Outcome::Returned);
    }
    assert_eq!(deployment.queued_events(), 0);
}

#[tokio::test]
async fn a_plugin_without_worker_events_serves() {
    // The same guest whose second export has a name that the host does not know.
    let (known, unknown) = (b"plugin/worker-events@", b"plugin/worker-mishap@");
    let mut bytes = guest();
    let mut at = 0;
    while let Some(found) = bytes[at..]
        .windows(known.len())
        .position(|own| own == known)
    {
        bytes[at + found..][..known.len()].copy_from_slice(unknown);
        at += found;
    }
    let mut settings = settings("smallest");
    settings.config = config(r#"{"at-start":"refuse"}"#);
    let deployment = Deployment::start(&runtime(), plugin(bytes).await, settings)
        .await
        .unwrap();
    let home = Home::new();
    assert_eq!(
        said(&home.run(&deployment, client(1), "echo hi").await),
        ["hi"]
    );
    deployment.stop(Duration::from_secs(20)).await;
    assert!(logged(&["smallest", "stopped after"]).is_empty());
}
