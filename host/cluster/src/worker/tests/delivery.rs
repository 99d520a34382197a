//! Announcements, events, commits and mirrors.

use tidegate_link;
use tidegate_wire::effect::{Effect, Outcome, Recipients, SessionChange};
use tidegate_wire::event::{Delivery, EventKind};
use tidegate_wire::frame::{GatewayFrame, WorkerFrame};
use tidegate_wire::membership::Role;
use tidegate_wire::peers::{InstanceId, PeerMessage};
use tidegate_wire::task::{Step, TaskId};

use super::rig::{Rig, serving};
use super::script::{
    Gateway, ScriptedLink, eventually, identity, nobody, set, settings, soon, text, with_session,
};
use crate::worker::WorkerSettings;

async fn linked() -> (Gateway, Rig, ScriptedLink) {
    let gateway = Gateway::bind(1).await;
    let rig = Rig::start(&[&gateway]);
    let link = gateway.accept().await;
    (gateway, rig, link)
}

#[tokio::test]
async fn announces_first_and_again_at_each_change_with_places_kept() {
    let (_gateway, rig, mut link) = linked().await;
    assert_eq!(link.announcement.serving, serving(&[("default", "v1")]));
    assert_eq!(link.announcement.window_events, settings().window_events);
    rig.script.serve(&[("other", "v1"), ("default", "v2")]);
    let WorkerFrame::Announce(again) = link.next().await else {
        panic!("not an announcement");
    };
    assert_eq!(
        again.serving,
        serving(&[("default", "v2"), ("other", "v1")])
    );
    rig.script.serve(&[("other", "v1")]);
    let WorkerFrame::Announce(again) = link.next().await else {
        panic!("not an announcement");
    };
    assert_eq!(again.serving, serving(&[("default", ""), ("other", "v1")]));
}

#[tokio::test]
async fn an_event_is_dispatched_and_its_commit_goes_home() {
    let (gateway, rig, mut link) = linked().await;
    let client = gateway.client(7);
    let delivery = Delivery {
        attempt: 3,
        ..with_session(gateway.message(7, 1), &[])
    };
    link.deliver(delivery);
    let running = rig.script.next().await;
    assert_eq!(&*running.tenant, "default");
    let send = Effect::Send {
        to: Recipients::Client(client),
        message: text("hello"),
        except: Vec::new(),
    };
    running.done(vec![send.clone()]);
    let commit = link.commit().await;
    assert_eq!((commit.event, commit.attempt), (gateway.event(1), 3));
    assert_eq!((commit.client, commit.outcome), (client, Outcome::Done));
    assert_eq!(commit.effects, [send]);
}

#[tokio::test]
async fn events_of_a_client_are_dispatched_in_order() {
    let (gateway, rig, mut link) = linked().await;
    link.deliver(with_session(gateway.message(7, 0), &[]));
    for sequence in 1..100 {
        let running = rig.script.next().await;
        assert_eq!(running.delivery.event.sequence, sequence - 1);
        link.deliver(gateway.message(7, sequence));
        running.done(Vec::new());
        assert_eq!(link.commit().await.event.sequence, sequence - 1);
    }
}

#[tokio::test]
async fn own_commits_change_the_mirror_key_by_key() {
    let (gateway, rig, mut link) = linked().await;
    let client = gateway.client(7);
    link.deliver(with_session(
        gateway.message(7, 1),
        &[("a", "1"), ("b", "2")],
    ));
    link.deliver(gateway.message(7, 2));
    let first = rig.script.next().await;
    assert_eq!(first.session("a").as_deref(), Some("1"));
    let remove = Effect::Session {
        client,
        change: SessionChange::Remove { key: "b".into() },
    };
    let of_another = set(gateway.client(8), "a", "9");
    first.done(vec![set(client, "c", "3"), remove, of_another]);
    let second = rig.script.next().await;
    assert_eq!(second.session("a").as_deref(), Some("1"));
    assert_eq!(second.session("b"), None);
    assert_eq!(second.session("c").as_deref(), Some("3"));
    second.done(Vec::new());
    link.commit().await;
    link.commit().await;
    link.deliver(with_session(gateway.message(7, 3), &[("d", "4")]));
    let third = rig.script.next().await;
    assert_eq!(third.session("c"), None, "a snapshot replaces the mirror");
    assert_eq!(third.session("d").as_deref(), Some("4"));
}

