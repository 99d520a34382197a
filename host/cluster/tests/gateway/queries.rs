//! Questions: of handlers during an event, of callers outside, about one gateway and several.

use tidegate_wire::query::{Answer, Answered, AskError, Once, Query, Selector, SwapRefusal};
use tokio::time::Instant;

use super::cluster::{Cluster, FakePeer, eventually, tenant};
use super::*;

fn group(name: &str) -> Selector {
    Selector::Groups(vec![name.into()])
}

fn join(client: ClientId, group: &str) -> Effect {
    Effect::JoinGroup {
        client,
        group: group.into(),
    }
}

fn bind(client: ClientId, uid: &str) -> Effect {
    Effect::BindUid {
        client,
        uid: uid.into(),
    }
}

fn count_of(of: Selector) -> Query {
    Query::ClientCount { of: vec![of] }
}

fn whole(answer: Answer) -> Result<Answered, AskError> {
    let missing = vec![];
    Ok(Answered { answer, missing })
}

/// Connects so many clients to each gateway and commits their connects.
async fn populate(
    cluster: &mut Cluster,
    each: usize,
) -> (Vec<Client>, Vec<Scripted>, Vec<ClientId>) {
    let (mut clients, mut workers, mut ids) = (vec![], vec![], vec![]);
    for member in &mut cluster.members {
        let mut worker = member.worker();
        for _ in 0..each {
            clients.push(member.client().await);
            ids.push(worker.welcome().await);
        }
        workers.push(worker);
    }
    ids.sort();
    (clients, workers, ids)
}

#[tokio::test]
async fn a_join_is_seen_by_its_own_event_only_and_leaves_nothing_when_the_event_fails() {
    let mut cluster = Cluster::start(2).await;
    let mut worker = cluster.members[0].worker();
    let mut client = cluster.members[0].client().await;
    let id = worker.welcome().await;
    client.send("a").await;
    let event = worker.text("a").await;
    let effects = vec![join(id, "g"), bind(id, "u"), set(id, "1"), say(id, "no")];
    let one = worker
        .ask(&event, effects.clone(), count_of(group("g")))
        .await;
    assert_eq!(one, whole(Answer::Count(1)));
    let uids = Query::UidCounts(vec!["u".into(), "v".into()]);
    let found = worker.ask(&event, effects.clone(), uids).await;
    assert_eq!(found, whole(Answer::Counts(vec![1, 0])));
    let closed = vec![Effect::Destroy { client: id }];
    let none = worker
        .ask(&event, closed, count_of(Selector::Everyone))
        .await;
    assert_eq!(none, whole(Answer::Count(0)));
    assert_eq!(cluster.members[0].count(group("g")).await, 0);
    assert_eq!(cluster.members[1].count(group("g")).await, 0);
    worker.end(&event, Outcome::Failed, vec![]);
    client.send("b").await;
    let event = worker.text("b").await;
    assert!(
        event.session.is_none(),
        "a trial must not count as a change"
    );
    let none = worker.ask(&event, vec![], count_of(group("g"))).await;
    assert_eq!(none, whole(Answer::Count(0)));
}

#[tokio::test]
async fn a_question_of_an_event_that_is_not_under_way_there_is_refused() {
    let mut cluster = Cluster::start(1).await;
    let mut worker = cluster.members[0].worker();
    let mut client = cluster.members[0].client().await;
    worker.welcome().await;
    client.send("a").await;
    let mut event = worker.text("a").await;
    event.attempt += 1;
    let refused = worker.ask(&event, vec![], Query::Gateways).await;
    assert_eq!(refused, Err(AskError::Gone));
    event.attempt -= 1;
    let mut other = cluster.members[0].worker();
    let refused = other.ask(&event, vec![], Query::Gateways).await;
    assert_eq!(refused, Err(AskError::Gone));
    worker.ask(&event, vec![], Query::Gateways).await.unwrap();
    worker.done(&event, vec![]);
    let refused = worker.ask(&event, vec![], Query::Gateways).await;
    assert_eq!(refused, Err(AskError::Gone));
}

#[tokio::test]
async fn pages_cover_every_gateway_once_and_a_cursor_outlives_its_gateway() {
    let mut cluster = Cluster::start(2).await;
    let (_clients, _workers, ids) = populate(&mut cluster, 25).await;
    for member in &cluster.members {
        let all = member.pages(&[Selector::Everyone], 7).await;
        let found: Vec<ClientId> = all.iter().map(|info| info.client).collect();
        assert_eq!(found, ids);
        assert_eq!(member.count(Selector::Everyone).await, 50);
    }
    // The gateway that is last in order stays.
    let first = ids[0].gateway();
    let place = usize::from(cluster.members[0].node.address != Some(first));
    cluster.end(place).await;
    let last = &cluster.members[0];
    let (page, more) = last.page(&[Selector::Everyone], Some(ids[3]), 1000).await;
    let found: Vec<ClientId> = page.iter().map(|info| info.client).collect();
    let left: Vec<ClientId> = ids.into_iter().filter(|id| id.gateway() != first).collect();
    assert_eq!((found, more), (left, false));
    // A client of a gateway that is gone is offline, not missing.
    let gone = Selector::Clients(vec![ClientId::new(first, 1)]);
    assert_eq!(last.count(gone).await, 0);
}

