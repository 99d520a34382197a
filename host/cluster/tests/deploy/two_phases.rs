//! All workers prepare, then all switch; or none does. Named for promise 5 of the design: a bad
//! deploy hurts nobody.

use tidegate_deploy::{DeployError, Fate, Progress, Step, version_of};

use super::fake::Fake;
use super::rig::{LENGTH, Rig, all, component, done, failed, order, serve, until};

#[tokio::test]
async fn all_prepare_then_all_switch_and_every_step_is_told() {
    let rig = Rig::new(1).await;
    let (_register, workers, gateway) = rig.start(["a", "b"]).await;
    let progress = all(gateway.deploys.deploy(order("one.wasm"), component("one"))).await;
    let place = |wanted: &Progress| progress.iter().position(|it| it == wanted).unwrap();
    let decided = place(&Progress::Decided { generation: 1 });
    let uploaded = place(&Progress::Uploaded {
        bytes: LENGTH as u64,
    });
    for worker in ["a", "b"] {
        let step = |step| {
            place(&Progress::Worker {
                worker: worker.into(),
                step,
            })
        };
        assert!(uploaded < step(Step::Fetched));
        assert!(step(Step::Fetched) < step(Step::Compiled));
        assert!(step(Step::Compiled) < step(Step::Started));
        assert!(step(Step::Started) < decided);
        assert!(decided < step(Step::Switched));
    }
    let version = version_of(&component("one"));
    let last = Progress::Done {
        generation: 1,
        version: version.clone(),
        workers: 2,
        trial: false,
    };
    assert_eq!(progress.last(), Some(&last));
    serve(&[&workers[0], &workers[1]], "one").await;
    for worker in &workers {
        assert_eq!(worker.fake.log(), ["prepare t", "activate t"]);
    }
    let desired = gateway.deploys.desired().await.unwrap();
    let release = desired.current("t").unwrap();
    assert_eq!((&*release.source, &*release.by), ("one.wasm", "alice"));
}

#[tokio::test]
async fn promise_5_one_worker_refuses_and_nobody_switches() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    b.fake.refuse(Some("it traps in on-start"));
    let error = failed(gateway.deploys.deploy(order("two.wasm"), component("two"))).await;
    let expected = DeployError::Refused {
        worker: "b".into(),
        reason: "it traps in on-start".to_owned(),
    };
    assert_eq!(error, expected);
    until("a discards", || !a.fake.has_prepared("t")).await;
    serve(&[&a, &b], "one").await;
    let desired = gateway.deploys.desired().await.unwrap();
    let releases = &desired.tenants["t"].releases;
    assert!(matches!(&releases[0].fate, Fate::Failed(why) if why.contains("traps in on-start")));
    assert_eq!(releases[1].fate, Fate::Active);
    // What never served is not kept.
    let version = version_of(&component("two"));
    for node in ["register-0", "a", "b"] {
        let file = rig.folder(node).join(format!("components/{version}.wasm"));
        until("the file is gone", || !file.exists()).await;
    }
    b.fake.refuse(None);
    gateway.deploy("two").await;
    serve(&[&a, &b], "two").await;
}

#[tokio::test]
async fn promise_5_a_worker_without_settings_for_the_tenant_is_named() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let a = rig.plain_worker("a").await;
    let _b = rig.worker("b", Fake::new(&["other"])).await;
    let gateway = rig.gateway("g").await;
    gateway.sees(2).await;
    let error = failed(gateway.deploys.deploy(order("one"), component("one"))).await;
    let expected = DeployError::TenantUnknown {
        tenant: "t".into(),
        worker: "b".into(),
    };
    assert_eq!(error, expected);
    assert!(a.fake.log().is_empty());
}

#[tokio::test]
async fn promise_5_a_worker_lost_while_preparing_stops_the_deploy() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    b.fake.gate(false);
    let progress = gateway.deploys.deploy(order("one"), component("one"));
    until("a has prepared", || a.fake.has_prepared("t")).await;
    until("b prepares", || !b.fake.log().is_empty()).await;
    b.running.stop().await;
    let error = failed(progress).await;
    assert_eq!(error, DeployError::WorkerLost { worker: "b".into() });
    until("a discards", || !a.fake.has_prepared("t")).await;
    assert_eq!(a.fake.serving("t"), None);
}

#[tokio::test]
async fn a_deploy_without_workers_says_so() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let gateway = rig.gateway("g").await;
    let error = failed(gateway.deploys.deploy(order("one"), component("one"))).await;
    assert_eq!(error, DeployError::NoWorker);
}

#[tokio::test]
async fn the_version_that_serves_is_deployed_already() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    let first = gateway.deploy("one").await;
    assert_eq!(gateway.deploy("one").await, first);
    assert_eq!(a.fake.log(), ["prepare t", "activate t"]);
}

#[tokio::test]
async fn an_operator_that_stops_listening_undoes_nothing() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    drop(gateway.deploys.deploy(order("one"), component("one")));
    serve(&[&a], "one").await;
}

#[tokio::test]
async fn a_second_order_is_told_that_the_desk_is_busy() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let a = rig.plain_worker("a").await;
    let (one, two) = (rig.gateway("g").await, rig.gateway("h").await);
    one.sees(1).await;
    a.fake.gate(false);
    let progress = one.deploys.deploy(order("one"), component("one"));
    until("a prepares", || !a.fake.log().is_empty()).await;
    let error = failed(two.deploys.deploy(order("two"), component("two"))).await;
    assert_eq!(error, DeployError::Busy { tenant: "t".into() });
    a.fake.gate(true);
    done(progress).await;
    two.deploy("two").await;
    serve(&[&a], "two").await;
}
