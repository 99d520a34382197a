//! Nodes that are lost, come late, come back with less, or with another disk.

use std::fs;
use std::time::Duration;

use tidegate_deploy::{CanaryPlan, DeployError, DeployOrder, Progress, Step, version_of};
use tidegate_wire::Name;

use super::fake::Fake;
use super::rig::{Rig, all, component, done, failed, order, serve, until, until_async};

#[tokio::test]
async fn a_worker_that_joins_later_gets_the_version_and_its_bytes() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    let late = rig
        .worker("late", Fake::new(&["t"]).with_file("t", "of the file"))
        .await;
    serve(&[&a, &late], "one").await;
    let stranger = rig.worker("other", Fake::new(&["other"])).await;
    gateway.sees(3).await;
    assert!(stranger.fake.log().is_empty());
}

#[tokio::test]
async fn a_worker_lost_after_the_decision_switches_when_it_is_back() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    b.fake.stick(Some("not now"));
    let progress = gateway.deploys.deploy(order("one"), component("one"));
    serve(&[&a], "one").await;
    b.running.stop().await;
    let seen = all(progress).await;
    let lost = |it: &Progress| matches!(it, Progress::Worker { worker, step: Step::Failed(_) } if &**worker == "b");
    assert!(seen.iter().any(lost), "{seen:?}");
    assert!(matches!(
        seen.last(),
        Some(Progress::Done { workers: 1, .. })
    ));
    let b = rig.plain_worker("b").await;
    serve(&[&a, &b], "one").await;
}

#[tokio::test]
async fn a_switch_that_fails_is_told_and_tried_again() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    a.fake.stick(Some("not now"));
    let progress = gateway.deploys.deploy(order("one"), component("one"));
    until_async("the trouble is told", async || {
        let overview = gateway.deploys.overview().await.unwrap();
        overview.workers[0].running[0].trouble.as_deref() == Some("not now")
    })
    .await;
    a.fake.stick(None);
    let seen = all(progress).await;
    assert!(matches!(
        seen.last(),
        Some(Progress::Done { workers: 1, .. })
    ));
    serve(&[&a], "one").await;
}

#[tokio::test]
async fn what_an_earlier_version_met_is_not_told_of_the_next_one() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    let fake = Fake::new(&["t"]);
    fake.is_unfit_for(&component("one"));
    let late = rig.worker("late", fake).await;
    gateway.sees(2).await;
    until("late lags", || !late.agent.lags().borrow().is_empty()).await;
    let seen = all(gateway.deploys.deploy(order("two"), component("two"))).await;
    let failed = |it: &Progress| {
        matches!(
            it,
            Progress::Worker {
                step: Step::Failed(_),
                ..
            }
        )
    };
    assert!(!seen.iter().any(failed), "{seen:?}");
    serve(&[&a, &late], "two").await;
}

#[tokio::test]
async fn promise_5_a_register_lost_before_the_decision_leaves_nothing_prepared() {
    let mut rig = Rig::new(1).await;
    rig.settings.hold_max = Duration::from_millis(300);
    let (register, [a, b], gateway) = rig.start(["a", "b"]).await;
    b.fake.gate(false);
    let progress = gateway.deploys.deploy(order("one"), component("one"));
    until("a has prepared", || a.fake.has_prepared("t")).await;
    register.stop().await;
    let error = failed(progress).await;
    assert!(
        matches!(
            error,
            DeployError::RegisterLost { .. } | DeployError::Stopping
        ),
        "{error}"
    );
    until("a lets go", || !a.fake.has_prepared("t")).await;
    b.fake.gate(true);
    until("b lets go", || {
        b.fake.log().contains(&"discard t".to_owned())
    })
    .await;
    let _register = rig.register(0).await;
    gateway.sees(2).await;
    gateway.deploy("two").await;
    serve(&[&a, &b], "two").await;
}

#[tokio::test]
async fn what_is_prepared_is_held_for_as_long_as_the_register_lives() {
    let mut rig = Rig::new(1).await;
    rig.settings.hold_max = Duration::from_millis(200);
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    b.fake.gate(false);
    let progress = gateway.deploys.deploy(order("one"), component("one"));
    until("a has prepared", || a.fake.has_prepared("t")).await;
    let since = std::time::Instant::now();
    until("thrice that time has passed", || {
        since.elapsed() > rig.settings.hold_max * 3
    })
    .await;
    b.fake.gate(true);
    assert!(matches!(
        all(progress).await.last(),
        Some(Progress::Done { workers: 2, .. })
    ));
    assert_eq!(a.fake.log(), ["prepare t", "activate t"]);
}

