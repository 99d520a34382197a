//! What holds for any value and any bytes: round trips, no panic, no allocation that the input did
//! not pay for, the same result however the bytes arrive.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "properties/asked.rs"]
mod asked;
#[path = "properties/deploy.rs"]
mod deploy;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients, SessionChange};
use tidegate_wire::event::{
    Arrival, ClientSnapshot, CloseFrame, CloseReason, Closed, Delivery, EventKind, HttpRequest,
    Message, Peer, Transport,
};
use tidegate_wire::frame::{
    Announcement, Custody, CustodyChange, FRAME_BYTES_MAX, Forward, Frame, FrameError,
    GatewayFrame, GroupsChange, Load, NodeFrame, PeerFrame, Serving, WorkerFrame, decode, encode,
};
use tidegate_wire::handshake::SignIn;
use tidegate_wire::hello::{HELLO_BYTES_MAX, Hello, Proof, Refusal};
use tidegate_wire::http::HttpCall;
use tidegate_wire::id::{ClientId, CloseId, EventId, Incarnation};
use tidegate_wire::membership::{Node, Role, View};
use tidegate_wire::payload::Payload;
use tidegate_wire::peers::{InstanceId, PeerMessage};
use tidegate_wire::task::Step;
use tidegate_wire::timer::TimerId;

/// Counts the bytes that this thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

#[allow(
    unsafe_code,
    reason = "an allocator cannot be written without; it only counts and passes on"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + layout.size()));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from the system's allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn name() -> impl Strategy<Value = Name> {
    "\\PC{1,12}".prop_map(Name::from)
}

fn names() -> impl Strategy<Value = Vec<Name>> {
    vec(name(), 0..4)
}

fn payload() -> impl Strategy<Value = Payload> {
    vec(any::<u8>(), 0..200).prop_map(Payload::from)
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        "\\PC{0,60}".prop_map(|text| Message::Text(text.into_bytes().into())),
        payload().prop_map(Message::Binary),
    ]
}

fn client() -> impl Strategy<Value = ClientId> {
    any::<(u32, u16, u32)>().prop_map(|(ip, port, connection)| ClientId {
        ip,
        port,
        connection,
    })
}

fn clients() -> impl Strategy<Value = Vec<ClientId>> {
    vec(client(), 0..4)
}

fn event() -> impl Strategy<Value = EventId> {
    any::<(u64, u16, u64)>().prop_map(|(gateway, shard, sequence)| EventId {
        gateway: Incarnation(gateway),
        shard,
        sequence,
    })
}

fn timer() -> impl Strategy<Value = TimerId> {
    (option::of(client()), event(), any::<u32>()).prop_map(|(client, event, nth)| TimerId {
        client,
        event,
        nth,
    })
}

fn peer_message() -> impl Strategy<Value = Box<PeerMessage>> {
    (any::<u64>(), name(), payload()).prop_map(|(from, topic, payload)| {
        let from = InstanceId(from);
        Box::new(PeerMessage {
            from,
            topic,
            payload,
        })
    })
}

fn entries() -> impl Strategy<Value = Vec<(Name, String)>> {
    vec((name(), "\\PC{0,20}"), 0..4)
}

fn snapshot() -> impl Strategy<Value = ClientSnapshot> {
    (any::<u64>(), entries(), option::of(arrival())).prop_map(|(version, entries, arrival)| {
        ClientSnapshot {
            version,
            entries,
            arrival: arrival.map(Arc::new),
        }
    })
}

fn recipients() -> impl Strategy<Value = Recipients> {
    prop_oneof![
        client().prop_map(Recipients::Client),
        clients().prop_map(Recipients::Clients),
        names().prop_map(Recipients::Uids),
        names().prop_map(Recipients::Groups),
        Just(Recipients::Everyone),
        (clients(), names(), names()).prop_map(|(clients, uids, groups)| Recipients::AnyOf {
            clients,
            uids,
            groups,
        }),
    ]
}

