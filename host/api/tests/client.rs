//! Over a real socket: the client crate against the server, with a scripted cluster behind it, and
//! what a socket can do wrong.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::{StreamExt, TryStreamExt};
use tidegate_api::{Apart, Cluster, Deploys, Grant, OnceKey, Settings, Tokens, serve};
use tidegate_client::{
    Client, ClientsQuery, Deploy, DeployProgress, DeployStep, Error, ErrorName, FeedFilter, Kind,
    Message, Selector, Send, Told as Heard,
};
use tidegate_cluster::gateway::access::{RequestError, ScheduleStatus, Told};
use tidegate_deploy::{DeployError, DeployOrder, Overview, Progress, Step};
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::feed::{Change, Filter, Happening};
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, Answered, AskError, ClientInfo, Once, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "token-of-tenant-t";
const DEPLOYER: &str = "token-of-a-deployer";
const DEADLINE: Duration = Duration::from_secs(20);

/// 2,500 clients; the first three actions find the gateway full; requests never end.
#[derive(Default)]
struct Scripted {
    acts: AtomicU32,
    watches: AtomicU32,
}

fn id(connection: u32) -> ClientId {
    ClientId::new("127.0.0.1:2000".parse().unwrap(), connection)
}

impl Cluster for Scripted {
    fn ask<'a>(
        &'a self,
        _: &'a Name,
        query: Query,
        _: Duration,
    ) -> BoxFuture<'a, Result<Answered, AskError>> {
        let Query::Clients { after, limit, .. } = query else {
            panic!("{query:?}")
        };
        let first = after.map_or(1, |after| after.connection + 1);
        let last = (first + limit - 1).min(2500);
        let answer = Answer::Clients {
            page: (first..=last).map(|it| ClientInfo::new(id(it))).collect(),
            more: last < 2500,
        };
        let missing = Vec::new();
        ready(Ok(Answered { answer, missing })).boxed()
    }

    fn act<'a>(&'a self, _: &'a Name, _: Vec<Effect>) -> BoxFuture<'a, Result<(), AskError>> {
        panic!("the client always has a key")
    }

    fn act_once<'a>(
        &'a self,
        _: &'a Name,
        _: OnceKey,
        _: Vec<Effect>,
        _: Duration,
    ) -> BoxFuture<'a, Result<Once, AskError>> {
        let done = match self.acts.fetch_add(1, Ordering::Relaxed) {
            0 => Err(AskError::Overloaded("full".into())),
            1 => Err(AskError::Timeout),
            2 => Err(AskError::Gone),
            _ => Ok(Once::Again),
        };
        ready(done).boxed()
    }

    fn request<'a>(
        &'a self,
        _: &'a Name,
        _: Name,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>> {
        std::future::pending().boxed()
    }

    fn request_once<'a>(
        &'a self,
        _: &'a Name,
        _: OnceKey,
        _: Name,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>> {
        // The first answer is lost; the repetition under the same key gets it.
        let replied = match self.acts.fetch_add(1, Ordering::Relaxed) {
            0 => Err(RequestError::Timeout),
            _ => Ok(Bytes::from_static(b"paid")),
        };
        ready(replied).boxed()
    }

    fn watch(&self, _: &Name, filter: Filter) -> Result<mpsc::Receiver<Told>, AskError> {
        assert_eq!(filter.groups, [Name::from("a & b")]);
        let (told, receiver) = mpsc::channel(8);
        told.try_send(Told::Missing(Vec::new())).unwrap();
        // The first feed breaks after its first change, the second goes on.
        let happening = Happening {
            at_ms: 7,
            client: id(1),
            uid: Some("0".into()),
            what: Change::Joined("a & b".into()),
        };
        told.try_send(Told::Happened(happening)).unwrap();
        if self.watches.fetch_add(1, Ordering::Relaxed) > 0 {
            tokio::spawn(async move { told.closed().await });
        }
        Ok(receiver)
    }

    fn unserved(&self, _: &Name) -> Option<String> {
        None
    }

    fn schedules(&self, _: &Name) -> Vec<ScheduleStatus> {
        Vec::new()
    }

    fn failing(&self, _: &Name) -> Vec<String> {
        Vec::new()
    }

    fn router_fault(&self, _: &Name) -> Option<String> {
        None
    }
}

/// One worker, which refuses what has an odd length; a rollback is never decided.
struct Deploying;