#[tokio::test]
async fn an_event_that_failed_leaves_the_mirror_alone_and_sends_no_effects() {
    let (gateway, rig, mut link) = linked().await;
    let client = gateway.client(7);
    link.deliver(with_session(gateway.message(7, 1), &[("a", "1")]));
    link.deliver(gateway.message(7, 2));
    let first = rig.script.next().await;
    first.end(Outcome::Failed, vec![set(client, "a", "2")]);
    let commit = link.commit().await;
    assert_eq!((commit.outcome, commit.effects.len()), (Outcome::Failed, 0));
    assert_eq!(rig.script.next().await.session("a").as_deref(), Some("1"));
}

#[tokio::test]
async fn giving_an_event_back_gives_back_what_was_sent_behind_it() {
    let (gateway, rig, mut link) = linked().await;
    let client = gateway.client(7);
    link.deliver(with_session(gateway.message(7, 1), &[("a", "1")]));
    link.deliver(gateway.message(7, 2));
    link.deliver(gateway.message(7, 3));
    let (first, second, third) = (
        rig.script.next().await,
        rig.script.next().await,
        rig.script.next().await,
    );
    first.end(Outcome::Returned, Vec::new());
    second.done(vec![set(client, "a", "2")]);
    assert_eq!(link.commit().await.outcome, Outcome::Returned);
    // Sent before the gateway knew.
    link.deliver(gateway.message(7, 4));
    let again = |sequence| Delivery {
        attempt: 1,
        ..gateway.message(7, sequence)
    };
    link.deliver(with_session(again(1), &[("a", "1")]));
    link.deliver(again(2));
    third.done(vec![set(client, "a", "3")]);
    for sequence in 1..=2 {
        let again = rig.script.next().await;
        assert_eq!(again.delivery.event, gateway.event(sequence));
        assert_eq!(again.delivery.attempt, 1);
        assert_eq!(again.session("a").as_deref(), Some("1"));
        again.done(Vec::new());
        let commit = link.commit().await;
        assert_eq!((commit.attempt, commit.outcome), (1, Outcome::Done));
    }
    assert!(rig.script.is_idle());
}

#[tokio::test]
async fn unknown_tenants_and_lanes_without_a_mirror_are_given_back() {
    let (gateway, rig, mut link) = linked().await;
    let unknown = Delivery {
        tenant: 5,
        ..with_session(gateway.message(7, 1), &[])
    };
    link.deliver(unknown);
    link.deliver(gateway.message(8, 2));
    for sequence in 1..=2 {
        let commit = link.commit().await;
        assert_eq!(commit.event, gateway.event(sequence));
        assert_eq!(commit.outcome, Outcome::Returned);
    }
    assert!(rig.script.is_idle());
}

#[tokio::test]
async fn a_commit_that_is_made_twice_is_sent_once() {
    let (gateway, rig, mut link) = linked().await;
    link.deliver(with_session(gateway.message(7, 1), &[]));
    let first = rig.script.next().await;
    first.done(Vec::new());
    first.done(Vec::new());
    link.deliver(gateway.message(7, 2));
    rig.script.next().await.done(Vec::new());
    assert_eq!(link.commit().await.event, gateway.event(1));
    assert_eq!(link.commit().await.event, gateway.event(2));
}

#[tokio::test]
async fn a_lane_is_forgotten_after_its_close_and_after_a_release() {
    let (gateway, rig, mut link) = linked().await;
    for connection in 1..=3 {
        link.deliver(with_session(
            gateway.message(connection, connection.into()),
            &[],
        ));
        rig.script.next().await.done(Vec::new());
        link.commit().await;
    }
    link.load_with(3).await;
    link.deliver(gateway.close(1, 4));
    rig.script.next().await.done(Vec::new());
    link.commit().await;
    link.load_with(2).await;
    link.send(GatewayFrame::Release(vec![gateway.client(2), nobody()]));
    link.load_with(1).await;
    link.deliver(gateway.message(2, 5));
    assert_eq!(link.commit().await.outcome, Outcome::Returned);
}

