//! Requests by HTTP: what the guest answers, whole, with the effects of its event, and what becomes of
//! answers that are none.

use tidegate_runtime::Deployment;
use tidegate_wire::effect::{Commit, Outcome, Reply};
use tidegate_wire::event::EventKind;
use tidegate_wire::http::{HttpAnswer, HttpCall};

use crate::harness::{
    Home, arrival, client, deploy, guest, plugin, runtime, said, settings, without,
};

async fn ask(deployment: &Deployment, method: &str, target: &str, body: &[u8]) -> Commit {
    let home = Home::new();
    let call = HttpCall {
        method: method.into(),
        target: target.to_owned(),
        authority: "here:80".to_owned(),
        headers: vec![("x-own".to_owned(), vec![0xff])],
        body: body.to_vec().into(),
    };
    let kind = EventKind::Http {
        arrival: arrival(),
        call: Box::new(call),
    };
    let sequence = home.send(deployment, client(9), 0, kind);
    home.commit_of(sequence).await
}

async fn get(deployment: &Deployment, target: &str) -> Commit {
    ask(deployment, "GET", target, b"").await
}

fn answer(commit: &Commit) -> &HttpAnswer {
    assert_eq!(commit.outcome, Outcome::Done, "{commit:?}");
    match commit.reply.as_deref() {
        Some(Reply::Http(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// Why there is no answer, and that nothing else has happened.
fn refused(commit: &Commit) -> &str {
    assert_eq!(commit.outcome, Outcome::Failed, "{commit:?}");
    assert!(commit.effects.is_empty(), "{commit:?}");
    match commit.reply.as_deref() {
        Some(Reply::Failed(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_handed_in_whole_and_its_answer_comes_with_the_effects() {
    let deployment = deploy(settings("http")).await;
    assert!(deployment.takes_http());
    let body = vec![b'b'; 300_000];
    let commit = ask(&deployment, "POST", "/echo?a=%20b", &body).await;
    let answered = answer(&commit);
    assert_eq!(answered.status, 200);
    // Who asks has a peer, and is no client.
    let head = b"Method::Post /echo?a=%20b 127.0.0.1:5000 true ";
    assert_eq!(answered.body[..], [&head[..], &body].concat());

    let commit = ask(&deployment, "PURGE", "/tell?hello", b"").await;
    assert_eq!(said(&commit), ["hello"]);
    let answered = answer(&commit);
    let line = ("x-tell".to_owned(), b"hello".to_vec());
    assert_eq!(
        (answered.headers.as_slice(), &answered.body[..]),
        (&[line][..], &b"told"[..])
    );
    assert_eq!(answer(&get(&deployment, "/other").await).status, 404);
}

#[tokio::test]
async fn a_large_answer_is_collected_while_the_guest_writes_it() {
    let deployment = deploy(settings("large-http")).await;
    let commit = get(&deployment, "/large?3000000").await;
    assert_eq!(answer(&commit).body.len(), 3_000_000);
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused_with_what_is_wrong() {
    let mut settings = settings("odd-http");
    settings.limits.effect_bytes_max = 100_000;
    let deployment = deploy(settings).await;
    for (target, what) in [
        ("/status?150", "the status 150"),
        ("/status?101", "the status 101"),
        ("/status?999", "the status 999"),
        ("/large?200000", "larger than 100000 bytes"),
        ("/unfinished", "another length than it has said, or no end"),
        ("/short", "another length than it has said, or no end"),
        ("/forgotten", "without finishing its answer"),
        ("/none", "it has given no answer"),
        ("/error", "HttpProtocolError"),
    ] {
        let commit = get(&deployment, target).await;
        let why = refused(&commit);
        assert!(why.contains(what), "{target}: {why}");
    }
    // What belongs to the connection, and what is no name, the guest is told at once.
    let commit = get(&deployment, "/header").await;
    let told = String::from_utf8_lossy(&answer(&commit).body).into_owned();
    assert!(
        told.contains("Forbidden") && told.contains("InvalidSyntax"),
        "{told}"
    );
    // The instance is as good as before.
    assert_eq!(answer(&get(&deployment, "/large?5").await).body.len(), 5);
}

#[tokio::test]
async fn who_traps_behind_its_answer_has_not_answered() {
    let mut settings = settings("trapping-http");
    settings.limits.wall_ms = 300;
    let deployment = deploy(settings).await;
    for target in ["/trap", "/loop"] {
        let commit = get(&deployment, target).await;
        assert_eq!(commit.outcome, Outcome::DeadLettered, "{target}");
        assert!(commit.reply.is_none() && commit.effects.is_empty());
    }
    assert_eq!(answer(&get(&deployment, "/status?204").await).status, 204);
}

#[tokio::test]
async fn a_plugin_that_takes_no_requests_by_http_says_so() {
    let plugin = plugin(without(guest(), "incoming-handler")).await;
    let deployment = Deployment::start(&runtime(), plugin, settings("no-http"))
        .await
        .unwrap();
    assert!(!deployment.takes_http());
    let commit = get(&deployment, "/echo").await;
    assert_eq!(commit.outcome, Outcome::Failed);
    assert_eq!(commit.reply.as_deref(), Some(&Reply::Unhandled));
}
