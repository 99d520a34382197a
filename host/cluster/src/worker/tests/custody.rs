//! Custody: whose close is told by this worker, how often, and over which gateway.

use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, Outcome, Recipients};
use tidegate_wire::event::{CloseReason, Closed, Delivery};
use tidegate_wire::frame::{Custody, CustodyChange, GatewayFrame, GroupsChange, WorkerFrame};
use tidegate_wire::id::{CloseId, Incarnation};

use super::rig::Rig;
use super::script::{Gateway, LEASE, ScriptedLink, nobody, set, soon, text, with_session};

fn farewell() -> Effect {
    Effect::Send {
        to: Recipients::Everyone,
        message: text("gone"),
        except: Vec::new(),
    }
}

async fn linked_twice() -> (Gateway, Gateway, Rig, ScriptedLink, ScriptedLink) {
    let (lost, other) = (Gateway::bind(1).await, Gateway::bind(2).await);
    let rig = Rig::start(&[&lost, &other]);
    let (lost_link, other_link) = (lost.accept().await, other.accept().await);
    (lost, other, rig, lost_link, other_link)
}

async fn part(rig: &Rig, link: ScriptedLink, left: usize) {
    drop(link);
    let mut links = rig.worker.links();
    soon(
        "the end of the link",
        links.wait_for(|links| *links == left),
    )
    .await
    .unwrap();
}

async fn adopt(link: &mut ScriptedLink) -> (u64, Name, Vec<Effect>) {
    match link.next().await {
        WorkerFrame::Adopt {
            sequence,
            tenant,
            effects,
            ..
        } => (sequence, tenant, effects),
        other => panic!("not an adoption: {other:?}"),
    }
}

fn lost_with(uid: Option<&str>, groups: &[&str]) -> Closed {
    Closed {
        reason: CloseReason::GatewayLost,
        frame: None,
        uid: uid.map(Name::from),
        groups: groups.iter().map(|group| Name::from(*group)).collect(),
    }
}

#[tokio::test]
async fn a_client_that_is_kept_for_its_close_alone_is_no_load() {
    let (home, _other, rig, mut link, _other_link) = linked_twice().await;
    link.send(GatewayFrame::Custody(vec![home.custody(7, "anna", "room")]));
    rig.keeps(1).await;
    link.nothing_but_loads().await;
    link.load_with(0).await;
    link.deliver(with_session(home.message(7, 1), &[]));
    let running = rig.script.next().await;
    link.load_with(1).await;
    running.done(Vec::new());
    drop(running);
    link.commit().await;
    link.load_with(1).await;
    link.send(GatewayFrame::Release(vec![home.client(7)]));
    rig.keeps(0).await;
    link.load_with(0).await;
}

#[tokio::test]
async fn a_client_whose_event_was_given_back_is_no_load_until_one_comes_again() {
    let (home, _other, rig, mut link, _other_link) = linked_twice().await;
    for _ in 0..2 {
        link.deliver(with_session(home.message(7, 1), &[]));
        let running = rig.script.next().await;
        link.load_with(1).await;
        running.end(Outcome::Returned, Vec::new());
        drop(running);
        link.commit().await;
        link.load_with(0).await;
    }
}

#[tokio::test]
async fn closes_of_a_lost_gateway_are_told_once_and_adopted_by_another() {
    let (lost, other, rig, mut lost_link, mut other_link) = linked_twice().await;
    let client = lost.client(7);
    lost_link.deliver(lost.connect(7, 1));
    let (uid, group): (Name, Name) = ("anna".into(), "room".into());
    rig.script.next().await.done(vec![
        Effect::BindUid { client, uid },
        Effect::JoinGroup { client, group },
        set(client, "b", "2"),
    ]);
    lost_link.commit().await;
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    assert_eq!(close.delivery.client, client);
    assert_eq!(*close.closed(), lost_with(Some("anna"), &["room"]));
    assert_eq!(close.session("a").as_deref(), Some("1"));
    assert_eq!(close.session("b").as_deref(), Some("2"));
    close.done(vec![farewell()]);
    let (sequence, tenant, effects) = adopt(&mut other_link).await;
    assert_eq!((sequence, &*tenant), (1, "default"));
    assert_eq!(effects, [farewell()]);
    other_link.send(GatewayFrame::Adopted { sequence });
    rig.see(&[&other], &[&lost]);
    drop(close);
    rig.keeps(0).await;
    other_link.nothing_but_loads().await;
    assert!(rig.script.is_idle(), "told once");
}

