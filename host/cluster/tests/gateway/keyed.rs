//! Lanes that go by a key: each client has the worker that its key says, and moves there when the key
//! changes, once nothing of it is under way; its custody follows.

use tidegate_hub::routing::{RoutingKey, choose_by_key};
use tidegate_wire::sketch::stable_hash;

use super::handover::recognised;
use super::*;

/// The incarnations of the first two workers of a [`Home`].
const FIRST: u64 = 2;
const SECOND: u64 = 3;

async fn home() -> Home {
    let routing = Routing {
        key: Some(RoutingKey::Uid),
        ..Routing::default()
    };
    Home::start_routed(routing, Transport::TextLines).await
}

/// Makes of a client one whose worker is this one of the two.
fn bind(client: ClientId, worker: u64) -> Effect {
    let is_there = |uid: &String| {
        let workers = [FIRST, SECOND].map(|it| (Incarnation(it), it));
        choose_by_key(stable_hash(uid.as_bytes()), workers.into_iter()) == Some(worker)
    };
    let uid = (0..).map(|number| format!("user-{number}")).find(is_there);
    let uid = uid.unwrap().as_str().into();
    Effect::BindUid { client, uid }
}

/// A client without a uid at the first of two workers. Three of its events may be under way there.
async fn at_first() -> (Home, Scripted, Scripted, Client, ClientId) {
    let mut home = home().await;
    let mut first = home.worker(8).await;
    let client = home.client().await;
    let id = first.welcome().await;
    let mut second = home.worker(8).await;
    recognised(&mut second).await;
    (home, first, second, client, id)
}

/// Takes what makes a worker the custodian, and confirms it.
async fn entrusted(worker: &mut Scripted, client: ClientId) {
    let mut told = false;
    loop {
        match worker.frame().await {
            GatewayFrame::Custody(list) => told |= list[0].client == client,
            GatewayFrame::CustodyChanged(list) => told |= list[0].client == client,
            GatewayFrame::Confirm { shard, number } => {
                assert!(told, "a confirm of nothing");
                let confirmed = WorkerFrame::Confirmed { shard, number };
                return worker.link.sender.send(confirmed).unwrap();
            }
            other => panic!("expected custody, got {other:?}"),
        }
    }
}

/// The next frame of a worker that confirms what it is asked to.
async fn next(worker: &mut Scripted) -> GatewayFrame {
    loop {
        match worker.frame().await {
            GatewayFrame::Confirm { shard, number } => {
                let confirmed = WorkerFrame::Confirmed { shard, number };
                worker.link.sender.send(confirmed).unwrap();
            }
            frame => return frame,
        }
    }
}

/// The next event of such a worker.
async fn event(worker: &mut Scripted) -> Delivery {
    loop {
        if let GatewayFrame::Deliver(delivery) = next(worker).await {
            return *delivery;
        }
    }
}

fn is_release(frame: &GatewayFrame, client: ClientId) -> bool {
    matches!(frame, GatewayFrame::Release(clients) if *clients == [client])
}

#[tokio::test]
async fn a_lane_moves_with_its_session_when_its_key_has_changed_and_nothing_of_it_is_under_way() {
    let (_home, mut first, mut second, mut client, id) = at_first().await;
    client.send("1\n2\n3\n4").await;
    // Without a uid its events follow each other to one worker, as under `bind`.
    let one = first.text("1").await;
    let two = first.text("2").await;
    let three = first.text("3").await;
    first.done(&one, vec![bind(id, SECOND), say(id, "one")]);
    assert_eq!(client.line().await, "one");
    // There is room for the fourth at both workers by now, and it waits for the two before it.
    first.done(&two, vec![set(id, "2")]);
    first.done(&three, vec![set(id, "3"), say(id, "three")]);
    let four = second.text("4").await;
    assert_eq!((four.attempt, four.losses), (0, 0));
    let session = four.session.as_ref().unwrap();
    assert_eq!(session.entries, [("k".into(), "3".to_owned())]);
    assert_eq!(client.line().await, "three");
    second.done(&four, vec![say(id, "four")]);
    assert_eq!(client.line().await, "four");
}

#[tokio::test]
async fn custody_follows_a_lane_that_has_moved() {
    let (_home, mut first, mut second, mut client, id) = at_first().await;
    client.send("move").await;
    let moving = first.text("move").await;
    first.done(&moving, vec![bind(id, SECOND), say(id, "moves")]);
    assert_eq!(client.line().await, "moves");
    client.send("there").await;
    let there = second.text("there").await;
    second.done(&there, vec![set(id, "1")]);
    entrusted(&mut second, id).await;
    // The worker before learns what was changed meanwhile and may forget the client then.
    while !is_release(&next(&mut first).await, id) {}
    client.send("again").await;
    let again = event(&mut second).await;
    assert!(again.session.is_none(), "its own commits are in its mirror");
    second.done(&again, vec![set(id, "2")]);
    drop(client);
    let close = event(&mut second).await;
    assert!(matches!(close.kind, EventKind::Close(_)), "{close:?}");
    assert!(first.frames.is_empty(), "{:?}", first.frames);
}

#[tokio::test]
async fn a_lane_that_comes_back_while_its_custody_is_handed_over_gets_its_session_again() {
    let (_home, mut first, mut second, mut client, id) = at_first().await;
    client.send("go").await;
    let go = first.text("go").await;
    first.done(&go, vec![bind(id, SECOND), set(id, "1"), say(id, "goes")]);
    assert_eq!(client.line().await, "goes");
    client.send("come").await;
    let come = second.text("come").await;
    second.done(&come, vec![bind(id, FIRST), set(id, "2"), say(id, "comes")]);
    assert_eq!(client.line().await, "comes");
    client.send("a").await;
    let a = event(&mut first).await;
    assert_eq!(a.session.as_ref().unwrap().entries[0].1, "2");
    // Only now the other one is the custodian, and is not to be for long.
    entrusted(&mut second, id).await;
    while !matches!(next(&mut first).await, GatewayFrame::Custody(_)) {}
    client.send("b").await;
    first.done(&a, vec![set(id, "3"), say(id, "a")]);
    assert_eq!(client.line().await, "a");
    let b = event(&mut first).await;
    assert_eq!(b.session.as_ref().unwrap().entries[0].1, "3");
}
