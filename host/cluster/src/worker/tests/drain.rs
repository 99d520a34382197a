//! The drain: nothing is lost, and it ends.

use std::time::Duration;

use tidegate_wire::effect::Outcome;
use tidegate_wire::frame::{GatewayFrame, WorkerFrame};

use super::rig::Rig;
use super::script::{Gateway, eventually, set, settings, soon, with_session};
use crate::worker::WorkerSettings;

#[tokio::test]
async fn a_drain_commits_what_came_before_the_gateway_answered() {
    let (one, two) = (Gateway::bind(1).await, Gateway::bind(2).await);
    let rig = Rig::start(&[&one, &two]);
    let (mut first, mut second) = (one.accept().await, two.accept().await);
    first.deliver(with_session(one.message(7, 1), &[]));
    let running = rig.script.next().await;
    rig.stop.cancel();
    assert_eq!(first.next().await, WorkerFrame::Drain);
    assert_eq!(second.next().await, WorkerFrame::Drain);
    // An event that crossed the drain is served too.
    first.deliver(one.message(7, 2));
    let crossed = rig.script.next().await;
    second.send(GatewayFrame::Drained);
    running.done(vec![set(one.client(7), "a", "1")]);
    crossed.done(Vec::new());
    assert_eq!(first.commit().await.effects.len(), 1);
    assert_eq!(first.commit().await.outcome, Outcome::Done);
    assert!(!rig.task.is_finished());
    first.send(GatewayFrame::Drained);
    assert!(first.rest().await.is_empty());
    assert!(second.rest().await.is_empty());
    soon("the end of the worker", rig.task).await.unwrap();
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_gateway_that_is_gone() {
    let gateway = Gateway::bind(1).await;
    let rig = Rig::start(&[&gateway]);
    let mut link = gateway.accept().await;
    link.deliver(with_session(gateway.message(7, 1), &[]));
    let _running = rig.script.next().await;
    rig.stop.cancel();
    assert_eq!(link.next().await, WorkerFrame::Drain);
    drop(link);
    soon("the end of the worker", rig.task).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_after_its_time() {
    let gateway = Gateway::bind(1).await;
    let settings = WorkerSettings {
        shutdown: Duration::from_millis(50),
        ..settings()
    };
    let rig = Rig::start_with(settings, &[&gateway]);
    let mut link = gateway.accept().await;
    link.deliver(with_session(gateway.message(7, 1), &[]));
    let _running = rig.script.next().await;
    rig.stop.cancel();
    assert_eq!(link.next().await, WorkerFrame::Drain);
    assert!(link.rest().await.is_empty());
    soon("the end of the worker", rig.task).await.unwrap();
}

#[tokio::test]
async fn a_draining_worker_takes_no_new_gateway() {
    let (one, two) = (Gateway::bind(1).await, Gateway::bind(2).await);
    let rig = Rig::start(&[&one]);
    let mut link = one.accept().await;
    rig.stop.cancel();
    assert_eq!(link.next().await, WorkerFrame::Drain);
    rig.see(&[&one, &two], &[]);
    link.load_with(0).await;
    assert_eq!(*rig.worker.links().borrow(), 1);
    link.send(GatewayFrame::Drained);
    soon("the end of the worker", rig.task).await.unwrap();
}

#[tokio::test]
async fn a_gateway_lost_during_the_drain_is_still_told() {
    let (lost, other) = (Gateway::bind(1).await, Gateway::bind(2).await);
    let rig = Rig::start(&[&lost, &other]);
    let (lost_link, mut other_link) = (lost.accept().await, other.accept().await);
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    rig.keeps(1).await;
    rig.stop.cancel();
    assert_eq!(other_link.next().await, WorkerFrame::Drain);
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    other_link.send(GatewayFrame::Drained);
    close.done(vec![set(other.client(1), "k", "1")]);
    let WorkerFrame::Adopt { sequence, .. } = other_link.next().await else {
        panic!("not an adoption");
    };
    eventually("the adoption is waited for", || !rig.task.is_finished()).await;
    other_link.send(GatewayFrame::Adopted { sequence });
    assert!(other_link.rest().await.is_empty());
    soon("the end of the worker", rig.task).await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_the_fate_of_a_gateway_whose_custody_is_kept() {
    let (lost, other) = (Gateway::bind(1).await, Gateway::bind(2).await);
    let rig = Rig::start(&[&lost, &other]);
    let (lost_link, mut other_link) = (lost.accept().await, other.accept().await);
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    rig.keeps(1).await;
    let mut links = rig.worker.links();
    drop(lost_link);
    soon("the end of the link", links.wait_for(|links| *links == 1))
        .await
        .unwrap();
    rig.stop.cancel();
    assert_eq!(other_link.next().await, WorkerFrame::Drain);
    other_link.send(GatewayFrame::Drained);
    // No register says yet that it is lost.
    other_link.nothing_but_loads().await;
    rig.keeps(1).await;
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    assert_eq!(close.delivery.client, lost.client(7));
    close.done(Vec::new());
    drop(close);
    match other_link.next().await {
        WorkerFrame::Adopt { sequence, .. } => other_link.send(GatewayFrame::Adopted { sequence }),
        other => panic!("not an adoption: {other:?}"),
    }
    assert!(other_link.rest().await.is_empty());
    soon("the end of the worker", rig.task).await.unwrap();
}