#[tokio::test]
async fn custody_of_a_client_whose_lane_is_elsewhere_is_told_too() {
    let (lost, other, rig, lost_link, _other_link) = linked_twice().await;
    lost_link.send(GatewayFrame::Custody(vec![
        lost.custody(7, "anna", "room"),
        lost.custody(8, "bert", "room"),
    ]));
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "hall")]));
    lost_link.send(GatewayFrame::Release(vec![lost.client(8)]));
    lost_link.deliver(with_session(lost.message(9, 1), &[]));
    // All that was sent before has been handled.
    let marker = rig.script.next().await;
    lost_link.send(GatewayFrame::Release(vec![lost.client(9)]));
    marker.done(Vec::new());
    let mut lost_link = lost_link;
    lost_link.commit().await;
    drop(marker);
    rig.keeps(1).await;
    lost_link.nothing_but_loads().await;
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    assert_eq!(close.delivery.client, lost.client(7));
    assert_eq!(*close.closed(), lost_with(Some("anna"), &["hall"]));
    assert_eq!(close.session("from").as_deref(), Some("\"custody\""));
    close.done(Vec::new());
    assert!(rig.script.is_idle());
}

#[tokio::test]
async fn a_worker_that_only_ran_events_of_a_client_tells_nothing() {
    let (lost, other, rig, mut lost_link, mut other_link) = linked_twice().await;
    // Another worker saw the connect and is the custodian of 7; 8 was given back by another.
    lost_link.deliver(with_session(lost.message(7, 1), &[]));
    let again = Delivery {
        attempt: 1,
        ..lost.connect(8, 2)
    };
    lost_link.deliver(again);
    let (seven, eight) = (rig.script.next().await, rig.script.next().await);
    seven.done(Vec::new());
    lost_link.commit().await;
    eight.done(Vec::new());
    lost_link.commit().await;
    lost_link.deliver(lost.close(7, 3));
    let close = rig.script.next().await;
    drop((seven, eight));
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    close.done(vec![farewell()]);
    drop(close);
    rig.keeps(0).await;
    other_link.nothing_but_loads().await;
    assert!(rig.script.is_idle());
}

/// A close after custody that came during an event, and once more after it if it is told `again`.
async fn crossed(again: bool) {
    let (lost, other, rig, lost_link, _other_link) = linked_twice().await;
    lost_link.deliver(lost.connect(7, 1));
    let running = rig.script.next().await;
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    lost_link.deliver(with_session(lost.message(8, 2), &[]));
    let marker = rig.script.next().await;
    assert_eq!(
        running.session("a").as_deref(),
        Some("1"),
        "the mirror waits"
    );
    assert_eq!(running.session("from"), None);
    running.done(vec![set(lost.client(7), "b", "2")]);
    let mut lost_link = lost_link;
    lost_link.commit().await;
    if again {
        lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "otto", "hall")]));
        lost_link.deliver(lost.message(7, 4));
        let next = rig.script.next().await;
        next.done(vec![set(lost.client(7), "c", "3")]);
        lost_link.commit().await;
    }
    marker.done(Vec::new());
    lost_link.deliver(lost.close(8, 3));
    rig.script.next().await.done(Vec::new());
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    assert_eq!(close.session("from").as_deref(), Some("\"custody\""));
    // Of one time: the home has not said that it has this commit.
    assert_eq!(close.session("b"), None);
    let (uid, group) = if again {
        ("otto", "hall")
    } else {
        ("anna", "room")
    };
    assert_eq!(close.session("c").as_deref(), again.then_some("3"));
    assert_eq!(*close.closed(), lost_with(Some(uid), &[group]));
}

#[tokio::test]
async fn what_others_changed_during_an_event_is_told_with_the_close_as_it_was_then() {
    crossed(false).await;
}

#[tokio::test]
async fn own_events_count_again_once_custody_is_told_after_the_one_it_crossed() {
    crossed(true).await;
}

#[tokio::test]
async fn custody_of_a_lane_that_is_worked_here_leaves_its_mirror_alone() {
    let (lost, _other, rig, mut lost_link, _other_link) = linked_twice().await;
    lost_link.deliver(lost.connect(7, 1));
    let running = rig.script.next().await;
    running.done(vec![set(lost.client(7), "a", "2")]);
    // The gateway sends this before it has the commit.
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    lost_link.deliver(lost.message(7, 2));
    let next = rig.script.next().await;
    assert_eq!(next.session("a").as_deref(), Some("2"));
    lost_link.commit().await;
}

