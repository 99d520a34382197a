//! The feed over two gateways of two shards each, with links between them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, Outcome, Recipients};
use tidegate_wire::event::{CloseReason, Message};
use tidegate_wire::feed::{Change, ChangeKind, Filter, Happening};
use tidegate_wire::id::ClientId;
use tidegate_wire::query::AskError;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::{SHARD_HAPPENINGS_MAX, UNTAKEN_MAX, WATCHERS_MAX};
use crate::gateway::access::Told;
use crate::gateway::commands::NoCommands;
use crate::gateway::rig::{Running, SHARDS, Scripted, eventually, soon, tenant, two};

fn watch(gateway: &Running, filter: Filter) -> Receiver<Told> {
    gateway.gateway.access().watch(&tenant(), filter).unwrap()
}

async fn next(feed: &mut Receiver<Told>) -> Told {
    soon("something told", feed.recv())
        .await
        .expect("the feed ended")
}

async fn happening(feed: &mut Receiver<Told>) -> Happening {
    match next(feed).await {
        Told::Happened(happening) => happening,
        other @ (Told::Missed(_) | Told::Missing(_)) => panic!("not a change: {other:?}"),
    }
}

/// Waits until every gateway tells.
async fn whole(feed: &mut Receiver<Told>) {
    loop {
        match next(feed).await {
            Told::Missing(missing) if missing.is_empty() => return,
            Told::Missing(_) => {}
            other @ (Told::Happened(_) | Told::Missed(_)) => {
                panic!("told before who is missing: {other:?}")
            }
        }
    }
}

fn join(client: ClientId, group: &str) -> Effect {
    let group = group.into();
    Effect::JoinGroup { client, group }
}

fn leave(client: ClientId, group: &str) -> Effect {
    let group = group.into();
    Effect::LeaveGroup { client, group }
}

fn bind(client: ClientId, uid: &str) -> Effect {
    let uid = uid.into();
    Effect::BindUid { client, uid }
}

/// Tells a client that what stands before it in a commit is applied.
fn applied(client: ClientId) -> Effect {
    Effect::Send {
        to: Recipients::Client(client),
        message: Message::Text(b"applied".to_vec().into()),
        except: vec![],
    }
}

/// What a client does in its life, each kind of change among it.
async fn live(gateway: &Running, worker: &mut Scripted) -> ClientId {
    let mut socket = BufReader::new(gateway.client().await);
    let ungroup = |group: &str| Effect::Ungroup {
        group: group.into(),
    };
    let id = worker
        .welcome(|client| {
            vec![
                join(client, "a"),
                join(client, "a"),
                bind(client, "u"),
                bind(client, "u"),
                bind(client, "v"),
                join(client, "b"),
                leave(client, "a"),
                leave(client, "a"),
                join(client, "c"),
                ungroup("c"),
                ungroup("c"),
                Effect::UnbindUid { client },
                bind(client, "w"),
                applied(client),
            ]
        })
        .await;
    let mut line = String::new();
    soon("the commit", socket.read_line(&mut line))
        .await
        .unwrap();
    drop(socket);
    let close = worker.delivery().await;
    // It is gone already: nobody is told of this.
    worker.end(&close, Outcome::Done, vec![join(id, "late")], None);
    id
}

fn name(uid: &str) -> Option<Name> {
    Some(uid.into())
}

fn told_of_life() -> Vec<(Option<Name>, Change)> {
    vec![
        (None, Change::Joined("a".into())),
        (name("u"), Change::Bound("u".into())),
        (name("u"), Change::Unbound("u".into())),
        (name("v"), Change::Bound("v".into())),
        (name("v"), Change::Joined("b".into())),
        (name("v"), Change::Left("a".into())),
        (name("v"), Change::Joined("c".into())),
        (name("v"), Change::Left("c".into())),
        (name("v"), Change::Unbound("v".into())),
        (name("w"), Change::Bound("w".into())),
        (
            name("w"),
            Change::Closed(CloseReason::Client, vec!["b".into()]),
        ),
    ]
}

async fn cluster() -> (Running, Running) {
    two(|| Arc::new(NoCommands)).await
}