fn change() -> impl Strategy<Value = SessionChange> {
    prop_oneof![
        (name(), "\\PC{0,20}").prop_map(|(key, value)| SessionChange::Set { key, value }),
        (name(), "\\PC{0,20}").prop_map(|(key, value)| SessionChange::Merge { key, value }),
        name().prop_map(|key| SessionChange::Remove { key }),
        entries().prop_map(SessionChange::Replace),
        Just(SessionChange::Clear),
    ]
}

fn effect() -> impl Strategy<Value = Effect> {
    let farewell = || option::of(message());
    prop_oneof![
        (recipients(), message(), clients()).prop_map(|(to, message, except)| Effect::Send {
            to,
            message,
            except
        }),
        (recipients(), name(), message(), clients()).prop_map(|(to, key, message, except)| {
            Effect::SendLatest {
                to,
                key,
                message,
                except,
            }
        }),
        (recipients(), payload(), clients()).prop_map(|(to, bytes, except)| Effect::SendRaw {
            to,
            bytes,
            except
        }),
        (client(), farewell(), option::of(close_frame())).prop_map(|(client, farewell, frame)| {
            Effect::Close {
                client,
                farewell,
                frame: frame.map(Box::new),
            }
        }),
        (name(), farewell(), option::of(close_frame())).prop_map(|(uid, farewell, frame)| {
            Effect::CloseUid {
                uid,
                farewell,
                frame: frame.map(Box::new),
            }
        }),
        client().prop_map(|client| Effect::Destroy { client }),
        (client(), name()).prop_map(|(client, uid)| Effect::BindUid { client, uid }),
        client().prop_map(|client| Effect::UnbindUid { client }),
        (client(), name()).prop_map(|(client, group)| Effect::JoinGroup { client, group }),
        (client(), name()).prop_map(|(client, group)| Effect::LeaveGroup { client, group }),
        name().prop_map(|group| Effect::Ungroup { group }),
        (timer(), any::<u64>(), any::<bool>(), payload()).prop_map(
            |(timer, delay_ms, repeats, payload)| Effect::SetTimer {
                timer: Box::new(timer),
                delay_ms,
                repeats,
                payload,
            }
        ),
        timer().prop_map(|timer| Effect::CancelTimer {
            timer: Box::new(timer)
        }),
        (timer(), payload()).prop_map(|(task, payload)| Effect::SubmitTask {
            task: Box::new(task),
            payload,
        }),
        timer().prop_map(|task| Effect::CancelTask {
            task: Box::new(task)
        }),
        peer_message().prop_map(Effect::PeerMessage),
        (client(), change()).prop_map(|(client, change)| Effect::Session { client, change }),
        (option::of(asked::gateways()), name(), payload()).prop_map(|(gateways, name, payload)| {
            Effect::Command {
                gateways,
                name,
                payload,
            }
        }),
    ]
}

fn effects() -> impl Strategy<Value = Vec<Effect>> {
    vec(effect(), 0..5)
}

fn connect() -> impl Strategy<Value = EventKind> {
    let pairs = || vec(("\\PC{0,9}", "\\PC{0,9}"), 0..3);
    let request =
        ("\\PC{0,20}", pairs(), pairs(), pairs()).prop_map(|(path, query, headers, cookies)| {
            HttpRequest {
                path,
                query,
                headers,
                cookies,
            }
        });
    (arrival(), option::of(request)).prop_map(|(arrival, request)| EventKind::Connect {
        arrival: Arc::new(arrival),
        request: request.map(Box::new),
    })
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let transport = prop_oneof![
        Just(Transport::WebSocket),
        Just(Transport::Tcp),
        Just(Transport::TextLines),
        Just(Transport::LengthPrefixed),
    ];
    let peer = (
        any::<std::net::SocketAddr>(),
        transport,
        name(),
        any::<bool>(),
    );
    (peer, any::<u64>(), option::of(name())).prop_map(|(peer, connected_at_ms, subprotocol)| {
        let (address, transport, listener, secure) = peer;
        Arrival {
            peer: Peer {
                // A flow label or scope of an IPv6 address does not travel.
                address: std::net::SocketAddr::new(address.ip(), address.port()),
                transport,
                listener,
                secure,
            },
            connected_at_ms,
            subprotocol,
        }
    })
}