#[tokio::test]
async fn a_register_that_restarts_goes_on_from_its_disk() {
    let rig = Rig::new(1).await;
    let (register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    register.stop().await;
    let _register = rig.register(0).await;
    gateway.sees(1).await;
    let (generation, ..) = gateway.deploy("two").await;
    assert_eq!(generation, 2);
    serve(&[&a], "two").await;
    let desired = gateway.deploys.desired().await.unwrap();
    assert_eq!(desired.tenants["t"].releases.len(), 2);
}

#[tokio::test]
async fn a_register_with_a_new_disk_learns_state_and_bytes_from_the_others() {
    let rig = Rig::new(1).await;
    let (register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    gateway.deploy("two").await;
    register.stop().await;
    drop(rig.store("register-0").await);
    fs::remove_dir_all(rig.folder("register-0")).unwrap();
    let _register = rig.register(0).await;
    gateway.sees(1).await;
    let version = version_of(&component("two"));
    let file = rig
        .folder("register-0/components")
        .join(format!("{version}.wasm"));
    until("the bytes are back", || file.exists()).await;
    let (generation, ..) = gateway.deploy("three").await;
    assert_eq!(generation, 3);
    serve(&[&a], "three").await;
}

#[tokio::test]
async fn a_second_register_keeps_copies_and_teaches_the_first() {
    let rig = Rig::new(2).await;
    let first = rig.register(0).await;
    let _second = rig.register(1).await;
    let a = rig.plain_worker("a").await;
    let gateway = rig.gateway("g").await;
    gateway.sees(1).await;
    gateway.deploy("one").await;
    let version = version_of(&component("one"));
    let file = rig
        .folder("register-1/components")
        .join(format!("{version}.wasm"));
    until("the second has the bytes", || file.exists()).await;
    // Everything is gone but the second register.
    first.stop().await;
    a.running.stop().await;
    gateway.stop().await;
    for node in ["register-0", "a", "g"] {
        drop(rig.store(node).await);
        fs::remove_dir_all(rig.folder(node)).unwrap();
    }
    let a = rig.plain_worker("a").await;
    serve(&[&a], "one").await;
    let _first = rig.register(0).await;
    let gateway = rig.gateway("g").await;
    gateway.sees(1).await;
    let (generation, ..) = gateway.deploy("two").await;
    assert_eq!(generation, 2);
}

#[tokio::test]
async fn without_the_first_register_nothing_is_deployed_and_the_error_names_it() {
    let mut rig = Rig::new(2).await;
    rig.settings.reconnect_max = Duration::from_millis(20);
    let _second = rig.register(1).await;
    let gateway = rig.gateway("g").await;
    let error = failed(gateway.deploys.deploy(order("one"), component("one"))).await;
    let register = rig.registers[0].to_string();
    assert_eq!(
        error,
        DeployError::NoRegister {
            register: register.clone()
        }
    );
    assert!(error.to_string().contains(&register));
    assert!(gateway.deploys.desired().await.is_err());
}

#[tokio::test]
async fn after_all_nodes_were_restarted_the_highest_generation_serves() {
    let rig = Rig::new(1).await;
    let (register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    b.running.stop().await;
    until_async("b is gone", async || {
        gateway.deploys.overview().await.unwrap().workers.len() == 1
    })
    .await;
    gateway.deploy("two").await;
    a.running.stop().await;
    register.stop().await;
    gateway.stop().await;

    // Without any register, each from its own disk.
    let (a, b) = (rig.plain_worker("a").await, rig.plain_worker("b").await);
    a.agent.settled().await;
    b.agent.settled().await;
    assert!(a.fake.serves("t", &component("two")));
    assert!(b.fake.serves("t", &component("one")));
    // The register's disk is gone as well: a knows most.
    drop(rig.store("register-0").await);
    fs::remove_dir_all(rig.folder("register-0")).unwrap();
    let _register = rig.register(0).await;
    serve(&[&a, &b], "two").await;
    let gateway = rig.gateway("g").await;
    gateway.sees(2).await;
    assert_eq!(gateway.deploys.desired().await.unwrap().generation, 2);
}

#[tokio::test]
async fn a_damaged_component_is_not_used_but_fetched_again() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    a.running.stop().await;
    let version = version_of(&component("one"));
    let file = rig.folder("a/components").join(format!("{version}.wasm"));
    drop(rig.store("a").await);
    fs::write(&file, b"not what it was").unwrap();
    let a = rig.plain_worker("a").await;
    serve(&[&a], "one").await;
    assert_eq!(fs::read(&file).unwrap(), component("one"));
}

#[tokio::test]
async fn what_nobody_has_any_more_is_refused_by_name_and_runs_again_once_its_file_is_given() {
    let rig = Rig::new(1).await;
    let (register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    let (decided, version, _) = gateway.deploy("two").await;
    register.stop().await;
    a.running.stop().await;
    b.running.stop().await;
    for node in ["register-0", "a", "b"] {
        // The process before may still be ending.
        drop(rig.store(node).await);
        fs::remove_dir_all(rig.folder(node).join("components")).unwrap();
    }
    let _register = rig.register(0).await;
    let [a, b] = [rig.plain_worker("a").await, rig.plain_worker("b").await];
    gateway.sees(2).await;
    let back = |to: Option<&Name>| {
        let to = to.map(ToString::to_string);
        gateway.deploys.rollback("t".into(), to, "bob".into())
    };
    for (to, lost) in [(Some(&version), "two"), (None, "one")] {
        let version = version_of(&component(lost));
        let error = failed(back(to)).await;
        assert_eq!(error, DeployError::NotKept { version });
        assert!(error.to_string().contains("give its file again"), "{error}");
    }
    assert_eq!(gateway.deploy("two").await, (decided, version.clone(), 2));
    serve(&[&a, &b], "two").await;
    // Nothing is left to do.
    assert_eq!(gateway.deploy("two").await, (decided, version, 2));
}

#[tokio::test]
async fn a_canary_that_nobody_has_any_more_is_not_promoted() {
    let rig = Rig::new(1).await;
    let (register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    let plan = CanaryPlan {
        percent: 10,
        clients: Vec::new(),
        seconds: 0,
    };
    let canary = DeployOrder {
        canary: Some(plan),
        ..order("two")
    };
    done(gateway.deploys.deploy(canary, component("two"))).await;
    register.stop().await;
    a.running.stop().await;
    let two = version_of(&component("two"));
    for node in ["register-0", "a"] {
        drop(rig.store(node).await);
        let file = format!("components/{two}.wasm");
        fs::remove_file(rig.folder(node).join(file)).unwrap();
    }
    let _register = rig.register(0).await;
    let a = rig.plain_worker("a").await;
    serve(&[&a], "one").await;
    gateway.sees(1).await;
    let error = failed(gateway.deploys.promote("t".into(), "bob".into())).await;
    assert_eq!(error, DeployError::NotKept { version: two });
}

#[tokio::test]
async fn a_version_that_runs_nowhere_is_not_done_by_being_deployed_again() {
    let mut rig = Rig::new(1).await;
    rig.settings.switch_max = Duration::from_secs(1);
    let (_register, [a], gateway) = rig.start(["a"]).await;
    let (decided, version, _) = gateway.deploy("one").await;
    a.running.stop().await;
    until_async("nobody is there", async || {
        let overview = gateway.deploys.overview().await;
        overview.is_ok_and(|it| it.workers.is_empty())
    })
    .await;
    let again = || gateway.deploys.deploy(order("one"), component("one"));
    assert_eq!(failed(again()).await, DeployError::NoWorker);
    let a = rig.worker("a", Fake::new(&["t"])).await;
    a.fake.refuse(Some("it traps in on-start"));
    gateway.sees(1).await;
    let error = failed(again()).await;
    assert!(
        matches!(&error, DeployError::Refused { reason, .. } if reason.contains("it traps")),
        "{error}"
    );
    // It is tried at once, not only at the worker's next try.
    a.fake.refuse(None);
    assert_eq!(done(again()).await, (decided, version, 1));
    serve(&[&a], "one").await;
}