#[tokio::test]
async fn uids_and_groups_of_several_gateways_count_once() {
    let mut cluster = Cluster::start(2).await;
    let (_clients, _workers, ids) = populate(&mut cluster, 6).await;
    let mut effects = Vec::new();
    for (place, id) in ids.iter().enumerate() {
        effects.push(bind(*id, ["one", "two", "three"][place % 3]));
        effects.push(join(*id, "all"));
    }
    effects.push(join(ids[0], "few"));
    cluster.members[0].act(effects).await;
    let everyone = || vec![Selector::Everyone];
    let member = &cluster.members[0];
    let uids = Query::Uids {
        of: everyone(),
        after: Some("one".into()),
        limit: 1,
    };
    let page = vec!["three".into()];
    assert_eq!(member.whole(uids).await, Answer::Names { page, more: true });
    for of in [everyone(), vec![group("all")]] {
        let count = member.whole(Query::UidCount { of }).await;
        assert_eq!(count, Answer::Count(3));
    }
    let one = Selector::Clients(vec![ids[0]]);
    let count = member.whole(Query::UidCount { of: vec![one] }).await;
    assert_eq!(count, Answer::Count(1));
    assert_eq!(member.whole(Query::UidEstimate).await, Answer::Count(3));
    let infos = Query::GroupInfos {
        after: None,
        limit: 10,
    };
    let Answer::Groups { page, more } = member.whole(infos).await else {
        panic!("groups were asked for")
    };
    let found: Vec<_> = page
        .iter()
        .map(|it| (&*it.group, it.clients, it.uids, it.uids_may_repeat))
        .collect();
    assert_eq!(found, [("all", 12, 3, false), ("few", 1, 1, false)]);
    assert!(!more);
    let all_of = Selector::AllOfGroups(vec!["all".into(), "few".into()]);
    assert_eq!(member.count(all_of).await, 1);
}

