//! While a version is on trial, what breaks or fails under it is run by the version before, in its
//! place: a bad version loses nothing. The bounds still decide about it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::{Bounds, Deployment, DeploymentSettings, VersionState};
use tidegate_wire::deploy::version_of;
use tidegate_wire::effect::Outcome;

use crate::harness::{
    Home, client, close, deploy, eventually, guest, guest_version, logged, message, plugin,
    request, runtime, said, settings,
};
use crate::stream::Stream;

const LONG: Bounds = Bounds {
    window_ms: 600_000,
    ..Bounds::NONE
};

fn on_trial(tenant: &str, bounds: Bounds) -> DeploymentSettings {
    let mut settings = settings(tenant);
    settings.rollout.bounds = bounds;
    settings
}

fn version(mark: u8) -> String {
    version_of(&guest_version(mark)).to_string()
}

fn first() -> String {
    version_of(&guest()).to_string()
}

async fn next(deployment: &Deployment, mark: u8) {
    let next = plugin(guest_version(mark)).await;
    deployment.swap(next).await.unwrap();
}

/// A version does this for one event of so many, of all clients or of so many of a hundred.
async fn loses_nothing(tenant: &str, mark: u8, does: &str, every: u64, percent: u8) {
    let mut settings = on_trial(tenant, LONG);
    settings.instances = 2;
    settings.limits.cpu_ms = 50;
    settings.limits.memory_bytes = 16 << 20;
    settings.rollout.canary_percent = percent;
    settings.rollout.canary_ms = 0;
    settings.rollout.bounds.traps = 20;
    settings.rollout.bounds.errors_percent = 30;
    let deployment = deploy(settings).await;
    let (bad, does) = (version(mark), does.to_owned());
    let stream = Stream::start(&deployment, 20, move |number| {
        match number.is_multiple_of(every) {
            true => format!("on {bad} {does}\nversion"),
            false => "version".to_owned(),
        }
    });
    stream.committed(100).await;
    next(&deployment, mark).await;
    eventually("it is taken back", || {
        let state = &deployment.history()[1].state;
        matches!(state, VersionState::RolledBack { .. })
    })
    .await;
    assert_eq!(**deployment.version().borrow(), *first());
    stream.committed(200).await;
    let outcomes = stream.end(&deployment).await;
    let lost = outcomes.iter().filter(|it| **it != Outcome::Done);
    assert_eq!(lost.count(), 0, "{tenant}");
    assert_eq!(deployment.dead_letters(), []);
}

#[tokio::test]
async fn a_version_that_traps_loses_nothing() {
    loses_nothing("traps-for-all", 110, "trap now", 1, 0).await;
    loses_nothing("traps-for-some", 111, "trap now", 7, 0).await;
    loses_nothing("traps-for-canary", 112, "trap now", 1, 50).await;
    loses_nothing("traps-for-some-of-canary", 113, "trap now", 7, 50).await;
}

#[tokio::test]
async fn a_version_that_fails_or_runs_into_limits_loses_nothing() {
    loses_nothing("fails-for-all", 114, "err no", 1, 0).await;
    loses_nothing("fails-for-canary", 115, "err no", 1, 50).await;
    loses_nothing("spins-for-all", 116, "spin", 1, 0).await;
    loses_nothing("eats-for-all", 117, "eat", 1, 0).await;
    loses_nothing("exits-for-canary", 118, "exit", 1, 50).await;
}

#[tokio::test]
async fn only_what_breaks_under_both_is_set_aside() {
    let deployment = deploy(on_trial("both", LONG)).await;
    let home = Home::new();
    next(&deployment, 120).await;
    let bad = version(120);
    let script = format!("on {bad} trap\nversion");
    let new = home.run(&deployment, client(1), &script).await;
    assert_eq!(said(&new), [first()]);
    let both = home.run(&deployment, client(2), "trap both").await;
    assert_eq!(both.outcome, Outcome::DeadLettered);
    let broke = |version| logged(&["tenant=\"both\"", version, "the handler broke"]).len();
    assert_eq!((broke(&bad), broke(&first())), (2, 1));
    let script = format!("on {} trap\nversion", first());
    let old = home.run(&deployment, client(3), &script).await;
    assert_eq!(said(&old), [version(120)]);
    assert_eq!(deployment.dead_letters().len(), 1);
}

