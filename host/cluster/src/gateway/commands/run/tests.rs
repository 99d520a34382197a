//! Commands over two gateways of two shards each, with links between them.

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, Recipients};
use tidegate_wire::event::Message;
use tidegate_wire::query::{Answer, CommandError, CommandOutcome, Query, Selector};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::Notify;

use super::COMMANDS_MAX;
use crate::gateway::commands::{Boxed, CommandCall, Commands, LocalHub};
use crate::gateway::rig::{DEADLINE, Running, Scripted, eventually, soon, tenant, two};

/// Notes what ran where. "tell" sends its payload to everybody, "hang" runs until it is let go.
#[derive(Default)]
struct Noting {
    ran: Mutex<Vec<(SocketAddrV4, Name)>>,
    let_go: Arc<Notify>,
}

impl Noting {
    fn times(&self, gateway: SocketAddrV4, name: &str) -> usize {
        let ran = self.ran.lock().unwrap();
        ran.iter()
            .filter(|(at, ran)| *at == gateway && &**ran == name)
            .count()
    }
}

/// The same notes for every gateway.
struct Shared(Arc<Noting>);

impl Commands for Shared {
    fn execute(
        &self,
        call: CommandCall,
        hub: Box<dyn LocalHub>,
    ) -> Boxed<Result<(Bytes, Vec<Effect>), CommandError>> {
        let entry = (hub.address(), call.name.clone());
        self.0.ran.lock().unwrap().push(entry);
        let let_go = self.0.let_go.clone();
        Box::pin(async move {
            match &*call.name {
                "count" => {
                    let of = vec![Selector::Everyone];
                    let counted = hub.ask(Query::ClientCount { of }).await;
                    return Ok((format!("{counted:?}").into(), Vec::new()));
                }
                "hang" => let_go.notified().await,
                "fail" => return Err(CommandError::Failed("no".into())),
                "panic" => panic!("a command of a test"),
                _ => {}
            }
            let mut effects = vec![command(None, "recursion")];
            if &*call.name == "tell" {
                effects.push(Effect::Send {
                    to: Recipients::Everyone,
                    message: Message::Text(call.payload.clone().into()),
                    except: vec![],
                });
            }
            Ok((call.payload, effects))
        })
    }
}

fn command(gateways: Option<Vec<SocketAddrV4>>, name: &str) -> Effect {
    Effect::Command {
        gateways,
        name: name.into(),
        payload: b"hello".to_vec().into(),
    }
}

async fn cluster() -> (Arc<Noting>, Running, Running, Scripted) {
    let notes = Arc::new(Noting::default());
    let (mut one, two) = two(|| Arc::new(Shared(notes.clone()))).await;
    let worker = one.worker().await;
    (notes, one, two, worker)
}

#[tokio::test]
async fn a_command_among_effects_runs_once_at_each_gateway_that_is_named() {
    let (notes, one, two, mut worker) = cluster().await;
    let (first, second) = (one.announced(), two.announced());
    let unknown: SocketAddrV4 = "127.0.0.1:1".parse().unwrap();
    let everywhere = Effect::Ungroup { group: "g".into() };
    // Clients of both shards, so that either is the home once.
    let _clients = (one.client().await, one.client().await);
    for _ in 0..2 {
        worker
            .welcome(|client| {
                vec![
                    Effect::JoinGroup {
                        client,
                        group: "g".into(),
                    },
                    command(None, "all"),
                    everywhere.clone(),
                    command(Some(vec![second, second]), "second"),
                    command(Some(vec![first, unknown]), "first"),
                    command(Some(vec![unknown]), "nowhere"),
                    command(None, "last"),
                ]
            })
            .await;
    }
    for gateway in [first, second] {
        eventually("the last command", || notes.times(gateway, "last") == 2).await;
        assert_eq!(notes.times(gateway, "all"), 2);
        assert_eq!(notes.times(gateway, "nowhere"), 0);
    }
    assert_eq!(
        (notes.times(first, "first"), notes.times(second, "first")),
        (2, 0)
    );
    assert_eq!(
        (notes.times(first, "second"), notes.times(second, "second")),
        (0, 2)
    );
    eventually("all places are free", || {
        let under_way = |gateway: &Running| gateway.gateway.services.commands.under_way();
        under_way(&one) == 0 && under_way(&two) == 0
    })
    .await;
    assert_eq!(notes.times(first, "recursion"), 0);
}

#[tokio::test]
async fn adopted_commands_run_once_at_each_gateway() {
    use tidegate_wire::frame::WorkerFrame;
    use tidegate_wire::id::{ClientId, CloseId, Incarnation};
    let (notes, one, two, worker) = cluster().await;
    let adopt = WorkerFrame::Adopt {
        sequence: 1,
        tenant: tenant(),
        effects: vec![command(None, "adopted")],
        close: CloseId {
            home: Incarnation(77),
            client: ClientId::new(one.announced(), 1),
        },
    };
    worker.link.sender.send(adopt.clone()).unwrap();
    worker.link.sender.send(adopt).unwrap();
    for gateway in [one.announced(), two.announced()] {
        eventually("the command", || notes.times(gateway, "adopted") == 1).await;
    }
}

