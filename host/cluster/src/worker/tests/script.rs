//! A gateway that does what a test says.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tidegate_link::{Identity, Link, LinkEnd, LinkSettings, Secret};
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, SessionChange};
use tidegate_wire::event::{
    Arrival, ClientSnapshot, CloseReason, Closed, Delivery, EventKind, Message, Peer, Transport,
};
use tidegate_wire::frame::{Announcement, Custody, Frame, GatewayFrame, WorkerFrame};
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::membership::{Node, Role};
use tokio::net::{TcpListener, TcpStream};

use crate::worker::WorkerSettings;

pub(super) const DEADLINE: Duration = Duration::from_secs(10);
pub(super) const LEASE: Duration = Duration::from_millis(400);

/// Fails the test if `future` takes too long.
pub(super) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
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

pub(super) fn settings() -> WorkerSettings {
    WorkerSettings {
        window_events: 4,
        window_bytes: 1024,
        load_interval: Duration::from_millis(40),
        reconnect_min: Duration::from_millis(1),
        reconnect_max: Duration::from_millis(20),
        shutdown: Duration::from_secs(5),
        link: LinkSettings {
            heartbeat: Duration::from_millis(50),
            lease: LEASE,
            ..LinkSettings::default()
        },
    }
}

pub(super) fn identity(role: Role, incarnation: u64, address: Option<SocketAddr>) -> Identity {
    let address = address.map(|address| match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => panic!("tests listen on 127.0.0.1"),
    });
    Identity {
        node: Node {
            role,
            incarnation: Incarnation(incarnation),
            address,
            name: format!("{}-{incarnation}", role.name()).into(),
            tags: Vec::new(),
        },
        secret: Secret::new(b"a secret of the tests"),
        net: tidegate_link::net::stream::tcp(),
    }
}

/// A gateway's listening side; outlives its links.
pub(super) struct Gateway {
    pub(super) identity: Identity,
    listener: TcpListener,
}

impl Gateway {
    pub(super) async fn bind(incarnation: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            identity: identity(Role::Gateway, incarnation, Some(address)),
            listener,
        }
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.identity.node.incarnation
    }

    /// The next link of a worker, with its announcement.
    pub(super) async fn accept(&self) -> ScriptedLink {
        let stream = self.dialled().await;
        ScriptedLink::new(self.answer(stream).await).await
    }

    /// A worker has dialled and waits for an answer.
    pub(super) async fn dialled(&self) -> TcpStream {
        let dialled = soon("a worker that dials", self.listener.accept()).await;
        dialled.unwrap().0
    }

    pub(super) async fn answer(&self, stream: TcpStream) -> Link {
        let (identity, settings) = (&self.identity, settings().link);
        let link = soon(
            "a handshake",
            tidegate_link::accept(stream, identity, &settings),
        )
        .await;
        link.unwrap()
    }

    /// A new process at the address of this one.
    pub(super) fn restarted(self, incarnation: u64) -> Self {
        let address = self.identity.node.address.map(SocketAddr::V4);
        Self {
            identity: identity(Role::Gateway, incarnation, address),
            listener: self.listener,
        }
    }

    pub(super) fn client(&self, connection: u32) -> ClientId {
        ClientId::new(self.identity.node.address.unwrap(), connection)
    }

    pub(super) fn event(&self, sequence: u64) -> EventId {
        EventId {
            gateway: self.incarnation(),
            shard: 0,
            sequence,
        }
    }

    /// A message; its text is its sequence.
    pub(super) fn message(&self, connection: u32, sequence: u64) -> Delivery {
        Delivery {
            event: self.event(sequence),
            attempt: 0,
            losses: 0,
            tenant: 0,
            client: self.client(connection),
            session: None,
            kind: EventKind::Message(text(&sequence.to_string())),
        }
    }

    /// Makes the worker the client's custodian.
    pub(super) fn connect(&self, connection: u32, sequence: u64) -> Delivery {
        let kind = EventKind::Connect {
            arrival: arrival(),
            request: None,
        };
        let connect = Delivery {
            kind,
            ..self.message(connection, sequence)
        };
        with_session(connect, &[("a", "1")])
    }

    pub(super) fn close(&self, connection: u32, sequence: u64) -> Delivery {
        let closed = Closed {
            reason: CloseReason::Client,
            frame: None,
            uid: None,
            groups: Vec::new(),
        };
        Delivery {
            kind: EventKind::Close(Box::new(closed)),
            ..self.message(connection, sequence)
        }
    }

    pub(super) fn custody(&self, connection: u32, uid: &str, group: &str) -> Custody {
        Custody {
            tenant: 0,
            client: self.client(connection),
            uid: Some(uid.into()),
            groups: vec![group.into()],
            session: snapshot(&[("from", "\"custody\"")]),
        }
    }
}