impl Deploys for Deploying {
    fn deploy(&self, order: DeployOrder, component: Bytes) -> mpsc::Receiver<Progress> {
        assert_eq!((&*order.by, &*order.source), ("ci", "a b.wasm"));
        let bytes = component.len() as u64;
        let step = |step| Progress::Worker {
            worker: "w".into(),
            step,
        };
        let reason = "it is odd".to_owned();
        let last = match bytes % 2 {
            0 => Progress::Done {
                generation: 3,
                version: "v".into(),
                workers: 1,
                trial: false,
            },
            _ => Progress::Failed {
                reason: DeployError::Refused {
                    worker: "w".into(),
                    reason,
                },
            },
        };
        told([Progress::Uploaded { bytes }, step(Step::Fetched), last])
    }

    fn rollback(&self, _: Name, _: Option<String>, _: Name) -> mpsc::Receiver<Progress> {
        told([Progress::Decided { generation: 4 }])
    }

    fn promote(&self, tenant: Name, _: Name) -> mpsc::Receiver<Progress> {
        let reason = DeployError::NoCanary { tenant };
        told([Progress::Failed { reason }])
    }

    fn withdraw(&self, _: Name, _: Name) -> mpsc::Receiver<Progress> {
        told([])
    }

    fn overview(&self) -> BoxFuture<'_, Result<Overview, DeployError>> {
        ready(Err(DeployError::Stopping)).boxed()
    }
}

