//! Disks that take nothing for a while: what they did not take is tried again by itself.

use std::fs;
use std::path::PathBuf;

use tidegate_deploy::{DeployError, Fate, Progress, version_of};

use super::fake::Fake;
use super::rig::{Rig, all, component, done, failed, order, serve, until, until_async};

/// While this folder is there the node cannot write its state: it stands where the unfinished file
/// would be.
fn block(rig: &Rig, node: &str) -> PathBuf {
    let in_the_way = rig.folder(node).join("desired.tmp");
    fs::create_dir(&in_the_way).unwrap();
    in_the_way
}

#[tokio::test]
async fn a_decision_that_cannot_be_written_switches_nobody() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    let in_the_way = block(&rig, "register-0");
    let error = failed(gateway.deploys.deploy(order("one"), component("one"))).await;
    assert!(matches!(error, DeployError::Disk(_)), "{error}");
    until("a discards", || !a.fake.has_prepared("t")).await;
    assert_eq!(a.fake.serving("t"), None);
    fs::remove_dir(&in_the_way).unwrap();
    gateway.deploy("one").await;
    serve(&[&a], "one").await;
}

#[tokio::test]
async fn a_component_that_the_register_cannot_keep_is_told_as_its_disk() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    let version = version_of(&component("one"));
    let in_the_way = rig.folder(&format!("register-0/components/{version}.tmp"));
    fs::create_dir(&in_the_way).unwrap();
    let error = failed(gateway.deploys.deploy(order("one"), component("one"))).await;
    assert!(
        matches!(&error, DeployError::Disk(text) if text.contains("register-0")),
        "{error}"
    );
    fs::remove_dir(&in_the_way).unwrap();
    gateway.deploy("one").await;
    serve(&[&a], "one").await;
}

#[tokio::test]
async fn a_worker_whose_disk_was_full_follows_by_itself_once_there_is_room() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    let in_the_way = block(&rig, "a");
    let progress = gateway.deploys.deploy(order("one"), component("one"));
    serve(&[&b], "one").await;
    until_async("a tells why it does not follow", async || {
        let overview = gateway.deploys.overview().await.unwrap();
        let mut workers = overview.workers.iter();
        let a = workers.find(|it| &*it.worker == "a").unwrap();
        let trouble = a.running[0].trouble.as_ref();
        trouble.is_some_and(|it| it.contains("desired.tmp") || it.contains("desired.json"))
    })
    .await;
    assert!(!a.agent.lags().borrow().is_empty());
    // It goes by it all the same: what was taken back must not serve on.
    serve(&[&a, &b], "one").await;
    fs::remove_dir(&in_the_way).unwrap();
    assert!(matches!(
        all(progress).await.last(),
        Some(Progress::Done { workers: 2, .. })
    ));
    serve(&[&a, &b], "one").await;
    until("a has no trouble", || a.agent.lags().borrow().is_empty()).await;
}

#[tokio::test]
async fn copies_at_gateways_and_other_registers_are_kept_once_there_is_room() {
    let rig = Rig::new(2).await;
    let (_first, [a], gateway) = rig.start(["a"]).await;
    let _second = rig.register(1).await;
    let (at_gateway, at_second) = (block(&rig, "g"), block(&rig, "register-1"));
    let version = version_of(&component("one"));
    // The component is not taken either.
    let no_component = rig.folder(&format!("register-1/components/{version}.tmp"));
    fs::create_dir(&no_component).unwrap();
    gateway.deploy("one").await;
    serve(&[&a], "one").await;
    let kept = |node: &str| fs::metadata(rig.folder(node).join("desired.json")).is_ok();
    assert!(!kept("g") && !kept("register-1"));
    fs::remove_dir(&at_gateway).unwrap();
    until("the gateway keeps it", || kept("g")).await;
    // From here on nobody tells the second register anything that would make it look again.
    fs::remove_dir(&at_second).unwrap();
    until("the second register keeps it", || kept("register-1")).await;
    fs::remove_dir(&no_component).unwrap();
    let file = rig.folder(&format!("register-1/components/{version}.wasm"));
    until("the second register keeps the component", || {
        fs::metadata(&file).is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_version_taken_back_while_the_register_cannot_write_is_taken_back_once_it_can() {
    let rig = Rig::new(1).await;
    let (_register, [a, b], gateway) = rig.start(["a", "b"]).await;
    gateway.deploy("one").await;
    gateway.deploy("two").await;
    let in_the_way = block(&rig, "register-0");
    a.fake.take_back("t", &component("two"), "3 traps").await;
    until_async("the register has heard of it", async || {
        let overview = gateway.deploys.overview().await.unwrap();
        overview
            .workers
            .iter()
            .any(|it| it.running[0].trouble.as_deref() == Some("3 traps"))
    })
    .await;
    serve(&[&b], "two").await;
    fs::remove_dir(&in_the_way).unwrap();
    serve(&[&a, &b], "one").await;
    let desired = gateway.deploys.desired().await.unwrap();
    assert_eq!(
        desired.tenants["t"].releases[1].fate,
        Fate::RolledBack("worker a: 3 traps".to_owned())
    );
}

#[tokio::test]
async fn a_first_version_that_is_taken_back_is_missed_at_every_worker() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let a = rig.plain_worker("a").await;
    let b = rig.plain_worker("b").await;
    let with_file = Fake::new(&["t"]).with_file("t", "of the file");
    let c = rig.worker("c", with_file).await;
    let gateway = rig.gateway("g").await;
    gateway.sees(3).await;
    done(gateway.deploys.deploy(order("one"), component("one"))).await;
    a.fake.take_back("t", &component("one"), "3 traps").await;
    for worker in [&a, &b] {
        until("who has nothing else to serve says so", || {
            let lags = worker.agent.lags().borrow().clone();
            matches!(&lags[..], [why] if why.contains("nothing serves") && why.contains("3 traps"))
        })
        .await;
    }
    until("who has a file serves it", || {
        c.fake.serving("t") == Some("of the file".into())
    })
    .await;
    until("who has a file lacks nothing", || {
        c.agent.lags().borrow().is_empty()
    })
    .await;
    gateway.deploy("two").await;
    serve(&[&a, &b, &c], "two").await;
    for worker in [&a, &b] {
        until("nothing is missed", || {
            worker.agent.lags().borrow().is_empty()
        })
        .await;
    }
}