pub(super) fn text(text: &str) -> Message {
    Message::Text(text.as_bytes().to_vec().into())
}

/// How every client comes.
pub(super) fn arrival() -> Arc<Arrival> {
    Arc::new(Arrival {
        peer: Peer {
            address: "127.0.0.1:9".parse().unwrap(),
            transport: Transport::Tcp,
            listener: "main".into(),
            secure: false,
        },
        connected_at_ms: 5,
        subprotocol: None,
    })
}

pub(super) fn snapshot(entries: &[(&str, &str)]) -> ClientSnapshot {
    let entry = |(key, value): &(&str, &str)| (Name::from(*key), (*value).to_owned());
    ClientSnapshot {
        version: 1,
        entries: entries.iter().map(entry).collect(),
        arrival: Some(arrival()),
    }
}

pub(super) fn with_session(delivery: Delivery, entries: &[(&str, &str)]) -> Delivery {
    Delivery {
        session: Some(Box::new(snapshot(entries))),
        ..delivery
    }
}

pub(super) fn set(client: ClientId, key: &str, value: &str) -> Effect {
    Effect::Session {
        client,
        change: SessionChange::Set {
            key: key.into(),
            value: value.into(),
        },
    }
}

fn from_worker(frame: Frame) -> WorkerFrame {
    let Frame::FromWorker(frame) = frame else {
        panic!("not from a worker: {frame:?}");
    };
    frame
}

/// The gateway's end of one link.
pub(super) struct ScriptedLink {
    link: Link,
    frames: VecDeque<WorkerFrame>,
    pub(super) announcement: Announcement,
}

impl ScriptedLink {
    pub(super) async fn new(link: Link) -> Self {
        let announcement = Announcement {
            serving: Vec::new(),
            window_events: 0,
            window_bytes: 0,
        };
        let mut this = Self {
            link,
            frames: VecDeque::new(),
            announcement,
        };
        match this.next().await {
            WorkerFrame::Announce(announcement) => this.announcement = announcement,
            other => panic!("the first frame is {other:?}"),
        }
        this
    }

    pub(super) fn send(&self, frame: impl Into<Frame>) {
        self.link.sender.send(frame).unwrap();
    }

    pub(super) fn deliver(&self, delivery: Delivery) {
        self.send(GatewayFrame::Deliver(Box::new(delivery)));
    }

    /// The next frame, whatever it is.
    async fn receive(&mut self) -> Result<WorkerFrame, LinkEnd> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(frame);
            }
            let mut frames = Vec::new();
            self.link.receiver.recv(&mut frames).await?;
            self.frames.extend(frames.into_iter().map(from_worker));
        }
    }

    /// The next frame that is not a load.
    pub(super) async fn next(&mut self) -> WorkerFrame {
        soon("a frame from the worker", async {
            loop {
                match self.receive().await.unwrap() {
                    WorkerFrame::Load(_) => {}
                    frame => return frame,
                }
            }
        })
        .await
    }

    pub(super) async fn commit(&mut self) -> Commit {
        match self.next().await {
            WorkerFrame::Commit(commit) => commit,
            other => panic!("not a commit: {other:?}"),
        }
    }

    /// Waits for a load with this many clients.
    pub(super) async fn load_with(&mut self, clients: u32) {
        soon("a load with that number of clients", async {
            loop {
                match self.receive().await.unwrap() {
                    WorkerFrame::Load(load) if load.clients == clients => return,
                    WorkerFrame::Load(_) => {}
                    other => panic!("not a load: {other:?}"),
                }
            }
        })
        .await;
    }

    /// What comes before the next load but one: all that was sent by now.
    pub(super) async fn until_load(&mut self) -> Vec<WorkerFrame> {
        soon("a load", async {
            let (mut frames, mut loads) = (Vec::new(), 0);
            while loads < 2 {
                match self.receive().await.unwrap() {
                    WorkerFrame::Load(_) => loads += 1,
                    frame => frames.push(frame),
                }
            }
            frames
        })
        .await
    }

    /// What was sent by now is nothing but loads.
    pub(super) async fn nothing_but_loads(&mut self) {
        let frames = self.until_load().await;
        assert!(frames.is_empty(), "{frames:?}");
    }

    /// Waits for the end of the link and returns what came before it, except loads.
    pub(super) async fn rest(mut self) -> Vec<WorkerFrame> {
        soon("the end of the link", async {
            let mut rest = Vec::new();
            while let Ok(frame) = self.receive().await {
                rest.push(frame);
            }
            rest.retain(|frame| !matches!(frame, WorkerFrame::Load(_)));
            rest
        })
        .await
    }
}

/// An address that nobody listens on, for clients that no gateway owns.
pub(super) fn nobody() -> ClientId {
    ClientId::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1), 1)
}
