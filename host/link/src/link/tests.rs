//! Links over real sockets and inside one process.

mod admission;
mod flow;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients};
use tidegate_wire::event::Message;
use tidegate_wire::frame::{Frame, WorkerFrame};
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::membership::{Node, Role};
use tokio::net::{TcpListener, TcpStream};

use super::{Identity, Link, LinkSettings, Secret, accept, dial, pair};

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn node(role: Role, incarnation: u64) -> Node {
    Node {
        role,
        incarnation: Incarnation(incarnation),
        address: None,
        name: format!("{}-{incarnation}", role.name()).into(),
        tags: Vec::new(),
    }
}

pub(crate) fn identity(role: Role, incarnation: u64, secret: &str) -> Identity {
    Identity {
        node: node(role, incarnation),
        secret: Secret::new(secret.as_bytes()),
        net: crate::net::stream::tcp(),
    }
}

pub(crate) fn settings() -> LinkSettings {
    LinkSettings {
        heartbeat: Duration::from_millis(100),
        lease: Duration::from_secs(10),
        ..LinkSettings::default()
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn linked(settings: &LinkSettings) -> (Link, Link) {
    let (listener, address) = listen().await;
    let (worker, gateway) = (
        identity(Role::Worker, 1, "s"),
        identity(Role::Gateway, 2, "s"),
    );
    let (dialed, accepted) = tokio::join!(dial(address, &worker, settings), async {
        accept(listener.accept().await.unwrap().0, &gateway, settings).await
    });
    (dialed.unwrap(), accepted.unwrap())
}

/// The same two ends over a socket and inside one process, which must behave alike.
async fn of_both_kinds(settings: &LinkSettings) -> Vec<(Link, Link)> {
    let local = pair(node(Role::Worker, 1), node(Role::Gateway, 2), settings);
    vec![linked(settings).await, local]
}

/// A node that has proved who it is and then neither reads nor gives signs of life.
pub(crate) async fn silent(address: SocketAddr, identity: &Identity) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    super::handshake::dial(&mut socket, identity).await.unwrap();
    socket
}

/// A link whose other end is a bare socket, authenticated but without a reader or heartbeats.
async fn linked_to_socket(settings: &LinkSettings) -> (Link, TcpStream) {
    let (listener, address) = listen().await;
    let (worker, gateway) = (
        identity(Role::Worker, 1, "s"),
        identity(Role::Gateway, 2, "s"),
    );
    let (socket, accepted) = tokio::join!(silent(address, &worker), async {
        accept(listener.accept().await.unwrap().0, &gateway, settings).await
    });
    (accepted.unwrap(), socket)
}

/// A frame with a number and a payload.
fn numbered(number: u64, payload: &Bytes) -> Frame {
    Frame::FromWorker(WorkerFrame::Commit(Commit {
        event: EventId {
            gateway: Incarnation(2),
            shard: 0,
            sequence: number,
        },
        attempt: 0,
        client: ClientId {
            ip: 1,
            port: 2,
            connection: 3,
        },
        outcome: Outcome::Done,
        effects: vec![Effect::Send {
            to: Recipients::Everyone,
            message: Message::Binary(payload.clone().into()),
            except: Vec::new(),
        }],
        reply: None,
    }))
}

fn number(frame: &Frame) -> u64 {
    let Frame::FromWorker(WorkerFrame::Commit(commit)) = frame else {
        panic!("a commit is expected, not {frame:?}");
    };
    commit.event.sequence
}
