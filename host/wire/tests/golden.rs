//! The bytes of every frame kind and of every variant inside, compared with `golden.txt`: a field
//! or a variant that moves fails here.
//!
//! New lines may be added with `TIDEGATE_BLESS=1`. A line that would change breaks links between
//! old and new nodes: then `hello::VERSION` must rise, see `PROTOCOL.md`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "golden/asked.rs"]
mod asked;
#[path = "golden/deploy.rs"]
mod deploy;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_wire::deploy::{is_version, version_of};
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients, SessionChange};
use tidegate_wire::event::{
    Arrival, ClientSnapshot, CloseFrame, CloseReason, Closed, Delivery, EventKind, HttpRequest,
    Message, Peer, Transport,
};
use tidegate_wire::frame::{
    Announcement, Custody, CustodyChange, FRAME_BYTES_MAX, Forward, Frame, GatewayFrame,
    GroupsChange, Load, NodeFrame, PeerFrame, Serving, WorkerFrame, decode, encode,
};
use tidegate_wire::handshake::SignIn;
use tidegate_wire::hello::{Hello, MAGIC, Proof, Refusal, VERSION};
use tidegate_wire::http::HttpCall;
use tidegate_wire::id::{ClientId, CloseId, EventId, Incarnation};
use tidegate_wire::membership::{Node, Role, View};
use tidegate_wire::payload::{Carry, Payload};
use tidegate_wire::peers::{InstanceId, PeerMessage};
use tidegate_wire::task::Step;
use tidegate_wire::timer::TimerId;

const CLIENT: ClientId = ClientId {
    ip: 0x7f00_0001,
    port: 2000,
    connection: 0x0102_0304,
};

const CLOSE: CloseId = CloseId {
    home: Incarnation(0x1122_3344_5566_7788),
    client: CLIENT,
};

const EVENT: EventId = EventId {
    gateway: Incarnation(0x1122_3344_5566_7788),
    shard: 3,
    sequence: 300,
};

fn text(text: &'static str) -> Message {
    Message::Text(Bytes::from_static(text.as_bytes()).into())
}

fn binary(bytes: &'static [u8]) -> Message {
    Message::Binary(Bytes::from_static(bytes).into())
}

fn entries() -> Vec<(tidegate_wire::Name, String)> {
    vec![("a".into(), "1".into()), ("b".into(), "{}".into())]
}

fn node(role: Role, address: Option<&str>) -> Node {
    Node {
        role,
        incarnation: Incarnation(7),
        address: address.map(|address| address.parse().unwrap()),
        name: "n".into(),
        tags: vec!["x".into(), "y".into()],
    }
}

fn delivery(kind: EventKind, session: Option<ClientSnapshot>) -> Frame {
    GatewayFrame::Deliver(Box::new(Delivery {
        event: EVENT,
        attempt: 1,
        losses: 2,
        tenant: 4,
        client: CLIENT,
        session: session.map(Box::new),
        kind,
    }))
    .into()
}

fn connect(transport: Transport, request: Option<HttpRequest>) -> Frame {
    let arrival = arrival(transport);
    let request = request.map(Box::new);
    delivery(EventKind::Connect { arrival, request }, None)
}

fn arrival(transport: Transport) -> Arc<Arrival> {
    Arc::new(Arrival {
        peer: Peer {
            address: "10.0.0.1:80".parse().unwrap(),
            transport,
            listener: "l".into(),
            secure: true,
        },
        connected_at_ms: 7,
        subprotocol: Some("s".into()),
    })
}

fn request() -> HttpRequest {
    HttpRequest {
        path: "/p".into(),
        query: vec![("q".into(), "1".into())],
        headers: vec![("host".into(), "h".into())],
        cookies: vec![("c".into(), "2".into())],
    }
}

fn closed(reason: CloseReason) -> Frame {
    let closed = Closed {
        reason,
        frame: Some(frame()),
        uid: Some("u".into()),
        groups: vec!["g".into()],
    };
    delivery(EventKind::Close(Box::new(closed)), None)
}

fn frame() -> CloseFrame {
    CloseFrame {
        code: 4000,
        reason: "r".into(),
    }
}

fn commit(outcome: Outcome, effects: Vec<Effect>) -> Frame {
    WorkerFrame::Commit(Commit {
        event: EVENT,
        attempt: 1,
        client: CLIENT,
        outcome,
        effects,
        reply: None,
    })
    .into()
}

