//! RFC 6455, sections 5 and 7: frames, messages, closing. The handler says what it hears.

use std::net::SocketAddrV4;

use anyhow::{Context, ensure};
use tidegate_tests::Outcome;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::socket::{Frame, read_answer, read_frame};

const FIN: u8 = 0x80;
const CONTINUES: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What comes back.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// A close frame with one of these codes, and then the end.
    Close(&'static [u16]),
    /// A close frame without a code, and then the end.
    Closed,
}

/// One rule.
pub(super) struct Row {
    pub(super) rule: &'static str,
    pub(super) claim: String,
    sent: Vec<u8>,
    seen: Vec<Seen>,
}

fn row(rule: &'static str, claim: impl Into<String>, sent: &[Vec<u8>], seen: &[Seen]) -> Row {
    Row {
        rule,
        claim: claim.into(),
        sent: sent.concat(),
        seen: seen.to_vec(),
    }
}

/// A frame of a client: first byte, payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    long(first, payload, if payload.len() < 126 { 0 } else { 2 })
}

/// The same with so many bytes of length, whether they are needed or not.
fn long(first: u8, payload: &[u8], bytes: usize) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let length = (payload.len() as u64).to_be_bytes();
    let mut out = vec![first];
    match bytes {
        0 => out.push(0x80 | payload.len() as u8),
        2 => out.push(0x80 | 126),
        _ => out.push(0x80 | 127),
    }
    out.extend_from_slice(length.get(8 - bytes..).unwrap_or_default());
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}

fn text(payload: &str) -> Vec<u8> {
    frame(FIN | TEXT, payload.as_bytes())
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

fn hears(payload: &str) -> Seen {
    Seen::Text(payload.as_bytes().to_vec())
}

const PROTOCOL: &[Seen] = &[Seen::Close(&[1002])];
const NOT_UTF8: &[Seen] = &[Seen::Close(&[1007])];
const TOO_BIG: &[Seen] = &[Seen::Close(&[1009])];

/// All rows.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = frames();
    rows.extend(messages());
    rows.extend(control());
    rows.extend(utf8());
    rows.extend(closing());
    rows
}

fn frames() -> Vec<Row> {
    let mut rows = vec![
        row(
            "6455 5.3",
            "a masked message is unmasked",
            &[text("E:hello")],
            &[hears("hello")],
        ),
        row(
            "6455 5.1",
            "a frame without a mask",
            &[b"\x81\x07E:hello".to_vec()],
            PROTOCOL,
        ),
        row(
            "6455 5.2",
            "16 bits of length",
            &[text(&format!("E:{}", "x".repeat(300)))],
            &[hears(&"x".repeat(300))],
        ),
        row(
            "6455 5.2",
            "64 bits of length",
            &[long(
                FIN | BINARY,
                &[b"E:".to_vec(), vec![7; 66_000]].concat(),
                8,
            )],
            &[Seen::Binary(vec![7; 66_000])],
        ),
        row(
            "6455 5.2",
            "the highest bit of a length is not set",
            &[b"\x82\xff\x80\0\0\0\0\0\0\x01\0\0\0\0".to_vec()],
            &[Seen::Close(&[1002, 1009])],
        ),
        row(
            "6455 10.4",
            "a message that is too big",
            &[long(FIN | TEXT, &[b'x'; 70_001], 8)],
            TOO_BIG,
        ),
        row(
            "6455 10.4",
            "a length is not believed",
            &[b"\x82\xff\0\0\0\xff\0\0\0\0\0\0\0\0".to_vec()],
            TOO_BIG,
        ),
        row(
            "6455 10.4",
            "nor a message in parts that is too big",
            &[
                long(TEXT, &[b'x'; 40_000], 2),
                long(CONTINUES, &[b'x'; 40_000], 2),
            ],
            TOO_BIG,
        ),
        row(
            "6455 5.6",
            "an empty message",
            &[frame(FIN | TEXT, b""), text("E:on")],
            &[hears("on")],
        ),
    ];
    for bit in [0x40, 0x20, 0x10] {
        rows.push(row(
            "6455 5.2",
            format!("reserved bit {bit:#x}"),
            &[frame(FIN | bit | TEXT, b"E:x")],
            PROTOCOL,
        ));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        rows.push(row(
            "6455 5.2",
            format!("reserved opcode {opcode}"),
            &[frame(FIN | opcode, b"x")],
            PROTOCOL,
        ));
    }
    rows
}

