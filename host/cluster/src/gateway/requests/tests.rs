//! Requests through a real gateway, with workers whose every frame the test writes.

use std::time::Duration;

use tidegate_wire::effect::{Effect, Outcome, Recipients, Reply};
use tidegate_wire::event::{Delivery, EventKind, Message};
use tidegate_wire::frame::GatewayFrame;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinHandle;

use super::Replied;
use crate::gateway::access::RequestError;
use crate::gateway::rig::{DEADLINE, Running, Scripted, eventually, soon, tenant};

fn call(gateway: &Running, payload: &'static str, within: Duration) -> JoinHandle<Replied> {
    let access = gateway.gateway.access();
    tokio::spawn(async move {
        access
            .request(&tenant(), "echo".into(), payload.into(), within)
            .await
    })
}

/// The same under an idempotency key.
fn keyed(
    gateway: &Running,
    key: u8,
    payload: &'static str,
    within: Duration,
) -> JoinHandle<Replied> {
    let access = gateway.gateway.access();
    tokio::spawn(async move {
        // As the Client API does, of the whole call.
        let mut request = [0; 32];
        request
            .iter_mut()
            .zip(payload.bytes())
            .for_each(|(to, from)| *to = from);
        let payload = payload.into();
        access
            .request_once(
                &tenant(),
                [key; 32],
                request,
                "echo".into(),
                payload,
                within,
            )
            .await
    })
}

async fn reply(call: JoinHandle<Replied>) -> Replied {
    soon("the reply", call).await.unwrap()
}

fn ok(text: &str) -> Option<Reply> {
    Some(Reply::Ok(text.as_bytes().to_vec().into()))
}

fn everyone(text: &str) -> Effect {
    Effect::Send {
        to: Recipients::Everyone,
        message: Message::Text(text.as_bytes().to_vec().into()),
        except: vec![],
    }
}

async fn request(worker: &mut Scripted) -> Delivery {
    let delivery = worker.delivery().await;
    assert!(
        matches!(&delivery.kind, EventKind::Request { name, .. } if &**name == "echo"),
        "{delivery:?}"
    );
    delivery
}

#[tokio::test]
async fn a_request_is_answered_and_its_effects_reach_clients_of_every_shard() {
    let mut gateway = Running::start(1).await;
    let mut worker = gateway.worker().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(BufReader::new(gateway.client().await));
        worker.welcome(|_| vec![]).await;
    }
    let calling = call(&gateway, "hello", DEADLINE);
    let delivery = request(&mut worker).await;
    assert!(delivery.session.is_some_and(|it| it.entries.is_empty()));
    worker.end(
        &Delivery {
            session: None,
            ..delivery
        },
        Outcome::Done,
        vec![everyone("told")],
        ok("hello back"),
    );
    assert_eq!(reply(calling).await.unwrap(), "hello back");
    for client in &mut clients {
        let mut line = String::new();
        soon("the effect", client.read_line(&mut line))
            .await
            .unwrap();
        assert_eq!(line, "told\n");
    }
}

#[tokio::test]
async fn a_request_of_a_lost_worker_runs_again_elsewhere_and_happens_once() {
    let mut gateway = Running::start(1).await;
    let mut first = gateway.worker().await;
    let mut client = BufReader::new(gateway.client().await);
    first.welcome(|_| vec![]).await;
    let calling = call(&gateway, "", DEADLINE);
    let lost = request(&mut first).await;
    let mut second = gateway.worker().await;
    drop(first);
    let again = request(&mut second).await;
    assert_eq!(
        (again.event, again.attempt, again.losses),
        (lost.event, 1, 1)
    );
    assert!(!calling.is_finished());
    // Nothing of the first attempt counts.
    second.end(&lost, Outcome::Done, vec![everyone("stale")], ok("stale"));
    second.end(&again, Outcome::Done, vec![everyone("once")], ok("again"));
    second.end(&again, Outcome::Done, vec![everyone("twice")], ok("twice"));
    assert_eq!(reply(calling).await.unwrap(), "again");
    let calling = call(&gateway, "", DEADLINE);
    let last = request(&mut second).await;
    second.end(&last, Outcome::Done, vec![everyone("end")], ok(""));
    reply(calling).await.unwrap();
    for expected in ["once\n", "end\n"] {
        let mut line = String::new();
        soon("the effect", client.read_line(&mut line))
            .await
            .unwrap();
        assert_eq!(line, expected);
    }
}

