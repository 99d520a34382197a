//! Going back, and what is remembered.

use tidegate_deploy::{DeployError, Fate, version_of};
use tidegate_wire::Name;

use super::rig::{Gateway, Rig, component, done, failed, order, serve};

fn fates(gateway: &[(Name, Fate)]) -> Vec<&Fate> {
    gateway.iter().map(|(_, fate)| fate).collect()
}

async fn history(gateway: &Gateway) -> Vec<(Name, Fate)> {
    let desired = gateway.deploys.desired().await.unwrap();
    let releases = &desired.tenants["t"].releases;
    releases
        .iter()
        .map(|it| (it.source.clone(), it.fate.clone()))
        .collect()
}

#[tokio::test]
async fn what_never_served_is_neither_gone_back_from_nor_withdrawn() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    a.fake.refuse(Some("it traps in on-start"));
    for name in ["one", "two"] {
        failed(gateway.deploys.deploy(order(name), component(name))).await;
    }
    let never = DeployError::NotDeployed { tenant: "t".into() };
    let back = gateway.deploys.rollback("t".into(), None, "bob".into());
    assert_eq!(failed(back).await, never);
    let withdrawn = gateway.deploys.withdraw("t".into(), "bob".into());
    assert_eq!(failed(withdrawn).await, never);
}

#[tokio::test]
async fn a_rollback_prepares_everywhere_and_is_a_release_of_its_own() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    for name in ["one", "two", "three"] {
        gateway.deploy(name).await;
    }
    let back = |to: Option<&str>| {
        let to = to.map(str::to_owned);
        gateway.deploys.rollback("t".into(), to, "bob".into())
    };
    let (generation, version, workers) = done(back(None)).await;
    assert_eq!((generation, workers), (4, 2));
    assert_eq!(version, version_of(&component("two")));
    serve(&[&a, &b], "two").await;
    // Back again, not to the one that was taken back.
    done(back(None)).await;
    serve(&[&a, &b], "one").await;
    let error = failed(back(None)).await;
    assert_eq!(error, DeployError::NothingBefore { tenant: "t".into() });
    // By the beginning of its hash.
    let three = version_of(&component("three"));
    done(back(Some(&three[..12]))).await;
    serve(&[&a, &b], "three").await;
    let error = failed(back(Some(&three))).await;
    assert!(matches!(error, DeployError::Already { .. }), "{error}");

    let history = history(&gateway).await;
    let rolled_back = Fate::RolledBack("rolled back by bob".to_owned());
    let expected = [
        &Fate::Active,
        &rolled_back,
        &rolled_back,
        &rolled_back,
        &Fate::Replaced,
        &Fate::Replaced,
    ];
    assert_eq!(fates(&history), expected);
}

#[tokio::test]
async fn a_rollback_that_a_worker_refuses_changes_nothing_and_stands_in_the_history() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    for name in ["one", "two"] {
        gateway.deploy(name).await;
    }
    b.fake.refuse(Some("it traps in on-start"));
    let back = || gateway.deploys.rollback("t".into(), None, "bob".into());
    let error = failed(back()).await;
    assert!(matches!(error, DeployError::Refused { .. }), "{error}");
    serve(&[&a, &b], "two").await;
    let refused = history(&gateway).await;
    let failed = Fate::Failed(error.to_string());
    assert_eq!(fates(&refused), [&failed, &Fate::Active, &Fate::Replaced]);
    // It can still be gone back to.
    b.fake.refuse(None);
    done(back()).await;
    serve(&[&a, &b], "one").await;
}

#[tokio::test]
async fn a_prefix_must_mean_one_version() {
    let rig = Rig::new(1).await;
    let (_register, [_a], gateway) = rig.start(["a"]).await;
    let names: Vec<String> = (0..100).map(|number| format!("c{number}")).collect();
    let first = |name: &String| version_of(&component(name))[..1].to_owned();
    let digit = first(&names[0]);
    let alike: Vec<&String> = names
        .iter()
        .filter(|it| first(it) == digit)
        .take(2)
        .collect();
    for name in &alike {
        gateway.deploy(name).await;
    }
    let to = |prefix: &str| {
        let prefix = Some(prefix.to_owned());
        failed(gateway.deploys.rollback("t".into(), prefix, "bob".into()))
    };
    let error = to(&digit).await;
    assert!(
        matches!(&error, DeployError::Ambiguous { versions, .. } if versions.len() == 2),
        "{error}"
    );
    let error = to("").await;
    assert!(matches!(error, DeployError::Ambiguous { .. }), "{error}");
    let error = to("no hash").await;
    assert!(
        matches!(error, DeployError::UnknownVersion { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_bytes_of_the_last_versions_only_are_kept() {
    let rig = Rig::new(1).await;
    let (_register, [_a], gateway) = rig.start(["a"]).await;
    for number in 0..12 {
        gateway.deploy(&format!("c{number}")).await;
    }
    for node in ["register-0", "a"] {
        let files = std::fs::read_dir(rig.folder(node).join("components")).unwrap();
        assert_eq!(files.count(), 10, "at {node}");
    }
    let version = version_of(&component("c0"));
    let back = gateway
        .deploys
        .rollback("t".into(), Some(version.to_string()), "bob".into());
    assert_eq!(failed(back).await, DeployError::NotKept { version });
}

#[tokio::test]
async fn a_withdrawn_tenant_is_left_alone() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    let withdraw = || gateway.deploys.withdraw("t".into(), "bob".into());
    let error = failed(withdraw()).await;
    assert_eq!(error, DeployError::NotDeployed { tenant: "t".into() });
    gateway.deploy("one").await;
    let (generation, version, workers) = done(withdraw()).await;
    assert_eq!((generation, &*version, workers), (2, "", 1));
    serve(&[&a], "one").await;
    assert_eq!(fates(&history(&gateway).await), [&Fate::Withdrawn]);
    a.running.stop().await;
    let a = rig.plain_worker("a").await;
    a.agent.settled().await;
    gateway.sees(1).await;
    assert_eq!(a.fake.serving("t"), None);
}
