//! Custom commands: bounded, all or nothing, replaced while they run.

use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_runtime::{
    Boxed, CommandCall, CommandDeployment, CommandResult, Deployment, HubAccess, Limits,
    OnDemandSettings, PluginKind, Watching, watch,
};
use tidegate_wire::deploy::version_of;
use tidegate_wire::effect::{Effect, Recipients};
use tidegate_wire::query::{
    Answer, AskError, ClientFields, ClientInfo, CommandError, Query, Selector,
};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    DEADLINE, client, command_guest, eventually, guest, logged, marked, plugin, runtime, settings,
};

/// How long a call may take; less than what sleeps for ever here.
const WITHIN: Duration = Duration::from_secs(30);

/// A hub with one answer for everything.
struct Hub {
    answer: Option<Answer>,
    asked: Mutex<Vec<Query>>,
}

impl Hub {
    fn new(answer: impl Into<Option<Answer>>) -> Arc<Self> {
        Arc::new(Self {
            answer: answer.into(),
            asked: Mutex::default(),
        })
    }
}

impl HubAccess for Hub {
    fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new([127, 0, 0, 1].into(), 7272)
    }

    fn ask(&self, query: Query) -> Boxed<Result<Answer, AskError>> {
        self.asked.lock().unwrap().push(query);
        let answer = self.answer.clone();
        Box::pin(async move {
            match answer {
                Some(answer) => Ok(answer),
                None => std::future::pending().await,
            }
        })
    }
}

fn of(tenant: &str) -> OnDemandSettings {
    OnDemandSettings {
        tenant: tenant.into(),
        gateway_name: "g1".into(),
        limits: Limits::default(),
        config: serde_json::Map::new(),
        instances_max: 2,
        waiting_max: 4,
    }
}

async fn start(settings: OnDemandSettings) -> CommandDeployment {
    let plugin = plugin(command_guest()).await;
    assert_eq!(plugin.kind(), PluginKind::Command);
    CommandDeployment::start(&runtime(), plugin, settings)
        .await
        .unwrap()
}

fn call(name: &str, payload: &str) -> CommandCall {
    CommandCall {
        name: name.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        within: WITHIN,
    }
}

async fn run(deployment: &CommandDeployment, name: &str, payload: &str) -> CommandResult {
    deployment
        .execute(call(name, payload), Hub::new(None))
        .await
}

/// Its answer as text.
async fn told(deployment: &CommandDeployment, name: &str, payload: &str) -> String {
    let (answer, _) = run(deployment, name, payload).await.unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}

