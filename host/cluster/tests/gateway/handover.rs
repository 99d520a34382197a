//! Custody that changes hands: when a worker leaves in peace, and when a worker links again.

use super::*;

fn bind(client: ClientId) -> Effect {
    let uid = "anna".into();
    Effect::BindUid { client, uid }
}

/// A client whose custodian is the first of two workers.
async fn in_custody() -> (Home, Scripted, Scripted, Client, ClientId) {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker(64).await;
    let mut client = home.client().await;
    let connect = first.delivery().await;
    let id = connect.client;
    first.done(&connect, vec![bind(id), say(id, "welcome")]);
    assert_eq!(client.line().await, "welcome");
    let second = home.worker(64).await;
    (home, first, second, client, id)
}

/// Waits until the gateway knows the worker on all shards.
pub(crate) async fn recognised(worker: &mut Scripted) {
    until_recognised(&mut worker.link).await;
}

/// Confirms what a link brings until it is recognised; gives what came.
async fn until_recognised(link: &mut Link) -> Vec<GatewayFrame> {
    let (mut received, mut frames) = (Vec::new(), Vec::new());
    while !frames.contains(&GatewayFrame::Recognised) {
        within(link.receiver.recv(&mut received)).await.unwrap();
        for frame in received.drain(..).map(to_worker) {
            if let GatewayFrame::Confirm { shard, number } = frame {
                let confirmed = WorkerFrame::Confirmed { shard, number };
                link.sender.send(confirmed).unwrap();
            }
            frames.push(frame);
        }
    }
    frames
}

/// Waits until a link is recognised, and looks whether the client's custody came before that.
async fn entrusted_before_recognised(link: &mut Link, id: ClientId) {
    let frames = until_recognised(link).await;
    let of_client =
        |frame: &GatewayFrame| matches!(frame, GatewayFrame::Custody(list) if list[0].client == id);
    let custody = frames.iter().position(of_client);
    let recognised = frames
        .iter()
        .position(|frame| *frame == GatewayFrame::Recognised);
    assert!(custody.is_some() && custody < recognised, "{frames:?}");
}

/// The custody of a client, and the confirm behind it.
async fn entrusted(heir: &mut Scripted, id: ClientId) -> WorkerFrame {
    named(heir, id).await;
    asked(heir).await
}

/// The custody of a client.
async fn named(custodian: &mut Scripted, id: ClientId) {
    match custodian.frame().await {
        GatewayFrame::Custody(list) => {
            assert_eq!(list[0].client, id);
            assert_eq!(list[0].uid.as_deref(), Some("anna"));
        }
        other => panic!("expected custody, got {other:?}"),
    }
}

/// A confirm; gives what answers it.
async fn asked(custodian: &mut Scripted) -> WorkerFrame {
    match custodian.frame().await {
        GatewayFrame::Confirm { shard, number } => WorkerFrame::Confirmed { shard, number },
        other => panic!("expected a confirm, got {other:?}"),
    }
}

#[tokio::test]
async fn a_worker_that_leaves_is_let_go_when_its_heir_knows_its_clients() {
    let (_home, mut leaving, mut heir, _client, id) = in_custody().await;
    recognised(&mut heir).await;
    leaving.link.sender.send(WorkerFrame::Drain).unwrap();
    let confirmed = entrusted(&mut heir, id).await;
    heir.link.sender.send(confirmed).unwrap();
    // In this order: not let go before it was released.
    assert_eq!(leaving.frame().await, GatewayFrame::Release(vec![id]));
    assert_eq!(leaving.frame().await, GatewayFrame::Drained);
}