#[tokio::test]
async fn a_request_that_is_given_back_is_sent_again() {
    let mut gateway = Running::start(1).await;
    let mut worker = gateway.worker().await;
    let calling = call(&gateway, "", DEADLINE);
    let first = request(&mut worker).await;
    worker.end(&first, Outcome::Returned, vec![], None);
    let again = request(&mut worker).await;
    assert_eq!((again.attempt, again.losses), (1, 0));
    worker.end(&again, Outcome::Done, vec![], ok("done"));
    assert_eq!(reply(calling).await.unwrap(), "done");
}

#[tokio::test]
async fn errors_of_the_handler_are_told_as_what_they_are() {
    let mut gateway = Running::start(1).await;
    let mut worker = gateway.worker().await;
    let cases = [
        (
            Outcome::Failed,
            Some(Reply::Failed("no".into())),
            RequestError::Failed("no".into()),
        ),
        (
            Outcome::Failed,
            Some(Reply::Unhandled),
            RequestError::Unhandled,
        ),
        (Outcome::DeadLettered, None, RequestError::DeadLettered),
    ];
    for (outcome, said, expected) in cases {
        let calling = call(&gateway, "", DEADLINE);
        let delivery = request(&mut worker).await;
        worker.end(&delivery, outcome, vec![], said);
        assert_eq!(reply(calling).await, Err(expected));
    }
}

#[tokio::test]
async fn a_request_without_a_worker_is_taken_off_at_its_deadline() {
    let mut gateway = Running::start(1).await;
    let calling = call(&gateway, "late", Duration::from_millis(50));
    assert_eq!(reply(calling).await, Err(RequestError::Timeout));
    eventually("the request's place is free", || {
        gateway.gateway.services.requests.held() == 0
    })
    .await;
    let calling = call(&gateway, "next", DEADLINE);
    let mut worker = gateway.worker().await;
    let delivery = request(&mut worker).await;
    let EventKind::Request { payload, .. } = &delivery.kind else {
        panic!("{delivery:?}");
    };
    assert_eq!(&payload[..], b"next");
    worker.end(&delivery, Outcome::Done, vec![], ok(""));
    reply(calling).await.unwrap();
}

#[tokio::test]
async fn a_request_whose_caller_is_gone_still_happens() {
    let mut gateway = Running::start(1).await;
    let mut worker = gateway.worker().await;
    let mut client = BufReader::new(gateway.client().await);
    worker.welcome(|_| vec![]).await;
    let calling = call(&gateway, "", Duration::from_millis(100));
    let delivery = request(&mut worker).await;
    assert_eq!(reply(calling).await, Err(RequestError::Timeout));
    assert_eq!(gateway.gateway.services.requests.held(), 1);
    worker.end(&delivery, Outcome::Done, vec![everyone("late")], ok(""));
    let mut line = String::new();
    soon("the effect", client.read_line(&mut line))
        .await
        .unwrap();
    assert_eq!(line, "late\n");
    eventually("the request's place is free", || {
        gateway.gateway.services.requests.held() == 0
    })
    .await;
}

#[tokio::test]
async fn two_callers_under_one_key_get_one_reply_of_one_run() {
    let mut gateway = Running::start(2).await;
    let mut worker = gateway.worker().await;
    let first = keyed(&gateway, 1, "pay", DEADLINE);
    let delivery = request(&mut worker).await;
    let second = keyed(&gateway, 1, "pay", DEADLINE);
    let other = keyed(&gateway, 1, "other", DEADLINE);
    assert_eq!(reply(other).await, Err(RequestError::Reused));
    assert!(!second.is_finished());
    worker.end(&delivery, Outcome::Done, vec![], ok("paid"));
    assert_eq!(reply(first).await.unwrap(), "paid");
    assert_eq!(reply(second).await.unwrap(), "paid");
    let later = keyed(&gateway, 1, "pay", DEADLINE);
    assert_eq!(reply(later).await.unwrap(), "paid");
    // A new key is a new request, and the next thing that the worker sees.
    let next = keyed(&gateway, 2, "pay", DEADLINE);
    let delivery = request(&mut worker).await;
    worker.end(
        &delivery,
        Outcome::Failed,
        vec![],
        Some(Reply::Failed("no".into())),
    );
    let failed = Err(RequestError::Failed("no".into()));
    assert_eq!(reply(next).await, failed);
    assert_eq!(reply(keyed(&gateway, 2, "pay", DEADLINE)).await, failed);
}