#[tokio::test]
async fn a_close_follows_the_events_that_still_run_whose_commits_are_dropped() {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    lost_link.deliver(lost.connect(7, 1));
    let running = rig.script.next().await;
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    running.done(vec![set(lost.client(7), "a", "2"), farewell()]);
    assert_eq!(close.session("a").as_deref(), Some("1"));
    assert_ne!(close.delivery.event, running.delivery.event);
    close.done(vec![farewell()]);
    assert_eq!(adopt(&mut other_link).await.2, [farewell()]);
}

#[tokio::test]
async fn a_close_that_ran_before_its_gateway_was_lost_is_adopted_not_told_again() {
    let (lost, other, rig, mut lost_link, mut other_link) = linked_twice().await;
    for connection in [7, 8] {
        lost_link.deliver(lost.connect(connection, 1));
        rig.script.next().await.done(Vec::new());
        lost_link.commit().await;
    }
    lost_link.deliver(lost.close(7, 2));
    lost_link.deliver(lost.close(8, 2));
    let (early, late) = (rig.script.next().await, rig.script.next().await);
    part(&rig, lost_link, 1).await;
    early.done(vec![farewell()]);
    rig.see(&[&other], &[&lost]);
    assert_eq!(adopt(&mut other_link).await.2, [farewell()]);
    late.done(vec![set(nobody(), "k", "1")]);
    assert_eq!(adopt(&mut other_link).await.2, [set(nobody(), "k", "1")]);
    other_link.send(GatewayFrame::Adopted { sequence: 1 });
    other_link.send(GatewayFrame::Adopted { sequence: 2 });
    drop((early, late));
    rig.keeps(0).await;
    other_link.nothing_but_loads().await;
    assert!(rig.script.is_idle());
}

#[tokio::test]
async fn a_close_that_the_handlers_give_back_is_told_again() {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    rig.keeps(1).await;
    other_link.nothing_but_loads().await;
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    rig.script.next().await.end(Outcome::Returned, Vec::new());
    rig.script.next().await.done(vec![farewell()]);
    assert_eq!(adopt(&mut other_link).await.2, [farewell()]);
}

#[tokio::test]
async fn an_adoption_is_sent_again_if_its_link_ends_before_the_answer() {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    rig.keeps(1).await;
    other_link.nothing_but_loads().await;
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    rig.script.next().await.done(vec![farewell()]);
    assert_eq!(adopt(&mut other_link).await.0, 1);
    drop(other_link);
    let mut again = other.accept().await;
    let (sequence, _, effects) = adopt(&mut again).await;
    assert_eq!((sequence, effects), (1, vec![farewell()]));
    again.send(GatewayFrame::Adopted { sequence });
    drop(again);
    let mut last = other.accept().await;
    rig.keeps(0).await;
    last.nothing_but_loads().await;
}

#[tokio::test]
async fn a_lost_gateway_that_still_has_a_link_is_refused_and_its_closes_are_told() {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    rig.keeps(1).await;
    other_link.nothing_but_loads().await;
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    assert_eq!(*close.closed(), lost_with(Some("anna"), &["room"]));
    assert!(lost_link.rest().await.is_empty());
}

#[tokio::test]
async fn a_new_link_drops_the_custody_of_the_old_one() {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    lost_link.send(GatewayFrame::Custody(vec![
        lost.custody(7, "anna", "room"),
        lost.custody(8, "bert", "room"),
    ]));
    rig.keeps(2).await;
    other_link.nothing_but_loads().await;
    drop(lost_link);
    let mut again = lost.accept().await;
    rig.keeps(0).await;
    again.nothing_but_loads().await;
    again.send(GatewayFrame::Custody(vec![lost.custody(8, "bert", "hall")]));
    again.send(GatewayFrame::Recognised);
    rig.keeps(1).await;
    again.nothing_but_loads().await;
    part(&rig, again, 1).await;
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    assert_eq!(close.delivery.client, lost.client(8));
    assert_eq!(*close.closed(), lost_with(Some("bert"), &["hall"]));
    close.done(Vec::new());
    assert!(rig.script.is_idle());
}

