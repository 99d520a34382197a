//! Tasks run beside the seats, in steps; they are tried again, stopped and given back as promised.

use std::sync::Arc;

use tidegate_runtime::Deployment;
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients, Reply};
use tidegate_wire::event::EventKind;
use tidegate_wire::id::{EventId, Incarnation};
use tidegate_wire::task::{Step, TaskId};

use crate::harness::*;

fn id(sequence: u64) -> TaskId {
    TaskId {
        client: Some(client(1)),
        event: EventId {
            gateway: Incarnation(7),
            shard: 0,
            sequence,
        },
        nth: 0,
    }
}

/// The lane of a task has the number of no client.
fn begin(home: &Arc<Home>, deployment: &Deployment, committed: u32, script: &str) -> u64 {
    let kind = EventKind::Task {
        task: Box::new(id(0)),
        payload: script.as_bytes().to_vec().into(),
        committed,
    };
    home.send(deployment, client(1_000), 0, kind)
}

fn event(sequence: u64) -> EventId {
    id(sequence).event
}

/// What effects send, in order.
fn said(effects: &[Effect]) -> Vec<String> {
    let text = |effect: &Effect| {
        let Effect::Send { to, message, .. } = effect else {
            panic!("{effect:?}");
        };
        assert_eq!(to, &Recipients::Client(client(1)));
        String::from_utf8(message.payload().to_vec()).unwrap()
    };
    effects.iter().map(text).collect()
}

fn steps(home: &Home) -> Vec<(u32, Vec<String>)> {
    let step = |step: &Step| (step.number, said(&step.effects));
    home.steps().iter().map(step).collect()
}

