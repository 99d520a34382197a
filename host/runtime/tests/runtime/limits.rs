//! A handler that breaks costs its own instance and nobody else.

use std::time::{Duration, Instant};

use tidegate_runtime::{Deployment, Limits, Runtime, RuntimeSettings};
use tidegate_wire::effect::{Commit, Outcome};
use tidegate_wire::id::ClientId;

use crate::harness::{
    Home, client, deploy, eventually, guest, logged, message, runtime, said, settings,
};

#[tokio::test]
async fn an_event_that_breaks_a_used_instance_is_tried_again_on_a_fresh_one() {
    let deployment = deploy(settings("retried")).await;
    let home = Home::new();
    home.run(&deployment, client(1), "echo first").await;
    let commit = home
        .run(&deployment, client(1), "set k 1\ntrap-unless-fresh\ncount")
        .await;
    assert_eq!(said(&commit), ["0"]);
    assert_eq!(commit.attempt, 0);
    assert_eq!(
        commit.effects.len(),
        2,
        "the effects of the first try are gone"
    );
    let report = logged(&["ERROR", "retried", "the handler broke"]);
    assert_eq!(report.len(), 1);
    assert!(
        report[0].contains("told to trap unless fresh"),
        "stderr: {}",
        report[0]
    );
    assert!(deployment.dead_letters().is_empty());
}

#[tokio::test]
async fn an_event_that_breaks_twice_is_set_aside_and_the_next_one_runs() {
    let deployment = deploy(settings("poison")).await;
    let home = Home::new();
    let poison = home.script(&deployment, client(1), "echo x\ntrap with a cause");
    let next = home.script(&deployment, client(1), "echo alive");
    let commit = home.commit_of(poison).await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
    assert!(commit.effects.is_empty());
    assert_eq!(said(&home.commit_of(next).await), ["alive"]);
    let letters = deployment.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].event.sequence, poison);
    assert_eq!(letters[0].kind, "message");
    assert_eq!(logged(&["poison", "the handler broke"]).len(), 2);
    let letter = logged(&["ERROR", "poison", "set aside"]);
    assert_eq!(letter.len(), 1);
    assert!(
        !letter[0].contains("with a cause"),
        "no payload: {}",
        letter[0]
    );
    let report = &logged(&["poison", "the handler broke"])[0];
    assert!(report.contains("wasm backtrace"), "{report}");
}

/// Two clients that different instances serve.
async fn neighbours(home: &std::sync::Arc<Home>, deployment: &Deployment) -> (ClientId, ClientId) {
    let first = said(&home.run(deployment, client(0), "who").await);
    for connection in 1..100 {
        if said(&home.run(deployment, client(connection), "who").await) != first {
            return (client(0), client(connection));
        }
    }
    panic!("all clients are on one instance");
}

// One thread for all instances: the spinning guest must yield it for the others to run.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_spinning_handler_is_stopped_while_another_instance_goes_on() {
    let mut settings = settings("spinning");
    settings.instances = 2;
    settings.limits.cpu_ms = 1_000;
    let deployment = deploy(settings).await;
    let home = Home::new();
    let (one, other) = neighbours(&home, &deployment).await;
    let spin = home.script(&deployment, one, "spin");
    for _ in 0..3 {
        home.run(&deployment, other, "echo hi").await;
    }
    let spun = |commit: &Commit| commit.event.sequence == spin;
    assert!(!home.commits().iter().any(spun), "they ran beside it");
    assert_eq!(home.commit_of(spin).await.outcome, Outcome::DeadLettered);
    assert_eq!(
        logged(&["spinning", "CPU limit of 1000 ms reached"]).len(),
        3
    );
    assert_eq!(
        said(&home.run(&deployment, one, "echo back").await),
        ["back"]
    );
}

#[tokio::test]
async fn a_waiting_handler_is_stopped_by_the_clock() {
    let mut settings = settings("waiting");
    settings.limits.wall_ms = 100;
    let deployment = deploy(settings).await;
    let home = Home::new();
    assert_eq!(
        said(&home.run(&deployment, client(1), "sleep 5\necho ok").await),
        ["ok"]
    );
    let start = Instant::now();
    let commit = home.run(&deployment, client(1), "sleep 60000").await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(!logged(&["waiting", "time limit of 100 ms reached"]).is_empty());
}