#[tokio::test]
async fn a_link_that_ends_before_it_is_recognised_drops_nothing() {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    lost_link.send(GatewayFrame::Custody(vec![
        lost.custody(7, "anna", "room"),
        lost.custody(8, "bert", "room"),
    ]));
    rig.keeps(2).await;
    other_link.nothing_but_loads().await;
    drop(lost_link);
    let mut again = lost.accept().await;
    // Only one shard has come to it.
    again.send(GatewayFrame::Custody(vec![lost.custody(8, "bert", "hall")]));
    rig.keeps(3).await;
    again.nothing_but_loads().await;
    part(&rig, again, 1).await;
    rig.see(&[&other], &[&lost]);
    let mut told = Vec::new();
    for _ in 0..2 {
        let close = rig.script.next().await;
        told.push((close.delivery.client, close.closed().clone()));
        close.done(Vec::new());
    }
    told.sort_by_key(|(client, _)| *client);
    let anna = (lost.client(7), lost_with(Some("anna"), &["room"]));
    let bert = (lost.client(8), lost_with(Some("bert"), &["hall"]));
    assert_eq!(told, [anna, bert]);
    assert!(rig.script.is_idle(), "each once");
}

#[tokio::test]
async fn custody_is_dropped_when_its_gateway_stays_in_the_view_without_a_link() {
    let (lost, _other, rig, lost_link, mut other_link) = linked_twice().await;
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    rig.keeps(1).await;
    other_link.nothing_but_loads().await;
    let parted = std::time::Instant::now();
    // The listener is not accepted from any more, so no new link comes about.
    drop(lost_link);
    rig.keeps(0).await;
    other_link.nothing_but_loads().await;
    assert!(parted.elapsed() >= LEASE * 2, "kept for two leases");
}

#[tokio::test]
async fn changes_since_a_custodian_was_told_reach_the_close() {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    lost_link.send(GatewayFrame::Custody(vec![lost.custody(7, "anna", "room")]));
    let change = |entries: &[(&str, Option<&str>)], groups| CustodyChange {
        client: lost.client(7),
        uid: None,
        groups: GroupsChange::Some(groups),
        entries: entries
            .iter()
            .map(|(key, value)| ((*key).into(), value.map(str::to_owned)))
            .collect(),
    };
    lost_link.send(GatewayFrame::CustodyChanged(vec![
        change(&[("from", None), ("a", Some("1"))], vec![]),
        change(&[], vec![("room".into(), false), ("hall".into(), true)]),
    ]));
    rig.keeps(1).await;
    other_link.nothing_but_loads().await;
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    let close = rig.script.next().await;
    assert_eq!(*close.closed(), lost_with(Some("anna"), &["hall"]));
    assert_eq!(close.session("from"), None);
    assert_eq!(close.session("a").as_deref(), Some("1"));
}

#[tokio::test]
async fn adoptions_of_many_closes_go_in_a_window() {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    let custodies = (0..100).map(|it| lost.custody(it, "anna", "room"));
    lost_link.send(GatewayFrame::Custody(custodies.collect()));
    rig.keeps(100).await;
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    let large = || set(nobody(), "k", &"v".repeat(60 << 10));
    for _ in 0..100 {
        rig.script.next().await.done(vec![large()]);
    }
    // Nothing is answered: what fits in the window was sent before the next load.
    let first = other_link.until_load().await;
    assert_eq!(first.len(), 18, "1 MiB of 60 KiB each, and no more");
    let mut adopted = 0;
    let mut answer = |frame| match frame {
        WorkerFrame::Adopt { sequence, .. } => {
            adopted += 1;
            GatewayFrame::Adopted { sequence }
        }
        other => panic!("not an adoption: {other:?}"),
    };
    for frame in first {
        other_link.send(answer(frame));
    }
    for _ in 18..100 {
        let frame = other_link.next().await;
        other_link.send(answer(frame));
    }
    assert_eq!(adopted, 100);
}

/// A worker that serves the tenants `slow` and `quick`, after it has lost the gateway of so many
/// clients of each.
async fn lost_with_two_tenants(slow: u32, quick: u32) -> (Gateway, Gateway, Rig, ScriptedLink) {
    let (lost, other) = (Gateway::bind(1).await, Gateway::bind(2).await);
    let rig = Rig::start(&[]);
    rig.script.serve(&[("slow", "v1"), ("quick", "v1")]);
    rig.see(&[&lost, &other], &[]);
    let (lost_link, other_link) = (lost.accept().await, other.accept().await);
    let custody = |connection| Custody {
        tenant: u16::from(connection >= slow),
        ..lost.custody(connection, "anna", "room")
    };
    lost_link.send(GatewayFrame::Custody(
        (0..slow + quick).map(custody).collect(),
    ));
    rig.keeps(slow + quick).await;
    part(&rig, lost_link, 1).await;
    rig.see(&[&other], &[&lost]);
    (lost, other, rig, other_link)
}

