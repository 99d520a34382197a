//! Connections on real sockets, byte by byte.

use std::net::SocketAddr;

use http_body_util::BodyExt;
use hyper::StatusCode;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::net::admission::{AdmissionLimits, Admissions};

const DEADLINE: Duration = Duration::from_secs(20);

const LIMITS: AdmissionLimits = AdmissionLimits {
    connections_max: 8,
    strangers_per_address_max: 8,
    idle_per_address_max: 8,
};

const SETTINGS: HttpSettings = HttpSettings {
    first_byte: DEADLINE,
    head: DEADLINE,
    idle: DEADLINE,
    stalled: DEADLINE,
    head_bytes_max: 9000,
    headers_max: 10,
    refusal: plain,
};

/// A port that answers with what it was sent, for the path `/slow` after a while; the path `/large`
/// with 4 MiB, and `/proven` with the same to somebody who is known.
async fn port(limits: AdmissionLimits, settings: HttpSettings) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let answer = |request: Request<Incoming>| async move {
        if request.uri().path() == "/slow" {
            sleep(Duration::from_millis(600)).await;
        }
        if let path @ ("/large" | "/proven") = request.uri().path() {
            let mut response = Response::new(Full::new(Bytes::from(vec![0; 4 << 20])));
            if path == "/proven" {
                response.extensions_mut().insert(Proven);
            }
            return response;
        }
        let body = request.into_body().collect().await;
        Response::new(Full::new(body.unwrap_or_default().to_bytes()))
    };
    tokio::spawn(listen(listener, limits, settings, DEADLINE, stop, answer));
    address
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("a deadline passed")
}

/// Sends this and reads until the port closes.
async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    within(async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    })
    .await
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    status.parse().unwrap_or_else(|_| panic!("{answer:?}"))
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_with_a_sentence() {
    let address = port(LIMITS, SETTINGS).await;
    let long = "x".repeat(10_000);
    let many = "a: b\r\n".repeat(11);
    for (request, code, says) in [
        (
            "GET / HTTP/1.1\r\nbad name: x\r\n\r\n".to_owned(),
            400,
            "head",
        ),
        ("\x16\x03\x01\x02 \r\n\r\n".to_owned(), 400, "TLS"),
        ("G(T / HTTP/1.1\r\n\r\n".to_owned(), 400, "method"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 505, "HTTP/9.9"),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            505,
            "HTTP/1.1",
        ),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 414, "9000"),
        (format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), 431, "9000"),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431, "10"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "Host"),
        (
            "GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n".to_owned(),
            501,
            "chunked",
        ),
    ] {
        let answer = ask(address, &request).await;
        let start: String = request.chars().take(50).collect();
        assert_eq!(status(&answer), code, "{start:?}: {answer:?}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(body.contains(says), "{start:?}: {answer:?}");
        assert!(head.contains("\r\nconnection: close"), "{answer:?}");
        assert!(head.contains("\r\ndate: "), "{answer:?}");
        let length = format!("content-length: {}", body.len());
        assert!(head.contains(&length), "{answer:?}");
    }
}

#[tokio::test]
async fn a_second_head_that_cannot_be_read_is_answered_after_the_first() {
    let address = port(LIMITS, SETTINGS).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let first = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";
    stream.write_all(first).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhi") {
        assert!(within(stream.read_buf(&mut answer)).await.unwrap() > 0);
    }
    stream.write_all(b"GET / HTTP/7.0\r\n\r\n").await.unwrap();
    let mut second = String::new();
    within(stream.read_to_string(&mut second)).await.unwrap();
    assert_eq!(status(&second), 505, "{second:?}");
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_is_answered() {
    let address = port(LIMITS, SETTINGS).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer:?}");
}

#[tokio::test]
async fn silence_and_dribbling_end_in_their_times() {
    let times = HttpSettings {
        first_byte: Duration::from_millis(100),
        head: Duration::from_millis(200),
        ..SETTINGS
    };
    let address = port(LIMITS, times).await;
    assert_eq!(ask(address, "").await, "");
    let answer = ask(address, "GET / HTTP/1.1\r\n").await;
    assert_eq!(status(&answer), 408, "{answer:?}");
    assert!(answer.contains("200 ms"), "{answer:?}");
}

