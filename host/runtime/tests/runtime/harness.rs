//! The scripted guest, a home that sends it events and takes its commits, and what was logged.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tidegate_runtime::{
    Asking, Boxed, Deployment, DeploymentSettings, EventContext, Job, Limits, Plugin, Rollout,
    Runtime, RuntimeSettings,
};
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients};
use tidegate_wire::event::{
    Arrival, CloseFrame, Closed, Delivery, EventKind, Message, Peer, Transport,
};
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::query::{Answer, Answered, AskError};
use tidegate_wire::session::Session;
use tidegate_wire::task::Step;
use tokio::sync::Notify;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Longer than anything takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The target folder of this build.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The scripted guest.
pub(crate) fn guest() -> Vec<u8> {
    guests()[0].clone()
}

/// The scripted command component.
pub(crate) fn command_guest() -> Vec<u8> {
    guests()[1].clone()
}

/// The scripted codec.
pub(crate) fn codec_guest() -> Vec<u8> {
    guests()[2].clone()
}

/// The scripted router.
pub(crate) fn router_guest() -> Vec<u8> {
    guests()[3].clone()
}

/// The guests, built once per run.
fn guests() -> &'static [Vec<u8>; 4] {
    static GUESTS: OnceLock<[Vec<u8>; 4]> = OnceLock::new();
    GUESTS.get_or_init(|| {
        // A folder of its own: the one of this build is locked by whoever runs the tests.
        let target = target_dir().join("guests");
        let mut build = Command::new(env!("CARGO"));
        // Where the compiler of the host cannot be given the target.
        if let Some(rustc) = std::env::var_os("GUEST_RUSTC") {
            build.env("RUSTC", rustc);
        }
        let status = build
            .args(["build", "--quiet", "--profile", "guest"])
            .args(["--target", "wasm32-wasip2", "-p", "tidegate-test-scripted"])
            .args(["-p", "tidegate-test-scripted-command"])
            .args(["-p", "tidegate-test-scripted-codec"])
            .args(["-p", "tidegate-test-scripted-router"])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success(), "the scripted guests do not build");
        let built = target.join("wasm32-wasip2/guest");
        let read = |name: &str| std::fs::read(built.join(name)).unwrap();
        [
            read("tidegate_test_scripted.wasm"),
            read("tidegate_test_scripted_command.wasm"),
            read("tidegate_test_scripted_codec.wasm"),
            read("tidegate_test_scripted_router.wasm"),
        ]
    })
}

/// The guest with a custom section: another version that does the same.
pub(crate) fn guest_version(mark: u8) -> Vec<u8> {
    marked(guest(), mark)
}

/// The component with an export under another name, of the same length: nobody looks for it.
pub(crate) fn without(mut bytes: Vec<u8>, export: &str) -> Vec<u8> {
    let old = format!("/{export}@").into_bytes();
    let other: String = export.chars().rev().collect();
    let new = format!("/{other}@").into_bytes();
    let mut at = 0;
    while at + old.len() <= bytes.len() {
        if bytes[at..].starts_with(&old) {
            bytes[at..at + old.len()].copy_from_slice(&new);
        }
        at += 1;
    }
    bytes
}

/// A component with a custom section: another version that does the same.
pub(crate) fn marked(mut bytes: Vec<u8>, mark: u8) -> Vec<u8> {
    bytes.extend([0, 3, 1, b'v', mark]);
    bytes
}

/// One engine for all tests.
pub(crate) fn runtime() -> Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            collect_logs();
            Runtime::new(RuntimeSettings {
                cache_dir: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")),
                ..RuntimeSettings::default()
            })
            .unwrap()
        })
        .clone()
}

pub(crate) async fn plugin(bytes: Vec<u8>) -> Plugin {
    runtime().load_bytes("scripted.wasm", bytes).await.unwrap()
}

/// `tenant` is unique to a test, so that its lines in the log are found.
pub(crate) fn settings(tenant: &str) -> DeploymentSettings {
    DeploymentSettings {
        tenant: tenant.into(),
        worker_name: "w1".into(),
        tags: vec!["blue".into()],
        instances: 1,
        task_instances: 2,
        limits: Limits::default(),
        config: serde_json::Map::new(),
        mailbox_events: 1000,
        rollout: Rollout::default(),
    }
}