#[tokio::test]
async fn a_keyed_request_that_outlives_its_callers_deadline_keeps_its_reply() {
    let mut gateway = Running::start(1).await;
    let mut worker = gateway.worker().await;
    let first = keyed(&gateway, 1, "pay", Duration::from_millis(100));
    let delivery = request(&mut worker).await;
    assert_eq!(reply(first).await, Err(RequestError::Timeout));
    // The shard has looked at its deadlines since.
    let other = call(&gateway, "", Duration::from_millis(100));
    let other_delivery = request(&mut worker).await;
    assert_eq!(reply(other).await, Err(RequestError::Timeout));
    let second = keyed(&gateway, 1, "pay", DEADLINE);
    worker.end(&other_delivery, Outcome::Done, vec![], ok(""));
    worker.end(&delivery, Outcome::Done, vec![], ok("paid"));
    assert_eq!(reply(second).await.unwrap(), "paid");
}

#[tokio::test]
async fn a_keyed_request_that_nobody_ran_may_be_made_again() {
    let mut gateway = Running::start(1).await;
    let first = keyed(&gateway, 1, "pay", Duration::from_millis(50));
    assert_eq!(reply(first).await, Err(RequestError::Timeout));
    eventually("the key is free", || {
        gateway.gateway.services.requests.replies().is_empty()
    })
    .await;
    let again = keyed(&gateway, 1, "pay", DEADLINE);
    let mut worker = gateway.worker().await;
    let delivery = request(&mut worker).await;
    worker.end(&delivery, Outcome::Done, vec![], ok("paid"));
    assert_eq!(reply(again).await.unwrap(), "paid");
}

#[tokio::test]
async fn a_request_is_never_in_custody() {
    let mut gateway = Running::start(1).await;
    let mut first = gateway.worker().await;
    let calling = call(&gateway, "", DEADLINE);
    request(&mut first).await;
    let mut second = gateway.worker().await;
    drop(first);
    // Custody would be told before anything else.
    let GatewayFrame::Deliver(again) = second.frame().await else {
        panic!("not the event");
    };
    second.end(&again, Outcome::Done, vec![], ok(""));
    reply(calling).await.unwrap();
}

#[tokio::test]
async fn at_the_end_waiting_requests_are_refused_and_running_ones_finish() {
    let mut gateway = Running::start(1).await;
    let waiting = call(&gateway, "", DEADLINE);
    gateway.stop.cancel();
    assert_eq!(reply(waiting).await, Err(RequestError::Ending));
    soon("the end", &mut gateway.task).await.unwrap();
    let late = call(&gateway, "", DEADLINE);
    assert_eq!(reply(late).await, Err(RequestError::Ending));

    let mut gateway = Running::start(2).await;
    let mut worker = gateway.worker().await;
    let running = call(&gateway, "", DEADLINE);
    let delivery = request(&mut worker).await;
    let other = call(&gateway, "", DEADLINE);
    let other_delivery = request(&mut worker).await;
    gateway.stop.cancel();
    // New ones are refused at once: the end has begun.
    soon("the end to begin", async {
        while reply(call(&gateway, "", Duration::from_millis(20))).await
            != Err(RequestError::Ending)
        {}
    })
    .await;
    worker.end(&delivery, Outcome::Done, vec![], ok("finished"));
    assert_eq!(reply(running).await.unwrap(), "finished");
    // This one comes back while the gateway is ending.
    worker.end(&other_delivery, Outcome::Returned, vec![], None);
    assert_eq!(reply(other).await, Err(RequestError::Ending));
    soon("the end", &mut gateway.task).await.unwrap();
}

#[tokio::test]
async fn requests_over_the_bound_in_bytes_are_refused() {
    let gateway = Running::start(1).await;
    let big = || bytes::Bytes::from(vec![0; 40 << 20]);
    let access = gateway.gateway.access();
    let within = Duration::from_millis(300);
    let tenant = tenant();
    let (one, two) = tokio::join!(
        access.request(&tenant, "a".into(), big(), within),
        access.request(&tenant, "b".into(), big(), within),
    );
    assert_eq!(one, Err(RequestError::Timeout));
    assert!(matches!(two, Err(RequestError::Overloaded(_))), "{two:?}");
}
