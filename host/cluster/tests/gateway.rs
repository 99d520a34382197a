//! A real gateway with real client sockets, and a worker whose every frame the test writes: what
//! the gateway does with attempts, returns, losses, stale commits, custody and windows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "gateway/bulk.rs"]
mod bulk;
#[path = "gateway/cluster.rs"]
mod cluster;
#[path = "gateway/crossing.rs"]
mod crossing;
#[path = "gateway/handover.rs"]
mod handover;
#[path = "gateway/keyed.rs"]
mod keyed;
#[path = "gateway/lost.rs"]
mod lost;
#[path = "gateway/model.rs"]
mod model;
#[path = "gateway/peers.rs"]
mod peers;
#[path = "gateway/queries.rs"]
mod queries;
#[path = "gateway/second.rs"]
mod second;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::gateway::Gateway;
use tidegate_cluster::gateway::settings::{GatewaySettings, ListenerSettings};
use tidegate_hub::routing::{Router, Routing, Routings};
use tidegate_link::membership::fixed;
use tidegate_link::{Identity, Link, LinkSettings, Secret, pair};
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients, SessionChange};
use tidegate_wire::event::{Delivery, EventKind, Message, Transport};
use tidegate_wire::frame::{Announcement, Frame, GatewayFrame, PeerFrame, Serving, WorkerFrame};
use tidegate_wire::id::{ClientId, Incarnation};
use tidegate_wire::membership::{Node, Role};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const ANNOUNCED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2000);
const DEADLINE: Duration = Duration::from_secs(10);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("the deadline passed")
}

fn node(role: Role, incarnation: u64) -> Node {
    let address = (role == Role::Gateway).then_some(ANNOUNCED);
    let incarnation = Incarnation(incarnation);
    Node {
        role,
        incarnation,
        address,
        name: role.name().into(),
        tags: vec![],
    }
}

fn settings(routing: Routing, transport: Transport) -> GatewaySettings {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    GatewaySettings {
        shards: 2,
        routings: Routings::all(routing),
        pending_bytes_max: 64 << 20,
        clients_bytes_max: 128 << 20,
        forward_bytes_max: 1 << 20,
        timer_bytes_max: 16 << 20,
        task_bytes_max: 16 << 20,
        tasks_under_way_max: 64,
        connections_max: 100,
        handshakes_max: 8,
        handshakes_per_address_max: 8,
        close: Duration::from_secs(2),
        shutdown: Duration::from_secs(2),
        reconnect: (Duration::from_millis(10), Duration::from_millis(100)),
        listeners: vec![ListenerSettings {
            handshake: DEADLINE,
            connections_max: 100,
            ..ListenerSettings::new("test", "t".into(), address, transport)
        }],
        ..GatewaySettings::new(ANNOUNCED)
    }
}