pub(crate) async fn deploy(settings: DeploymentSettings) -> Deployment {
    Deployment::start(&runtime(), plugin(guest()).await, settings)
        .await
        .unwrap()
}

pub(crate) fn client(connection: u32) -> ClientId {
    ClientId {
        ip: 0x7f00_0001,
        port: 7272,
        connection,
    }
}

/// What a home does with a question.
#[derive(Clone)]
pub(crate) enum Told {
    /// Answers it.
    Answer(Answered),
    /// Refuses it.
    Refuse(AskError),
    /// Leaves it.
    Nothing,
    /// Answers that there are no gateways, after a while.
    Late(Duration),
    /// The same once it is told to.
    When(Arc<Notify>),
}

impl From<Answer> for Told {
    fn from(answer: Answer) -> Self {
        Self::Answer(Answered {
            answer,
            missing: Vec::new(),
        })
    }
}

/// Sends events, keeps the commits and the questions, applies changes of sessions.
#[derive(Default)]
pub(crate) struct Home {
    sequence: AtomicU64,
    commits: Mutex<Vec<Commit>>,
    steps: Mutex<Vec<Step>>,
    refuses_steps: AtomicBool,
    sessions: Mutex<HashMap<ClientId, Session>>,
    committed: Notify,
    asked: Mutex<Vec<Asking>>,
    told: Mutex<VecDeque<Told>>,
}

struct Context {
    home: Arc<Home>,
    client: ClientId,
}

impl EventContext for Context {
    fn session(&self) -> Arc<Session> {
        Arc::new(self.home.session(self.client))
    }

    fn arrival(&self) -> Option<Arc<Arrival>> {
        Some(arrival())
    }

    fn commit(&self, commit: Commit) {
        for effect in &commit.effects {
            if let Effect::Session { client, change } = effect {
                let mut sessions = self.home.sessions.lock().unwrap();
                sessions.entry(*client).or_default().apply(change);
            }
        }
        self.home.commits.lock().unwrap().push(commit);
        self.home.committed.notify_waiters();
    }

    fn step(&self, step: Step) -> Boxed<bool> {
        if self.home.refuses_steps.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(false));
        }
        self.home.steps.lock().unwrap().push(step);
        self.home.committed.notify_waiters();
        Box::pin(std::future::ready(true))
    }

    fn ask(&self, asking: Asking) -> Boxed<Result<Answered, AskError>> {
        self.home.asked.lock().unwrap().push(asking);
        let told = self.home.told.lock().unwrap().pop_front();
        Box::pin(async move {
            match told.unwrap_or(Told::Refuse(AskError::Gone)) {
                Told::Answer(answered) => Ok(answered),
                Told::Refuse(error) => Err(error),
                Told::Nothing => std::future::pending().await,
                Told::Late(time) => {
                    tokio::time::sleep(time).await;
                    Ok(no_gateways())
                }
                Told::When(told) => {
                    told.notified().await;
                    Ok(no_gateways())
                }
            }
        })
    }
}

const fn no_gateways() -> Answered {
    Answered {
        answer: Answer::Gateways(Vec::new()),
        missing: Vec::new(),
    }
}

impl Home {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn session(&self, client: ClientId) -> Session {
        let sessions = self.sessions.lock().unwrap();
        sessions.get(&client).cloned().unwrap_or_default()
    }

    /// Sends one event; gives its number.
    pub(crate) fn send(
        self: &Arc<Self>,
        deployment: &Deployment,
        client: ClientId,
        losses: u8,
        kind: EventKind,
    ) -> u64 {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        deployment.dispatch(Job {
            delivery: Box::new(Delivery {
                event: EventId {
                    gateway: Incarnation(7),
                    shard: 0,
                    sequence,
                },
                attempt: losses,
                losses,
                tenant: 0,
                client,
                session: None,
                kind,
            }),
            context: Arc::new(Context {
                home: Arc::clone(self),
                client,
            }),
        });
        sequence
    }