#[tokio::test]
async fn until_the_heir_has_confirmed_both_learn_what_others_change() {
    let (home, mut leaving, mut heir, _client, id) = in_custody().await;
    recognised(&mut heir).await;
    leaving.link.sender.send(WorkerFrame::Drain).unwrap();
    let confirmed = entrusted(&mut heir, id).await;
    let _other = home.client().await;
    let connect = heir.delivery().await;
    heir.done(&connect, vec![set(id, "2")]);
    // The one that leaves has known all of the client since its connect.
    for worker in [&mut leaving, &mut heir] {
        match worker.frame().await {
            GatewayFrame::CustodyChanged(list) => {
                let key = ("k".into(), Some("2".to_owned()));
                assert_eq!((list[0].client, &list[0].entries), (id, &vec![key]));
            }
            other => panic!("expected what has changed, got {other:?}"),
        }
    }
    heir.link.sender.send(confirmed).unwrap();
    assert_eq!(leaving.frame().await, GatewayFrame::Release(vec![id]));
    assert_eq!(leaving.frame().await, GatewayFrame::Drained);
}

#[tokio::test]
async fn a_worker_that_leaves_gets_another_heir_if_the_first_is_lost() {
    let (mut home, mut leaving, mut heir, _client, id) = in_custody().await;
    recognised(&mut heir).await;
    leaving.link.sender.send(WorkerFrame::Drain).unwrap();
    entrusted(&mut heir, id).await;
    let mut next = home.worker(64).await;
    recognised(&mut next).await;
    drop(heir);
    let confirmed = entrusted(&mut next, id).await;
    next.link.sender.send(confirmed).unwrap();
    assert_eq!(leaving.frame().await, GatewayFrame::Release(vec![id]));
    assert_eq!(leaving.frame().await, GatewayFrame::Drained);
}

#[tokio::test]
async fn a_worker_that_leaves_alone_waits_for_nobody() {
    let (_home, mut leaving, mut heir, _client, id) = in_custody().await;
    recognised(&mut heir).await;
    leaving.link.sender.send(WorkerFrame::Drain).unwrap();
    entrusted(&mut heir, id).await;
    drop(heir);
    assert_eq!(leaving.frame().await, GatewayFrame::Drained);
}

#[tokio::test]
async fn a_worker_that_links_again_has_its_clients_before_it_is_recognised() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker(64).await;
    let mut client = home.client().await;
    let connect = first.delivery().await;
    let id = connect.client;
    first.done(&connect, vec![say(id, "welcome")]);
    assert_eq!(client.line().await, "welcome");
    // The gateway has not noticed that the first link is over.
    let mut again = home.link_again(home.workers, 64).await;
    entrusted_before_recognised(&mut again.link, id).await;
    let mut rest = Vec::new();
    while within(first.link.receiver.recv(&mut rest)).await.is_ok() {}
}

#[tokio::test]
async fn a_worker_that_links_again_without_serving_goes_on_keeping_its_clients() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker(64).await;
    let mut client = home.client().await;
    let connect = first.delivery().await;
    let id = connect.client;
    first.done(&connect, vec![say(id, "welcome")]);
    assert_eq!(client.line().await, "welcome");
    let again = home.attach_again(home.workers).await;
    let announce = |version: &str| {
        let serving = vec![Serving {
            tenant: "t".into(),
            version: version.into(),
            http: false,
        }];
        again
            .sender
            .send(WorkerFrame::Announce(Announcement {
                serving,
                window_events: 64,
                window_bytes: 1 << 20,
            }))
            .unwrap();
    };
    // Withdrawn, and some time later served again.
    announce("");
    announce("v1");
    let mut again = again;
    entrusted_before_recognised(&mut again, id).await;
}

#[tokio::test]
async fn a_worker_that_links_again_keeps_its_clients_until_the_next_custodian_has_confirmed() {
    let (home, first, mut second, _client, id) = in_custody().await;
    recognised(&mut second).await;
    drop(first);
    named(&mut second, id).await;
    let mut again = home.link_again(1, 64).await;
    let confirmed = asked(&mut second).await;
    second.link.sender.send(confirmed).unwrap();
    recognised(&mut again).await;
}

#[tokio::test]
async fn a_worker_that_links_again_gets_its_clients_if_the_next_custodian_is_lost() {
    let (home, first, mut second, _client, id) = in_custody().await;
    recognised(&mut second).await;
    drop(first);
    named(&mut second, id).await;
    let mut again = home.link_again(1, 64).await;
    asked(&mut second).await;
    drop(second);
    entrusted_before_recognised(&mut again.link, id).await;
}
