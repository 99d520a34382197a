//! Over real sockets, byte by byte.

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn settings(readiness: Readiness) -> Settings {
    Settings {
        connections_max: 64,
        purpose: Purpose::Serve,
        readiness,
    }
}

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("waves").increment(3));
        let (readiness, stop) = (Readiness::new(), CancellationToken::new());
        let task = tokio::spawn(serve(
            listener,
            settings(readiness.clone()),
            recorder.handle(),
            stop.clone(),
        ));
        Self {
            address,
            readiness,
            stop,
            task,
        }
    }

    /// Sends `request` and reads until the other end closes.
    async fn ask(&self, request: &str) -> String {
        let ask = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // A refusal may end in a reset, after its answer.
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        };
        tokio::time::timeout(DEADLINE, ask).await.unwrap()
    }

    async fn get(&self, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = self.ask(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        (status.to_owned(), body.to_owned())
    }
}

#[tokio::test]
async fn health_readiness_and_metrics_are_answered() {
    let admin = Running::start().await;
    assert_eq!(admin.get("/healthz").await, ("200".into(), "ok\n".into()));
    assert_eq!(admin.get("/readyz").await, ("200".into(), "ready\n".into()));
    let (status, body) = admin.get("/metrics").await;
    assert_eq!(status, "200");
    assert!(body.contains("waves 3"), "{body}");
    assert_eq!(admin.get("/").await.0, "404");
}

#[tokio::test]
async fn readiness_lists_what_is_missing_until_nothing_is() {
    let admin = Running::start().await;
    admin.readiness.set("register", false, "not connected");
    admin.readiness.set("plugin", false, "being compiled");
    admin.readiness.set("listener", true, "bound");
    let missing = "plugin: being compiled\nregister: not connected\n";
    assert_eq!(admin.get("/readyz").await, ("503".into(), missing.into()));
    assert_eq!(admin.get("/healthz").await.0, "200");
    admin.readiness.set("register", true, "connected");
    admin.readiness.set("plugin", true, "runs");
    assert_eq!(admin.get("/readyz").await.0, "200");
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_allowed() {
    let admin = Running::start().await;
    let answer = admin
        .ask("POST /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: GET, HEAD, OPTIONS\r\n"), "{answer}");
    let answer = admin.ask("OPTIONS /healthz HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 204 "), "{answer}");
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_not_buffered() {
    let admin = Running::start().await;
    let header = "x".repeat(2 * HTTP.head_bytes_max);
    let answer = admin
        .ask(&format!("GET /healthz HTTP/1.1\r\nx: {header}\r\n\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(answer.contains("8192 bytes"), "{answer}");
}

#[tokio::test]
async fn started_without_an_address_it_does_nothing_and_with_one_that_is_taken_it_says_so() {
    let start = |listen| async move {
        let admin = config::Admin { listen };
        start(&admin, settings(Readiness::new()), CancellationToken::new()).await
    };
    assert_eq!(start(None).await.unwrap(), None);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = start(Some(address)).await.expect_err("it is taken");
    assert_eq!(
        error.to_string(),
        format!("admin.listen: {address} cannot be bound")
    );
}

#[tokio::test]
async fn silent_connections_are_closed_and_do_not_keep_the_listener_from_stopping() {
    let admin = Running::start().await;
    let mut silent = TcpStream::connect(admin.address).await.unwrap();
    assert_eq!(admin.get("/healthz").await.0, "200");
    admin.stop.cancel();
    let mut rest = Vec::new();
    let closed = async {
        let _ = silent.read_to_end(&mut rest).await;
        admin.task.await.unwrap().unwrap();
    };
    tokio::time::timeout(DEADLINE, closed).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn neither_silent_nor_idle_connections_keep_others_out() {
    let admin = Running::start().await;
    let mut open = Vec::new();
    for turn in 0..3 * settings(Readiness::new()).connections_max {
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        if turn % 2 == 0 {
            let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut byte = [0];
            let answered = stream.read_exact(&mut byte);
            tokio::time::timeout(DEADLINE, answered)
                .await
                .unwrap()
                .unwrap();
        }
        open.push(stream);
    }
    assert_eq!(admin.get("/healthz").await.0, "200");
}