#[tokio::test]
async fn memory_over_the_limit_is_refused_and_the_report_names_the_limit() {
    let mut settings = settings("hungry");
    settings.limits = Limits {
        memory_bytes: 16 << 20,
        cpu_ms: 5_000,
        ..Limits::default()
    };
    let deployment = deploy(settings).await;
    let home = Home::new();
    let commit = home.run(&deployment, client(1), "eat").await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
    assert!(!logged(&["hungry", "memory limit of 16777216 bytes reached"]).is_empty());
    assert_eq!(
        said(&home.run(&deployment, client(1), "echo ok").await),
        ["ok"]
    );
}

#[tokio::test]
async fn an_exit_costs_the_instance_like_a_trap() {
    let deployment = deploy(settings("leaving")).await;
    let home = Home::new();
    let commit = home.run(&deployment, client(1), "exit").await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
    assert!(!logged(&["leaving", "failure=\"exit\""]).is_empty());
}

#[tokio::test]
async fn an_instance_that_keeps_breaking_goes_on_serving() {
    let deployment = deploy(settings("breaking")).await;
    let home = Home::new();
    for _ in 0..8 {
        let commit = home.run(&deployment, client(1), "trap").await;
        assert_eq!(commit.outcome, Outcome::DeadLettered);
        assert_eq!(
            said(&home.run(&deployment, client(2), "echo ok").await),
            ["ok"]
        );
    }
}

#[tokio::test]
async fn an_event_after_two_losses_runs_alone_and_later_ones_of_its_client_wait_for_it() {
    let deployment = deploy(settings("quarantined")).await;
    let home = Home::new();
    home.run(&deployment, client(1), "echo first").await;
    let alone = home.send(&deployment, client(1), 2, message("sleep 100\ncount\nwho"));
    let after = home.script(&deployment, client(1), "echo later");
    let other = home.script(&deployment, client(2), "count");
    assert_eq!(said(&home.commit_of(other).await), ["1"]);
    assert_eq!(
        said(&home.commit_of(alone).await),
        ["0", "quarantined w1 1 [\"blue\"] 2"]
    );
    assert_eq!(said(&home.commit_of(after).await), ["later"]);
    let order: Vec<u64> = home
        .commits()
        .iter()
        .map(|commit| commit.event.sequence)
        .collect();
    let place = |sequence| order.iter().position(|own| *own == sequence).unwrap();
    assert!(place(alone) < place(after));
    eventually("quarantine is left", || deployment.queued_events() == 0).await;
    assert_eq!(
        said(&home.run(&deployment, client(1), "count").await),
        ["2"]
    );
}

#[tokio::test]
async fn a_full_mailbox_gives_events_back_at_once() {
    let mut settings = settings("full");
    settings.mailbox_events = 2;
    let deployment = deploy(settings).await;
    let home = Home::new();
    let events: Vec<u64> = (0..10)
        .map(|_| home.script(&deployment, client(1), "echo hi"))
        .collect();
    assert_eq!(deployment.queued_events(), 2);
    assert!(deployment.queued_bytes() > 0);
    for (index, event) in events.into_iter().enumerate() {
        let expected = if index < 2 {
            Outcome::Done
        } else {
            Outcome::Returned
        };
        assert_eq!(home.commit_of(event).await.outcome, expected);
    }
    eventually("nothing is queued", || deployment.queued_bytes() == 0).await;
}

#[tokio::test]
async fn without_address_space_for_a_pool_instances_allocate_their_own() {
    let shared = runtime();
    let no_room = || logged(&["WARN", "no room for a pool of instances"]).len();
    assert_eq!(no_room(), 0, "the pool of the other tests");
    let alone = Runtime::new(RuntimeSettings {
        instances_max: 20_000,
        ..RuntimeSettings::default()
    })
    .unwrap();
    assert_eq!(no_room(), 1);
    drop(shared);
    let plugin = alone.load_bytes("scripted.wasm", guest()).await.unwrap();
    let deployment = Deployment::start(&alone, plugin, settings("poolless"))
        .await
        .unwrap();
    let home = Home::new();
    assert_eq!(
        said(&home.run(&deployment, client(1), "echo hi").await),
        ["hi"]
    );
}
