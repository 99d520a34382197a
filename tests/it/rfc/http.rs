//! RFC 9110 and 9112: requests that are no upgrade.

use super::row::Trait::{Body, Closes, Has, Lacks, NoBody, Says, Stays};
use super::row::{Row, row};

const OK: &[u16] = &[200];
const BAD: &[u16] = &[400];
/// Answered by the proxy, or not passed on as it was sent.
const OWN: &[u16] = &[];

/// A request with `Host`, and these lines.
fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n")
}

/// A request with another method.
fn with_method(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// The same twice on one connection, the second one asking for its end.
fn twice(first: &str) -> String {
    format!("{first}{}", get("/healthz", "Connection: close\r\n"))
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = methods();
    rows.extend(refused_methods());
    rows.extend(hosts());
    rows.extend(targets());
    rows.extend(versions());
    rows.extend(fields());
    rows.extend(framing());
    rows.extend(bad_lengths());
    rows.extend(codings());
    rows.extend(connections());
    rows.extend(offers());
    rows.extend(conditions());
    rows.extend(ranges());
    rows.extend(limits());
    rows
}

fn methods() -> Vec<Row> {
    vec![
        row(
            "9110 9.3.1",
            "GET gives a file",
            get("/digits.txt", ""),
            &[OK],
        )
        .with(&[
            Body("0123456789"),
            Has("content-type", "text/plain"),
            Has("date", "GMT"),
            Has("x-content-type-options", "nosniff"),
        ]),
        row(
            "9110 9.3.2",
            "HEAD is GET without its body",
            with_method("HEAD", "/digits.txt"),
            &[OK],
        )
        .with(&[
            NoBody,
            Has("content-length", "10"),
            Has("last-modified", "GMT"),
            Stays,
        ]),
        row(
            "9110 9.3.2",
            "HEAD of the health path",
            with_method("HEAD", "/healthz"),
            &[OK],
        )
        .with(&[NoBody, Has("content-length", "3"), Stays]),
        row(
            "9110 9.3.2",
            "HEAD of the folder",
            with_method("HEAD", "/"),
            &[OK],
        )
        .with(&[NoBody, Stays]),
        row(
            "9110 9.3.2",
            "HEAD of nothing",
            with_method("HEAD", "/none"),
            &[&[404]],
        )
        .with(&[NoBody, Stays]),
        row(
            "9110 9.3.7",
            "OPTIONS says what is allowed",
            with_method("OPTIONS", "/"),
            &[&[200, 204]],
        )
        .with(&[Has("allow", "GET"), Has("allow", "HEAD"), Stays]),
        row(
            "9110 9.3.7",
            "OPTIONS of the whole server",
            with_method("OPTIONS", "*"),
            &[&[200, 204]],
        )
        .nginx(BAD),
        row(
            "9110 9.3.7",
            "OPTIONS by HTTP/1.0",
            "OPTIONS / HTTP/1.0\r\n\r\n",
            &[&[200, 204]],
        ),
    ]
}

fn refused_methods() -> Vec<Row> {
    vec![
        row(
            "9110 15.5.6",
            "405 says what is allowed",
            with_method("DELETE", "/digits.txt"),
            &[&[405]],
        )
        .with(&[Has("allow", "GET, HEAD"), Says("DELETE")]),
        row(
            "9110 9.3.8",
            "TRACE is not allowed",
            with_method("TRACE", "/"),
            &[&[405]],
        )
        .with(&[Has("allow", "GET")])
        .nginx(&[405]),
        row(
            "9110 9.3.6",
            "CONNECT makes no tunnel",
            "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
            &[&[400, 405, 501]],
        )
        .nginx(&[400, 405]),
        row(
            "9110 9.1",
            "an unknown method is not implemented",
            with_method("BREW", "/"),
            &[&[501]],
        ),
        row(
            "9110 9.1",
            "methods have their case",
            with_method("get", "/"),
            &[&[501]],
        )
        .nginx(&[400, 501]),
    ]
}

fn hosts() -> Vec<Row> {
    let host = |lines: &str| format!("GET /healthz HTTP/1.1\r\n{lines}\r\n");
    vec![
        row("9112 3.2", "no Host", host(""), &[BAD])
            .with(&[Says("Host"), Closes])
            .nginx(BAD)
            .haproxy(OWN),
        row(
            "9112 3.2",
            "two Hosts",
            host("Host: a\r\nHost: b\r\n"),
            &[BAD],
        )
        .with(&[Says("Host"), Closes])
        .proxies(BAD),
        row(
            "9112 3.2",
            "the same Host twice",
            host("Host: a\r\nHost: a\r\n"),
            &[BAD],
        )
        .with(&[Closes])
        .nginx(BAD)
        .haproxy(OWN),
        row(
            "9112 3.2",
            "an empty Host is allowed",
            host("Host:\r\n"),
            &[OK],
        )
        .nginx(&[200, 400]),
        row(
            "9112 3.2",
            "a Host with a port",
            host("Host: a.example:7272\r\n"),
            &[OK],
        ),
        row(
            "9110 7.2",
            "a Host that is an IPv6 address",
            host("Host: [::1]:7272\r\n"),
            &[OK],
        ),
        row(
            "9112 3.2",
            "a Host with a space",
            host("Host: a b\r\n"),
            &[BAD],
        )
        .with(&[Closes])
        .nginx(BAD)
        .haproxy(OWN),
        row(
            "9112 3.2",
            "a Host with a user",
            host("Host: me@a.example\r\n"),
            &[BAD],
        )
        .proxies(&[400]),
        row(
            "9112 3.2",
            "a Host with a path",
            host("Host: a.example/x\r\n"),
            &[BAD],
        )
        .proxies(BAD),
        row(
            "9112 3.2",
            "a Host with no number for its port",
            host("Host: a.example:http\r\n"),
            &[BAD],
        )
        .nginx(OWN)
        .haproxy(OWN),
        row(
            "9112 3.2",
            "HTTP/1.0 needs no Host",
            "GET /healthz HTTP/1.0\r\n\r\n",
            &[OK],
        )
        .with(&[Closes]),
    ]
}

fn targets() -> Vec<Row> {
    let target = |target: &str| get(target, "");
    vec![
        row(
            "9112 3.2.2",
            "the absolute form",
            target("http://a.example/healthz"),
            &[OK],
        ),
        row(
            "9112 3.2.2",
            "the absolute form outdoes Host",
            target("http://b.example/healthz"),
            &[OK],
        )
        .proxies(OWN),
        row(
            "9112 3.2.2",
            "the absolute form needs Host too",
            "GET http://a.example/healthz HTTP/1.1\r\n\r\n",
            &[BAD],
        )
        .proxies(OWN),
        row(
            "9110 4.2.4",
            "no user in an address",
            target("http://me:pw@a.example/healthz"),
            &[BAD],
        )
        .proxies(OWN),
        row("9112 3", "a space in the target", target("/a b"), &[BAD])
            .nginx(OWN)
            .haproxy(BAD),
        row(
            "9112 3",
            "no target",
            "GET HTTP/1.1\r\nHost: a\r\n\r\n",
            &[BAD],
        )
        .proxies(OWN),
        row(
            "9110 4.2.3",
            "encoded letters are those letters",
            target("/%64igits.txt"),
            &[OK],
        )
        .with(&[Body("0123456789")]),
        row(
            "9112 2.2",
            "an empty line before the request",
            format!("\r\n{}", target("/healthz")),
            &[OK],
        ),
        row(
            "9110 4",
            "a query does not change the file",
            target("/digits.txt?v=1"),
            &[OK],
        )
        .with(&[Body("0123456789")]),
        row(
            "9110 4",
            "the folder above is not there",
            target("/../digits.txt"),
            &[&[400, 403, 404]],
        )
        .nginx(OWN),
        row(
            "9110 4",
            "nor encoded",
            target("/%2e%2e/%2e%2e/etc/passwd"),
            &[&[400, 403, 404]],
        ),
    ]
}

fn versions() -> Vec<Row> {
    let version = |version: &str| format!("GET /healthz {version}\r\nHost: a\r\n\r\n");
    vec![
        row("9112 2.3", "HTTP/1.0", version("HTTP/1.0"), &[OK]).with(&[Closes]),
        row("9112 9.3", "HTTP/1.1 goes on", version("HTTP/1.1"), &[OK]).with(&[Stays]),
        row("9110 15.6.6", "HTTP/2.0", version("HTTP/2.0"), &[&[505]])
            .with(&[Closes, Says("HTTP/1.1")])
            .nginx(&[505])
            .haproxy(OWN),
        row("9110 15.6.6", "HTTP/9.9", version("HTTP/9.9"), &[&[505]])
            .with(&[Closes, Says("HTTP/9.9")])
            .nginx(&[400, 505])
            .haproxy(OWN),
        row(
            "9113 3.4",
            "the preface of HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &[&[505]],
        )
        .with(&[Closes, Says("HTTP/2")])
        .proxies(OWN),
        row(
            "9112 2.3",
            "the version has its case",
            version("http/1.1"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(OWN),
        row(
            "9112 2.3",
            "no version",
            "GET /healthz\r\nHost: a\r\n\r\n",
            &[BAD],
        )
        .with(&[Closes])
        .proxies(OWN),
        row("9112 2.3", "two digits", version("HTTP/1.10"), &[BAD])
            .with(&[Closes])
            .proxies(OWN),
        row(
            "9112 2.2",
            "TLS",
            &b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03 \r\n\r\n"[..],
            &[BAD],
        )
        .with(&[Closes, Says("TLS")])
        .proxies(OWN),
    ]
}

fn fields() -> Vec<Row> {
    let line = |line: &str| get("/healthz", &format!("{line}\r\n"));
    let raw = |line: &[u8]| [b"GET /healthz HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat();
    vec![
        row(
            "9112 5",
            "white space around a value",
            "GET /healthz HTTP/1.1\r\nHost: \t a.example \t \r\n\r\n",
            &[OK],
        )
        .nginx(BAD),
        row(
            "9110 5.1",
            "names have no case",
            "GET /healthz HTTP/1.1\r\nhOsT:a.example\r\n\r\n",
            &[OK],
        ),
        row(
            "9112 5.1",
            "white space before the colon",
            line("X-A : b"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(OWN),
        row(
            "9112 5.2",
            "a value that goes over lines",
            line("X-A: b\r\n c"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(OWN),
        row(
            "9112 2.2",
            "white space before the first line",
            "GET /healthz HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n",
            &[BAD],
        )
        .with(&[Closes])
        .proxies(OWN),
        row("9112 5", "a line without a colon", line("no colon"), &[BAD])
            .with(&[Closes])
            .proxies(OWN),
        row("9112 5", "a line without a name", line(": b"), &[BAD])
            .with(&[Closes])
            .proxies(OWN),
        row(
            "9110 5.6.2",
            "a name that is no token",
            line("X(A): b"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(OWN),
        row("9110 5.5", "NUL in a value", raw(b"X-A: a\0b"), &[BAD])
            .with(&[Closes])
            .proxies(OWN),
        row(
            "9112 2.2",
            "a carriage return alone",
            raw(b"X-A: a\rb"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(OWN),
        row(
            "9110 5.5",
            "bytes beyond ASCII are taken",
            raw(b"X-A: J\xc3\xbcrgen \xff"),
            &[OK],
        ),
        row("9110 5.5", "an empty value", line("X-A:"), &[OK]),
        row(
            "9110 5.3",
            "the same name many times",
            line("X-A: a\r\nX-A: b\r\nX-A: c"),
            &[OK],
        ),
    ]
}

fn framing() -> Vec<Row> {
    vec![
        row(
            "9112 6.3",
            "a body with its length is read before the next request",
            twice(&post("Content-Length: 5\r\n", "hello")),
            &[&[405], OK],
        ),
        row(
            "9112 7.1",
            "chunks with extensions and trailers are no other request",
            post(
                "Transfer-Encoding: chunked\r\n",
                "3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n",
            ),
            &[&[405]],
        ),
        row(
            "9110 9.3.1",
            "GET with a body is no other request",
            twice(
                &get("/digits.txt", "Content-Length: 5\r\n\r\nhello").replacen(
                    "hello\r\n",
                    "hello",
                    1,
                ),
            ),
            &[OK, OK],
        ),
    ]
}

/// A request with a body.
fn post(lines: &str, body: &str) -> String {
    format!("POST /digits.txt HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n{body}")
}

/// Requests that may end elsewhere for whoever stands before the port.
pub(super) fn bad_lengths() -> Vec<Row> {
    vec![
        row(
            "9112 6.3",
            "a length and chunks",
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            &[BAD],
        )
        .with(&[Closes, Says("Transfer-Encoding")])
        .nginx(BAD)
        .haproxy(OWN),
        row(
            "9112 6.3",
            "chunks and a length",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                "0\r\n\r\n",
            ),
            &[BAD],
        )
        .with(&[Closes, Says("Transfer-Encoding")])
        .nginx(BAD)
        .haproxy(OWN),
        row(
            "9112 6.3",
            "two lengths",
            post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(BAD),
        row(
            "9112 6.3",
            "a list of two lengths",
            post("Content-Length: 5, 6\r\n", "hello!"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(BAD),
        row(
            "9112 6.3",
            "a length that is no number",
            post("Content-Length: five\r\n", "hello"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(BAD),
        row(
            "9110 8.6",
            "a length with a sign",
            post("Content-Length: +5\r\n", "hello"),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(BAD),
        row(
            "9110 8.6",
            "a length below nothing",
            post("Content-Length: -5\r\n", ""),
            &[BAD],
        )
        .with(&[Closes])
        .proxies(BAD),
    ]
}

fn codings() -> Vec<Row> {
    vec![
        row(
            "9112 6.1",
            "a coding that is not known",
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            &[&[400, 501]],
        )
        .with(&[Closes])
        .nginx(&[400, 501])
        .haproxy(OWN),
        row(
            "9112 6.3",
            "chunked is not the last coding",
            post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
            &[&[400, 501]],
        )
        .with(&[Closes])
        .nginx(&[400, 501])
        .haproxy(OWN),
        row(
            "9112 6.1",
            "no chunks in HTTP/1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[BAD],
        )
        .with(&[Closes])
        .proxies(OWN),
        row(
            "9110 10.1.1",
            "a body after 100 or after the answer",
            post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
            &[&[405]],
        ),
        row(
            "9110 10.1.1",
            "an expectation that is not known",
            get("/healthz", "Expect: tea\r\n"),
            &[&[417]],
        )
        .with(&[Says("100-continue")])
        .proxies(&[200, 417]),
    ]
}

fn connections() -> Vec<Row> {
    vec![
        row(
            "9112 9.3",
            "requests behind each other are answered in order",
            [
                get("/digits.txt", ""),
                get("/healthz", ""),
                get("/none", ""),
            ]
            .concat(),
            &[OK, OK, &[404]],
        ),
        row(
            "9112 9.6",
            "the connection ends if the client asks",
            get("/healthz", "Connection: close\r\n"),
            &[OK],
        )
        .with(&[Has("connection", "close"), Closes]),
        row(
            "9110 7.6.1",
            "in the second of two lines",
            get("/healthz", "Connection: x-a\r\nConnection: close\r\n"),
            &[OK],
        )
        .with(&[Closes]),
        row(
            "9110 5.6.1",
            "behind a comma and a tab",
            get("/healthz", "Connection: x-a,\tclose\r\n"),
            &[OK],
        )
        .with(&[Closes]),
        row(
            "9110 5.6.1",
            "behind empty members",
            get("/healthz", "Connection: , ,close,\r\n"),
            &[OK],
        )
        .with(&[Closes]),
        row(
            "9112 9.3",
            "HTTP/1.0 ends unless both want it otherwise",
            "GET /healthz HTTP/1.0\r\nHost: a\r\n\r\n",
            &[OK],
        )
        .with(&[Closes]),
        row(
            "9112 9.3",
            "HTTP/1.0 that wants to go on is told whether it does",
            "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            &[OK],
        )
        .with(&[Stays]),
    ]
}

fn offers() -> Vec<Row> {
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    vec![
        row(
            "9110 7.8",
            "an offer of h2c is overlooked for files",
            get("/digits.txt", h2c),
            &[OK],
        )
        .with(&[Body("0123456789"), Lacks("upgrade"), Stays]),
        row(
            "9110 7.8",
            "and for the health path",
            get("/healthz", h2c),
            &[OK],
        )
        .with(&[Stays]),
        row(
            "9110 7.8",
            "an offer of TLS",
            get("/healthz", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"),
            &[OK],
        ),
        row(
            "9110 7.8",
            "HTTP/1.0 cannot offer",
            "GET /healthz HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            &[OK],
        )
        .nginx(&[426])
        .haproxy(&[400]),
        row(
            "9110 7.8",
            "an offer that is not for this hop",
            get("/healthz", "Upgrade: websocket\r\n"),
            &[OK],
        )
        .nginx(&[426]),
    ]
}

fn conditions() -> Vec<Row> {
    let of = |line: &str| get("/digits.txt", &format!("{line}\r\n"));
    vec![
        row(
            "9110 13.1.2",
            "If-None-Match of what is there",
            of("If-None-Match: *"),
            &[&[304]],
        )
        .with(&[NoBody, Has("etag", "\""), Stays]),
        row(
            "9110 13.1.2",
            "If-None-Match of something else",
            of("If-None-Match: \"x\""),
            &[OK],
        ),
        row(
            "9110 13.1.1",
            "If-Match of something else",
            of("If-Match: \"x\""),
            &[&[412]],
        ),
        row(
            "9110 13.1.3",
            "not modified since",
            of("If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT"),
            &[&[304]],
        )
        .with(&[NoBody, Stays]),
        row(
            "9110 13.1.3",
            "modified since",
            of("If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"),
            &[OK],
        ),
        row(
            "9110 13.1.3",
            "a date that is none is overlooked",
            of("If-Modified-Since: yesterday"),
            &[OK],
        ),
        row(
            "9110 13.1.4",
            "modified, but must not be",
            of("If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT"),
            &[&[412]],
        ),
        row(
            "9110 13.2.2",
            "If-None-Match outdoes If-Modified-Since",
            of("If-None-Match: \"x\"\r\nIf-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT"),
            &[OK],
        ),
    ]
}

fn ranges() -> Vec<Row> {
    let range = |range: &str| get("/digits.txt", &format!("Range: {range}\r\n"));
    vec![
        row(
            "9110 14.3",
            "ranges are offered",
            get("/digits.txt", ""),
            &[OK],
        )
        .with(&[Has("accept-ranges", "bytes")]),
        row("9110 15.3.7", "a part", range("bytes=2-4"), &[&[206]]).with(&[
            Body("234"),
            Has("content-range", "bytes 2-4/10"),
            Stays,
        ]),
        row(
            "9110 14.1.2",
            "from a place to the end",
            range("bytes=7-"),
            &[&[206]],
        )
        .with(&[Body("789")]),
        row(
            "9110 14.1.2",
            "the last bytes",
            range("bytes=-3"),
            &[&[206]],
        )
        .with(&[Body("789")]),
        row(
            "9110 14.1.2",
            "more than there is",
            range("bytes=8-100"),
            &[&[206]],
        )
        .with(&[Body("89")]),
        row(
            "9110 15.5.17",
            "behind the end",
            range("bytes=10-"),
            &[&[416]],
        )
        .with(&[Has("content-range", "bytes */10")]),
        row(
            "9110 14.2",
            "another unit is overlooked",
            range("lines=1-2"),
            &[OK],
        )
        .with(&[Body("0123456789")]),
        row(
            "9110 14.2",
            "no range of anything but GET",
            "HEAD /digits.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=2-4\r\n\r\n",
            &[OK],
        )
        .with(&[NoBody, Has("content-length", "10"), Stays]),
        row(
            "9110 13.1.5",
            "If-Range of what is no more gives all",
            get("/digits.txt", "Range: bytes=2-4\r\nIf-Range: \"old\"\r\n"),
            &[OK],
        )
        .with(&[Body("0123456789")]),
    ]
}

fn limits() -> Vec<Row> {
    let long = "x".repeat(20_000);
    let many = "X-A: b\r\n".repeat(200);
    vec![
        row(
            "9110 15.5.15",
            "a target that is too long",
            get(&format!("/{long}"), ""),
            &[&[414]],
        )
        .with(&[Closes, Says("16384")])
        .proxies(&[400, 414]),
        row(
            "6585 5",
            "a head that is too large",
            get("/healthz", &format!("X-A: {long}\r\n")),
            &[&[431]],
        )
        .with(&[Closes, Says("16384")])
        .proxies(&[400, 431]),
        row(
            "6585 5",
            "too many lines",
            get("/healthz", &many),
            &[&[431]],
        )
        .with(&[Closes, Says("128")])
        .haproxy(&[400]),
    ]
}
