//! Some clients first; and versions that workers take back.

use tidegate_deploy::{CanaryPlan, DeployError, DeployOrder, Fate, version_of};

use super::fake::Fake;
use super::rig::{Gateway, Rig, component, done, failed, order, serve, until, until_async};

fn canary(name: &str, seconds: u64) -> DeployOrder {
    DeployOrder {
        canary: Some(CanaryPlan {
            percent: 10,
            clients: Vec::new(),
            seconds,
        }),
        ..order(name)
    }
}

async fn newest(gateway: &Gateway) -> Fate {
    let desired = gateway.deploys.desired().await.unwrap();
    desired.tenants["t"].releases[0].fate.clone()
}

#[tokio::test]
async fn a_canary_serves_beside_the_old_version_until_it_is_promoted() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    let two = version_of(&component("two"));
    let (_, version, workers) =
        done(gateway.deploys.deploy(canary("two", 0), component("two"))).await;
    assert_eq!((version, workers), (two.clone(), 2));
    for worker in [&a, &b] {
        assert_eq!(worker.fake.canary("t"), Some(two.clone()));
    }
    serve(&[&a, &b], "one").await;
    let error = failed(gateway.deploys.deploy(order("three"), component("three"))).await;
    assert!(
        matches!(error, DeployError::CanaryUnderWay { .. }),
        "{error}"
    );
    // One that joins meanwhile runs both.
    let late = rig.plain_worker("late").await;
    until("late has the canary", || {
        late.fake.canary("t") == Some(two.clone())
    })
    .await;
    serve(&[&late], "one").await;
    gateway.sees(3).await;

    let promote = || gateway.deploys.promote("t".into(), "bob".into());
    assert_eq!(done(promote()).await.2, 3);
    serve(&[&a, &b, &late], "two").await;
    assert_eq!(a.fake.canary("t"), None);
    let error = failed(promote()).await;
    assert_eq!(error, DeployError::NoCanary { tenant: "t".into() });
}

#[tokio::test]
async fn a_canary_that_does_badly_at_a_worker_becomes_nobodys_by_hand_or_in_time() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    b.fake.fails("2 of 2 broke");
    let two = version_of(&component("two"));
    done(gateway.deploys.deploy(canary("two", 0), component("two"))).await;
    until_async("b tells it", async || {
        let overview = gateway.deploys.overview().await.unwrap();
        let mut workers = overview.workers.iter();
        workers.any(|it| it.running[0].failing.is_some())
    })
    .await;
    let error = failed(gateway.deploys.promote("t".into(), "bob".into())).await;
    let DeployError::TakenBack { version, reason } = error else {
        panic!("{error}");
    };
    assert_eq!((version, &*reason), (two.clone(), "worker b: 2 of 2 broke"));
    assert!(matches!(newest(&gateway).await, Fate::RolledBack(_)));
    done(
        gateway
            .deploys
            .deploy(canary("three", 1), component("three")),
    )
    .await;
    until("three is given up", || a.fake.canary("t").is_none()).await;
    assert!(matches!(newest(&gateway).await, Fate::RolledBack(_)));
    serve(&[&a, &b], "one").await;
    let switched = [&a, &b].map(|it| it.fake.log());
    let promoted = |log: &Vec<String>| log.iter().any(|it| it.starts_with("promote"));
    assert!(!switched.iter().any(promoted), "{switched:?}");
}

#[tokio::test]
async fn a_rollback_gives_a_canary_up() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    done(gateway.deploys.deploy(canary("two", 0), component("two"))).await;
    let back = gateway.deploys.rollback("t".into(), None, "bob".into());
    assert_eq!(done(back).await.1, version_of(&component("one")));
    assert_eq!(a.fake.canary("t"), None);
    serve(&[&a], "one").await;
    assert_eq!(
        newest(&gateway).await,
        Fate::RolledBack("rolled back by bob".to_owned())
    );
}

#[tokio::test]
async fn a_canary_whose_time_is_over_serves_everybody() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    done(gateway.deploys.deploy(canary("two", 1), component("two"))).await;
    serve(&[&a, &b], "two").await;
    assert_eq!(newest(&gateway).await, Fate::Active);
}

#[tokio::test]
async fn promise_5_a_canary_that_one_worker_takes_back_is_given_up_everywhere() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    done(gateway.deploys.deploy(canary("two", 0), component("two"))).await;
    a.fake.take_back("t", &component("two"), "3 traps").await;
    until("b gives it up", || b.fake.canary("t").is_none()).await;
    serve(&[&a, &b], "one").await;
    assert_eq!(
        newest(&gateway).await,
        Fate::RolledBack("worker a: 3 traps".to_owned())
    );
    gateway.deploy("three").await;
    serve(&[&a, &b], "three").await;
}

#[tokio::test]
async fn promise_5_a_version_that_one_worker_takes_back_is_taken_back_everywhere() {
    let rig = Rig::new(1).await;
    let (register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    gateway.deploy("two").await;
    // Told when the register is back; meanwhile the worker does not try it again.
    register.stop().await;
    a.fake.take_back("t", &component("two"), "3 traps").await;
    serve(&[&a], "one").await;
    serve(&[&b], "two").await;
    let _register = rig.register(0).await;
    serve(&[&a, &b], "one").await;
    gateway.sees(2).await;
    let desired = gateway.deploys.desired().await.unwrap();
    let releases = &desired.tenants["t"].releases;
    assert_eq!(releases[0].fate, Fate::Active);
    assert_eq!(&*releases[0].by, "tidegate");
    assert_eq!(
        releases[1].fate,
        Fate::RolledBack("worker a: 3 traps".to_owned())
    );
    let prepared = a.fake.log().iter().filter(|it| *it == "prepare t").count();
    assert_eq!(prepared, 2);
}

#[tokio::test]
async fn promise_5_a_first_release_that_is_taken_back_leaves_what_the_files_name() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let with_file = || Fake::new(&["t"]).with_file("t", "of the file");
    let (a, b) = (
        rig.worker("a", with_file()).await,
        rig.worker("b", with_file()).await,
    );
    let gateway = rig.gateway("g").await;
    gateway.sees(2).await;
    gateway.deploy("one").await;
    a.fake.take_back("t", &component("one"), "3 traps").await;
    until("b goes back to its file", || {
        b.fake.serving("t") == Some("of the file".into())
    })
    .await;
    assert_eq!(a.fake.serving("t"), Some("of the file".into()));
}
