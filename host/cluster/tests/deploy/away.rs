//! While the first register is away, and what becomes of the order that it had.

use std::time::{Duration, Instant};

use tidegate_deploy::{CanaryPlan, DeployError, DeployOrder, Fate, Progress, Teller, version_of};
use tokio::time::timeout;

use super::rig::{Rig, all, component, done, failed, order, serve, until, until_async};

/// Who only looks is answered within this.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn without_its_only_register_a_gateway_tells_what_it_keeps_at_once() {
    let rig = Rig::new(1).await;
    let (register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    serve(&[&a], "one").await;
    let (overview, teller) = gateway.deploys.look().await;
    assert_eq!((teller, overview.workers.len()), (Teller::First, 1));
    register.stop().await;
    until_async("the gateway answers by itself", async || {
        let since = Instant::now();
        let (overview, teller) = gateway.deploys.look().await;
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        let current = overview.desired.current("t").map(|it| it.version.clone());
        current == Some(version_of(&component("one"))) && teller == Teller::Own
    })
    .await;
    let _register = rig.register(0).await;
    until_async("the register answers again", async || {
        gateway.deploys.look().await.1 == Teller::First
    })
    .await;
}

#[tokio::test]
async fn without_the_first_register_another_one_tells_what_workers_run() {
    let rig = Rig::new(2).await;
    let _other = rig.register(1).await;
    let (register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    serve(&[&a], "one").await;
    register.stop().await;
    let one = version_of(&component("one"));
    until_async("the other register answers", async || {
        let (overview, teller) = gateway.deploys.look().await;
        let workers = overview.workers.iter().flat_map(|it| &it.running);
        let runs = workers
            .filter(|it| it.serving.as_ref() == Some(&one))
            .count();
        teller == Teller::Other && runs == 1
    })
    .await;
}

#[tokio::test]
async fn an_order_that_is_lost_with_the_register_has_a_line_in_the_history() {
    let rig = Rig::new(1).await;
    let (register, [a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    a.fake.gate(false);
    let progress = gateway.deploys.deploy(order("two"), component("two"));
    until("the worker starts it", || {
        a.fake.log().last() == Some(&"prepare t".to_owned())
    })
    .await;
    register.stop().await;
    let error = failed(progress).await;
    let lost = matches!(
        error,
        DeployError::RegisterLost { .. } | DeployError::Stopping
    );
    assert!(lost, "{error}");
    a.fake.gate(true);
    let register = rig.register(0).await;
    let fates = async || {
        let desired = gateway.deploys.desired().await.ok()?;
        let releases = &desired.tenants.get("t")?.releases;
        let fates = releases.iter();
        let fates: Vec<_> = fates
            .map(|it| (it.source.to_string(), it.fate.clone()))
            .collect();
        Some(fates)
    };
    until_async("the history has it", async || {
        let Some(fates) = fates().await else {
            return false;
        };
        let newest = fates.first();
        newest.is_some_and(|(source, fate)| source == "two" && matches!(fate, Fate::Failed(_)))
    })
    .await;
    // Once, and not again by the next life.
    register.stop().await;
    let _register = rig.register(0).await;
    gateway.sees(1).await;
    gateway.deploy("three").await;
    let fates = fates().await.unwrap();
    let failed = fates
        .iter()
        .filter(|(_, fate)| matches!(fate, Fate::Failed(_)));
    assert_eq!((fates.len(), failed.count()), (3, 1), "{fates:?}");
}

#[tokio::test]
async fn a_register_to_which_nobody_had_a_link_says_that_workers_may_be_missing() {
    let mut rig = Rig::new(1).await;
    rig.settings.grace = Duration::from_secs(2);
    let grace_ms = 2_000;
    let (register, [a, b], gateway) = rig.start(["a", "b"]).await;
    let look = async || {
        let (overview, teller) = gateway.deploys.look().await;
        (teller == Teller::First).then_some((overview.workers.len(), overview.settles_in_ms))
    };
    until_async("it has settled", async || look().await == Some((2, 0))).await;
    // Started again, while a worker is not back.
    register.stop().await;
    b.running.stop().await;
    let _register = rig.register(0).await;
    until_async("it sees one and says that it may lack some", async || {
        look()
            .await
            .is_some_and(|(workers, left)| workers == 1 && (1..=grace_ms).contains(&left))
    })
    .await;
    until_async("who is not back is away", async || {
        look().await == Some((1, 0))
    })
    .await;
    // Cut off from all: the register itself lives on.
    gateway.stop().await;
    a.running.stop().await;
    let gateway = rig.gateway("g").await;
    until_async("it may lack some again", async || {
        let (overview, teller) = gateway.deploys.look().await;
        teller == Teller::First && overview.settles_in_ms > 0
    })
    .await;
    until_async("nobody is back", async || {
        let (overview, teller) = gateway.deploys.look().await;
        teller == Teller::First && overview.settles_in_ms == 0 && overview.workers.is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_order_that_waits_for_workers_says_so_at_once_and_is_carried_out_at_all_that_come() {
    let mut rig = Rig::new(1).await;
    rig.settings.grace = Duration::from_secs(2);
    let (register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    register.stop().await;
    b.running.stop().await;
    let _register = rig.register(0).await;
    until_async("the gateway is back", async || {
        gateway.deploys.look().await.1 == Teller::First
    })
    .await;
    let mut two = gateway.deploys.deploy(order("two"), component("two"));
    let since = Instant::now();
    let first = timeout(AT_ONCE, two.recv()).await.unwrap();
    let Some(Progress::Waiting { at_most_ms }) = first else {
        panic!("{first:?} after {:?}", since.elapsed());
    };
    assert!((1..=2_000).contains(&at_most_ms), "{at_most_ms}");
    // One at a time.
    let error = failed(gateway.deploys.withdraw("t".into(), "bob".into())).await;
    assert!(matches!(error, DeployError::Busy { .. }), "{error}");
    let b = rig.plain_worker("b").await;
    let (_, _, workers) = done(two).await;
    assert_eq!(workers, 2);
    serve(&[&a, &b], "two").await;
    // Once it has settled nobody waits.
    let seen = all(gateway.deploys.withdraw("t".into(), "bob".into())).await;
    let waits = |it: &Progress| matches!(it, Progress::Waiting { .. });
    assert!(!seen.iter().any(waits), "{seen:?}");
}

#[tokio::test]
async fn every_order_that_waits_says_so() {
    let mut rig = Rig::new(1).await;
    rig.settings.grace = Duration::from_secs(1);
    let (mut register, [_a], gateway) = rig.start(["a"]).await;
    gateway.deploy("one").await;
    gateway.deploy("two").await;
    for what in ["rollback", "canary", "promote", "withdraw"] {
        register.stop().await;
        register = rig.register(0).await;
        until_async("the gateway is back", async || {
            gateway.deploys.look().await.1 == Teller::First
        })
        .await;
        let (t, bob) = ("t".into(), "bob".into());
        let progress = match what {
            "rollback" => gateway.deploys.rollback(t, None, bob),
            "canary" => {
                let canary = CanaryPlan {
                    percent: 10,
                    clients: Vec::new(),
                    seconds: 0,
                };
                let canary = Some(canary);
                let order = DeployOrder {
                    canary,
                    ..order("three")
                };
                gateway.deploys.deploy(order, component("three"))
            }
            "promote" => gateway.deploys.promote(t, bob),
            _ => gateway.deploys.withdraw(t, bob),
        };
        let seen = all(progress).await;
        assert!(
            matches!(seen.first(), Some(Progress::Waiting { .. })),
            "{what}: {seen:?}"
        );
        assert!(
            matches!(seen.last(), Some(Progress::Done { workers: 1, .. })),
            "{what}: {seen:?}"
        );
    }
    register.stop().await;
}