fn told(progress: impl IntoIterator<Item = Progress>) -> mpsc::Receiver<Progress> {
    let (tell, told) = mpsc::channel(8);
    for progress in progress {
        tell.try_send(progress).unwrap();
    }
    told
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(1024).await
    }

    async fn start_with(connections_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut tokens = Tokens::new();
        for (token, deploy) in [(TOKEN, false), (DEPLOYER, true)] {
            let (tenant, name) = ("t".into(), "ci".into());
            tokens.add(
                token.as_bytes(),
                Grant {
                    tenant,
                    name,
                    deploy,
                },
            );
        }
        let settings = Settings {
            connections_max,
            answering: "127.0.0.1:2000".parse().unwrap(),
            query: Duration::from_secs(2),
            apart: Apart::never(),
            tokens: tokio::sync::watch::channel(tokens).1,
        };
        let cluster = Arc::new(Scripted::default());
        let deploys = Arc::new(Deploying);
        let task = tokio::spawn(serve(listener, settings, cluster, deploys, stop.clone()));
        Self {
            address,
            stop,
            task,
        }
    }

    fn client(&self) -> Client {
        self.client_with(TOKEN)
    }

    fn client_with(&self, token: &str) -> Client {
        Client::builder(format!("http://{}/", self.address))
            .token(token)
            .deadline(DEADLINE)
            .build()
            .unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(DEADLINE, self.task).await;
        ended.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end_of_the_list() {
    let api = Running::start().await;
    let query = ClientsQuery::new([Selector::everyone()], []);
    let pages = api.client().client_pages(query);
    let pages: Vec<_> = pages.try_collect().await.unwrap();
    let lengths: Vec<usize> = pages.iter().map(|page| page.items.len()).collect();
    assert_eq!(lengths, [1000, 1000, 500]);
    assert_eq!(pages[2].items[499].connection, 2500);
    api.end().await;
}

#[tokio::test]
async fn an_action_is_repeated_under_its_key_until_it_is_done() {
    let api = Running::start().await;
    let send = Send::new(Selector::everyone(), "hi");
    let done = api.client().send(&send).await.unwrap();
    assert_eq!(done.status, tidegate_client::DoneStatus::Repeated);
    api.end().await;
}

#[tokio::test]
async fn refusals_carry_their_names_and_are_not_repeated() {
    let api = Running::start().await;
    let other = Client::new(api.client().base(), "token-of-nobody-at-all").unwrap();
    let error = other.status().await.unwrap_err();
    assert_eq!(error.name(), Some(ErrorName::NotPermitted));
    let error = api.client().client("x", &[]).await.unwrap_err();
    assert_eq!(error.name(), Some(ErrorName::InvalidArgument));
    assert!(error.to_string().contains("is not a client id"), "{error}");
    let error = api.client().group("..").await.unwrap_err();
    assert!(
        error.to_string().contains("cannot stand in a URL"),
        "{error}"
    );
    api.end().await;
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_an_absent_gateway_is_named() {
    let api = Running::start().await;
    let client = Client::builder(api.client().base())
        .token(TOKEN)
        .deadline(Duration::from_millis(100))
        .build()
        .unwrap();
    let request = client.request("n", Message::from("x"), Duration::from_millis(100));
    let error = request.await.unwrap_err();
    assert_eq!(error.name(), Some(ErrorName::Timeout));
    let url = client.base().to_owned();
    api.end().await;
    let error = client.status().await.unwrap_err().to_string();
    assert!(error.contains(&url) || error.contains("100 ms"), "{error}");
}

#[tokio::test]
async fn the_feed_says_that_it_broke_and_goes_on_and_ends_with_the_gateway() {
    let api = Running::start().await;
    let filter = FeedFilter {
        groups: vec!["a & b".into()],
        kinds: vec![Kind::Joined, Kind::Left],
        ..FeedFilter::default()
    };
    let mut feed = Box::pin(api.client().feed(&filter));
    let mut next = async || {
        let next = tokio::time::timeout(DEADLINE, feed.next()).await;
        next.unwrap().unwrap().unwrap()
    };
    for round in 0..2 {
        assert_eq!(next().await, Heard::Coverage(Vec::new()));
        let Heard::Happened(Kind::Joined, happening) = next().await else {
            panic!("joined")
        };
        assert_eq!(happening.group.as_deref(), Some("a & b"));
        if round == 0 {
            assert!(matches!(next().await, Heard::Broken(_)));
        }
    }
    let broken = tokio::spawn(async move { feed.next().await });
    api.end().await;
    let broken = tokio::time::timeout(DEADLINE, broken).await.unwrap();
    assert!(matches!(broken.unwrap(), Some(Ok(Heard::Broken(_)))));
}

#[tokio::test]
async fn a_deploy_is_told_to_its_end_and_a_refusal_is_heard_whatever_is_sent() {
    let api = Running::start().await;
    let deploy = |bytes: usize| Deploy {
        component: vec![0; bytes],
        source: "a b.wasm".into(),
        ..Deploy::default()
    };
    let client = api.client_with(DEPLOYER);
    for bytes in [20 << 20, (20 << 20) + 1] {
        let told = client.deploy(deploy(bytes)).await.unwrap();
        let told: Vec<_> = told.try_collect().await.unwrap();
        assert_eq!(
            told[0],
            DeployProgress::Uploaded {
                bytes: bytes as u64
            }
        );
        let DeployProgress::Worker { step, .. } = &told[1] else {
            panic!("{told:?}")
        };
        assert_eq!(*step, DeployStep::Fetched);
        if let DeployProgress::Failed { status, detail, .. } = &told[2] {
            assert_eq!(*status, 422);
            assert!(bytes % 2 == 1 && detail.contains("it is odd"), "{detail}");
        } else {
            let DeployProgress::Done { version, .. } = &told[2] else {
                panic!("{told:?}")
            };
            assert_eq!(version.as_deref(), Some("v"));
        }
    }
    // Before the body is read, and before anything happens.
    let refused = api.client().deploy(deploy(60 << 20)).await.err().unwrap();
    assert_eq!(refused.name(), Some(ErrorName::NotPermitted), "{refused}");
    let refused = client.promote().await.err().unwrap();
    assert_eq!(refused.name(), Some(ErrorName::Conflict), "{refused}");
    let told = client.rollback(None).await.unwrap();
    let error = told.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(
        matches!(&error, Error::Answer(text) if text.contains("history")),
        "{error}"
    );
    api.end().await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_and_silent_connections_do_not_keep_it_from_stopping() {
    let api = Running::start().await;
    let silent = TcpStream::connect(api.address).await.unwrap();
    let mut long = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n",
        "x".repeat(1 << 18)
    );
    // The refusal may come, and the connection end, before all is written.
    let _ = long.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, long.read_to_end(&mut answer))
        .await
        .unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    api.end().await;
    drop(silent);
}

/// Connects with a small buffer and sends as much of this as is taken.
async fn say(address: SocketAddr, request: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let sent = stream.write_all(request);
    let _ = tokio::time::timeout(Duration::from_millis(200), sent).await;
    stream
}

#[tokio::test]
async fn whoever_has_no_token_holds_no_place() {
    let api = Running::start_with(8).await;
    let body = "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\
                content-type: application/json\r\n";
    let slow = format!("{body}\r\n{{");
    let wrong = format!("{body}authorization: Bearer wrong-token-of-nobody\r\n\r\n{{");
    let waits = format!("{body}expect: 100-continue\r\n\r\n");
    // Answers that nobody takes, more than the kernel keeps for one connection.
    let document = "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    let refusals = "GET /v1/clients HTTP/1.1\r\nhost: x\r\n\r\n".repeat(40_000);
    for request in [slow, wrong, waits, document, refusals] {
        let mut strangers = Vec::new();
        for _ in 0..12 {
            strangers.push(say(api.address, request.as_bytes()).await);
        }
        let query = ClientsQuery::new([Selector::everyone()], []);
        let client = api.client();
        let call = tokio::time::timeout(Duration::from_secs(5), client.clients(&query)).await;
        let start = request.get(..60).unwrap();
        call.unwrap_or_else(|_| panic!("a call waits for {start:?}"))
            .unwrap();
    }
    api.end().await;
}