/// How many watchers the shards of a gateway tell.
fn watchers(gateway: &Running) -> Vec<usize> {
    let statuses = &gateway.gateway.services.context.statuses;
    statuses
        .iter()
        .map(|status| status.watchers.load(Ordering::Acquire))
        .collect()
}

const NOBODY: [usize; SHARDS as usize] = [0; SHARDS as usize];

#[tokio::test]
async fn every_kind_of_change_at_either_gateway_is_told_once_and_in_order() {
    let (mut one, mut two) = cluster().await;
    let (mut near, mut far) = (one.worker().await, two.worker().await);
    let mut feed = watch(&one, Filter::default());
    whole(&mut feed).await;
    for (gateway, worker) in [(&one, &mut near), (&two, &mut far)] {
        let id = live(gateway, worker).await;
        let connected = happening(&mut feed).await;
        assert_eq!((connected.client, connected.uid), (id, None));
        assert!(matches!(connected.what, Change::Connected(_)));
        for expected in told_of_life() {
            let told = happening(&mut feed).await;
            assert_eq!(told.client, id);
            assert_eq!((told.uid, told.what), expected);
        }
    }
    // Nothing was told twice, and nothing of a client that is gone.
    let id = live(&one, &mut near).await;
    assert_eq!(happening(&mut feed).await.client, id);
}

#[tokio::test]
async fn a_filter_holds_at_both_gateways_and_tenants_are_apart() {
    let (mut one, mut two) = cluster().await;
    let (mut near, mut far) = (one.worker().await, two.worker().await);
    let mut feeds = [
        watch(
            &one,
            Filter {
                kinds: vec![ChangeKind::Bound, ChangeKind::Closed],
                uids: vec!["w".into()],
                ..Filter::default()
            },
        ),
        watch(
            &one,
            Filter {
                groups: vec!["b".into()],
                ..Filter::default()
            },
        ),
    ];
    let access = one.gateway.access();
    let mut other = access.watch(&"other".into(), Filter::default()).unwrap();
    for feed in feeds.iter_mut().chain([&mut other]) {
        whole(feed).await;
    }
    live(&one, &mut near).await;
    live(&two, &mut far).await;
    for _ in 0..2 {
        let kinds = [
            happening(&mut feeds[0]).await,
            happening(&mut feeds[0]).await,
        ];
        let kinds = kinds.map(|told| told.what.kind());
        assert_eq!(kinds, [ChangeKind::Bound, ChangeKind::Closed]);
        let of_group = [
            happening(&mut feeds[1]).await,
            happening(&mut feeds[1]).await,
        ];
        let of_group = of_group.map(|told| told.what.kind());
        assert_eq!(of_group, [ChangeKind::Joined, ChangeKind::Closed]);
    }
    assert!(other.try_recv().is_err(), "a tenant heard another one");
}

#[tokio::test]
async fn a_slow_watcher_misses_changes_is_told_how_many_and_holds_nobody_up() {
    let (mut one, two) = cluster().await;
    let mut worker = one.worker().await;
    let mut socket = BufReader::new(one.client().await);
    let only = |kind| Filter {
        kinds: vec![kind],
        ..Filter::default()
    };
    // The one at the other gateway is behind a link.
    let mut feeds = [&one, &two].map(|gateway| watch(gateway, only(ChangeKind::Joined)));
    for feed in &mut feeds {
        whole(feed).await;
    }
    let most = UNTAKEN_MAX + SHARD_HAPPENINGS_MAX * usize::from(SHARDS);
    let pairs = most * 3;
    worker
        .welcome(|client| {
            let pair = |_| [join(client, "g"), leave(client, "g")];
            let pairs = (0..pairs).flat_map(pair);
            pairs.chain([applied(client)]).collect()
        })
        .await;
    // The commit is applied, whoever watches.
    let mut line = String::new();
    soon("the commit", socket.read_line(&mut line))
        .await
        .unwrap();
    for (place, feed) in feeds.iter_mut().enumerate() {
        let (mut told, mut missed) = (0, 0);
        while told + missed < pairs as u64 {
            match next(feed).await {
                Told::Happened(_) => told += 1,
                Told::Missed(more) => missed += more,
                Told::Missing(missing) => panic!("a link ended: {missing:?}"),
            }
        }
        assert_eq!(told + missed, pairs as u64);
        assert!(told > 0);
        // The link may have held what the other one missed.
        assert!(missed > 0 || place > 0, "told {told}, missed {missed}");
    }
}