#[tokio::test]
async fn a_released_lane_ends_what_is_under_way_first() {
    let (gateway, rig, mut link) = linked().await;
    link.deliver(with_session(gateway.message(1, 1), &[]));
    let running = rig.script.next().await;
    link.send(GatewayFrame::Release(vec![gateway.client(1)]));
    link.deliver(with_session(gateway.message(2, 2), &[]));
    // The release has been handled when this one is dispatched.
    rig.script.next().await.done(Vec::new());
    link.commit().await;
    running.done(Vec::new());
    assert_eq!(link.commit().await.outcome, Outcome::Done);
    drop(running);
    link.load_with(1).await;
}

#[tokio::test]
async fn a_gateway_far_beyond_its_window_loses_its_link() {
    let (gateway, rig, mut link) = linked().await;
    let window = u64::from(settings().window_events);
    link.deliver(with_session(gateway.message(7, 0), &[]));
    for sequence in 1..window * 2 {
        link.deliver(gateway.message(7, sequence));
    }
    for _ in 0..window * 2 {
        rig.script.next().await;
    }
    link.deliver(gateway.message(7, window * 2));
    assert!(link.rest().await.is_empty());
    assert!(rig.script.is_idle(), "the event beyond was not run");
    link = gateway.accept().await;
    link.deliver(with_session(gateway.message(7, 1), &[]));
    assert_eq!(rig.script.next().await.delivery.event, gateway.event(1));
}

#[tokio::test]
async fn a_large_message_from_each_shard_of_a_gateway_is_within_the_window() {
    let gateway = Gateway::bind(1).await;
    let settings = WorkerSettings {
        window_events: 1000,
        ..settings()
    };
    let rig = Rig::start_with(settings, &[&gateway]);
    let link = gateway.accept().await;
    let large = "x".repeat(settings.window_bytes as usize);
    let message = |sequence| Delivery {
        kind: EventKind::Message(text(&large)),
        ..gateway.message(7, sequence)
    };
    link.deliver(with_session(message(0), &[]));
    rig.script.next().await;
    for sequence in 1..128 {
        link.deliver(message(sequence));
        rig.script.next().await;
    }
    link.deliver(message(128));
    assert!(link.rest().await.is_empty());
    assert!(rig.script.is_idle());
}

#[tokio::test]
async fn a_link_in_one_process_serves_like_one_over_tcp() {
    let gateway = Gateway::bind(1).await;
    let rig = Rig::start(&[]);
    let worker = identity(Role::Worker, 99, None).node;
    let (workers, gateways) =
        tidegate_link::pair(worker, gateway.identity.node.clone(), &settings().link);
    rig.worker.attach(workers);
    let mut link = ScriptedLink::new(gateways).await;
    link.deliver(with_session(gateway.message(7, 1), &[]));
    rig.script.next().await.done(Vec::new());
    assert_eq!(link.commit().await.event, gateway.event(1));
    link.send(WorkerFrame::Drain);
    assert!(
        link.rest().await.is_empty(),
        "a frame out of place ends the link"
    );
}