#[tokio::test]
async fn what_a_command_asks_for_reaches_clients_of_every_gateway() {
    let (_notes, one, mut two, mut worker) = cluster().await;
    let mut other = two.worker().await;
    let (near, far) = (one.client().await, two.client().await);
    worker.welcome(|_| vec![]).await;
    other.welcome(|_| vec![]).await;
    let commands = &one.gateway.services.commands;
    let outcome = commands.run(&tenant(), "tell".into(), "hi".into(), DEADLINE);
    assert_eq!(&soon("the outcome", outcome).await.unwrap()[..], b"hi");
    for client in [near, far] {
        let mut line = String::new();
        let mut client = BufReader::new(client);
        soon("the message", client.read_line(&mut line))
            .await
            .unwrap();
        assert_eq!(line, "hi\n");
    }
}

#[tokio::test]
async fn a_command_that_does_not_end_keeps_its_place_until_it_does_and_asks_for_nothing() {
    let (notes, one, _two, _worker) = cluster().await;
    let commands = &one.gateway.services.commands;
    let brief = Duration::from_millis(30);
    // What one tenant may have beside others.
    let share = COMMANDS_MAX / 2;
    let hangs: Vec<_> = (0..share)
        .map(|_| commands.run(&tenant(), "hang".into(), Bytes::new(), brief))
        .collect();
    let refused = commands
        .run(&tenant(), "tell".into(), Bytes::new(), DEADLINE)
        .await;
    assert_eq!(refused, Err(CommandError::Overloaded));
    let other = commands.run(&"other".into(), "x".into(), Bytes::new(), DEADLINE);
    assert!(soon("another tenant's", other).await.is_ok());
    for hang in hangs {
        assert_eq!(soon("the deadline", hang).await, Err(CommandError::Timeout));
    }
    assert_eq!(commands.under_way(), share);
    eventually("all are let go", || {
        notes.let_go.notify_waiters();
        commands.under_way() == 0
    })
    .await;
    let again = commands
        .run(&tenant(), "x".into(), Bytes::new(), DEADLINE)
        .await;
    assert!(again.is_ok());
}

#[tokio::test]
async fn a_command_that_fails_or_panics_says_so_and_frees_its_place() {
    let (_notes, one, _two, _worker) = cluster().await;
    let commands = &one.gateway.services.commands;
    let run = |name: &str| commands.run(&tenant(), name.into(), Bytes::new(), DEADLINE);
    let failed = Err(CommandError::Failed("no".into()));
    assert_eq!(soon("failed", run("fail")).await, failed);
    let broken = soon("broken", run("panic")).await;
    assert!(matches!(broken, Err(CommandError::Broken(_))), "{broken:?}");
    eventually("all places are free", || commands.under_way() == 0).await;
}

/// What the commands of the whole cluster gave to a caller from outside, and who gave nothing.
async fn ask(
    gateway: &Running,
    name: &str,
    within: Duration,
) -> (Vec<(SocketAddrV4, CommandOutcome)>, Vec<SocketAddrV4>) {
    let query = Query::Command {
        gateways: None,
        name: name.into(),
        payload: b"hello".to_vec().into(),
    };
    let access = gateway.gateway.access();
    let tenant = tenant();
    let asked = access.ask(&tenant, query, within);
    let answered = soon("the answers", asked).await.unwrap();
    let Answer::Commands(outcomes) = answered.answer else {
        panic!("not of commands: {:?}", answered.answer);
    };
    (outcomes, answered.missing)
}

/// Waits until either gateway can ask the other one.
async fn linked(one: &Running, two: &Running) {
    for gateway in [one, two] {
        let access = gateway.gateway.access();
        soon("both gateways to answer", async {
            loop {
                let of = vec![Selector::Everyone];
                let query = Query::ClientCount { of };
                let answered = access.ask(&tenant(), query, DEADLINE).await;
                if answered.unwrap().missing.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_command_sees_the_clients_of_all_shards_of_its_own_gateway_alone() {
    let (_notes, one, two, mut worker) = cluster().await;
    linked(&one, &two).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(one.client().await);
        worker.welcome(|_| vec![]).await;
    }
    let (counted, missing) = ask(&two, "count", DEADLINE).await;
    assert_eq!(missing, []);
    let mut expected = [
        (one.announced(), "Ok(Count(3))"),
        (two.announced(), "Ok(Count(0))"),
    ];
    expected.sort_unstable();
    for ((gateway, outcome), expected) in counted.into_iter().zip(expected) {
        let outcome = outcome.unwrap();
        let text = std::str::from_utf8(&outcome).unwrap();
        assert_eq!((gateway, text), expected);
    }
}

#[tokio::test]
async fn a_command_that_does_not_end_is_a_timeout_of_its_gateway_which_is_not_missing() {
    let (notes, one, two, _worker) = cluster().await;
    linked(&one, &two).await;
    // The other gateway keeps an eighth of the time for its answer's way, on a busy machine too little.
    let mut within = Duration::from_millis(400);
    let outcomes = loop {
        let (outcomes, missing) = ask(&one, "hang", within).await;
        if missing.is_empty() {
            break outcomes;
        }
        within *= 2;
        assert!(within < DEADLINE, "missing: {missing:?}");
    };
    assert_eq!(outcomes.len(), 2);
    for (_, outcome) in outcomes {
        assert_eq!(outcome, Err(CommandError::Timeout));
    }
    notes.let_go.notify_waiters();
    // And it is asked again.
    assert_eq!(ask(&one, "x", DEADLINE).await.0.len(), 2);
}