fn messages() -> Vec<Row> {
    vec![
        row(
            "6455 5.4",
            "a message in parts",
            &[
                frame(TEXT, b"E:"),
                frame(CONTINUES, b"hel"),
                frame(FIN | CONTINUES, b"lo"),
            ],
            &[hears("hello")],
        ),
        row(
            "6455 5.4",
            "empty parts",
            &[
                frame(TEXT, b""),
                frame(CONTINUES, b""),
                frame(CONTINUES, b"E:a"),
                frame(FIN | CONTINUES, b""),
            ],
            &[hears("a")],
        ),
        row(
            "6455 5.4",
            "a part without a beginning",
            &[frame(CONTINUES, b"x")],
            PROTOCOL,
        ),
        row(
            "6455 5.4",
            "an end without a beginning",
            &[frame(FIN | CONTINUES, b"x")],
            PROTOCOL,
        ),
        row(
            "6455 5.4",
            "a message within a message",
            &[frame(TEXT, b"E:a"), text("E:b")],
            PROTOCOL,
        ),
        row(
            "6455 5.4",
            "a beginning within a message",
            &[frame(TEXT, b"E:a"), frame(BINARY, b"b")],
            PROTOCOL,
        ),
        row(
            "6455 5.4",
            "messages keep their order",
            &[text("E:1"), text("E:2"), frame(FIN | BINARY, b"E:3")],
            &[hears("1"), hears("2"), Seen::Binary(b"3".to_vec())],
        ),
    ]
}

fn control() -> Vec<Row> {
    vec![
        row(
            "6455 5.5.2",
            "a ping is answered with what it said",
            &[frame(FIN | PING, b"are you there")],
            &[Seen::Pong(b"are you there".to_vec())],
        ),
        row(
            "6455 5.5.2",
            "an empty ping",
            &[frame(FIN | PING, b"")],
            &[Seen::Pong(Vec::new())],
        ),
        row(
            "6455 5.5",
            "the longest ping",
            &[frame(FIN | PING, &[b'p'; 125])],
            &[Seen::Pong(vec![b'p'; 125])],
        ),
        row(
            "6455 5.5",
            "a ping that is too long",
            &[long(FIN | PING, &[b'p'; 126], 2)],
            PROTOCOL,
        ),
        row(
            "6455 5.5",
            "a close that is too long",
            &[long(FIN | CLOSE, &[0x03; 126], 2)],
            PROTOCOL,
        ),
        row(
            "6455 5.5",
            "a ping in parts",
            &[frame(PING, b"a"), frame(FIN | CONTINUES, b"b")],
            PROTOCOL,
        ),
        row(
            "6455 5.5",
            "a close in parts",
            &[frame(CLOSE, &[3, 232])],
            PROTOCOL,
        ),
        row(
            "6455 5.4",
            "a ping between parts",
            &[
                frame(TEXT, b"E:a"),
                frame(FIN | PING, b"p"),
                frame(FIN | CONTINUES, b"b"),
            ],
            &[Seen::Pong(b"p".to_vec()), hears("ab")],
        ),
        row(
            "6455 5.5.3",
            "a pong that nobody asked for",
            &[frame(FIN | PONG, b"here"), text("E:on")],
            &[hears("on")],
        ),
    ]
}

fn utf8() -> Vec<Row> {
    vec![
        row(
            "6455 5.6",
            "text beyond ASCII",
            &[text("E:κόσμε 🌍")],
            &[hears("κόσμε 🌍")],
        ),
        row(
            "6455 5.6",
            "a letter over two parts",
            &[frame(TEXT, b"E:\xce"), frame(FIN | CONTINUES, b"\xba")],
            &[hears("κ")],
        ),
        row(
            "6455 8.1",
            "bytes that are no text",
            &[frame(FIN | TEXT, b"E:\xff")],
            NOT_UTF8,
        ),
        row(
            "6455 8.1",
            "a surrogate",
            &[frame(FIN | TEXT, b"E:\xed\xa0\x80")],
            NOT_UTF8,
        ),
        row(
            "6455 8.1",
            "a letter that is too long",
            &[frame(FIN | TEXT, b"E:\xc0\xaf")],
            NOT_UTF8,
        ),
        row(
            "6455 8.1",
            "a letter without its end",
            &[frame(FIN | TEXT, b"E:\xce")],
            NOT_UTF8,
        ),
        row(
            "6455 8.1",
            "bytes that are no text in the second part",
            &[frame(TEXT, b"E:a"), frame(FIN | CONTINUES, b"\xff")],
            NOT_UTF8,
        ),
        row(
            "6455 5.6",
            "binary may be any bytes",
            &[frame(FIN | BINARY, b"E:\xff\0")],
            &[Seen::Binary(b"\xff\0".to_vec())],
        ),
        row(
            "6455 5.5.1",
            "the reason of a close is text",
            &[close(1000, b"\xff")],
            &[Seen::Close(&[1002, 1007])],
        ),
    ]
}