/// A gateway with one listener.
struct Home {
    attach: tokio::sync::mpsc::Sender<Link>,
    address: SocketAddr,
    workers: u64,
    stop: CancellationToken,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Home {
    async fn start(router: Router, transport: Transport) -> Self {
        let routing = Routing {
            router,
            ..Routing::default()
        };
        Self::start_routed(routing, transport).await
    }

    async fn start_routed(routing: Routing, transport: Transport) -> Self {
        let identity = Identity {
            node: node(Role::Gateway, 1),
            secret: Secret::new(b"a secret of tests"),
            net: tidegate_link::net::stream::tcp(),
        };
        let gateway = Gateway::start(identity, settings(routing, transport)).unwrap();
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let members = fixed(vec![node(Role::Gateway, 1)]);
        let (attach, mut links) = tokio::sync::mpsc::channel::<Link>(4);
        let ending = stop.clone();
        tokio::spawn(async move {
            let gateway = Arc::new(gateway);
            let given = gateway.clone();
            let giving = tokio::spawn(async move {
                while let Some(link) = links.recv().await {
                    given.attach(link);
                }
            });
            let run = gateway.run(vec![socket], None, members.members.clone(), ending);
            run.await;
            giving.abort();
        });
        Self {
            attach,
            address,
            workers: 1,
            stop,
        }
    }

    async fn worker(&mut self, window_events: u32) -> Scripted {
        self.workers += 1;
        self.link_again(self.workers, window_events).await
    }

    /// A worker on this machine.
    async fn worker_on(&mut self, host: &str) -> Scripted {
        self.workers += 1;
        let tags = vec![format!("host={host}").as_str().into()];
        let node = Node {
            tags,
            ..node(Role::Worker, self.workers)
        };
        let link = self.attach_node(node).await;
        Self::announce(link, 64)
    }

    /// A link of the worker of this incarnation, on which it has not said anything.
    async fn attach_again(&self, worker: u64) -> Link {
        self.attach_node(node(Role::Worker, worker)).await
    }

    async fn attach_node(&self, worker: Node) -> Link {
        let (mine, theirs) = pair(worker, node(Role::Gateway, 1), &LinkSettings::default());
        self.attach.send(theirs).await.unwrap();
        mine
    }

    /// A link of the worker of this incarnation.
    async fn link_again(&self, worker: u64, window_events: u32) -> Scripted {
        let mine = self.attach_again(worker).await;
        Self::announce(mine, window_events)
    }

    fn announce(mine: Link, window_events: u32) -> Scripted {
        let serving = vec![Serving {
            tenant: "t".into(),
            version: "v1".into(),
            http: false,
        }];
        let announcement = Announcement {
            serving,
            window_events,
            window_bytes: 1 << 20,
        };
        mine.sender
            .send(WorkerFrame::Announce(announcement))
            .unwrap();
        Scripted {
            link: mine,
            frames: VecDeque::new(),
            swaps: std::collections::HashMap::new(),
        }
    }

    async fn client(&self) -> Client {
        let (read, write) = TcpStream::connect(self.address).await.unwrap().into_split();
        Client {
            read: BufReader::new(read),
            write,
        }
    }
}

struct Client {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Client {
    async fn send(&mut self, line: &str) {
        self.write
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        within(self.read.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }
}

fn to_worker(frame: Frame) -> GatewayFrame {
    let Frame::ToWorker(frame) = frame else {
        panic!("not for a worker: {frame:?}");
    };
    frame
}

struct Scripted {
    link: Link,
    frames: VecDeque<GatewayFrame>,
    /// Compare-and-sets of each try.
    swaps: std::collections::HashMap<(tidegate_wire::id::EventId, u8), u32>,
}

impl Scripted {
    async fn frame(&mut self) -> GatewayFrame {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            let mut frames = Vec::new();
            within(self.link.receiver.recv(&mut frames)).await.unwrap();
            // Once a link, whatever the test is about.
            frames.retain(|frame| *frame != GatewayFrame::Recognised.into());
            self.frames.extend(frames.into_iter().map(to_worker));
        }
    }

    /// The next confirm, behind any custody; answers it.
    async fn confirm(&mut self) {
        loop {
            match self.frame().await {
                GatewayFrame::Custody(_) => {}
                GatewayFrame::Confirm { shard, number } => {
                    let confirmed = WorkerFrame::Confirmed { shard, number };
                    return self.link.sender.send(confirmed).unwrap();
                }
                other => panic!("expected a confirm, got {other:?}"),
            }
        }
    }

    async fn delivery(&mut self) -> Delivery {
        match self.frame().await {
            GatewayFrame::Deliver(delivery) => *delivery,
            other => panic!("expected a delivery, got {other:?}"),
        }
    }

    async fn text(&mut self, expected: &str) -> Delivery {
        let delivery = self.delivery().await;
        match &delivery.kind {
            EventKind::Message(message) => {
                assert_eq!(&message.payload()[..], expected.as_bytes());
            }
            other => panic!("expected {expected}, got {other:?}"),
        }
        delivery
    }

    fn end(&self, delivery: &Delivery, outcome: Outcome, effects: Vec<Effect>) {
        let (event, attempt, client) = (delivery.event, delivery.attempt, delivery.client);
        let commit = Commit {
            event,
            attempt,
            client,
            outcome,
            effects,
            reply: None,
        };
        self.link.sender.send(WorkerFrame::Commit(commit)).unwrap();
    }

    fn done(&self, delivery: &Delivery, effects: Vec<Effect>) {
        self.end(delivery, Outcome::Done, effects);
    }