fn send(to: Recipients) -> Effect {
    Effect::Send {
        to,
        message: text("hi"),
        except: vec![CLIENT],
    }
}

fn session(change: SessionChange) -> Effect {
    Effect::Session {
        client: CLIENT,
        change,
    }
}

fn frames() -> Vec<(&'static str, Frame)> {
    let snapshot = || ClientSnapshot {
        version: 5,
        entries: entries(),
        arrival: Some(arrival(Transport::WebSocket)),
    };
    vec![
        ("heartbeat", Frame::Heartbeat),
        (
            "announce",
            WorkerFrame::Announce(Announcement {
                serving: vec![Serving {
                    tenant: "t".into(),
                    version: "v".into(),
                    http: true,
                }],
                window_events: 4096,
                window_bytes: 1 << 25,
            })
            .into(),
        ),
        (
            "load",
            WorkerFrame::Load(Load {
                clients: 9,
                queued_bytes: 1000,
            })
            .into(),
        ),
        (
            "deliver-text-session",
            delivery(EventKind::Message(text("hello")), Some(snapshot())),
        ),
        (
            "deliver-binary",
            delivery(EventKind::Message(binary(&[0, 255])), None),
        ),
        (
            "custody",
            GatewayFrame::Custody(vec![Custody {
                tenant: 1,
                client: CLIENT,
                uid: Some("u".into()),
                groups: vec!["g".into()],
                session: snapshot(),
            }])
            .into(),
        ),
        ("release", GatewayFrame::Release(vec![CLIENT]).into()),
        ("drain", WorkerFrame::Drain.into()),
        ("drained", GatewayFrame::Drained.into()),
        (
            "adopt",
            WorkerFrame::Adopt {
                sequence: 6,
                tenant: "t".into(),
                effects: vec![send(Recipients::Everyone)],
                close: CLOSE,
            }
            .into(),
        ),
        ("adopted", GatewayFrame::Adopted { sequence: 6 }.into()),
    ]
}

/// Those between gateways, and between nodes and registers.
fn of_other_links() -> Vec<(&'static str, Frame)> {
    vec![
        (
            "forward",
            PeerFrame::Forward(Forward {
                shard: 2,
                sequence: 8,
                tenant: "t".into(),
                effects: vec![
                    send(Recipients::Everyone),
                    Effect::UnbindUid { client: CLIENT },
                ],
                close: None,
            })
            .into(),
        ),
        (
            "forward-ack",
            PeerFrame::ForwardAck {
                shard: 2,
                sequence: 8,
            }
            .into(),
        ),
        (
            "join",
            NodeFrame::Join {
                node: node(Role::Gateway, Some("10.0.0.7:2000")),
                lease_ms: 10_000,
            }
            .into(),
        ),
        ("leave", NodeFrame::Leave.into()),
        (
            "view",
            Frame::View(View {
                settled: true,
                nodes: vec![node(Role::Worker, None), node(Role::Register, None)],
                left: vec![Incarnation(8)],
            }),
        ),
        (
            "lost",
            NodeFrame::Lost(vec![Incarnation(1), Incarnation(300)]).into(),
        ),
    ]
}

/// Those by which custody changes hands.
fn handovers() -> Vec<(&'static str, Frame)> {
    let (shard, number) = (2, 300);
    vec![
        ("recognised", GatewayFrame::Recognised.into()),
        ("confirm", GatewayFrame::Confirm { shard, number }.into()),
        ("confirmed", WorkerFrame::Confirmed { shard, number }.into()),
        (
            "step",
            WorkerFrame::Step(Box::new(Step {
                event: EVENT,
                attempt: 1,
                client: CLIENT,
                number: 300,
                effects: vec![Effect::Destroy { client: CLIENT }],
            }))
            .into(),
        ),
        (
            "cancel task",
            GatewayFrame::CancelTask {
                tenant: 1,
                event: EVENT,
                attempt: 2,
            }
            .into(),
        ),
        (
            "custody-changed",
            GatewayFrame::CustodyChanged(vec![
                CustodyChange {
                    client: CLIENT,
                    uid: Some(None),
                    groups: GroupsChange::Some(vec![("a".into(), true), ("b".into(), false)]),
                    entries: vec![("k".into(), Some("1".to_owned())), ("l".into(), None)],
                },
                CustodyChange {
                    client: CLIENT,
                    uid: None,
                    groups: GroupsChange::All(vec!["a".into()]),
                    entries: vec![],
                },
            ])
            .into(),
        ),
        (
            "custody-rank",
            GatewayFrame::CustodyRank(vec![(CLIENT, Some(Incarnation(300))), (CLIENT, None)])
                .into(),
        ),
        (
            "told",
            GatewayFrame::Told(vec![CloseId {
                home: Incarnation(300),
                client: CLIENT,
            }])
            .into(),
        ),
        (
            "peer-message",
            GatewayFrame::PeerMessage {
                tenant: 4,
                message: peer_message(),
            }
            .into(),
        ),
    ]
}

