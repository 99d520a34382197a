//! The second custodian: on another machine than the first, told what changes, and told when it is the
//! first.

use super::*;

/// Confirms and collects what comes until something that `wanted` knows; gives all.
async fn until(worker: &mut Scripted, wanted: impl Fn(&GatewayFrame) -> bool) -> Vec<GatewayFrame> {
    let mut frames = Vec::new();
    loop {
        let frame = worker.frame().await;
        if let GatewayFrame::Confirm { shard, number } = frame {
            let confirmed = WorkerFrame::Confirmed { shard, number };
            worker.link.sender.send(confirmed).unwrap();
            continue;
        }
        let found = wanted(&frame);
        frames.push(frame);
        if found {
            return frames;
        }
    }
}

fn stands(frame: &GatewayFrame, id: ClientId, behind: Option<u64>) -> bool {
    let behind = behind.map(Incarnation);
    matches!(frame, GatewayFrame::CustodyRank(list) if list.contains(&(id, behind)))
}

/// A client whose worker is on the gateway's machine, and a worker on another one.
async fn apart() -> (Home, Scripted, Scripted, Client, ClientId) {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker(64).await;
    let client = home.client().await;
    let id = first.welcome().await;
    let mut second = home.worker_on("b").await;
    let frames = until(&mut second, |frame| stands(frame, id, Some(2))).await;
    let told =
        |frame: &GatewayFrame| matches!(frame, GatewayFrame::Custody(list) if list[0].client == id);
    assert!(frames.iter().any(told), "{frames:?}");
    (home, first, second, client, id)
}

#[tokio::test]
async fn a_second_custodian_on_another_machine_learns_what_changes() {
    let (_home, mut first, mut second, mut client, id) = apart().await;
    client.send("a").await;
    let event = first.text("a").await;
    let group: tidegate_wire::Name = "room".into();
    let join = Effect::JoinGroup {
        client: id,
        group: group.clone(),
    };
    first.done(&event, vec![set(id, "7"), join, say(id, "done")]);
    assert_eq!(client.line().await, "done");
    let changed = |frame: &GatewayFrame| matches!(frame, GatewayFrame::CustodyChanged(_));
    let mut frames = until(&mut second, changed).await;
    let Some(GatewayFrame::CustodyChanged(list)) = frames.pop() else {
        panic!("told above");
    };
    assert_eq!(list[0].entries, [("k".into(), Some("7".to_owned()))]);
    let groups = tidegate_wire::frame::GroupsChange::Some(vec![(group, true)]);
    assert_eq!(list[0].groups, groups);
}

#[tokio::test]
async fn the_second_custodian_is_the_first_once_that_is_lost_and_is_told_so() {
    let (_home, first, mut second, _client, id) = apart().await;
    drop(first);
    until(&mut second, |frame| stands(frame, id, None)).await;
}

#[tokio::test]
async fn both_custodians_forget_a_client_whose_close_is_committed() {
    let (_home, mut first, mut second, client, id) = apart().await;
    drop(client);
    let close = first.delivery().await;
    assert!(matches!(close.kind, EventKind::Close(_)));
    first.done(&close, vec![]);
    let released =
        |frame: &GatewayFrame| matches!(frame, GatewayFrame::Release(list) if list.contains(&id));
    until(&mut second, released).await;
}

#[tokio::test]
async fn workers_of_one_machine_get_no_second_custody() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker(64).await;
    let mut client = home.client().await;
    first.welcome().await;
    let mut other = home.worker(64).await;
    let mut frames = Vec::new();
    while !frames.contains(&GatewayFrame::Recognised.into()) {
        within(other.link.receiver.recv(&mut frames)).await.unwrap();
    }
    assert_eq!(
        frames,
        [GatewayFrame::Recognised.into()],
        "nothing was sent to it"
    );
    client.send("a").await;
    first.text("a").await;
}

#[tokio::test]
async fn with_three_machines_custodians_are_on_two_of_which_neither_is_the_gateways() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker_on("b").await;
    let _client = home.client().await;
    let id = first.welcome().await;
    let _here = home.worker(64).await;
    let mut third = home.worker_on("c").await;
    until(&mut third, |frame| stands(frame, id, Some(2))).await;
}
