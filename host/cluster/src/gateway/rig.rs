//! For tests: gateways that run, with links between them, workers whose every frame the test
//! writes, and clients with real sockets.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_link::membership::Members;
use tidegate_link::{Identity, Link, LinkSettings, Secret, pair};
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Outcome, Reply};
use tidegate_wire::event::{Delivery, EventKind, Transport};
use tidegate_wire::frame::{Announcement, Frame, GatewayFrame, Serving, WorkerFrame};
use tidegate_wire::id::{ClientId, Incarnation};
use tidegate_wire::membership::{Node, Role};
use tidegate_wire::query::{Answer, Query};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::commands::{Commands, NoCommands};
use super::routers::NoRouters;
use super::settings::{GatewaySettings, ListenerSettings};

pub(super) const DEADLINE: Duration = Duration::from_secs(10);
pub(super) const SHARDS: u16 = 2;
pub(super) const LOOPBACK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// The tenant of the listeners.
pub(super) fn tenant() -> Name {
    "t".into()
}

/// Fails the test if `future` takes too long.
pub(super) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("in vain: {what}"),
    }
}

/// Waits until `condition` holds.
pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(super) fn node(role: Role, incarnation: u64, address: Option<SocketAddrV4>) -> Node {
    Node {
        role,
        incarnation: Incarnation(incarnation),
        address,
        name: format!("{}-{incarnation}", role.name()).into(),
        tags: vec![],
    }
}

pub(super) fn settings(announced: SocketAddrV4) -> GatewaySettings {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    GatewaySettings {
        shards: SHARDS,
        pending_bytes_max: 64 << 20,
        clients_bytes_max: 128 << 20,
        forward_bytes_max: 1 << 20,
        timer_bytes_max: 16 << 20,
        task_bytes_max: 16 << 20,
        tasks_under_way_max: 64,
        connections_max: 1000,
        handshakes_max: 8,
        handshakes_per_address_max: 8,
        close: Duration::from_secs(4),
        shutdown: Duration::from_secs(4),
        reconnect: (Duration::from_millis(5), Duration::from_millis(20)),
        listeners: vec![ListenerSettings {
            handshake: DEADLINE,
            connections_max: 1000,
            ..ListenerSettings::new("test", tenant(), address, Transport::TextLines)
        }],
        ..GatewaySettings::new(announced)
    }
}

/// A gateway that runs.
pub(super) struct Running {
    pub(super) gateway: Arc<Gateway>,
    pub(super) node: Node,
    pub(super) addresses: Vec<SocketAddr>,
    members: watch::Sender<Arc<Members>>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
    workers: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    pub(super) async fn start(incarnation: u64) -> Self {
        Self::start_with(incarnation, Arc::new(NoCommands)).await
    }

    pub(super) async fn start_with(incarnation: u64, commands: Arc<dyn Commands>) -> Self {
        Self::start_as(incarnation, commands, LOOPBACK, |_| {}).await
    }

    /// One that listens for clients at `at`, as often as it has listeners, with these settings.
    pub(super) async fn start_as(
        incarnation: u64,
        commands: Arc<dyn Commands>,
        at: SocketAddr,
        set: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        let lan = TcpListener::bind(LOOPBACK).await.unwrap();
        let SocketAddr::V4(announced) = lan.local_addr().unwrap() else {
            panic!("tests listen on 127.0.0.1");
        };
        let node = node(Role::Gateway, incarnation, Some(announced));
        let identity = Identity {
            node: node.clone(),
            secret: Secret::new(b"a secret of tests"),
            net: tidegate_link::net::stream::tcp(),
        };
        let mut settings = settings(announced);
        set(&mut settings);
        let (mut clients, mut addresses) = (Vec::new(), Vec::new());
        for _ in &settings.listeners {
            let listener = TcpListener::bind(at).await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            clients.push(listener);
        }
        let gateway =
            Gateway::start_with(identity, settings, commands, Arc::new(NoRouters)).unwrap();
        let gateway = Arc::new(gateway);
        let stop = CancellationToken::new();
        let members = watch::Sender::new(view(&[&node]));
        let (running, view, ending) = (gateway.clone(), members.subscribe(), stop.clone());
        let task = tokio::spawn(async move {
            running.run(clients, Some(lan), view, ending).await;
        });
        Self {
            gateway,
            node,
            addresses,
            members,
            stop,
            task,
            workers: incarnation * 1000,
        }
    }

    /// Shows this gateway a view of these gateways.
    pub(super) fn see(&self, gateways: &[&Self]) {
        let nodes: Vec<&Node> = gateways.iter().map(|gateway| &gateway.node).collect();
        self.members.send_replace(view(&nodes));
    }