fn closing() -> Vec<Row> {
    let mut rows = vec![
        row(
            "6455 5.5.1",
            "a close is answered",
            &[frame(FIN | CLOSE, b"")],
            &[Seen::Closed],
        ),
        row(
            "6455 5.5.1",
            "with a reason",
            &[close(1000, b"bye")],
            &[Seen::Close(&[1000])],
        ),
        row(
            "6455 5.5.1",
            "with the longest reason",
            &[close(1000, &[b'r'; 123])],
            &[Seen::Close(&[1000])],
        ),
        row(
            "6455 5.5.1",
            "half a code",
            &[frame(FIN | CLOSE, &[3])],
            PROTOCOL,
        ),
        row(
            "6455 5.5.1",
            "what comes behind a close is not heard",
            &[close(1000, b""), text("E:late"), frame(FIN | PING, b"late")],
            &[Seen::Close(&[1000])],
        ),
        row(
            "6455 7.1.4",
            "a message before the close is answered first",
            &[text("E:first"), frame(FIN | PING, b"p")],
            &[hears("first"), Seen::Pong(b"p".to_vec())],
        ),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ] {
        let same: &'static [u16] = Box::leak(Box::new([code]));
        rows.push(row(
            "6455 7.4",
            format!("code {code} comes back"),
            &[close(code, b"")],
            &[Seen::Close(same)],
        ));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        rows.push(row(
            "6455 7.4",
            format!("code {code} may not be sent"),
            &[close(code, b"")],
            PROTOCOL,
        ));
    }
    rows.push(row(
        "6455 7.4",
        "code 1014 with a reason comes back",
        &[close(1014, b"no upstream")],
        &[Seen::Close(&[1014])],
    ));
    rows.push(row(
        "6455 5.5.1",
        "the reason of 1014 is text too",
        &[close(1014, b"\xff")],
        &[Seen::Close(&[1002, 1007])],
    ));
    rows
}

/// Opens a WebSocket, sends a row and looks at what comes back. Bytes that come right behind the
/// request are part of the first row of all.
pub(super) async fn check(row: &Row, address: SocketAddrV4) -> Outcome {
    let request = format!(
        "GET /chat HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut rest = Vec::new();
    let answer = read_answer(&mut stream, &mut rest, false).await?;
    ensure!(
        answer.is_some_and(|answer| answer.status == 101),
        "no WebSocket is opened"
    );
    // A server that has seen enough may close before it has taken everything.
    let _ = stream.write_all(&row.sent).await;
    // A pong goes out at once and a message once its handler is done: they have no order.
    let mut left = row.seen.clone();
    while !left.is_empty() {
        let frame = read_frame(&mut stream, &mut rest).await?;
        let frame = frame.with_context(|| format!("the end came before {left:?}"))?;
        let found = left.iter().position(|seen| is(seen, &frame));
        let found = found.with_context(|| format!("{frame:?} came instead of {left:?}"))?;
        let is_last = matches!(left.remove(found), Seen::Close(_) | Seen::Closed);
        if is_last {
            let more = read_frame(&mut stream, &mut rest).await?;
            ensure!(
                more.is_none() && rest.is_empty(),
                "{more:?} came behind the close"
            );
        }
    }
    Ok(())
}

fn is(seen: &Seen, frame: &Frame) -> bool {
    let payload = frame.payload.as_slice();
    match seen {
        Seen::Text(text) => frame.first == FIN | TEXT && payload == text,
        Seen::Binary(bytes) => frame.first == FIN | BINARY && payload == bytes,
        Seen::Pong(bytes) => frame.first == FIN | PONG && payload == bytes,
        Seen::Closed => frame.first == FIN | CLOSE && payload.is_empty(),
        Seen::Close(codes) => match payload {
            [high, low, ..] if frame.first == FIN | CLOSE => {
                codes.contains(&u16::from_be_bytes([*high, *low]))
            }
            _ => false,
        },
    }
}