fn variants() -> Vec<(String, Frame)> {
    let mut out = Vec::new();
    let mut add = |name: String, frame| out.push((name, frame));
    for transport in [
        Transport::WebSocket,
        Transport::Tcp,
        Transport::TextLines,
        Transport::LengthPrefixed,
    ] {
        let with_request = transport == Transport::WebSocket;
        let frame = connect(transport, with_request.then(request));
        add(format!("connect {transport:?}"), frame);
    }
    for reason in [
        CloseReason::Client,
        CloseReason::Server,
        CloseReason::Idle,
        CloseReason::Slow,
        CloseReason::Protocol,
        CloseReason::GoingAway,
        CloseReason::GatewayLost,
    ] {
        add(format!("close {reason:?}"), closed(reason));
    }
    for client in [None, Some(CLIENT)] {
        let (timer, payload) = (timer(client), Payload::from(vec![1, 2, 3]));
        let kind = EventKind::Timer { timer, payload };
        let whose = if client.is_some() {
            "a client"
        } else {
            "nobody"
        };
        add(format!("timer of {whose}"), delivery(kind, None));
    }
    let task = EventKind::Task {
        task: timer(None),
        payload: Payload::from(vec![4, 5]),
        committed: 300,
    };
    add("task".into(), delivery(task, None));
    for outcome in [Ok(Payload::from(vec![6])), Err("why".into())] {
        let name = format!("task finished {}", outcome.is_ok());
        let finished = EventKind::TaskFinished {
            task: timer(Some(CLIENT)),
            of_client: outcome.is_ok(),
            outcome,
        };
        add(name, delivery(finished, None));
    }
    let full = EventKind::BufferFull { bytes: 70_000 };
    add("buffer full".into(), delivery(full, None));
    add(
        "buffer drain".into(),
        delivery(EventKind::BufferDrain, None),
    );
    let said = [
        SignIn::Request(Box::new(request())),
        SignIn::Message(text("hi")),
    ];
    for (at, said) in said.into_iter().enumerate() {
        let arrival = arrival(Transport::WebSocket);
        let kind = EventKind::Handshake { arrival, said };
        add(format!("handshake {at}"), delivery(kind, None));
    }
    add("http".into(), delivery(http(), None));
    for outcome in [
        Outcome::Done,
        Outcome::Failed,
        Outcome::DeadLettered,
        Outcome::Returned,
    ] {
        add(format!("commit {outcome:?}"), commit(outcome, vec![]));
    }
    for (at, effect) in effects().into_iter().enumerate() {
        let frame = commit(Outcome::Done, vec![effect]);
        add(format!("effect {at:02}"), frame);
    }
    let any_of = send(Recipients::AnyOf {
        clients: vec![CLIENT],
        uids: vec!["u".into()],
        groups: vec!["g".into()],
    });
    add(
        "effect send any of".into(),
        commit(Outcome::Done, vec![any_of]),
    );
    for (at, refusal) in refusals().into_iter().enumerate() {
        add(format!("goodbye {at}"), Frame::Goodbye(refusal));
    }
    out.extend(asked::frames());
    out.extend(deploy::variants());
    out
}

fn http() -> EventKind {
    EventKind::Http {
        arrival: arrival(Transport::WebSocket),
        call: Box::new(HttpCall {
            method: "PUT".into(),
            target: "/a?b".into(),
            authority: "h:1".into(),
            headers: vec![("x".into(), vec![b'y', 0xff])],
            body: Payload::from(vec![1, 2, 3]),
        }),
    }
}

