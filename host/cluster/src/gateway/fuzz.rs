//! Fuzz targets: what a stranger can send to a gateway's ports. A whole gateway runs in the thread of
//! the test, with a worker that commits everything at once.
//!
//! Besides that nothing panics or hangs: the same bytes in any pieces are the same messages and the
//! same end, no message is longer than allowed, an answer is HTTP, and no connection stays counted.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::panic::RefUnwindSafe;
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::Ordering;

use tidegate_fuzzing::Case;
use tidegate_link::{Identity, LinkSettings, Secret, pair};
use tidegate_wire::effect::Outcome;
use tidegate_wire::event::{CloseReason, EventKind, Message, Transport};
use tidegate_wire::frame::{Announcement, GatewayFrame, Serving, WorkerFrame};
use tidegate_wire::membership::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, yield_now};

use super::Gateway;
use super::rig::{Scripted, node, settings, soon, tenant};
use super::settings::ListenerSettings;
use crate::gateway::shared::inbox::Incoming;
use crate::gateway::shared::socket::LocalClient;

const MESSAGE_BYTES_MAX: usize = 2000;
/// The listeners, by place.
const TRANSPORTS: [Transport; 3] = [
    Transport::TextLines,
    Transport::LengthPrefixed,
    Transport::WebSocket,
];
const LINES: usize = 0;
const PREFIXED: usize = 1;
const WEB_SOCKET: usize = 2;

/// What the worker has seen of clients that are gone.
type Seen = Rc<RefCell<Vec<(Vec<Message>, CloseReason)>>>;

thread_local! {
    /// Panics of this thread. Those of a client's task end that client and nothing else.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            others(panic);
        }));
    });
}

/// A gateway in this thread.
struct Rig {
    runtime: Runtime,
    local: LocalSet,
    gateway: Gateway,
    entrance: TcpListener,
    seen: Seen,
}

/// After a case that has failed nothing is relied on.
impl RefUnwindSafe for Rig {}

impl Rig {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let local = LocalSet::new();
        let seen = Seen::default();
        let (gateway, entrance) = local.block_on(&runtime, begin(seen.clone()));
        Self {
            runtime,
            local,
            gateway,
            entrance,
            seen,
        }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        count_panics();
        let before = PANICS.get();
        let output = self.local.block_on(&self.runtime, future);
        assert_eq!(PANICS.get(), before, "a task of the gateway panicked");
        output
    }

    /// What becomes of these bytes at a listener that needs no handshake.
    fn plain<'a>(
        &self,
        listener: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> (Vec<Message>, CloseReason) {
        self.wait(async {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
            let client = self.gateway.connect(listener, address);
            for piece in pieces {
                send(&client, piece).await;
                rest().await;
            }
            client.close();
            self.gone(listener).await
        })
    }

    /// The answer to these bytes at the WebSocket listener, and what became of the client, if it was
    /// let in.
    fn http<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> Answered {
        self.wait(async {
            let mut client = self.client().await;
            for piece in pieces {
                // The gateway may have closed.
                let _ = client.write_all(piece).await;
                rest().await;
            }
            let _ = client.shutdown().await;
            let mut answer = Vec::new();
            let whole = soon("the end of the answer", client.read_to_end(&mut answer)).await;
            drop(client);
            let text = String::from_utf8_lossy(&answer);
            let status: Option<u16> = (!answer.is_empty()).then(|| {
                let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
                status
                    .and_then(|it| it.parse().ok())
                    .unwrap_or_else(|| panic!("not HTTP: {text:?}"))
            });
            let client = match status {
                Some(101) => Some(self.gone(WEB_SOCKET).await),
                Some(_) | None => {
                    self.emptied(WEB_SOCKET).await;
                    None
                }
            };
            Answered {
                status,
                whole: whole.is_ok(),
                client,
            }
        })
    }

    async fn client(&self) -> TcpStream {
        let address = self.entrance.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), self.entrance.accept());
        let socket = accepted.unwrap().0.into_std().unwrap();
        self.gateway.services.context.connections[WEB_SOCKET].fetch_add(1, Ordering::AcqRel);
        let strangers = &self.gateway.services.context.strangers[WEB_SOCKET];
        self.gateway.arrive(Incoming::Client {
            socket,
            listener: WEB_SOCKET,
            stranger: Some(strangers.admit(address.ip())),
        });
        client.unwrap()
    }

    /// What the worker has seen of the one client, once it is gone.
    async fn gone(&self, listener: usize) -> (Vec<Message>, CloseReason) {
        let seen = || !self.seen.borrow().is_empty();
        turns("the close to be told", seen).await;
        self.emptied(listener).await;
        self.seen.borrow_mut().pop().unwrap()
    }

    /// Waits until nobody counts as connected.
    async fn emptied(&self, listener: usize) {
        let connections = &self.gateway.services.context.connections[listener];
        let none = || connections.load(Ordering::Acquire) == 0;
        turns("nobody to be counted any more", none).await;
    }
}