#[tokio::test]
async fn a_first_request_may_take_longer_than_a_head() {
    let times = HttpSettings {
        head: Duration::from_millis(200),
        ..SETTINGS
    };
    let address = port(LIMITS, times).await;
    let request = "GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = ask(address, request).await;
    assert_eq!(status(&answer), 200, "{answer:?}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_makes_progress_is_not_cut_and_one_that_makes_none_is() {
    let times = HttpSettings {
        stalled: Duration::from_millis(500),
        ..SETTINGS
    };
    let address = port(LIMITS, times).await;
    let request = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(request).await.unwrap();
    let mut stuck = TcpStream::connect(address).await.unwrap();
    stuck.write_all(request).await.unwrap();
    let begun = Instant::now();
    let (mut total, mut piece) = (0, vec![0; 128 << 10]);
    loop {
        // Slower than the whole may take, faster than nothing.
        sleep(Duration::from_millis(40)).await;
        match within(slow.read(&mut piece)).await.unwrap() {
            0 => break,
            count => total += count,
        }
    }
    assert!(total > 4 << 20 && begun.elapsed() > times.stalled);
    let mut rest = Vec::new();
    let cut = within(stuck.read_to_end(&mut rest)).await;
    assert!(cut.is_err() || rest.len() < 4 << 20, "{} came", rest.len());
}

#[tokio::test]
async fn strangers_yield_to_whoever_says_what_it_wants() {
    let address = port(LIMITS, SETTINGS).await;
    let mut silent = Vec::new();
    for turn in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if turn % 2 == 0 {
            stream.write_all(b"GET").await.unwrap();
        }
        silent.push(stream);
    }
    let answer = ask(
        address,
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status(&answer), 200);
    // Of those that are left there are no more than there may be.
    within(async {
        while silent.len() > LIMITS.connections_max {
            let mut left = Vec::new();
            for mut stream in silent.drain(..) {
                let mut sink = [0; 512];
                let ended = timeout(Duration::from_millis(1), stream.read(&mut sink));
                if ended.await.is_err() {
                    left.push(stream);
                }
            }
            silent = left;
        }
    })
    .await;
}

/// One who asks and reads nothing of the answer.
async fn asks_and_reads_nothing(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    within(stream.read_exact(&mut first)).await.unwrap();
    stream
}

#[tokio::test]
async fn answers_that_strangers_do_not_take_keep_nobody_out() {
    let address = port(LIMITS, SETTINGS).await;
    let mut known = asks_and_reads_nothing(address, "/proven").await;
    let mut unread = Vec::new();
    for _ in 0..3 * LIMITS.connections_max {
        unread.push(asks_and_reads_nothing(address, "/large").await);
    }
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answered = timeout(DEADLINE / 4, ask(address, request)).await;
    assert_eq!(status(&answered.expect("nobody had to wait")), 200);
    let (mut total, mut piece) = (12, vec![0; 128 << 10]);
    while total < 4 << 20 {
        let count = within(known.read(&mut piece)).await.unwrap();
        assert!(
            count > 0,
            "the answer of whoever is known was cut at {total}"
        );
        total += count;
    }
}

#[tokio::test]
async fn a_request_under_way_is_not_cut_for_others() {
    let address = port(LIMITS, SETTINGS).await;
    let mut busy = TcpStream::connect(address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nh";
    busy.write_all(head).await.unwrap();
    // Once its head is read it is known.
    let known = ask(
        address,
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(status(&known.await), 200);
    let mut others = Vec::new();
    for _ in 0..50 {
        others.push(TcpStream::connect(address).await.unwrap());
    }
    busy.write_all(b"i").await.unwrap();
    let mut answer = String::new();
    within(busy.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer:?}");
    assert_eq!(status(&answer), StatusCode::OK.as_u16());
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[tokio::test]
async fn the_kernel_gives_up_a_client_that_acknowledges_nothing_until_it_is_upgraded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let mut client = connecting.await.unwrap();
    let served = listener.accept().await.unwrap().0.into_std().unwrap();
    let twin = served.try_clone().unwrap();
    let limit = || SockRef::from(&twin).tcp_user_timeout().unwrap();
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let admitted = Admissions::new(LIMITS).admit([127, 0, 0, 1].into());
    let stop = CancellationToken::new();
    let service = |_| async {
        assert_eq!(limit(), Some(SETTINGS.stalled));
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
    };
    let served = TcpStream::from_std(served).unwrap();
    let upgraded = within(serve(served, admitted, SETTINGS, &stop, service)).await;
    assert!(upgraded.is_some());
    assert_eq!(limit().unwrap_or_default(), Duration::ZERO);
}