fn close_frame() -> impl Strategy<Value = CloseFrame> {
    (any::<u16>(), "\\PC{0,20}").prop_map(|(code, reason)| CloseFrame { code, reason })
}

fn kind() -> impl Strategy<Value = EventKind> {
    let reason = prop_oneof![
        Just(CloseReason::Client),
        Just(CloseReason::Server),
        Just(CloseReason::Slow),
        Just(CloseReason::GatewayLost),
    ];
    let frame = option::of(close_frame());
    let closed = (reason, frame, option::of(name()), names());
    let closed = closed.prop_map(|(reason, frame, uid, groups)| Closed {
        reason,
        frame,
        uid,
        groups,
    });
    prop_oneof![
        connect(),
        message().prop_map(EventKind::Message),
        (name(), payload()).prop_map(|(name, payload)| EventKind::Request { name, payload }),
        closed.prop_map(|closed| EventKind::Close(Box::new(closed))),
        (timer(), payload()).prop_map(|(timer, payload)| EventKind::Timer {
            timer: Box::new(timer),
            payload,
        }),
        (timer(), payload(), any::<u32>()).prop_map(|(task, payload, committed)| EventKind::Task {
            task: Box::new(task),
            payload,
            committed,
        }),
        (timer(), any::<bool>(), payload(), ".{0,40}").prop_map(|(task, ok, payload, text)| {
            EventKind::TaskFinished {
                task: Box::new(task),
                of_client: ok,
                outcome: if ok { Ok(payload) } else { Err(text) },
            }
        }),
        any::<u64>().prop_map(|bytes| EventKind::BufferFull { bytes }),
        Just(EventKind::BufferDrain),
        (arrival(), message()).prop_map(|(arrival, message)| EventKind::Handshake {
            arrival: Arc::new(arrival),
            said: SignIn::Message(message),
        }),
        (arrival(), call()).prop_map(|(arrival, call)| EventKind::Http {
            arrival: Arc::new(arrival),
            call: Box::new(call),
        }),
    ]
}

fn call() -> impl Strategy<Value = HttpCall> {
    let words = (name(), "\\PC{0,20}", "\\PC{0,9}");
    (words, asked::head_lines(), payload()).prop_map(
        |((method, target, authority), headers, body)| HttpCall {
            method,
            target,
            authority,
            headers,
            body,
        },
    )
}

fn delivery() -> impl Strategy<Value = Frame> {
    (
        event(),
        any::<(u8, u8, u16)>(),
        client(),
        option::of(snapshot()),
        kind(),
    )
        .prop_map(
            |(event, (attempt, losses, tenant), client, session, kind)| {
                Frame::from(GatewayFrame::Deliver(Box::new(Delivery {
                    event,
                    attempt,
                    losses,
                    tenant,
                    client,
                    session: session.map(Box::new),
                    kind,
                })))
            },
        )
}