#[tokio::test]
async fn what_was_tried_committed_nothing_and_keeps_its_place() {
    let deployment = deploy(on_trial("atomic", LONG)).await;
    let home = Home::new();
    next(&deployment, 121).await;
    let bad = version(121);
    let script = format!("set k 1\necho half\non {bad} trap\nget k");
    let mut events = vec![home.script(&deployment, client(1), &script)];
    events.extend((0..50).map(|_| home.script(&deployment, client(1), "version\nget k")));
    for (place, event) in events.iter().enumerate() {
        let said = said(&home.commit_of(*event).await);
        let expected = match place {
            0 => vec!["half".to_owned(), "1".to_owned()],
            _ => vec![version(121), "1".to_owned()],
        };
        assert_eq!(said, expected, "{place}");
    }
    let order: Vec<u64> = home.commits().iter().map(|it| it.event.sequence).collect();
    assert_eq!(order, events);
}

#[tokio::test]
async fn two_rescues_move_a_client_back_at_once_and_nobody_else() {
    let deployment = deploy(on_trial("moved", LONG)).await;
    let home = Home::new();
    next(&deployment, 122).await;
    let bad = version(122);
    let script = format!("on {bad} trap\nversion");
    let seen = async |number| said(&home.run(&deployment, client(number), "version").await);
    for _ in 0..2 {
        assert_eq!(seen(1).await, [version(122)]);
        let rescued = home.run(&deployment, client(1), &script).await;
        assert_eq!(said(&rescued), [first()]);
    }
    assert_eq!(seen(1).await, [first()]);
    assert_eq!(seen(2).await, [version(122)]);
    // One that comes later with the same id is another.
    home.send(&deployment, client(1), 0, close());
    assert_eq!(seen(1).await, [version(122)]);
}

#[tokio::test]
async fn an_error_is_run_again_only_where_errors_count() {
    for (tenant, percent, mark) in [("counted", 90, 123), ("not-counted", 0, 124)] {
        let mut settings = on_trial(tenant, LONG);
        settings.rollout.bounds.errors_percent = percent;
        let deployment = deploy(settings).await;
        let home = Home::new();
        next(&deployment, mark).await;
        let script = format!("on {} err no\nversion", version(mark));
        let commit = home.run(&deployment, client(1), &script).await;
        match percent {
            0 => assert_eq!(commit.outcome, Outcome::Failed),
            _ => assert_eq!(said(&commit), [first()]),
        }
        let both = home.run(&deployment, client(1), "err both").await;
        assert_eq!(both.outcome, Outcome::Failed);
        let asked = home.send(&deployment, client(1), 0, request("fail", "why"));
        let asked = home.commit_of(asked).await;
        assert_eq!(asked.outcome, Outcome::Failed);
        assert!(asked.reply.is_some(), "{asked:?}");
        // Fails under the one, breaks under the other: it has failed.
        let mixed = format!("on {} err no\ntrap", version(mark));
        if percent > 0 {
            let mixed = home.run(&deployment, client(2), &mixed).await;
            assert_eq!(mixed.outcome, Outcome::Failed);
            assert_eq!(deployment.dead_letters(), []);
        }
    }
}

#[tokio::test]
async fn once_a_version_is_trusted_what_breaks_twice_is_set_aside_again() {
    let mut bounds = LONG;
    bounds.window_ms = 50;
    let deployment = deploy(on_trial("trusted-again", bounds)).await;
    let home = Home::new();
    next(&deployment, 125).await;
    assert!(deployment.is_on_trial());
    eventually("its trial is over", || !deployment.is_on_trial()).await;
    let script = format!("on {} trap\nversion", version(125));
    let commit = home.run(&deployment, client(1), &script).await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
}

/// A first version on trial.
async fn first_on_trial(tenant: &str, within: Option<Duration>) -> (Deployment, Arc<Home>) {
    let mut settings = on_trial(tenant, LONG);
    settings.rollout.bounds.traps = 3;
    let plugin = plugin(guest()).await;
    let deployment = Deployment::start_first(&runtime(), plugin, settings)
        .await
        .unwrap();
    deployment.serve_first(within);
    (deployment, Home::new())
}