#[tokio::test]
async fn a_caller_reads_its_own_writes_on_every_gateway() {
    let mut cluster = Cluster::start(3).await;
    let (_clients, _workers, ids) = populate(&mut cluster, 2).await;
    for round in 0..50 {
        let name = format!("g{round}");
        let joins = ids.iter().map(|id| join(*id, &name)).collect();
        let member = &cluster.members[round % 3];
        member.act(joins).await;
        assert_eq!(member.count(group(&name)).await, 6, "round {round}");
        member
            .act(vec![Effect::Ungroup {
                group: name.as_str().into(),
            }])
            .await;
        assert_eq!(member.count(group(&name)).await, 0, "round {round}");
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_missing_by_the_deadline_and_then_at_once() {
    let mut cluster = Cluster::start(1).await;
    let (_clients, _workers, _ids) = populate(&mut cluster, 3).await;
    let silent = FakePeer::start(9).await;
    cluster.show(vec![cluster.members[0].node.clone(), silent.node.clone()]);
    let mut link = silent.link().await;
    let address = silent.node.address.unwrap();
    let member = &cluster.members[0];
    let t = tenant();
    let ask = async |millis| {
        let within = Duration::from_millis(millis);
        let asked = Instant::now();
        let found = member
            .access
            .ask(&t, count_of(Selector::Everyone), within)
            .await;
        (found.unwrap(), asked.elapsed())
    };
    let partial = Answered {
        answer: Answer::Count(3),
        missing: vec![address],
    };
    // Until the shards know of the link it is missing at once, too.
    let mut frames = Vec::new();
    eventually(async || {
        let (found, _) = ask(300).await;
        assert_eq!(found, partial);
        let received = link.receiver.recv(&mut frames);
        let received = timeout(Duration::from_millis(1), received).await;
        let is_asked = |frame: Frame| matches!(frame, Frame::Peer(PeerFrame::Ask(_)));
        received.is_ok() && frames.drain(..).any(is_asked)
    })
    .await;
    let (found, took) = ask(5000).await;
    assert_eq!(found, partial);
    assert!(took < Duration::from_secs(2), "waited again: {took:?}");
    // A sign of life after that: it is asked again, and answers.
    let ack = PeerFrame::ForwardAck {
        shard: 0,
        sequence: 0,
    };
    link.sender.send(ack).unwrap();
    let answering = tokio::spawn(async move {
        let mut frames = Vec::new();
        loop {
            link.receiver.recv(&mut frames).await.unwrap();
            for frame in frames.drain(..) {
                if let Frame::Peer(PeerFrame::Ask(ask)) = frame {
                    let answer = PeerFrame::Answer {
                        shard: ask.shard,
                        number: ask.number,
                        answer: Box::new(Ok(Answer::Count(4))),
                    };
                    link.sender.send(answer).unwrap();
                }
            }
        }
    });
    eventually(async || ask(1000).await.0 == whole(Answer::Count(7)).unwrap()).await;
    answering.abort();
    // Without a link it is missing at once.
    eventually(async || ask(5000).await.0 == partial).await;
}

fn swap(client: ClientId, expected: Option<&str>, new: Option<&str>) -> Query {
    Query::CompareAndSet {
        client,
        key: "k".into(),
        expected: expected.map(str::to_owned),
        new: new.map(str::to_owned),
        nth: 0,
    }
}

#[tokio::test]
async fn a_compare_and_set_conflicts_and_its_result_is_remembered_for_the_next_attempt() {
    let mut cluster = Cluster::start(2).await;
    let mut worker = cluster.members[0].worker();
    let mut client = cluster.members[0].client().await;
    let id = worker.welcome().await;
    let mut far_worker = cluster.members[1].worker();
    let _far_client = cluster.members[1].client().await;
    let far = far_worker.welcome().await;
    client.send("a").await;
    let first = worker.text("a").await;
    let swapped = |result| whole(Answer::Swapped(result));
    for target in [id, far] {
        let done = worker
            .ask(&first, vec![], swap(target, None, Some("1")))
            .await;
        assert_eq!(done, swapped(Ok(())));
        let conflict = worker
            .ask(&first, vec![], swap(target, Some("2"), None))
            .await;
        assert_eq!(conflict, swapped(Err(SwapRefusal::Conflict)));
        let equal = worker
            .ask(&first, vec![], swap(target, Some(" 1 "), Some("2")))
            .await;
        assert_eq!(equal, swapped(Ok(())));
    }
    let offline = ClientId { port: 1, ..id };
    let refused = worker.ask(&first, vec![], swap(offline, None, None)).await;
    assert_eq!(refused, swapped(Err(SwapRefusal::Offline)));
    worker.try_again();
    let done = worker.ask(&first, vec![], swap(id, None, Some("1"))).await;
    assert_eq!(done, swapped(Ok(())), "remembered for a second try");
    worker.end(&first, Outcome::Returned, vec![]);
    let again = worker.event().await;
    assert_eq!((again.event, again.attempt), (first.event, 1));
    let entries = again.session.as_ref().unwrap().entries.clone();
    assert_eq!(entries, vec![("k".into(), "2".to_owned())]);
    for target in [id, far] {
        let done = worker
            .ask(&again, vec![], swap(target, None, Some("1")))
            .await;
        assert_eq!(done, swapped(Ok(())), "remembered");
        let conflict = worker
            .ask(&again, vec![], swap(target, Some("2"), None))
            .await;
        assert_eq!(conflict, swapped(Err(SwapRefusal::Conflict)));
        let equal = worker
            .ask(&again, vec![], swap(target, Some(" 1 "), Some("2")))
            .await;
        assert_eq!(equal, swapped(Ok(())));
    }
    worker.done(&again, vec![]);
    let outside = cluster.members[1].ask(swap(id, Some("2"), Some("3"))).await;
    assert_eq!(outside, swapped(Ok(())));
}

#[tokio::test]
async fn calls_of_a_gateway_that_has_ended_say_so() {
    let mut cluster = Cluster::start(2).await;
    let access = cluster.members[0].access.clone();
    cluster.end(0).await;
    let t = tenant();
    let asked = access.ask(&t, Query::UidEstimate, DEADLINE).await;
    assert_eq!(asked, Err(AskError::Gone));
    assert_eq!(access.act(&t, vec![]).await, Err(AskError::Gone));
}

#[tokio::test]
async fn one_key_applies_once_whichever_gateway_is_asked() {
    let mut cluster = Cluster::start(2).await;
    let (mut clients, _workers, ids) = populate(&mut cluster, 1).await;
    let everyone = |text: &str| Effect::Send {
        to: Recipients::Everyone,
        message: Message::Text(text.as_bytes().to_vec().into()),
        except: vec![],
    };
    let t = tenant();
    for key in 0..8 {
        for (place, expected) in [(0, Once::First), (1, Once::Again), (0, Once::Again)] {
            let access = &cluster.members[place].access;
            let effects = vec![everyone(&format!("m{key}"))];
            let once = access.act_once(&t, [key; 32], [1; 32], effects, DEADLINE);
            assert_eq!(once.await, Ok(expected));
        }
        let access = &cluster.members[1].access;
        let effects = vec![everyone("no")];
        let once = access.act_once(&t, [key; 32], [2; 32], effects, DEADLINE);
        assert_eq!(once.await, Ok(Once::Reused));
    }
    for client in &mut clients {
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push(client.line().await);
        }
        // What two gateways remember arrives in any order.
        seen.sort();
        assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"]);
    }
    cluster.members[0].act(vec![everyone("end")]).await;
    for client in &mut clients {
        assert_eq!(client.line().await, "end");
    }
    assert_eq!(ids.len(), 2);
}