/// What a client of HTTP got.
#[derive(Debug)]
struct Answered {
    status: Option<u16>,
    /// The answer was not cut by a reset, as it is when it comes before all was sent.
    whole: bool,
    client: Option<(Vec<Message>, CloseReason)>,
}

async fn begin(seen: Seen) -> (Gateway, TcpListener) {
    let announced = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    let mut settings = settings(announced);
    settings.shards = 1;
    let listener = ListenerSettings {
        message_bytes_max: MESSAGE_BYTES_MAX,
        handshake_bytes_max: 8 << 10,
        ..settings.listeners.remove(0)
    };
    settings.listeners = TRANSPORTS
        .iter()
        .zip(1..)
        .map(|(transport, port)| ListenerSettings {
            transport: *transport,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            ..listener.clone()
        })
        .collect();
    let own = node(Role::Gateway, 1, Some(announced));
    let identity = Identity {
        node: own.clone(),
        secret: Secret::new(b"a secret of tests"),
        net: tidegate_link::net::stream::tcp(),
    };
    let gateway = Gateway::start_here(identity, settings).unwrap();
    let worker = node(Role::Worker, 2, None);
    let (mine, theirs) = pair(worker, own, &LinkSettings::default());
    gateway.attach(theirs);
    mine.sender
        .send(WorkerFrame::Announce(Announcement {
            serving: vec![Serving {
                tenant: tenant(),
                version: "v1".into(),
                http: false,
            }],
            window_events: 4096,
            window_bytes: 16 << 20,
        }))
        .unwrap();
    tokio::task::spawn_local(work(Scripted::new(mine), seen));
    let entrance = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    (gateway, entrance)
}

/// Commits every event of one client after the other.
async fn work(mut worker: Scripted, seen: Seen) {
    let mut messages = Vec::new();
    loop {
        let GatewayFrame::Deliver(delivery) = worker.next().await else {
            continue;
        };
        worker.end(&delivery, Outcome::Done, vec![], None);
        match delivery.kind {
            EventKind::Message(message) => messages.push(message),
            EventKind::Close(closed) => {
                let all = std::mem::take(&mut messages);
                seen.borrow_mut().push((all, closed.reason));
            }
            EventKind::Connect { .. }
            | EventKind::Request { .. }
            | EventKind::Timer { .. }
            | EventKind::BufferFull { .. }
            | EventKind::BufferDrain
            | EventKind::Handshake { .. }
            | EventKind::Http { .. }
            | EventKind::Task { .. }
            | EventKind::TaskFinished { .. } => {}
        }
    }
}

/// Sends what the gateway takes; less, if it has closed.
async fn send(client: &LocalClient, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match client.try_send(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => yield_now().await,
            Err(_) => return,
        }
    }
}

/// Lets the gateway work until a condition holds.
async fn turns(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            yield_now().await;
        }
    })
    .await;
}

/// Lets the gateway read what was sent so far.
async fn rest() {
    for _ in 0..4 {
        yield_now().await;
    }
}

fn check(messages: &[Message], bytes: usize) {
    let lengths = || messages.iter().map(|message| message.payload().len());
    assert!(lengths().all(|length| length <= MESSAGE_BYTES_MAX));
    assert!(lengths().sum::<usize>() <= bytes, "more than was sent");
}

fn plain(listener: usize, seeds: &[&[u8]], words: &[&str]) {
    let rig = Rig::new();
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    tidegate_fuzzing::run!(|case: &Case| {
        let rig = &rig;
        let bytes = case.bytes(&seeds, words);
        let (messages, reason) = rig.plain(listener, std::iter::once(&*bytes));
        check(&messages, bytes.len());
        let in_pieces = rig.plain(listener, case.pieces(&bytes));
        assert_eq!(in_pieces, (messages, reason));
    });
}