#[tokio::test]
async fn a_first_version_that_crosses_a_bound_is_told() {
    let (deployment, home) = first_on_trial("first-bad", Some(Duration::from_secs(600))).await;
    let mut condemned = deployment.condemned();
    assert!(deployment.is_on_trial());
    for number in 0..2 {
        home.send(&deployment, client(number), 0, message("trap"));
    }
    let told = condemned.recv().await.unwrap();
    assert!(told.is_first && *told.version == *first(), "{told:?}");
    assert!(told.reason.contains("3 is the bound"), "{told:?}");
    let (deployment, home) = first_on_trial("first-old", None).await;
    let mut condemned = deployment.condemned();
    for number in 0..4 {
        home.run(&deployment, client(number), "trap").await;
    }
    assert!(!deployment.is_on_trial() && condemned.try_recv().is_err());
}

#[tokio::test]
async fn what_was_taken_back_is_never_gone_back_to() {
    let mut settings = on_trial("never-again", LONG);
    settings.rollout.bounds.traps = 2;
    let deployment = deploy(settings).await;
    let home = Home::new();
    for mark in [126, 127] {
        next(&deployment, mark).await;
        for number in 0..2 {
            home.run(&deployment, client(number), "trap").await;
        }
        let mut serving = deployment.version();
        serving
            .wait_for(|serving| **serving == *first())
            .await
            .unwrap();
    }
    let error = deployment.rollback(None).await.unwrap_err();
    assert!(error.to_string().contains("no"), "{error}");
    // What comes back is trusted, and what it took the place of is not gone back to.
    next(&deployment, 128).await;
    let back = deployment.prepare(plugin(guest()).await, None).await;
    back.unwrap()
        .return_to("bad elsewhere".to_owned())
        .await
        .unwrap();
    assert!(!deployment.is_on_trial());
    deployment.rollback(None).await.unwrap_err();
}

#[tokio::test]
async fn a_canary_beside_a_version_on_trial_does_not_end_that_trial() {
    let mut settings = on_trial("two-trials", LONG);
    settings.rollout.bounds.traps = 2;
    let deployment = deploy(settings).await;
    let home = Home::new();
    next(&deployment, 129).await;
    let tried = tidegate_runtime::Tried {
        percent: 0,
        clients: vec![client(9)],
        within: None,
    };
    let canary = deployment.prepare(plugin(guest_version(130)).await, Some(tried));
    canary.await.unwrap().activate().await.unwrap();
    let script = format!("on {} trap\nversion", version(129));
    for number in 0..2 {
        let commit = home.run(&deployment, client(number), &script).await;
        assert_eq!(said(&commit), [first()]);
    }
    let mut serving = deployment.version();
    serving
        .wait_for(|serving| **serving == *first())
        .await
        .unwrap();
    assert_eq!(deployment.canary(), None);
}

/// Clients of one instance send what takes long to break: who was first is answered by the version before as
/// soon as its event has broken, not behind all the others' first tries.
#[tokio::test]
async fn what_breaks_slowly_is_rescued_before_the_next_client_has_its_turn() {
    const CLIENTS: u32 = 8;
    let mut settings = on_trial("one-by-one", LONG);
    settings.instances = 1;
    settings.limits.cpu_ms = 200;
    let deployment = deploy(settings).await;
    let home = Home::new();
    next(&deployment, 123).await;
    let script = format!("on {} spin\nversion", version(123));
    let events: Vec<u64> = (0..CLIENTS)
        .map(|number| home.script(&deployment, client(number), &script))
        .collect();
    let broke = || logged(&["tenant=\"one-by-one\"", "the handler broke"]).len();
    for (nth, event) in events.iter().enumerate() {
        assert_eq!(said(&home.commit_of(*event).await), [first()]);
        if nth == 0 {
            // More than a second would be left of the others' tries.
            assert!(
                broke() < CLIENTS as usize,
                "all were tried before one was rescued"
            );
        }
    }
    assert_eq!(broke(), CLIENTS as usize);
}