fn result(commit: &Commit) -> String {
    match commit.reply.as_deref() {
        Some(Reply::Ok(result)) => String::from_utf8(result.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(|it| (*it).to_owned()).collect()
}

#[tokio::test]
async fn a_task_commits_in_steps_and_then_as_any_event() {
    let (home, deployment) = (Home::new(), deploy(settings("steps")).await);
    let task = begin(
        &home,
        &deployment,
        0,
        "echo a\nstep\necho b\necho c\nstep\necho d",
    );
    let commit = home.commit_of(task).await;
    assert_eq!(
        (commit.outcome, result(&commit)),
        (Outcome::Done, "2".into())
    );
    assert_eq!(said(&commit.effects), ["d"]);
    assert_eq!(steps(&home), [(0, words(&["a"])), (1, words(&["b", "c"]))]);
    assert!(home.steps().iter().all(|it| it.client == client(1_000)));
}

#[tokio::test]
async fn what_was_committed_before_is_not_committed_again() {
    let (home, deployment) = (Home::new(), deploy(settings("steps-again")).await);
    let script = "echo a\nstep\necho b\nstep\necho c\nstep";
    let task = begin(&home, &deployment, 2, script);
    assert_eq!(result(&home.commit_of(task).await), "3");
    assert_eq!(steps(&home), [(2, words(&["c"]))]);
}

#[tokio::test]
async fn what_the_steps_of_a_task_begin_is_named_the_same_in_every_run() {
    let (home, deployment) = (Home::new(), deploy(settings("steps-names")).await);
    let mut named = Vec::new();
    for (committed, script) in [
        (0, "submit x\nstep\nsubmit y\nsubmit z\nstep"),
        (1, "resume\nsubmit y\nsubmit z\nstep"),
    ] {
        let task = begin(&home, &deployment, committed, script);
        home.commit_of(task).await;
        let begun = |step: &Step| {
            let ids = step.effects.iter().map(|effect| {
                let Effect::SubmitTask { task, .. } = effect else {
                    panic!("{effect:?}");
                };
                task.nth
            });
            ids.collect::<Vec<_>>()
        };
        let last = home.steps().last().map(begun).unwrap();
        assert_eq!(last.len(), 2);
        assert_ne!(last[0], last[1]);
        named.push(last);
    }
    assert_eq!(named[0], named[1]);
    let first = home.steps().remove(0);
    assert!(matches!(&first.effects[..], [Effect::SubmitTask { task, .. }] if task.nth == 0));
}

#[tokio::test]
async fn promise_4_a_task_that_breaks_goes_on_behind_its_steps_and_is_set_aside_if_it_breaks_again()
{
    let (home, deployment) = (Home::new(), deploy(settings("steps-trap")).await);
    let script = "resume\nfirst echo a\nfirst step-and-trap\necho b\nstep";
    let task = begin(&home, &deployment, 0, script);
    assert_eq!(result(&home.commit_of(task).await), "2");
    assert_eq!(steps(&home), [(0, words(&["a"])), (1, words(&["b"]))]);

    let bad = begin(&home, &deployment, 0, "echo a\nstep\ntrap");
    let commit = home.commit_of(bad).await;
    assert_eq!(
        (commit.outcome, commit.effects.len()),
        (Outcome::DeadLettered, 0)
    );
    let Some(Reply::Failed(why)) = commit.reply.as_deref() else {
        panic!("{commit:?}");
    };
    assert!(
        why.starts_with("it broke its instance at each try: "),
        "{why}"
    );
    let letters = deployment.dead_letters();
    assert_eq!((letters.len(), letters[0].kind), (1, "task"));
    // Nobody else has lost an instance.
    home.run(&deployment, client(1), "count").await;
}

#[tokio::test]
async fn a_task_that_fails_drops_what_follows_its_last_step() {
    let (home, deployment) = (Home::new(), deploy(settings("steps-fail")).await);
    let task = begin(&home, &deployment, 0, "echo a\nstep\necho b\nerr no more");
    let commit = home.commit_of(task).await;
    assert_eq!((commit.outcome, commit.effects.len()), (Outcome::Failed, 0));
    let failed = Reply::Failed("no more".into());
    assert_eq!(commit.reply.as_deref(), Some(&failed));
}

#[tokio::test]
async fn a_task_has_limits_of_its_own() {
    let mut limits = settings("task-limits");
    limits.limits.cpu_ms = 20;
    limits.limits.task_cpu_ms = 300;
    let (home, deployment) = (Home::new(), deploy(limits).await);
    let task = begin(&home, &deployment, 0, "burn 100");
    assert_eq!(home.commit_of(task).await.outcome, Outcome::Done);
    let task = begin(&home, &deployment, 0, "burn 5000");
    let commit = home.commit_of(task).await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
    let why = format!("{:?}", commit.reply);
    assert!(why.contains("CPU limit of 300 ms reached"), "{why}");
}

#[tokio::test]
async fn only_so_many_tasks_run_at_a_time_and_events_do_not_wait_for_them() {
    let (home, deployment) = (Home::new(), deploy(settings("task-slots")).await);
    let forever = "echo a\nstep\nsleep 600000";
    let tasks = [0, 1].map(|_| begin(&home, &deployment, 0, forever));
    eventually("two run", || home.steps().len() == 2).await;
    let third = begin(&home, &deployment, 0, forever);
    assert_eq!(home.commit_of(third).await.outcome, Outcome::Returned);
    home.run(&deployment, client(1), "count").await;
    deployment.cancel_task(event(tasks[0]), 0);
    let commit = home.commit_of(tasks[0]).await;
    assert_eq!(commit.outcome, Outcome::Failed);
    eventually("there is room again", || {
        begin(&home, &deployment, 0, "echo b\nstep");
        home.steps().len() == 3
    })
    .await;
    // Another attempt is not meant.
    deployment.cancel_task(event(tasks[1]), 1);
    deployment.stop(std::time::Duration::from_millis(100)).await;
    assert_eq!(home.commit_of(tasks[1]).await.outcome, Outcome::Returned);
}

#[tokio::test]
async fn a_run_that_counts_no_more_says_nothing_of_its_version() {
    let mut trial = settings("task-void");
    trial.rollout.bounds.errors_percent = 1;
    trial.rollout.bounds.window_ms = 600_000;
    let (home, deployment) = (Home::new(), deploy(trial).await);
    let new = plugin(guest_version(32)).await;
    deployment.swap(new).await.unwrap();
    home.refuse_steps();
    for _ in 0..50 {
        let task = begin(&home, &deployment, 0, "echo a\nstep\necho b");
        assert_eq!(home.commit_of(task).await.outcome, Outcome::Returned);
    }
    assert!(deployment.is_on_trial(), "it was rolled back");
    assert!(home.steps().is_empty());
}

#[tokio::test]
async fn a_task_goes_on_under_its_version_and_the_next_one_begins_under_the_new() {
    let (home, deployment) = (Home::new(), deploy(settings("task-swap")).await);
    let old = deployment.version().borrow().clone();
    let task = begin(&home, &deployment, 0, "step\nsleep 300\nversion");
    eventually("it runs", || home.steps().len() == 1).await;
    deployment
        .swap(plugin(guest_version(31)).await)
        .await
        .unwrap();
    let new = deployment.version().borrow().clone();
    assert_ne!(old, new);
    let next = begin(&home, &deployment, 0, "version");
    assert_eq!(said(&home.commit_of(next).await.effects), [&*new]);
    assert_eq!(said(&home.commit_of(task).await.effects), [&*old]);
}

#[tokio::test]
async fn without_task_events_a_task_has_failed_and_says_why() {
    let bytes = without(guest(), "task-events");
    let plugin = runtime().load_bytes("scripted.wasm", bytes).await.unwrap();
    let settings = settings("no-tasks");
    let deployment = Deployment::start(&runtime(), plugin, settings)
        .await
        .unwrap();
    let home = Home::new();
    let task = begin(&home, &deployment, 0, "echo a");
    let commit = home.commit_of(task).await;
    assert_eq!(commit.outcome, Outcome::Failed);
    assert_eq!(commit.reply.as_deref(), Some(&Reply::Unhandled));
}

#[tokio::test]
async fn who_hears_of_the_end_of_a_task_is_its_client_or_nobody() {
    let (home, deployment) = (Home::new(), deploy(settings("task-ends")).await);
    for (of_client, outcome, told) in [
        (true, Ok(b"6".to_vec().into()), "finished Ok([54])"),
        (true, Err("no".to_owned()), "finished Err(\"no\")"),
    ] {
        let kind = EventKind::TaskFinished {
            task: Box::new(id(4)),
            of_client,
            outcome,
        };
        let commit = home
            .commit_of(home.send(&deployment, client(1), 0, kind))
            .await;
        assert_eq!(said(&commit.effects), [told]);
    }
    let kind = EventKind::TaskFinished {
        task: Box::new(id(4)),
        of_client: false,
        outcome: Ok(Default::default()),
    };
    let commit = home
        .commit_of(home.send(&deployment, client(9), 0, kind))
        .await;
    let everyone = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send {
                to: Recipients::Everyone,
                ..
            }
        )
    };
    assert!(commit.effects.len() == 1 && commit.effects.iter().all(everyone));
}

#[tokio::test]
async fn an_event_submits_tasks_as_effects_and_commits_no_steps() {
    let (home, deployment) = (Home::new(), deploy(settings("task-submit")).await);
    let commit = home.run(&deployment, client(1), "submit work").await;
    let [Effect::SubmitTask { task, payload }] = &commit.effects[..] else {
        panic!("{commit:?}");
    };
    assert_eq!((task.client, task.event), (Some(client(1)), commit.event));
    assert_eq!(&**payload, b"work");
    let large = format!("submit {}", "x".repeat((1 << 20) + 1));
    let commit = home.run(&deployment, client(1), &large).await;
    assert_eq!(commit.outcome, Outcome::Failed, "1 MiB at most");
    let commit = home.run(&deployment, client(1), "step").await;
    assert_eq!(commit.outcome, Outcome::Failed, "an event is no task");
}
