//! One client whose events break the instance: the others on it are served meanwhile, and its own
//! events keep their order.

use std::sync::Arc;

use tidegate_runtime::Deployment;
use tidegate_wire::effect::{DEAD_LETTERS_MAX, Outcome};
use tidegate_wire::id::ClientId;

use crate::harness::{Home, client, close, connect, deploy, eventually, request, said, settings};

/// How often an instance may be built anew for others when one client breaks it: both tries of the
/// event that was its first dead letter.
const REBUILT_MAX: usize = 2;

/// How often the memory of an instance was lost, by what `count` said in order.
fn lost(counts: &[u32]) -> usize {
    counts.windows(2).filter(|pair| pair[1] <= pair[0]).count()
}

async fn count(home: &Arc<Home>, deployment: &Deployment, client: ClientId) -> u32 {
    let commit = home.run(deployment, client, "count").await;
    said(&commit)[0].parse().unwrap()
}

#[tokio::test]
async fn others_are_answered_before_the_last_event_of_one_client_has_broken_it() {
    let mut slow = settings("fair");
    slow.limits.cpu_ms = 100;
    let (deployment, home) = (deploy(slow).await, Home::new());
    let bad: Vec<u64> = (0..200)
        .map(|_| home.script(&deployment, client(1), "spin"))
        .collect();
    // As many of each as the bad one has tried: on a busy machine no more can be asked for.
    let others: Vec<u64> = (0..DEAD_LETTERS_MAX)
        .flat_map(|_| (2..7).map(client))
        .map(|other| home.script(&deployment, other, "count"))
        .collect();
    for sequence in bad.iter().chain(&others) {
        home.commit_of(*sequence).await;
    }
    let commits = home.commits();
    let place = |sequence: &u64| {
        let mut commits = commits.iter();
        let place = commits.position(|it| it.event.sequence == *sequence);
        place.unwrap()
    };
    // What was run of it; the rest was set aside at once.
    let last_of_bad = place(&bad[usize::from(DEAD_LETTERS_MAX) - 1]);
    assert!(others.iter().map(place).all(|place| place < last_of_bad));
    assert!(bad.iter().map(place).is_sorted(), "its own order");
    let counts: Vec<u32> = commits
        .iter()
        .filter(|it| others.contains(&it.event.sequence))
        .map(|it| said(it)[0].parse().unwrap())
        .collect();
    assert!(lost(&counts) <= REBUILT_MAX, "{counts:?}");
}

#[tokio::test]
async fn after_a_dead_letter_a_client_runs_alone_in_order_and_the_others_keep_their_memory() {
    let (deployment, home) = (deploy(settings("alone")).await, Home::new());
    let dead = home.run(&deployment, client(1), "trap").await;
    assert_eq!(dead.outcome, Outcome::DeadLettered);
    let mut counts = Vec::new();
    for _ in 0..3 {
        let trap = home.script(&deployment, client(1), "trap-unless-fresh");
        let fresh = home.script(&deployment, client(1), "count");
        counts.push(count(&home, &deployment, client(2)).await);
        assert_eq!(home.commit_of(trap).await.outcome, Outcome::Done);
        assert_eq!(said(&home.commit_of(fresh).await), ["0"]);
    }
    assert_eq!(lost(&counts), 0, "{counts:?}");
    let many: Vec<u64> = (0..100)
        .map(|number| home.script(&deployment, client(1), &format!("echo {number}")))
        .collect();
    for sequence in &many {
        home.commit_of(*sequence).await;
    }
    let commits = home.commits();
    let of_many: Vec<u64> = commits
        .iter()
        .map(|it| it.event.sequence)
        .filter(|sequence| many.contains(sequence))
        .collect();
    assert_eq!(of_many, many);
}

#[tokio::test]
async fn order_is_kept_when_events_that_wait_go_into_quarantine() {
    let (deployment, home) = (deploy(settings("alone-in-order")).await, Home::new());
    let mut sent = Vec::new();
    for number in 0..300 {
        let script = if number == 3 {
            "trap".to_owned()
        } else {
            format!("echo {number}")
        };
        sent.push(home.script(&deployment, client(1), &script));
        if number % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for sequence in &sent {
        home.commit_of(*sequence).await;
    }
    let order: Vec<u64> = home.commits().iter().map(|it| it.event.sequence).collect();
    assert_eq!(order, sent);
}

#[tokio::test]
async fn after_so_many_dead_letters_messages_are_not_run_but_the_close_is() {
    let (deployment, home) = (deploy(settings("unheard")).await, Home::new());
    for _ in 0..DEAD_LETTERS_MAX {
        let dead = home.run(&deployment, client(1), "trap").await;
        assert_eq!(dead.outcome, Outcome::DeadLettered);
    }
    let unheard = home.run(&deployment, client(1), "echo 1").await;
    assert_eq!(unheard.outcome, Outcome::DeadLettered);
    let letters = deployment.dead_letters();
    assert!(
        letters.last().unwrap().reason.starts_with("not run"),
        "{letters:?}"
    );
    let closed = home.send(&deployment, client(1), 0, close());
    assert_eq!(home.commit_of(closed).await.outcome, Outcome::Done);
    // Another one with the same number is another client.
    let again = home.run(&deployment, client(1), "echo 2").await;
    assert_eq!(said(&again), ["2"]);
}

#[tokio::test]
async fn clients_that_come_again_and_again_to_break_it_do_not_reach_the_instance_of_others() {
    let (deployment, home) = (deploy(settings("cycling")).await, Home::new());
    let mut counts = vec![count(&home, &deployment, client(1)).await];
    // Each of them waits out two pauses of the breaker.
    for number in 100..115 {
        let bad = client(number);
        home.send(&deployment, bad, 0, connect());
        let trap = home.script(&deployment, bad, "trap");
        let closed = home.send(&deployment, bad, 0, close());
        counts.push(count(&home, &deployment, client(1)).await);
        assert_eq!(home.commit_of(trap).await.outcome, Outcome::DeadLettered);
        assert_eq!(home.commit_of(closed).await.outcome, Outcome::Done);
    }
    // Three of them broke it, twice each; then whoever comes anew runs alone.
    assert!(lost(&counts) <= 6, "{counts:?}");
    eventually("nothing waits", || deployment.queued_events() == 0).await;
}

#[tokio::test]
async fn requests_that_trap_do_not_break_the_instance_again_and_again() {
    let (deployment, home) = (deploy(settings("bad-requests")).await, Home::new());
    let mut counts = vec![count(&home, &deployment, client(1)).await];
    for number in 100..115 {
        let trap = home.send(&deployment, client(number), 0, request("trap", ""));
        counts.push(count(&home, &deployment, client(1)).await);
        assert_eq!(home.commit_of(trap).await.outcome, Outcome::DeadLettered);
    }
    assert!(lost(&counts) <= 6, "{counts:?}");
}
