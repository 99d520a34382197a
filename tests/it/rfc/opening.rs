//! RFC 6455, section 4: opening a WebSocket.

use super::row::Trait::{Has, Lacks, Says};
use super::row::{Row, row};

const OPEN: &[u16] = &[101];
const BAD: &[u16] = &[400];

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn ask(lines: &[&str]) -> String {
    format!(
        "GET /chat?room=1 HTTP/1.1\r\nHost: a.example\r\n{}\r\n",
        lines.concat()
    )
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = requests();
    rows.extend(lists());
    rows.extend(keys());
    rows.extend(versions());
    rows.extend(choices());
    rows
}

fn requests() -> Vec<Row> {
    vec![
        row(
            "6455 4.2.2",
            "the answer proves that the key was read",
            ask(&[UPGRADE, VERSION, KEY]),
            &[OPEN],
        )
        .with(&[
            Has("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            Has("upgrade", "websocket"),
            Has("connection", "upgrade"),
            Lacks("sec-websocket-protocol"),
            Lacks("sec-websocket-extensions"),
            Lacks("content-length"),
        ]),
        row(
            "6455 4.2.1",
            "only GET opens",
            ask(&[UPGRADE, VERSION, KEY]).replace("GET", "POST"),
            &[&[400, 405]],
        )
        .with(&[Says("GET")]),
        row(
            "6455 4.2.1",
            "HTTP/1.0 does not open",
            ask(&[UPGRADE, VERSION, KEY]).replace("HTTP/1.1", "HTTP/1.0"),
            &[&[400, 404, 426]],
        )
        .proxies(&[]),
        row(
            "6455 4.2.1",
            "Host is needed",
            ask(&[UPGRADE, VERSION, KEY]).replace("Host: a.example\r\n", ""),
            &[BAD],
        )
        .proxies(&[]),
        row(
            "6455 4.2.1",
            "without `Connection` it is told so",
            ask(&["Upgrade: websocket\r\n", VERSION, KEY]),
            &[BAD],
        )
        .with(&[Says("Connection")])
        .haproxy(&[200, 400, 404])
        .nginx(&[101, 400]),
        row(
            "9110 7.8",
            "a request with a body",
            format!(
                "{}hello",
                ask(&[UPGRADE, VERSION, KEY, "Content-Length: 5\r\n"])
            ),
            &[BAD],
        )
        .with(&[Says("body")])
        // HAProxy takes the offer out.
        .haproxy(&[404]),
        row(
            "9112 3.2.2",
            "the absolute form opens",
            ask(&[UPGRADE, VERSION, KEY]).replace("GET /", "GET http://a.example/"),
            &[OPEN],
        ),
        row(
            "6455 4.2.1",
            "headers that nobody knows are overlooked",
            ask(&[
                UPGRADE,
                VERSION,
                KEY,
                "X-Unknown: y\r\nCookie: a=b; n=J\u{fc}rgen\r\n",
            ]),
            &[OPEN],
        ),
    ]
}

fn lists() -> Vec<Row> {
    let with = |lines: &'static str| ask(&[lines, VERSION, KEY]);
    vec![
        row(
            "6455 4.2.1",
            "names and words have no case",
            with("UPGRADE: WebSocket\r\nCONNECTION: uPGRADE\r\n"),
            &[OPEN],
        ),
        row(
            "6455 4.2.1",
            "`Connection` is a list",
            with("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"),
            &[OPEN],
        ),
        row(
            "9110 5.3",
            "over two lines",
            with("Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n"),
            &[OPEN],
        ),
        row(
            "9110 5.6.1",
            "with a tab behind the comma",
            with("Upgrade: websocket\r\nConnection: keep-alive,\tUpgrade\r\n"),
            &[OPEN],
        ),
        row(
            "9110 5.6.1",
            "with empty members",
            with("Upgrade: ,websocket,\r\nConnection: ,, Upgrade ,\r\n"),
            &[OPEN],
        ),
        row(
            "9110 7.8",
            "`Upgrade` is a list too",
            with("Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n"),
            &[OPEN],
        ),
        row(
            "9110 7.8",
            "over two lines as well",
            with("Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"),
            &[OPEN],
        )
        // nginx passes the first line on.
        .nginx(&[404]),
        row(
            "6455 4.2.1",
            "a longer word is another one",
            with("Upgrade: websockets\r\nConnection: Upgrade\r\n"),
            &[&[404]],
        ),
    ]
}

fn keys() -> Vec<Row> {
    let with = |key: &str| ask(&[UPGRADE, VERSION, key]);
    // HAProxy looks at the length of a key by itself.
    let bad = |claim, sent| {
        row("6455 4.2.1", claim, sent, &[BAD])
            .with(&[Says("Sec-WebSocket-Key")])
            .haproxy(BAD)
    };
    vec![
        bad("no key", with("")),
        bad("an empty key", with("Sec-WebSocket-Key:\r\n")),
        bad(
            "a key of 15 bytes",
            with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n"),
        ),
        bad(
            "a key of 17 bytes",
            with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=\r\n"),
        ),
        bad(
            "a key that is no base64",
            with("Sec-WebSocket-Key: dGhl!HNhbXBsZSBub25jZQ==\r\n"),
        ),
        bad(
            "a key without its padding",
            with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n"),
        ),
        row(
            "6455 11.3.1",
            "two keys",
            with(&[KEY, KEY].concat()),
            &[BAD],
        ),
        row(
            "6455 4.2.1",
            "a key with white space around it",
            with("Sec-WebSocket-Key: \t dGhlIHNhbXBsZSBub25jZQ== \t\r\n"),
            &[OPEN],
        ),
    ]
}

fn versions() -> Vec<Row> {
    let with = |version: &str| ask(&[UPGRADE, KEY, version]);
    let other = |claim, version: &str| {
        row("6455 4.4", claim, with(version), &[&[426]]).with(&[
            Has("sec-websocket-version", "13"),
            Has("upgrade", "websocket"),
            Has("connection", "upgrade"),
            Says("13"),
        ])
    };
    vec![
        other("an old version", "Sec-WebSocket-Version: 8\r\n"),
        other("a version to come", "Sec-WebSocket-Version: 14\r\n"),
        other(
            "a version that is no number",
            "Sec-WebSocket-Version: new\r\n",
        ),
        other("a list of versions", "Sec-WebSocket-Version: 13, 8\r\n"),
        other("no version", ""),
        row(
            "6455 11.3.5",
            "two versions",
            with(&[VERSION, VERSION].concat()),
            &[BAD],
        ),
        row(
            "6455 4.2.1",
            "a version with white space around it",
            with("Sec-WebSocket-Version: \t13\t \r\n"),
            &[OPEN],
        ),
    ]
}

fn choices() -> Vec<Row> {
    let with = |lines: &str| ask(&[UPGRADE, VERSION, KEY, lines]);
    vec![
        row(
            "6455 4.2.2",
            "the server's best subprotocol of those that are offered",
            with("Sec-WebSocket-Protocol: v1, v2\r\n"),
            &[OPEN],
        )
        .with(&[Has("sec-websocket-protocol", "v2")]),
        row(
            "6455 11.3.4",
            "offered over two lines",
            with("Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol:\tv1\r\n"),
            &[OPEN],
        )
        .with(&[Has("sec-websocket-protocol", "v1")]),
        row(
            "6455 4.2.2",
            "none of them is known",
            with("Sec-WebSocket-Protocol: x, V1\r\n"),
            &[OPEN],
        )
        .with(&[Lacks("sec-websocket-protocol")]),
        row(
            "6455 9.1",
            "extensions are not taken",
            with("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"),
            &[OPEN],
        )
        .with(&[Lacks("sec-websocket-extensions")]),
        row(
            "6455 10.2",
            "a page that may",
            with("Origin: https://example.org\r\n"),
            &[OPEN],
        ),
        row(
            "6455 10.2",
            "a page that may not",
            with("Origin: https://elsewhere.example\r\n"),
            &[&[403]],
        )
        .with(&[Says("origin")]),
        row(
            "6455 4.1",
            "whoever is no browser sends no origin",
            with(""),
            &[OPEN],
        ),
        row(
            "6454 7.3",
            "two origins",
            with("Origin: https://example.org\r\nOrigin: https://example.org\r\n"),
            &[&[400, 403]],
        ),
    ]
}