    /// Waits until this gateway has taken a view of so many gateways.
    async fn knows(&self, gateways: usize) {
        let access = self.gateway.access();
        soon("the view to be taken", async {
            loop {
                let asked = access.ask(&tenant(), Query::Gateways, DEADLINE).await;
                let known = asked.unwrap().answer;
                if matches!(known, Answer::Gateways(known) if known.len() == gateways) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    pub(super) fn announced(&self) -> SocketAddrV4 {
        self.node.address.unwrap()
    }

    /// A worker that serves the tenant.
    pub(super) async fn worker(&mut self) -> Scripted {
        self.workers += 1;
        let (mine, theirs) = pair(
            node(Role::Worker, self.workers, None),
            self.node.clone(),
            &LinkSettings::default(),
        );
        let mut workers = self.gateway.workers();
        let before = *workers.borrow_and_update();
        self.gateway.attach(theirs);
        let serving = vec![Serving {
            tenant: tenant(),
            version: "v1".into(),
            http: false,
        }];
        let announcement = Announcement {
            serving,
            window_events: 4096,
            window_bytes: 16 << 20,
        };
        mine.sender
            .send(WorkerFrame::Announce(announcement))
            .unwrap();
        let there = workers.wait_for(|workers| *workers > before);
        soon("the worker to be known", there).await.unwrap();
        Scripted::new(mine)
    }

    pub(super) async fn client(&self) -> TcpStream {
        TcpStream::connect(self.addresses[0]).await.unwrap()
    }

    /// Connections of clients that are not over, counted where they are admitted and where they are
    /// served.
    pub(super) fn sockets(&self) -> (usize, usize) {
        let context = &self.gateway.services.context;
        let sum = |counts: &mut dyn Iterator<Item = &AtomicUsize>| {
            counts.map(|count| count.load(Ordering::Acquire)).sum()
        };
        (
            sum(&mut context.connections.iter()),
            sum(&mut context.statuses.iter().map(|status| &status.sockets)),
        )
    }
}

fn view(gateways: &[&Node]) -> Arc<Members> {
    let nodes = gateways
        .iter()
        .map(|node| (node.incarnation, (*node).clone()));
    Arc::new(Members {
        nodes: nodes.collect(),
        connected: 1,
        ..Members::default()
    })
}

/// Two gateways that know each other.
pub(super) async fn two(commands: impl Fn() -> Arc<dyn Commands>) -> (Running, Running) {
    let one = Running::start_with(1, commands()).await;
    let two = Running::start_with(2, commands()).await;
    one.see(&[&one, &two]);
    two.see(&[&one, &two]);
    one.knows(2).await;
    two.knows(2).await;
    (one, two)
}

fn to_worker(frame: Frame) -> GatewayFrame {
    let Frame::ToWorker(frame) = frame else {
        panic!("not for a worker: {frame:?}");
    };
    frame
}

/// A worker whose frames the test writes.
pub(super) struct Scripted {
    pub(super) link: Link,
    frames: VecDeque<GatewayFrame>,
}

impl Scripted {
    pub(super) const fn new(link: Link) -> Self {
        Self {
            link,
            frames: VecDeque::new(),
        }
    }

    pub(super) async fn frame(&mut self) -> GatewayFrame {
        soon("a frame", self.next()).await
    }

    /// The same, however long it takes.
    pub(super) async fn next(&mut self) -> GatewayFrame {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            let mut frames = Vec::new();
            self.link.receiver.recv(&mut frames).await.unwrap();
            // Once a link, whatever the test is about.
            frames.retain(|frame| *frame != GatewayFrame::Recognised.into());
            self.frames.extend(frames.into_iter().map(to_worker));
        }
    }

    /// The next event; what else comes is passed over. It takes no notice of buffers.
    pub(super) async fn delivery(&mut self) -> Delivery {
        loop {
            let GatewayFrame::Deliver(delivery) = self.frame().await else {
                continue;
            };
            match delivery.kind {
                EventKind::BufferFull { .. } | EventKind::BufferDrain => {
                    self.end(&delivery, Outcome::Done, vec![], None);
                }
                EventKind::Connect { .. }
                | EventKind::Message(_)
                | EventKind::Close(_)
                | EventKind::Request { .. }
                | EventKind::Timer { .. }
                | EventKind::Handshake { .. }
                | EventKind::Http { .. }
                | EventKind::Task { .. }
                | EventKind::TaskFinished { .. } => return *delivery,
            }
        }
    }

    /// Commits the connect of the next client, with these effects.
    pub(super) async fn welcome(
        &mut self,
        effects: impl FnOnce(ClientId) -> Vec<Effect>,
    ) -> ClientId {
        let connect = self.delivery().await;
        assert!(
            matches!(connect.kind, EventKind::Connect { .. }),
            "{connect:?}"
        );
        self.end(&connect, Outcome::Done, effects(connect.client), None);
        connect.client
    }

    pub(super) fn end(
        &self,
        delivery: &Delivery,
        outcome: Outcome,
        effects: Vec<Effect>,
        reply: Option<Reply>,
    ) {
        let commit = Commit {
            event: delivery.event,
            attempt: delivery.attempt,
            client: delivery.client,
            outcome,
            effects,
            reply: reply.map(Box::new),
        };
        self.link.sender.send(WorkerFrame::Commit(commit)).unwrap();
    }
}