#[test]
fn lines_of_a_client() {
    let long = [&[b'x'; MESSAGE_BYTES_MAX + 1][..], b"\n"].concat();
    let seeds: [&[u8]; 4] = [b"hello\nworld\r\n\n", b"\xff\xfe\n", b"no end", &long];
    plain(LINES, &seeds, &["\n", "\r\n", "\u{fffd}", "\0"]);
}

#[test]
fn length_prefixed_frames_of_a_client() {
    let long = [&[0, 0, 7, 0xd4][..], &[b'x'; MESSAGE_BYTES_MAX]].concat();
    let seeds: [&[u8]; 5] = [
        b"\0\0\0\x06hi\0\0\0\x04\0\0\0\x05!",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\x07\xd5",
        &long,
    ];
    plain(PREFIXED, &seeds, &["\0\0\0\u{5}a", "\0\0\0\u{4}"]);
}

const UPGRADE: &str = "GET /chat?a=1&b=%20 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: a=1; b=%zz\r\n\
    Sec-WebSocket-Protocol: x, y\r\n\r\n";

/// A head may have two faults, too many fields (431) and a wrong byte (400): which one hyper finds
/// first depends on the pieces.
const fn verdict(status: u16) -> u16 {
    match status {
        431 => 400,
        status => status,
    }
}

#[test]
fn heads_of_http() {
    let rig = Rig::new();
    let seeds = [
        UPGRADE.to_owned(),
        format!("{UPGRADE}\u{1}\u{2}"),
        "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "HEAD /healthz HTTP/1.0\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            .to_owned(),
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n"
            .to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ]
    .map(String::into_bytes);
    let words = [
        "\r\n",
        "Host: ",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "HTTP/1.0",
        ", ",
        "; ",
        "Cookie: ",
        "Origin: null\r\n",
        "Sec-WebSocket-Key: ",
        "%00",
        "\t",
        "Content-Length: 1\r\n",
        "Sec-WebSocket-Version: 8\r\n",
        "Expect: 100-continue\r\n",
        "OPTIONS ",
        "http://h/",
    ];
    tidegate_fuzzing::run!(|case: &Case| {
        let rig = &rig;
        let bytes = case.bytes(&seeds, &words);
        let whole = rig.http(std::iter::once(&*bytes));
        let pieces = rig.http(case.pieces(&bytes));
        // hyper looks at a head that comes in pieces when it is whole: one that never ends has no answer.
        if whole.whole
            && pieces.whole
            && let (Some(whole), Some(pieces)) = (whole.status, pieces.status)
        {
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(verdict(whole), verdict(pieces), "{text:?}");
        }
        for (messages, _) in whole.client.iter().chain(&pieces.client) {
            check(messages, bytes.len());
        }
    });
}

/// A frame with this first byte and a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[test]
fn web_socket_frames_of_a_client() {
    let rig = Rig::new();
    let seeds = [
        [frame(0x81, b"hello"), frame(0x82, &[0xff; 200])].concat(),
        [frame(0x01, b"he"), frame(0x89, b"p"), frame(0x80, b"llo")].concat(),
        [frame(0x81, "\u{20ac}".as_bytes()), frame(0x88, &[3, 0xe8])].concat(),
        frame(0x82, &[1; MESSAGE_BYTES_MAX + 1]),
        [frame(0x8a, b""), frame(0x88, b"")].concat(),
        b"\x81\x85\x01\x02\x03\x04ihmhn".to_vec(),
        b"\x82\xff\0\0\0\0\0\0\x07\xd0\0\0\0\0".to_vec(),
    ];
    let words = ["\u{1}\0\0\0\0", "\u{20ac}", "\0\0\0\0"];
    tidegate_fuzzing::run!(|case: &Case| {
        let rig = &rig;
        let bytes = case.bytes(&seeds, &words);
        let head = UPGRADE.as_bytes();
        let whole = rig.http([head, &bytes].into_iter());
        let pieces = rig.http(std::iter::once(head).chain(case.pieces(&bytes)));
        if whole.whole && pieces.whole {
            assert_eq!(whole.client, pieces.client);
            assert_eq!((whole.status, pieces.status), (Some(101), Some(101)));
        }
        for (messages, _) in whole.client.iter().chain(&pieces.client) {
            check(messages, bytes.len());
        }
    });
}