fn commit() -> impl Strategy<Value = Frame> {
    let outcome = prop_oneof![
        Just(Outcome::Done),
        Just(Outcome::Failed),
        Just(Outcome::DeadLettered),
        Just(Outcome::Returned),
    ];
    let reply = option::of(asked::reply());
    (event(), any::<u8>(), client(), outcome, effects(), reply).prop_map(
        |(event, attempt, client, outcome, effects, reply)| {
            Frame::from(WorkerFrame::Commit(Commit {
                event,
                attempt,
                client,
                outcome,
                effects,
                reply: reply.map(Box::new),
            }))
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let role = prop_oneof![
        Just(Role::Register),
        Just(Role::Gateway),
        Just(Role::Worker),
    ];
    let address = option::of(any::<std::net::SocketAddrV4>());
    (role, any::<u64>(), address, name(), names()).prop_map(
        |(role, incarnation, address, name, tags)| Node {
            role,
            incarnation: Incarnation(incarnation),
            address,
            name,
            tags,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::WrongSecret),
        any::<(u16, u16)>().prop_map(|(theirs, ours)| Refusal::WrongVersion { theirs, ours }),
        "\\PC{0,20}".prop_map(Refusal::WrongRole),
        "\\PC{0,20}".prop_map(Refusal::AddressTaken),
        Just(Refusal::Lost),
        any::<u32>().prop_map(Refusal::Full),
    ]
}

fn of_tasks() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (event(), any::<(u8, u32)>(), client(), vec(effect(), 0..4)).prop_map(
            |(event, (attempt, number), client, effects)| {
                Frame::from(WorkerFrame::Step(Box::new(Step {
                    event,
                    attempt,
                    client,
                    number,
                    effects,
                })))
            }
        ),
        (event(), any::<(u16, u8)>()).prop_map(|(event, (tenant, attempt))| {
            Frame::from(GatewayFrame::CancelTask {
                tenant,
                event,
                attempt,
            })
        }),
    ]
}

fn announcement() -> impl Strategy<Value = Frame> {
    let serving = (name(), name(), any::<bool>()).prop_map(|(tenant, version, http)| Serving {
        tenant,
        version,
        http,
    });
    (vec(serving, 0..4), any::<u32>(), any::<u64>()).prop_map(
        |(serving, window_events, window_bytes)| {
            Frame::from(WorkerFrame::Announce(Announcement {
                serving,
                window_events,
                window_bytes,
            }))
        },
    )
}

fn bookkeeping() -> impl Strategy<Value = Frame> {
    let announce = announcement();
    let custody = (
        any::<u16>(),
        client(),
        option::of(name()),
        names(),
        snapshot(),
    )
        .prop_map(|(tenant, client, uid, groups, session)| Custody {
            tenant,
            client,
            uid,
            groups,
            session,
        });
    let groups_change = prop_oneof![
        names().prop_map(GroupsChange::All),
        vec((name(), any::<bool>()), 0..3).prop_map(GroupsChange::Some),
    ];
    let change = (
        client(),
        option::of(option::of(name())),
        groups_change,
        vec((name(), option::of(".*")), 0..3),
    )
        .prop_map(|(client, uid, groups, entries)| CustodyChange {
            client,
            uid,
            groups,
            entries,
        });
    prop_oneof![
        Just(Frame::Heartbeat),
        vec(change, 0..3)
            .prop_map(GatewayFrame::CustodyChanged)
            .prop_map_into(),
        vec(
            (client(), option::of(any::<u64>().prop_map(Incarnation))),
            0..3
        )
        .prop_map(GatewayFrame::CustodyRank)
        .prop_map_into(),
        vec((any::<u64>().prop_map(Incarnation), client()), 0..3).prop_map(|closes| {
            let close = |(home, client)| CloseId { home, client };
            Frame::from(GatewayFrame::Told(closes.into_iter().map(close).collect()))
        }),
        (any::<u16>(), peer_message()).prop_map(|(tenant, message)| Frame::from(
            GatewayFrame::PeerMessage { tenant, message }
        )),
        refusal().prop_map(Frame::Goodbye),
        announce,
        any::<(u32, u64)>().prop_map(|(clients, queued_bytes)| Frame::from(WorkerFrame::Load(
            Load {
                clients,
                queued_bytes,
            }
        ))),
        vec(custody, 0..3)
            .prop_map(GatewayFrame::Custody)
            .prop_map_into(),
        clients().prop_map(GatewayFrame::Release).prop_map_into(),
        Just(Frame::from(WorkerFrame::Drain)),
        Just(Frame::from(GatewayFrame::Drained)),
        any::<(u16, u64)>()
            .prop_map(|(shard, sequence)| Frame::from(PeerFrame::ForwardAck { shard, sequence })),
        any::<u64>().prop_map(|sequence| Frame::from(GatewayFrame::Adopted { sequence })),
        Just(Frame::from(GatewayFrame::Recognised)),
        any::<(u16, u64)>()
            .prop_map(|(shard, number)| Frame::from(GatewayFrame::Confirm { shard, number })),
        any::<(u16, u64)>()
            .prop_map(|(shard, number)| Frame::from(WorkerFrame::Confirmed { shard, number })),
        of_tasks(),
        (node(), any::<u32>())
            .prop_map(|(node, lease_ms)| Frame::from(NodeFrame::Join { node, lease_ms })),
        Just(Frame::from(NodeFrame::Leave)),
        (
            any::<bool>(),
            vec(node(), 0..4),
            vec(any::<u64>().prop_map(Incarnation), 0..4)
        )
            .prop_map(|(settled, nodes, left)| Frame::View(View {
                settled,
                nodes,
                left
            })),
        vec(any::<u64>().prop_map(Incarnation), 0..4)
            .prop_map(NodeFrame::Lost)
            .prop_map_into(),
    ]
}