#[tokio::test]
async fn a_command_answers_with_its_effects() {
    let mut settings = of("echoing");
    settings.config.insert("key".to_owned(), "value".into());
    let deployment = start(settings).await;
    assert_eq!(told(&deployment, "echo", "hi").await, "hi");
    assert_eq!(told(&deployment, "address", "").await, "127.0.0.1:7272");
    assert_eq!(told(&deployment, "config", "key").await, "value");
    let (_, effects) = run(&deployment, "tell-all", "hello").await.unwrap();
    assert!(matches!(
        &effects[..],
        [Effect::Send {
            to: Recipients::Everyone,
            ..
        }]
    ));
    let (_, effects) = run(&deployment, "set-session", &client(3).to_string())
        .await
        .unwrap();
    assert!(matches!(&effects[..], [Effect::Session { .. }]));
    run(&deployment, "print", "a word").await.unwrap();
    eventually("it is logged", || {
        !logged(&["echoing", "a word"]).is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_command_asks_its_own_hub() {
    let deployment = start(of("hub")).await;
    let hub = Hub::new(Answer::Count(7));
    let (answer, _) = deployment
        .execute(call("count", ""), hub.clone())
        .await
        .unwrap();
    assert_eq!(answer, "7");
    let everyone = vec![Selector::Everyone];
    assert_eq!(
        hub.asked.lock().unwrap()[..],
        [Query::ClientCount { of: everyone }]
    );

    let mut info = ClientInfo::new(client(5));
    info.uid = Some("ann".into());
    let hub = Hub::new(Answer::Clients {
        page: vec![info],
        more: false,
    });
    let (answer, _) = deployment
        .execute(call("infos", "room"), hub.clone())
        .await
        .unwrap();
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    assert!(
        answer.contains(&client(5).to_string()) && answer.contains("ann"),
        "{answer}"
    );
    let expected = Query::Clients {
        of: vec![Selector::Groups(vec!["room".into()])],
        fields: ClientFields {
            uid: true,
            ..ClientFields::default()
        },
        after: None,
        limit: 10,
    };
    assert_eq!(hub.asked.lock().unwrap()[..], [expected]);
}

#[tokio::test]
async fn an_unanswered_question_of_a_command_times_out() {
    let mut settings = of("deaf-hub");
    settings.limits.query_ms = 50;
    let deployment = start(settings).await;
    let result = run(&deployment, "count", "").await;
    assert_eq!(
        result,
        Err(CommandError::Failed("Error::Timeout".to_owned()))
    );
    let mut within = call("count", "");
    within.within = Duration::from_millis(20);
    let result = deployment.execute(within, Hub::new(None)).await;
    assert!(matches!(
        result,
        Err(CommandError::Failed(_) | CommandError::Timeout)
    ));
}

#[tokio::test]
async fn an_error_a_trap_and_a_limit_are_told_apart_and_cost_nobody_else() {
    let mut settings = of("breaking-commands");
    settings.limits.cpu_ms = 50;
    settings.limits.effect_bytes_max = 10_000;
    let deployment = start(settings).await;
    assert_eq!(told(&deployment, "seen", "").await, "0");
    let result = run(&deployment, "fail", "no").await;
    assert_eq!(result, Err(CommandError::Failed("no".to_owned())));
    assert_eq!(told(&deployment, "seen", "").await, "2", "reused");

    let result = run(&deployment, "trap", "ouch").await;
    assert!(
        matches!(&result, Err(CommandError::Broken(text)) if text.contains("unreachable")),
        "{result:?}"
    );
    let report = logged(&["ERROR", "breaking-commands", "the command broke", "ouch"]);
    assert_eq!(report.len(), 1, "with what it wrote to stderr");
    assert_eq!(told(&deployment, "seen", "").await, "0", "a fresh instance");

    let result = run(&deployment, "spin", "").await;
    assert!(
        matches!(&result, Err(CommandError::Broken(text)) if text.contains("CPU limit of 50 ms")),
        "{result:?}"
    );
    let result = run(&deployment, "flood", "").await;
    assert!(
        matches!(&result, Err(CommandError::Failed(text)) if text.contains("QuotaExceeded")),
        "{result:?}"
    );
    assert_eq!(told(&deployment, "large", "10000").await.len(), 10_000);
    let result = run(&deployment, "large", "10001").await;
    assert!(
        matches!(&result, Err(CommandError::Broken(text)) if text.contains("10001 bytes")),
        "{result:?}"
    );
    let result = run(&deployment, "start-command", "echo").await;
    assert!(
        matches!(&result, Err(CommandError::Failed(text)) if text.contains("NotPermitted")),
        "{result:?}"
    );
    assert_eq!(told(&deployment, "echo", "alive").await, "alive");
}

#[tokio::test]
async fn the_callers_deadline_ends_a_command() {
    let deployment = start(of("late-commands")).await;
    let start = Instant::now();
    let mut late = call("sleep", "60000");
    late.within = Duration::from_millis(100);
    let result = deployment.execute(late, Hub::new(None)).await;
    assert_eq!(result, Err(CommandError::Timeout));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(told(&deployment, "seen", "").await, "0", "a fresh instance");
}

#[tokio::test]
async fn commands_wait_for_an_instance_and_over_the_bound_they_are_refused() {
    let mut settings = of("crowded");
    settings.limits.wall_ms = 60_000;
    let deployment = start(settings).await;
    let sleeping: Vec<_> = (0..6)
        .map(|_| deployment.execute(call("sleep", "200"), Hub::new(None)))
        .collect();
    assert_eq!(
        run(&deployment, "echo", "x").await,
        Err(CommandError::Overloaded)
    );
    let mut seen = Vec::new();
    for sleeping in sleeping {
        seen.push(sleeping.await.unwrap().0);
    }
    seen.sort();
    assert_eq!(seen.first().unwrap(), "0");
    assert!(
        seen.iter().filter(|it| *it == "0").count() <= 2,
        "two instances: {seen:?}"
    );
    assert_eq!(told(&deployment, "echo", "x").await, "x");

    // A call that is given up ends, and its place is free.
    let given_up: Vec<_> = (0..6)
        .map(|_| deployment.execute(call("sleep", "50000"), Hub::new(None)))
        .collect();
    drop(given_up);
    for _ in 0..3 {
        let start = Instant::now();
        while run(&deployment, "echo", "y").await == Err(CommandError::Overloaded) {
            assert!(start.elapsed() < DEADLINE);
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_swap_replaces_the_version_and_calls_under_way_end_on_the_old_one() {
    let deployment = start(of("swapped-commands")).await;
    let before = told(&deployment, "seen", "").await;
    assert_eq!(before, "0");
    let under_way = deployment.execute(call("sleep", "200"), Hub::new(None));
    // It has the only instance there is; the next call makes another.
    let next = marked(command_guest(), 7);
    deployment.swap(plugin(next.clone()).await).await.unwrap();
    assert_eq!(*deployment.version().borrow(), version_of(&next));
    assert_eq!(told(&deployment, "seen", "").await, "0", "a new instance");
    under_way.await.unwrap();
    let error = deployment.swap(plugin(guest()).await).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "scripted.wasm is a handler; a command component is wanted here"
    );
    assert_eq!(told(&deployment, "echo", "on").await, "on");
}

#[tokio::test]
async fn a_command_component_is_no_handler() {
    let plugin = plugin(command_guest()).await;
    let result = Deployment::start(&runtime(), plugin, settings("no-handler")).await;
    let error = result.unwrap_err().to_string();
    assert_eq!(
        error,
        "scripted.wasm is a command component; a handler is wanted here"
    );
}

#[tokio::test]
async fn a_changed_file_of_commands_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("commands.wasm");
    std::fs::write(&path, command_guest()).unwrap();
    let deployment = start(of("watched-commands")).await;
    let stop = CancellationToken::new();
    let follow = watch(
        path.clone(),
        Watching::Told,
        runtime(),
        deployment.clone(),
        stop.clone(),
    );
    let task = tokio::spawn(follow);
    let next = marked(command_guest(), 8);
    replace(&path, &next);
    let expected = version_of(&next);
    let mut version = deployment.version();
    tokio::time::timeout(DEADLINE, version.wait_for(|it| *it == expected))
        .await
        .unwrap()
        .unwrap();
    replace(&path, &guest());
    eventually("the handler is refused", || {
        !logged(&[
            "commands.wasm",
            "is a handler; a command component is wanted",
        ])
        .is_empty()
    })
    .await;
    assert_eq!(*deployment.version().borrow(), expected);
    stop.cancel();
    task.await.unwrap();
}

fn replace(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

#[tokio::test]
async fn a_stopped_deployment_has_no_commands() {
    let deployment = start(of("stopped-commands")).await;
    let under_way = deployment.execute(call("sleep", "60000"), Hub::new(None));
    let start = Instant::now();
    deployment.stop(Duration::from_millis(50)).await;
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(matches!(
        under_way.await,
        Err(CommandError::Absent | CommandError::Broken(_))
    ));
    assert_eq!(
        run(&deployment, "echo", "x").await,
        Err(CommandError::Absent)
    );
}