#[tokio::test]
async fn closes_of_a_tenant_whose_handlers_are_slow_hold_up_nobody_elses() {
    let (_lost, _other, rig, _link) = lost_with_two_tenants(300, 300).await;
    let (mut slow, mut quick) = (Vec::new(), 0);
    while quick < 300 {
        let close = rig.script.next().await;
        if &*close.tenant == "quick" {
            close.done(Vec::new());
            quick += 1;
        } else {
            slow.push(close);
        }
    }
    assert!(!slow.is_empty() && slow.len() < 300);
    for close in &slow {
        close.done(Vec::new());
    }
    for _ in slow.len()..300 {
        rig.script.next().await.done(Vec::new());
    }
}

#[tokio::test]
async fn a_tenant_with_large_effects_of_closes_leaves_others_room_in_every_window() {
    let (_lost, _other, rig, mut link) = lost_with_two_tenants(100, 3).await;
    let large = || set(nobody(), "k", &"v".repeat(60 << 10));
    let mut quick = Vec::new();
    for _ in 0..103 {
        let close = rig.script.next().await;
        if &*close.tenant == "quick" {
            quick.push(close);
        } else {
            close.done(vec![large()]);
        }
    }
    link.until_load().await;
    // No gateway has answered: the window is full of the other tenant's.
    for close in &quick {
        close.done(vec![farewell()]);
    }
    for _ in 0..3 {
        assert_eq!(&*adopt(&mut link).await.1, "quick");
    }
}

/// Another worker, which is the first custodian.
const FIRST: u64 = 50;

/// A worker that is the second custodian of client 7 and the first of 8, whose gateway is lost.
async fn second_of_seven() -> (Gateway, Gateway, Rig, ScriptedLink) {
    let (lost, other, rig, lost_link, mut other_link) = linked_twice().await;
    rig.see_workers(&[&lost, &other], &[], &[FIRST]);
    let custodies = [7, 8].map(|it| lost.custody(it, "anna", "room"));
    lost_link.send(GatewayFrame::Custody(custodies.to_vec()));
    let rank = (lost.client(7), Some(Incarnation(FIRST)));
    lost_link.send(GatewayFrame::CustodyRank(vec![rank]));
    rig.keeps(2).await;
    other_link.nothing_but_loads().await;
    part(&rig, lost_link, 1).await;
    rig.see_workers(&[&other], &[&lost], &[FIRST]);
    let close = rig.script.next().await;
    assert_eq!(close.delivery.client, lost.client(8));
    close.done(vec![farewell()]);
    assert_eq!(adopt(&mut other_link).await.2, [farewell()]);
    other_link.send(GatewayFrame::Adopted { sequence: 1 });
    assert!(rig.script.is_idle(), "the first custodian tells 7");
    (lost, other, rig, other_link)
}

#[tokio::test]
async fn a_second_custodian_tells_a_close_once_the_first_is_gone_too() {
    let (lost, other, rig, mut other_link) = second_of_seven().await;
    rig.see_workers(&[&other], &[&lost], &[]);
    let close = rig.script.next().await;
    assert_eq!(close.delivery.client, lost.client(7));
    assert_eq!(*close.closed(), lost_with(Some("anna"), &["room"]));
    close.done(vec![]);
    // Also without effects: gateways tell others that it was told.
    assert_eq!(adopt(&mut other_link).await.2, []);
}

#[tokio::test]
async fn a_second_custodian_forgets_a_close_that_was_told() {
    let (lost, other, rig, mut other_link) = second_of_seven().await;
    other_link.send(GatewayFrame::Told(vec![CloseId {
        home: lost.incarnation(),
        client: lost.client(7),
    }]));
    rig.keeps(0).await;
    other_link.nothing_but_loads().await;
    rig.see_workers(&[&other], &[&lost], &[]);
    other_link.until_load().await;
    assert!(rig.script.is_idle());
}

#[tokio::test]
async fn a_second_custodian_tells_a_close_when_the_first_is_there_but_tells_nothing() {
    let (lost, _other, rig, _other_link) = second_of_seven().await;
    let close = rig.script.next().await;
    assert_eq!(close.delivery.client, lost.client(7));
    close.done(vec![]);
}