fn closes() -> impl Strategy<Value = CloseId> {
    (any::<u64>().prop_map(Incarnation), client())
        .prop_map(|(home, client)| CloseId { home, client })
}

fn forwards() -> impl Strategy<Value = Frame> {
    (any::<(bool, bool, u16, u64)>(), name(), effects(), closes()).prop_map(
        |((adopt, marked, shard, sequence), tenant, effects, close)| match adopt {
            true => Frame::from(WorkerFrame::Adopt {
                sequence,
                tenant,
                effects,
                close,
            }),
            false => Frame::from(PeerFrame::Forward(Forward {
                shard,
                sequence,
                tenant,
                effects,
                close: marked.then_some(close),
            })),
        },
    )
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        delivery(),
        commit(),
        forwards(),
        bookkeeping(),
        asked::frame(),
        deploy::frame()
    ]
}

fn encoded(frames: &[Frame]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for frame in frames {
        encode(frame, &mut bytes).unwrap();
    }
    bytes
}

/// Everything that decodes before the bytes end or are wrong, and how much memory it took.
fn decode_all(input: &mut BytesMut, limit: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut frames = Vec::new();
    loop {
        match decode::<Frame>(input, limit) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// The memory that one value may take for each byte that announces it: the largest element of a
/// list for its smallest form, with the doubling of a growing list.
const BYTES_PER_BYTE: usize = 256;
/// What is asked for before the first element has arrived: serde's cautious megabyte, per level.
const BYTES_FREE: usize = 4 << 20;

fn asked_by<T>(work: impl FnOnce() -> T) -> usize {
    let before = ASKED.with(Cell::get);
    drop(work());
    ASKED.with(Cell::get) - before
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_come_back_as_they_were(frames in vec(frame(), 1..4)) {
        let mut bytes = encoded(&frames);
        let (back, error) = decode_all(&mut bytes, FRAME_BYTES_MAX);
        prop_assert_eq!(error, None);
        prop_assert_eq!(back, frames);
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn frames_split_anywhere_decode_the_same(
        frames in vec(frame(), 1..4),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = encoded(&frames).freeze();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        cuts.push(whole.len());
        cuts.sort_unstable();
        let (mut input, mut back, mut from) = (BytesMut::new(), Vec::new(), 0);
        for cut in cuts {
            input.put_slice(&whole[from..cut]);
            from = cut;
            let (some, error) = decode_all(&mut input, FRAME_BYTES_MAX);
            prop_assert_eq!(error, None);
            back.extend(some);
        }
        prop_assert_eq!(back, frames);
    }

    #[test]
    fn a_frame_cut_short_is_never_a_value(frame in frame(), cut in any::<prop::sample::Index>()) {
        let whole = encoded(&[frame]);
        let mut input = BytesMut::from(&whole[..cut.index(whole.len())]);
        prop_assert_eq!(decode_all(&mut input, FRAME_BYTES_MAX), (vec![], None));
    }

    #[test]
    fn any_bytes_are_refused_or_decoded_without_panic(bytes in vec(any::<u8>(), 0..600)) {
        for limit in [0, 64, HELLO_BYTES_MAX, FRAME_BYTES_MAX] {
            decode_all(&mut BytesMut::from(&bytes[..]), limit);
            let _ = decode::<Hello>(&mut BytesMut::from(&bytes[..]), limit);
            let _ = decode::<Proof>(&mut BytesMut::from(&bytes[..]), limit);
        }
    }

    /// The bytes get a length that fits, so that the header is reached.
    #[test]
    fn any_header_takes_no_more_memory_than_its_bytes_pay_for(
        kind in 0_u8..20,
        header in vec(any::<u8>(), 0..400),
    ) {
        let mut input = BytesMut::new();
        input.put_u32_le(u32::try_from(header.len() + 5).unwrap());
        input.put_u32_le(u32::try_from(header.len() + 1).unwrap());
        input.put_u8(kind);
        input.put_slice(&header);
        let length = input.len();
        let asked = asked_by(|| decode::<Frame>(&mut input, FRAME_BYTES_MAX));
        prop_assert!(asked <= BYTES_FREE + length * BYTES_PER_BYTE, "{asked} for {length}");
    }

    #[test]
    fn flipped_bytes_do_not_panic(
        frame in frame(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&[frame]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_all(&mut bytes, FRAME_BYTES_MAX);
    }

    #[test]
    fn client_ids_come_back_from_their_text(client in client()) {
        let text = client.to_string();
        prop_assert_eq!(text.len(), 20);
        prop_assert_eq!(text.parse(), Ok(client));
    }

    #[test]
    fn other_texts_are_no_client_ids(text in "\\PC{0,24}") {
        let right = text.len() == 20
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        prop_assert_eq!(text.parse::<ClientId>().is_ok(), right);
    }
}

#[test]
fn texts_that_are_almost_client_ids_are_refused() {
    for text in [
        "",
        "7f00000107d00000000",
        "7f00000107d0000000001",
        "7F00000107D000000001",
        "+f00000107d000000001",
        "7f00000107d00000000g",
        "7f00000107d00000000 ",
        "éééééééééé",
    ] {
        let error = text.parse::<ClientId>().expect_err(text);
        assert!(error.to_string().contains("20 lower-case hex digits"));
    }
    let long = "x"
        .repeat(1 << 20)
        .parse::<ClientId>()
        .expect_err("too long");
    assert!(long.to_string().len() < 120);
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_reserved() {
    for limit in [0, 16, HELLO_BYTES_MAX, FRAME_BYTES_MAX] {
        let mut input = BytesMut::new();
        input.put_u32_le(u32::try_from(limit + 1).unwrap());
        let asked = asked_by(|| {
            let refused = decode::<Frame>(&mut input, limit).expect_err("over the limit");
            assert_eq!(
                refused,
                FrameError::TooLarge {
                    length: limit + 1,
                    limit
                }
            );
        });
        assert!(asked < 4096, "{asked}");
    }
}

#[test]
fn a_list_that_announces_more_than_it_brings_is_refused_cheaply() {
    // Release, with 2^32 - 1 clients and none of them there.
    let header = [7, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let mut input = BytesMut::new();
    input.put_u32_le(4 + 6);
    input.put_u32_le(6);
    input.put_slice(&header);
    let asked = asked_by(|| {
        decode::<Frame>(&mut input, FRAME_BYTES_MAX).expect_err("the clients are missing")
    });
    assert!(asked <= BYTES_FREE, "{asked}");
}

/// The form that takes the least on the wire for what it is in memory.
#[test]
fn a_long_list_of_the_smallest_effects_takes_tens_of_times_its_bytes_not_more() {
    let client = ClientId {
        ip: 0,
        port: 0,
        connection: 0,
    };
    let frame = Frame::from(PeerFrame::Forward(Forward {
        shard: 0,
        sequence: 1,
        tenant: "t".into(),
        effects: vec![Effect::UnbindUid { client }; 200_000],
        close: None,
    }));
    let mut bytes = encoded(&[frame]);
    let length = bytes.len();
    let asked = asked_by(|| decode::<Frame>(&mut bytes, FRAME_BYTES_MAX).unwrap());
    assert!(asked <= 128 * length, "{} times", asked / length);
}

#[test]
fn a_frame_over_the_limit_is_not_sent_and_leaves_the_buffer_as_it_was() {
    let payload = Payload::from(Bytes::from(vec![0; FRAME_BYTES_MAX]));
    let frame = Frame::from(PeerFrame::Forward(Forward {
        shard: 0,
        sequence: 1,
        tenant: "t".into(),
        effects: vec![Effect::SendRaw {
            to: Recipients::Everyone,
            bytes: payload,
            except: vec![],
        }],
        close: None,
    }));
    let mut out = BytesMut::from(&b"before"[..]);
    let refused = encode(&frame, &mut out).expect_err("it is too large");
    assert!(matches!(refused, FrameError::TooLarge { .. }));
    assert_eq!(&out[..], b"before");
}

#[test]
fn payloads_are_slices_of_the_frame_not_copies() {
    let frame = Frame::from(WorkerFrame::Commit(Commit {
        event: EventId {
            gateway: Incarnation(1),
            shard: 0,
            sequence: 1,
        },
        attempt: 0,
        client: ClientId {
            ip: 1,
            port: 2,
            connection: 3,
        },
        outcome: Outcome::Done,
        effects: vec![Effect::SendRaw {
            to: Recipients::Everyone,
            bytes: Payload::from(vec![7; 1 << 20]),
            except: vec![],
        }],
        reply: None,
    }));
    let mut bytes = encoded(&[frame]);
    let asked = asked_by(|| decode::<Frame>(&mut bytes, FRAME_BYTES_MAX).unwrap());
    assert!(asked < 64 << 10, "{asked}");
}

/// A peer that announces the largest frame and sends little of it gets room for little.
#[test]
fn an_announced_length_is_believed_only_as_far_as_bytes_have_come() {
    let mut input = BytesMut::new();
    input.put_u32_le(FRAME_BYTES_MAX as u32);
    let (mut asked, mut reserved) = (0, 0);
    for _ in 0..1024 {
        input.extend_from_slice(&[0; 1024]);
        let before = input.capacity();
        asked += asked_by(|| decode::<Frame>(&mut input, FRAME_BYTES_MAX).unwrap());
        reserved += usize::from(input.capacity() > before);
        let room = input.capacity();
        assert!(room <= 4 * input.len() + (128 << 10), "{room}");
    }
    assert!(asked <= 8 * input.len(), "{asked} for {}", input.len());
    assert!(reserved <= 16, "{reserved} times");
}

proptest! {
    /// A timer's id is what plugins keep as a text: it comes back from it, and from no other.
    #[test]
    fn the_id_of_a_timer_is_one_text(timer in timer(), at in any::<prop::sample::Index>()) {
        let text = timer.to_string();
        prop_assert_eq!(text.parse(), Ok(timer));
        let at = at.index(text.len() + 1);
        for wrong in ["-", "+", "0", "x", " ", "\u{e9}"] {
            let mut other = text.clone();
            other.insert_str(at, wrong);
            if let Ok(parsed) = other.parse::<TimerId>() {
                prop_assert_eq!(parsed.to_string(), other);
            }
        }
    }
}