    /// Takes a client's connect and commits it.
    async fn welcome(&mut self) -> ClientId {
        let connect = self.delivery().await;
        assert!(
            matches!(connect.kind, EventKind::Connect { .. }),
            "{connect:?}"
        );
        self.done(&connect, vec![]);
        connect.client
    }
}

fn say(client: ClientId, text: &str) -> Effect {
    Effect::Send {
        to: Recipients::Client(client),
        message: Message::Text(text.as_bytes().to_vec().into()),
        except: vec![],
    }
}

fn set(client: ClientId, value: &str) -> Effect {
    let change = SessionChange::Set {
        key: "k".into(),
        value: value.into(),
    };
    Effect::Session { client, change }
}

#[tokio::test]
async fn a_commit_of_an_older_attempt_changes_nothing() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker(64).await;
    let mut client = home.client().await;
    let id = first.welcome().await;
    client.send("a").await;
    let old = first.text("a").await;
    first.end(&old, Outcome::Returned, vec![]);
    let again = first.text("a").await;
    assert_eq!((again.event, again.attempt), (old.event, 1));
    first.done(&old, vec![say(id, "stale")]);
    first.done(&again, vec![say(id, "current")]);
    first.done(&again, vec![say(id, "repeated")]);
    client.send("b").await;
    let next = first.text("b").await;
    first.done(&next, vec![say(id, "end")]);
    assert_eq!(
        (client.line().await, client.line().await),
        ("current".into(), "end".into())
    );
}

#[tokio::test]
async fn uncommitted_events_of_a_lost_worker_go_to_another_in_order() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker(64).await;
    let mut client = home.client().await;
    let id = first.welcome().await;
    client.send("a\nb\nc").await;
    let a = first.text("a").await;
    first.done(&a, vec![set(id, "1")]);
    let b = first.text("b").await;
    first.text("c").await;
    let mut second = home.worker(64).await;
    drop(first);
    // The new worker learns what a custodian must know, then gets what was under way.
    let custody = loop {
        match second.frame().await {
            GatewayFrame::Custody(list) => break list,
            GatewayFrame::Deliver(delivery) => panic!("an event before its custody: {delivery:?}"),
            _ => {}
        }
    };
    assert_eq!(custody[0].client, id);
    assert_eq!(
        custody[0].session.entries,
        vec![("k".into(), "1".to_owned())]
    );
    let again = second.text("b").await;
    assert_eq!((again.event, again.attempt, again.losses), (b.event, 1, 1));
    assert_eq!(again.session.as_ref().unwrap().entries.len(), 1);
    second.done(&again, vec![say(id, "b")]);
    let c = second.text("c").await;
    second.done(&c, vec![say(id, "c")]);
    assert_eq!(
        (client.line().await, client.line().await),
        ("b".into(), "c".into())
    );
}

/// The next frame of one of two workers, and of which.
async fn either(workers: &mut [Scripted; 2]) -> (usize, GatewayFrame) {
    let [one, other] = workers;
    tokio::select! {
        frame = one.frame() => (0, frame),
        frame = other.frame() => (1, frame),
    }
}

#[tokio::test]
async fn who_serves_a_client_after_the_loss_of_its_worker_is_its_custodian() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut first = home.worker(64).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(home.client().await);
        first.welcome().await;
    }
    let mut others = [home.worker(64).await, home.worker(64).await];
    drop(first);
    let mut custodians = std::collections::HashMap::new();
    while custodians.len() < clients.len() {
        let (worker, frame) = either(&mut others).await;
        if let GatewayFrame::Custody(list) = frame {
            custodians.extend(list.into_iter().map(|it| (it.client, worker)));
        }
    }
    for client in &mut clients {
        client.send("served").await;
    }
    let mut served = 0;
    while served < clients.len() {
        let (worker, frame) = either(&mut others).await;
        if let GatewayFrame::Deliver(delivery) = frame {
            assert_eq!(custodians[&delivery.client], worker);
            served += 1;
        }
    }
}

#[tokio::test]
async fn the_close_comes_last_with_what_the_client_was() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut worker = home.worker(64).await;
    let mut client = home.client().await;
    let id = worker.welcome().await;
    client.send("join").await;
    drop(client);
    let join = worker.text("join").await;
    let group = "g".into();
    worker.done(
        &join,
        vec![
            Effect::JoinGroup { client: id, group },
            Effect::BindUid {
                client: id,
                uid: "u".into(),
            },
        ],
    );
    let close = worker.delivery().await;
    let EventKind::Close(closed) = &close.kind else {
        panic!("{close:?}")
    };
    assert_eq!(closed.uid.as_deref(), Some("u"));
    assert_eq!(closed.groups, vec!["g".into()]);
    worker.done(&close, vec![]);
}