    pub(crate) fn script(
        self: &Arc<Self>,
        deployment: &Deployment,
        client: ClientId,
        text: &str,
    ) -> u64 {
        self.send(deployment, client, 0, message(text))
    }

    /// Sends a script and waits for its commit.
    pub(crate) async fn run(
        self: &Arc<Self>,
        deployment: &Deployment,
        client: ClientId,
        text: &str,
    ) -> Commit {
        let sequence = self.script(deployment, client, text);
        self.commit_of(sequence).await
    }

    pub(crate) async fn commit_of(&self, sequence: u64) -> Commit {
        let found = tokio::time::timeout(DEADLINE, async {
            loop {
                let notified = self.committed.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                let found = self
                    .commits()
                    .into_iter()
                    .find(|c| c.event.sequence == sequence);
                if let Some(commit) = found {
                    return commit;
                }
                notified.await;
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("event {sequence} was not committed in time"))
    }

    /// Runs of tasks count no more.
    pub(crate) fn refuse_steps(&self) {
        self.refuses_steps.store(true, Ordering::Relaxed);
    }

    /// The steps of tasks in the order in which they came.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap().clone()
    }

    /// The next question is answered so.
    pub(crate) fn tell(&self, told: impl Into<Told>) {
        self.told.lock().unwrap().push_back(told.into());
    }

    /// The questions since the last time.
    pub(crate) fn asked(&self) -> Vec<Asking> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// How many commits came.
    pub(crate) fn committed(&self) -> usize {
        self.commits.lock().unwrap().len()
    }

    /// All commits in the order in which they came.
    pub(crate) fn commits(&self) -> Vec<Commit> {
        self.commits.lock().unwrap().clone()
    }
}

pub(crate) fn message(text: &str) -> EventKind {
    EventKind::Message(Message::Text(text.as_bytes().to_vec().into()))
}

pub(crate) fn request(name: &str, payload: &str) -> EventKind {
    EventKind::Request {
        name: name.into(),
        payload: payload.as_bytes().to_vec().into(),
    }
}

pub(crate) fn connect() -> EventKind {
    EventKind::Connect {
        arrival: arrival(),
        request: None,
    }
}

/// How every client comes.
pub(crate) fn arrival() -> Arc<Arrival> {
    Arc::new(Arrival {
        peer: Peer {
            address: "127.0.0.1:5000".parse().unwrap(),
            transport: Transport::WebSocket,
            listener: "public".into(),
            secure: false,
        },
        connected_at_ms: 1_700_000_000_000,
        subprotocol: Some("chat.v2".into()),
    })
}

pub(crate) fn close() -> EventKind {
    EventKind::Close(Box::new(Closed {
        reason: tidegate_wire::event::CloseReason::Client,
        frame: Some(CloseFrame {
            code: 4001,
            reason: "enough".into(),
        }),
        uid: None,
        groups: vec!["g".into()],
    }))
}

/// The texts that a commit sends to single clients.
pub(crate) fn said(commit: &Commit) -> Vec<String> {
    assert_eq!(commit.outcome, Outcome::Done, "{commit:?}");
    commit
        .effects
        .iter()
        .filter_map(|effect| {
            if let Effect::Send {
                to: Recipients::Client(_) | Recipients::Everyone,
                message,
                ..
            } = effect
            {
                Some(String::from_utf8(message.payload().to_vec()).unwrap())
            } else {
                None
            }
        })
        .collect()
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Without what the compiler says: that is thousands of lines for each guest, which whoever looks for his own
/// would read again and again.
fn collect_logs() {
    let ours = Targets::new().with_target("tidegate", tracing::Level::DEBUG);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(|| LogWriter);
    tracing_subscriber::registry()
        .with(lines.with_filter(ours))
        .init();
}

/// Lines of the log that have all these words.
pub(crate) fn logged(words: &[&str]) -> Vec<String> {
    let log = LOG.lock().unwrap();
    String::from_utf8_lossy(&log)
        .lines()
        .filter(|line| words.iter().all(|word| line.contains(word)))
        .map(ToOwned::to_owned)
        .collect()
}