#[tokio::test]
async fn the_number_of_links_is_told_and_an_ended_link_is_dialled_again() {
    let (gateway, rig, link) = linked().await;
    let mut links = rig.worker.links();
    soon("one link", links.wait_for(|links| *links == 1))
        .await
        .unwrap();
    drop(link);
    soon("no link", links.wait_for(|links| *links == 0))
        .await
        .unwrap();
    let _again = gateway.accept().await;
    soon("one link", links.wait_for(|links| *links == 1))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_leaves_no_lane_behind_and_nothing_to_be_told() {
    let (gateway, rig, mut link) = linked().await;
    let request = |connection: u32, sequence: u64| {
        let kind = EventKind::Request {
            name: "echo".into(),
            payload: b"hello".to_vec().into(),
        };
        let message = gateway.message(connection, sequence);
        with_session(Delivery { kind, ..message }, &[])
    };
    for (sequence, outcome) in [(1, Outcome::Done), (2, Outcome::Returned)] {
        link.deliver(request(7, sequence));
        let running = rig.script.next().await;
        link.load_with(1).await;
        running.end(outcome, Vec::new());
        drop(running);
        assert_eq!(link.commit().await.outcome, outcome);
        link.load_with(0).await;
    }
    // One that runs when its gateway is lost has nobody whose close could be told.
    link.deliver(request(8, 3));
    let running = rig.script.next().await;
    drop(link);
    let mut links = rig.worker.links();
    soon("the end of the link", links.wait_for(|links| *links == 0))
        .await
        .unwrap();
    rig.see(&[], &[&gateway]);
    running.done(Vec::new());
    rig.worker.drain().await;
    assert!(rig.script.is_idle());
}

#[tokio::test]
async fn commits_of_a_whole_window_never_end_the_link() {
    let gateway = Gateway::bind(1).await;
    let mut settings = settings();
    settings.link.queue_bytes_max = 64 << 10;
    settings.window_events = 4096;
    let rig = Rig::start_with(settings, &[&gateway]);
    let mut link = gateway.accept().await;
    let large = |client| vec![set(client, "k", &"v".repeat(60 << 10))];
    for connection in 0..500 {
        link.deliver(gateway.connect(connection, u64::from(connection) + 1));
    }
    // The gateway reads nothing meanwhile: 30 MB wait for it.
    for _ in 0..500 {
        let next = rig.script.next().await;
        next.done(large(next.delivery.client));
    }
    link.deliver(gateway.connect(500, 501));
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), rig.script.next());
    assert!(early.await.is_err(), "it waits until the link has room");
    for _ in 0..500 {
        link.commit().await;
    }
    rig.script.next().await.done(Vec::new());
    link.commit().await;
}

#[tokio::test]
async fn what_an_instance_says_reaches_the_tenant_of_its_place_while_that_is_served() {
    let (gateway, rig, mut link) = linked().await;
    rig.script.serve(&[("other", "v1"), ("default", "v1")]);
    let WorkerFrame::Announce(_) = link.next().await else {
        panic!("not an announcement");
    };
    let say = |tenant: u16, topic: &str| GatewayFrame::PeerMessage {
        tenant,
        message: Box::new(PeerMessage {
            from: InstanceId(7),
            topic: topic.into(),
            payload: b"x".to_vec().into(),
        }),
    };
    for (tenant, topic) in [(1, "a"), (9, "nobody's"), (0, "b")] {
        link.send(say(tenant, topic));
    }
    // It counts in no window, so nothing is to be confirmed; an event behind it shows that it was taken.
    link.deliver(with_session(gateway.message(7, 1), &[]));
    rig.script.next().await.done(Vec::new());
    rig.script.serve(&[("default", "v1")]);
    link.commit().await;
    let WorkerFrame::Announce(_) = link.next().await else {
        panic!("not an announcement");
    };
    link.send(say(1, "withdrawn"));
    link.deliver(gateway.message(7, 2));
    rig.script.next().await.done(Vec::new());
    let told = rig.script.told.lock().unwrap();
    let told: Vec<_> = told.iter().map(|(it, m)| (&**it, &*m.topic)).collect();
    assert_eq!(told, [("other", "a"), ("default", "b")]);
}

#[tokio::test]
async fn a_task_sends_its_steps_home_and_is_stopped_once_nobody_waits_for_it() {
    let (gateway, rig, mut link) = linked().await;
    let task = TaskId {
        client: None,
        event: gateway.event(0),
        nth: 0,
    };
    let kind = EventKind::Task {
        task: Box::new(task),
        payload: b"work".to_vec().into(),
        committed: 0,
    };
    let message = gateway.message(7, 1);
    link.deliver(with_session(Delivery { kind, ..message }, &[]));
    let running = rig.script.next().await;
    let step = |number| Step {
        event: gateway.event(1),
        attempt: 0,
        client: gateway.client(7),
        number,
        effects: vec![set(gateway.client(8), "k", "1")],
    };
    assert!(running.lane.clone().step(step(0)).await);
    let sent = link.next().await;
    assert_eq!(sent, WorkerFrame::Step(Box::new(step(0))));
    drop(link);
    let ended = (gateway.event(1), 0);
    let cancelled = || *rig.script.cancelled.lock().unwrap() == [ended];
    eventually("the task is stopped", cancelled).await;
    assert!(!running.lane.clone().step(step(1)).await);
}