#[tokio::test]
async fn changes_by_others_reach_the_custodian_and_the_next_event() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut worker = home.worker(64).await;
    let mut one = home.client().await;
    let first = worker.welcome().await;
    let mut two = home.client().await;
    let second = worker.welcome().await;
    one.send("own").await;
    let own = worker.text("own").await;
    worker.done(&own, vec![set(first, "1")]);
    one.send("own again").await;
    let again = worker.text("own again").await;
    assert!(
        again.session.is_none(),
        "the worker's mirror has its own commits"
    );
    worker.done(&again, vec![say(first, "again")]);
    // Another shard may take the next commit before this one: wait for it.
    assert_eq!(one.line().await, "again");
    two.send("other").await;
    let other = worker.text("other").await;
    worker.done(&other, vec![set(first, "2")]);
    let GatewayFrame::CustodyChanged(told) = worker.frame().await else {
        panic!("the custodian was not told")
    };
    let key = ("k".into(), Some("2".to_owned()));
    assert_eq!((told[0].client, &told[0].entries), (first, &vec![key]));
    one.send("now").await;
    let now = worker.text("now").await;
    assert_eq!(
        now.session.unwrap().entries,
        vec![("k".into(), "2".to_owned())]
    );
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_window_is_never_exceeded_and_commits_open_it() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    // Each of the two shards has half of it.
    let mut worker = home.worker(4).await;
    let mut client = home.client().await;
    worker.welcome().await;
    client.send("1\n2\n3\n4\n5").await;
    let (one, two) = (worker.text("1").await, worker.text("2").await);
    let mut frames = Vec::new();
    let more = timeout(
        Duration::from_millis(200),
        worker.link.receiver.recv(&mut frames),
    )
    .await;
    assert!(more.is_err(), "beyond the window: {frames:?}");
    worker.done(&one, vec![]);
    worker.text("3").await;
    worker.done(&two, vec![]);
    worker.text("4").await;
}

#[tokio::test]
async fn a_router_that_chooses_per_event_has_one_event_of_a_client_under_way() {
    let mut home = Home::start(Router::Rand, Transport::TextLines).await;
    let mut worker = home.worker(64).await;
    let mut client = home.client().await;
    let id = worker.welcome().await;
    client.send("1\n2").await;
    let one = worker.text("1").await;
    let mut frames = Vec::new();
    let more = timeout(
        Duration::from_millis(200),
        worker.link.receiver.recv(&mut frames),
    )
    .await;
    assert!(more.is_err(), "two at once: {frames:?}");
    worker.done(&one, vec![say(id, "1")]);
    let two = worker.text("2").await;
    worker.done(&two, vec![say(id, "2")]);
    assert_eq!(
        (client.line().await, client.line().await),
        ("1".into(), "2".into())
    );
}

#[tokio::test]
async fn a_worker_that_leaves_is_drained_and_its_lanes_move() {
    let mut home = Home::start(Router::Bind, Transport::TextLines).await;
    let mut leaving = home.worker(64).await;
    let mut client = home.client().await;
    let id = leaving.welcome().await;
    client.send("last").await;
    let last = leaving.text("last").await;
    leaving.link.sender.send(WorkerFrame::Drain).unwrap();
    let mut staying = home.worker(64).await;
    staying.confirm().await;
    leaving.done(&last, vec![say(id, "last")]);
    while leaving.frame().await != GatewayFrame::Drained {}
    client.send("next").await;
    let next = staying.event().await;
    assert!(
        next.session.is_some(),
        "a worker that takes a lane over needs the session"
    );
    staying.done(&next, vec![say(id, "next")]);
    assert_eq!(
        (client.line().await, client.line().await),
        ("last".into(), "next".into())
    );
}

#[tokio::test]
async fn a_client_whose_connect_is_dead_lettered_is_closed_with_1011() {
    use futures_util::StreamExt;
    use tokio_tungstenite::tungstenite::Message as Wire;
    let mut home = Home::start(Router::Bind, Transport::WebSocket).await;
    let mut worker = home.worker(64).await;
    let url = format!("ws://{}/", home.address);
    let (mut client, _) = within(tokio_tungstenite::connect_async(url)).await.unwrap();
    let connect = worker.delivery().await;
    worker.end(&connect, Outcome::DeadLettered, vec![]);
    let close = within(client.next()).await.unwrap().unwrap();
    let Wire::Close(Some(frame)) = close else {
        panic!("{close:?}")
    };
    assert_eq!(u16::from(frame.code), 1011);
    let told = worker.delivery().await;
    assert!(matches!(told.kind, EventKind::Close(_)), "{told:?}");
}
