//! What a custodian is told of a client while it has an event of that client: nothing crosses the
//! commit, so a close that it told at any moment would have uid, groups and session of one time.

use super::*;

/// Waits for a message of a client; gives what came before it.
async fn before(worker: &mut Scripted, text: &str) -> Vec<GatewayFrame> {
    let mut frames = Vec::new();
    loop {
        match worker.frame().await {
            GatewayFrame::Deliver(delivery) => {
                let EventKind::Message(message) = &delivery.kind else {
                    panic!("unexpected: {delivery:?}");
                };
                assert_eq!(&message.payload()[..], text.as_bytes());
                worker.done(&delivery, vec![]);
                return frames;
            }
            frame => frames.push(frame),
        }
    }
}

/// A client's event is under way, another client's event changes the first one, and then the first
/// one's event, which changes it too, is committed. Gives what its worker was told.
async fn crossed(change: impl FnOnce(ClientId) -> Effect) -> Vec<GatewayFrame> {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut worker = home.worker(64).await;
    let mut one = home.client().await;
    let id = worker.welcome().await;
    let mut other = home.client().await;
    worker.welcome().await;
    one.send("first").await;
    let first = worker.text("first").await;
    other.send("change").await;
    let event = worker.text("change").await;
    worker.done(&event, vec![change(id), say(id, "changed")]);
    assert_eq!(one.line().await, "changed");
    one.send("second").await;
    let own = Effect::JoinGroup {
        client: id,
        group: "own".into(),
    };
    worker.done(&first, vec![set(id, "\"own\""), own]);
    before(&mut worker, "second").await
}

#[tokio::test]
async fn a_group_that_others_add_is_told_after_the_commit_that_it_would_cross() {
    let room: tidegate_wire::Name = "room".into();
    let told = crossed(|client| Effect::JoinGroup {
        client,
        group: "room".into(),
    })
    .await;
    let [GatewayFrame::CustodyChanged(list)] = told.as_slice() else {
        panic!("told once: {told:?}");
    };
    let groups = tidegate_wire::frame::GroupsChange::Some(vec![(room, true)]);
    assert_eq!(list[0].groups, groups);
    assert!(list[0].entries.is_empty());
}

#[tokio::test]
async fn a_key_that_others_set_is_told_as_it_is_after_the_commit_that_it_would_cross() {
    let told = crossed(|client| set(client, "\"theirs\"")).await;
    let changes = told.iter().flat_map(|frame| match frame {
        GatewayFrame::CustodyChanged(list) => list.clone(),
        other => panic!("unexpected: {other:?}"),
    });
    // It may also come as the snapshot of the next event.
    for change in changes {
        assert_eq!(change.entries, [("k".into(), Some("\"own\"".to_owned()))]);
    }
}
