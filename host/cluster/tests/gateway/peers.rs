//! What one instance says to the others: to each worker of the tenant once, with the commit, and never in
//! the way of what must arrive.

use tidegate_wire::peers::{InstanceId, PeerMessage};

use super::*;

fn says(text: &str, bytes: usize) -> Effect {
    Effect::PeerMessage(Box::new(PeerMessage {
        from: InstanceId(7),
        topic: text.into(),
        payload: vec![b'x'; bytes].into(),
    }))
}

/// Waits until every shard knows the worker.
async fn known(worker: &mut Scripted) {
    loop {
        let mut frames = Vec::new();
        let receiver = &mut worker.link.receiver;
        within(receiver.recv(&mut frames)).await.unwrap();
        let recognised = frames.contains(&GatewayFrame::Recognised.into());
        frames.retain(|frame| *frame != GatewayFrame::Recognised.into());
        worker.frames.extend(frames.into_iter().map(to_worker));
        if recognised {
            return;
        }
    }
}

/// The next thing that is said; what else comes is passed over. The tenant is the first that the worker
/// has announced.
async fn told(worker: &mut Scripted) -> String {
    loop {
        if let GatewayFrame::PeerMessage { tenant, message } = worker.frame().await {
            assert_eq!((tenant, message.from), (0, InstanceId(7)));
            return message.topic.to_string();
        }
    }
}

/// A client's message, which the worker ends so.
async fn event(
    client: &mut Client,
    worker: &mut Scripted,
    text: &str,
    outcome: Outcome,
    effects: Vec<Effect>,
) {
    client.send(text).await;
    // What the worker itself is told comes among its events.
    let event = loop {
        if let GatewayFrame::Deliver(event) = worker.frame().await {
            break event;
        }
    };
    worker.end(&event, outcome, effects);
}

#[tokio::test]
async fn each_worker_of_the_tenant_is_told_once_and_only_what_was_committed() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut worker = home.worker(64).await;
    let mut client = home.client().await;
    let id = worker.welcome().await;
    let mut other = home.worker(64).await;
    known(&mut other).await;
    let says = |text| vec![says(text, 10)];

    event(
        &mut client,
        &mut worker,
        "failed",
        Outcome::Failed,
        says("no"),
    )
    .await;
    client.send("stale").await;
    let old = worker.text("stale").await;
    worker.end(&old, Outcome::Returned, vec![]);
    let again = worker.text("stale").await;
    worker.done(&old, says("no"));
    worker.done(&again, says("first"));
    worker.done(&again, says("no"));
    assert_eq!(told(&mut worker).await, "first");
    let both = [says("second"), says("third"), vec![say(id, "said")]].concat();
    event(&mut client, &mut worker, "both", Outcome::Done, both).await;
    for text in ["second", "third"] {
        assert_eq!(told(&mut worker).await, text);
    }
    assert_eq!(client.line().await, "said");
    for text in ["first", "second", "third"] {
        assert_eq!(told(&mut other).await, text);
    }
}

#[tokio::test]
async fn a_worker_with_two_links_is_told_over_the_later_one_and_who_serves_others_is_not_told() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut worker = home.worker(64).await;
    let mut client = home.client().await;
    worker.welcome().await;
    let mut earlier = home.worker(64).await;
    known(&mut earlier).await;
    let mut later = home.link_again(home.workers, 64).await;
    known(&mut later).await;
    let stranger = home.attach_again(99).await;
    let announcement = Announcement {
        serving: vec![Serving {
            tenant: "other".into(),
            version: "v1".into(),
            http: false,
        }],
        window_events: 64,
        window_bytes: 1 << 20,
    };
    let announce = WorkerFrame::Announce(announcement);
    stranger.sender.send(announce).unwrap();
    let mut stranger = Scripted {
        link: stranger,
        frames: VecDeque::new(),
        swaps: std::collections::HashMap::new(),
    };
    known(&mut stranger).await;
    let said = vec![says("once", 1)];
    event(&mut client, &mut worker, "a", Outcome::Done, said).await;
    assert_eq!(told(&mut later).await, "once");
    let said = vec![says("twice", 1)];
    event(&mut client, &mut worker, "b", Outcome::Done, said).await;
    assert_eq!(told(&mut later).await, "twice");
    // The earlier link has ended without a word, and the stranger's has nothing.
    let mut frames = Vec::new();
    while within(earlier.link.receiver.recv(&mut frames))
        .await
        .is_ok()
    {}
    assert!(!frames.iter().any(is_peer_message), "{frames:?}");
    assert!(stranger.frames.is_empty() && stranger.link.sender.queued_bytes() < 1024);
    stranger.link.sender.close();
    while within(stranger.link.receiver.recv(&mut frames))
        .await
        .is_ok()
    {}
    assert!(!frames.iter().any(is_peer_message), "{frames:?}");
}

fn is_peer_message(frame: &Frame) -> bool {
    matches!(frame, Frame::ToWorker(GatewayFrame::PeerMessage { .. }))
}

#[tokio::test]
async fn a_worker_that_does_not_read_misses_what_is_said_and_holds_nobody_up() {
    const SAID: usize = 200;
    const BYTES: usize = 64 << 10;
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut worker = home.worker(64).await;
    let mut client = home.client().await;
    let id = worker.welcome().await;
    let mut frozen = home.worker(64).await;
    known(&mut frozen).await;
    for number in 0..SAID {
        let text = number.to_string();
        let effects = vec![says(&text, BYTES), say(id, &text)];
        event(&mut client, &mut worker, &text, Outcome::Done, effects).await;
        assert_eq!(told(&mut worker).await, text);
        assert_eq!(client.line().await, text);
    }
    // It reads again: so much waited for it as may, and it is told what is said then.
    let read = async {
        let mut waited = 0;
        loop {
            match told(&mut frozen).await.as_str() {
                "again" => return waited,
                said => assert_eq!(said, waited.to_string()),
            }
            waited += 1;
        }
    };
    let say = async {
        loop {
            let said = vec![says("again", 1)];
            event(&mut client, &mut worker, "again", Outcome::Done, said).await;
        }
    };
    let waited: usize = tokio::select! {
        waited = read => waited,
        () = say => 0,
    };
    assert!((16..80).contains(&waited), "{waited} waited");
}