fn effects() -> Vec<Effect> {
    let (client, uid, group) = (CLIENT, "u".into(), "g".into());
    let (key, value) = ("k".into(), "1".to_owned());
    vec![
        send(Recipients::Client(CLIENT)),
        send(Recipients::Clients(vec![CLIENT, CLIENT])),
        send(Recipients::Uids(vec!["u".into()])),
        send(Recipients::Groups(vec!["g".into(), "h".into()])),
        send(Recipients::Everyone),
        Effect::SendRaw {
            to: Recipients::Everyone,
            bytes: Payload::from(vec![1, 2, 3]),
            except: vec![],
        },
        Effect::Close {
            client,
            farewell: Some(binary(&[9])),
            frame: Some(Box::new(frame())),
        },
        Effect::Close {
            client,
            farewell: None,
            frame: None,
        },
        Effect::CloseUid {
            uid: "u".into(),
            farewell: Some(text("bye")),
            frame: None,
        },
        Effect::Destroy { client },
        Effect::BindUid { client, uid },
        Effect::UnbindUid { client },
        Effect::JoinGroup { client, group },
        Effect::LeaveGroup {
            client,
            group: "g".into(),
        },
        Effect::Ungroup { group: "g".into() },
        session(SessionChange::Set { key, value }),
        session(SessionChange::Merge {
            key: "k".into(),
            value: "{}".into(),
        }),
        session(SessionChange::Remove { key: "k".into() }),
        session(SessionChange::Replace(entries())),
        session(SessionChange::Clear),
        Effect::Command {
            gateways: None,
            name: "c".into(),
            payload: Payload::from(vec![1, 2, 3]),
        },
        Effect::Command {
            gateways: Some(vec!["10.0.0.7:2000".parse().unwrap()]),
            name: "c".into(),
            payload: Payload::default(),
        },
        Effect::SendLatest {
            to: Recipients::Everyone,
            key: "k".into(),
            message: text("hi"),
            except: vec![CLIENT],
        },
        Effect::SetTimer {
            timer: timer(Some(CLIENT)),
            delay_ms: 1_500,
            repeats: true,
            payload: Payload::from(vec![1, 2, 3]),
        },
        Effect::CancelTimer { timer: timer(None) },
        Effect::SubmitTask {
            task: timer(Some(CLIENT)),
            payload: Payload::from(vec![4, 5]),
        },
        Effect::CancelTask { task: timer(None) },
        Effect::PeerMessage(peer_message()),
    ]
}

fn peer_message() -> Box<PeerMessage> {
    Box::new(PeerMessage {
        from: InstanceId(300),
        topic: "t".into(),
        payload: Payload::from(vec![1, 2, 3]),
    })
}

fn timer(client: Option<ClientId>) -> Box<TimerId> {
    Box::new(TimerId {
        client,
        event: EVENT,
        nth: 5,
    })
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::WrongSecret,
        Refusal::WrongVersion { theirs: 2, ours: 1 },
        Refusal::WrongRole("worker".into()),
        Refusal::AddressTaken("10.0.0.7:2000".into()),
        Refusal::Lost,
        Refusal::Full(64),
    ]
}

/// The bytes in hex, after a check that they decode to the same value.
fn hex<T: Serialize + DeserializeOwned + Carry + PartialEq + Debug>(value: &T) -> String {
    let mut bytes = BytesMut::new();
    encode(value, &mut bytes).unwrap();
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    let back = decode::<T>(&mut bytes, FRAME_BYTES_MAX).unwrap();
    assert_eq!(back.as_ref(), Some(value));
    assert!(bytes.is_empty());
    hex
}

fn cases() -> Vec<(String, String)> {
    let mut cases: Vec<(String, String)> = frames()
        .into_iter()
        .chain(of_other_links())
        .chain(handovers())
        .map(|(name, frame)| (name.to_owned(), hex(&frame)))
        .collect();
    cases.extend(
        variants()
            .iter()
            .map(|(name, frame)| (name.clone(), hex(frame))),
    );
    let hello = Hello {
        magic: MAGIC,
        version: VERSION,
        node: node(Role::Worker, None),
        nonce: [0xab; 32],
    };
    cases.push(("hello".to_owned(), hex(&hello)));
    cases.push(("proof".to_owned(), hex(&Proof::Mac([0xcd; 32]))));
    let refused = Proof::Refused(Refusal::WrongSecret);
    cases.push(("proof refused".to_owned(), hex(&refused)));
    cases
}