#[tokio::test]
async fn a_watcher_that_is_dropped_costs_nothing_anywhere() {
    let (one, two) = cluster().await;
    let mut feed = watch(&one, Filter::default());
    whole(&mut feed).await;
    eventually("every shard tells it", || {
        (watchers(&one), watchers(&two)) == (vec![1, 1], vec![1, 1])
    })
    .await;
    drop(feed);
    eventually("no shard tells anybody", || {
        watchers(&one) == NOBODY && watchers(&two) == NOBODY
    })
    .await;
}

#[tokio::test]
async fn watchers_are_told_which_gateways_are_missing_and_those_that_come_later_tell_too() {
    let (mut one, mut two) = cluster().await;
    let mut feed = watch(&one, Filter::default());
    whole(&mut feed).await;
    two.stop.cancel();
    soon("the end", &mut two.task).await.unwrap();
    drop(two);
    let missing = next(&mut feed).await;
    assert!(
        matches!(&missing, Told::Missing(missing) if missing.len() == 1),
        "{missing:?}"
    );
    // It leaves the view.
    one.see(&[&one]);
    assert_eq!(next(&mut feed).await, Told::Missing(vec![]));
    let mut three = Running::start(3).await;
    let mut worker = three.worker().await;
    one.see(&[&one, &three]);
    three.see(&[&one, &three]);
    assert_eq!(
        next(&mut feed).await,
        Told::Missing(vec![three.announced()])
    );
    assert_eq!(next(&mut feed).await, Told::Missing(vec![]));
    let id = live(&three, &mut worker).await;
    assert_eq!(happening(&mut feed).await.client, id);
    // The watching gateway is lost: its watches end with its link.
    one.stop.cancel();
    soon("the end", &mut one.task).await.unwrap();
    while soon("the end of the feed", feed.recv()).await.is_some() {}
    eventually("no shard tells anybody", || watchers(&three) == NOBODY).await;
}

#[tokio::test]
async fn watchers_are_bounded() {
    let gateway = Running::start(1).await;
    let access = gateway.gateway.access();
    let feeds: Vec<_> = (0..WATCHERS_MAX)
        .map(|_| watch(&gateway, Filter::default()))
        .collect();
    let refused = access.watch(&tenant(), Filter::default());
    assert!(matches!(refused, Err(AskError::Overloaded(_))));
    drop(feeds);
    soon("room for a watcher", async {
        while access.watch(&tenant(), Filter::default()).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let filter = Filter {
        uids: vec!["u".into(); 101],
        ..Filter::default()
    };
    let refused = access.watch(&tenant(), filter);
    assert!(matches!(refused, Err(AskError::Invalid(_))));
}

#[tokio::test]
async fn a_gateway_alone_tells_nobody_is_missing_first() {
    let gateway = Running::start(1).await;
    let mut feed = watch(&gateway, Filter::default());
    assert_eq!(next(&mut feed).await, Told::Missing(vec![]));
    let nothing = timeout(std::time::Duration::from_millis(50), feed.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn one_tenants_watchers_leave_room_for_anothers() {
    let announced = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1);
    let mut settings = crate::gateway::rig::settings(announced);
    let mut other = settings.listeners[0].clone();
    other.tenant = "other".into();
    settings.listeners.push(other);
    let identity = tidegate_link::Identity {
        node: crate::gateway::rig::node(
            tidegate_wire::membership::Role::Gateway,
            1,
            Some(announced),
        ),
        secret: tidegate_link::Secret::new(b"a secret of tests"),
        net: tidegate_link::net::stream::tcp(),
    };
    let context = crate::gateway::shared::Context::new(identity, settings).unwrap();
    let feed = Arc::new(super::Feed::new(context));
    let watch = |tenant: &str| super::watch(&feed, &tenant.into(), Filter::default());
    let mut greedy = Vec::new();
    while let Ok(feed) = watch(&tenant()) {
        greedy.push(feed);
    }
    assert_eq!(greedy.len(), WATCHERS_MAX / 2);
    let others: Vec<_> = (0..WATCHERS_MAX / 4).map(|_| watch("other")).collect();
    assert!(others.iter().all(Result::is_ok));
}