#[test]
fn bytes_of_every_frame_stay_as_they_are() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden.txt");
    let cases = cases();
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        let lines = cases.iter().fold(String::new(), |mut lines, (name, hex)| {
            writeln!(lines, "{name}: {hex}").unwrap();
            lines
        });
        std::fs::write(&path, lines).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let golden: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    for (name, hex) in &cases {
        let known = golden.get(name.as_str()).copied();
        assert_eq!(known, Some(hex.as_str()), "{name}");
    }
    assert_eq!(golden.len(), cases.len(), "golden.txt has other lines");
}

/// The numbers of a frame: of its kind of link, and within that. Has no `_`, so that a new frame
/// does not compile before somebody comes here.
const fn place(frame: &Frame) -> (u8, Option<u8>) {
    match frame {
        Frame::Heartbeat => (0, None),
        Frame::Goodbye(_) => (1, None),
        Frame::FromWorker(frame) => (2, Some(worker_place(frame))),
        Frame::ToWorker(frame) => (3, Some(gateway_place(frame))),
        Frame::Peer(frame) => (4, Some(peer_place(frame))),
        Frame::FromNode(frame) => (5, Some(node_place(frame))),
        Frame::View(_) => (6, None),
        Frame::Deploy(_) => (7, None),
    }
}

const fn worker_place(frame: &WorkerFrame) -> u8 {
    match frame {
        WorkerFrame::Announce(_) => 0,
        WorkerFrame::Load(_) => 1,
        WorkerFrame::Commit(_) => 2,
        WorkerFrame::Drain => 3,
        WorkerFrame::Adopt { .. } => 4,
        WorkerFrame::Question(_) => 5,
        WorkerFrame::Confirmed { .. } => 6,
        WorkerFrame::Step(_) => 7,
    }
}

const fn gateway_place(frame: &GatewayFrame) -> u8 {
    match frame {
        GatewayFrame::Deliver(_) => 0,
        GatewayFrame::Custody(_) => 1,
        GatewayFrame::CustodyChanged(_) => 2,
        GatewayFrame::Release(_) => 3,
        GatewayFrame::Drained => 4,
        GatewayFrame::Adopted { .. } => 5,
        GatewayFrame::Answered { .. } => 6,
        GatewayFrame::Recognised => 7,
        GatewayFrame::Confirm { .. } => 8,
        GatewayFrame::CustodyRank(_) => 9,
        GatewayFrame::Told(_) => 10,
        GatewayFrame::CancelTask { .. } => 11,
        GatewayFrame::PeerMessage { .. } => 12,
    }
}

const fn peer_place(frame: &PeerFrame) -> u8 {
    match frame {
        PeerFrame::Forward(_) => 0,
        PeerFrame::ForwardAck { .. } => 1,
        PeerFrame::Ask(_) => 2,
        PeerFrame::Answer { .. } => 3,
        PeerFrame::Watch { .. } => 4,
        PeerFrame::Unwatch { .. } => 5,
        PeerFrame::Happened { .. } => 6,
        PeerFrame::Schedule(_) => 7,
    }
}

const fn node_place(frame: &NodeFrame) -> u8 {
    match frame {
        NodeFrame::Join { .. } => 0,
        NodeFrame::Leave => 1,
        NodeFrame::Lost(_) => 2,
    }
}

#[test]
fn every_frame_has_golden_bytes_and_its_documented_numbers() {
    let mut seen = BTreeSet::new();
    let all = frames()
        .into_iter()
        .chain(of_other_links())
        .chain(handovers())
        .map(|(_, frame)| frame);
    for frame in all.chain(variants().into_iter().map(|(_, frame)| frame)) {
        let mut bytes = BytesMut::new();
        encode(&frame, &mut bytes).unwrap();
        let place = place(&frame);
        assert_eq!((bytes[8], place.1.map(|_| bytes[9])), place, "{frame:?}");
        seen.insert(place);
    }
    let within = |kind: u8, count: u8| (0..count).map(move |number| (kind, Some(number)));
    let alone = [0, 1, 6, 7].map(|kind| (kind, None));
    let all = [(2, 8), (3, 13), (4, 8), (5, 3)]
        .into_iter()
        .flat_map(|(kind, count)| within(kind, count));
    assert_eq!(seen, alone.into_iter().chain(all).collect());
}

#[test]
fn the_version_of_a_component_is_its_blake3_hash() {
    let version = version_of(b"");
    let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(&*version, expected);
    assert!(is_version(&version));
}
