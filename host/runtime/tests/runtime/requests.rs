//! Calls from outside: no client is asking, and somebody waits for the reply.

use tidegate_runtime::Deployment;
use tidegate_wire::effect::{Commit, Effect, Outcome, Reply};

use crate::harness::{
    Home, client, deploy, guest, logged, plugin, request, runtime, settings, without,
};

async fn call(deployment: &Deployment, name: &str, payload: &str) -> Commit {
    let home = Home::new();
    let sequence = home.send(deployment, client(1), 0, request(name, payload));
    home.commit_of(sequence).await
}

fn reply(commit: &Commit) -> String {
    assert_eq!(commit.outcome, Outcome::Done, "{commit:?}");
    match commit.reply.as_deref() {
        Some(Reply::Ok(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("no reply: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_answered_and_its_effects_go_with_the_reply() {
    let deployment = deploy(settings("requests")).await;
    assert_eq!(reply(&call(&deployment, "echo", "hi").await), "hi");
    let commit = call(&deployment, "tell-all", "hello").await;
    assert_eq!(reply(&commit), "0000000000000007-0-0", "its event id");
    assert!(matches!(&commit.effects[..], [Effect::Send { .. }]));
}

#[tokio::test]
async fn an_error_goes_to_the_caller_without_effects() {
    let deployment = deploy(settings("failing-requests")).await;
    let commit = call(&deployment, "fail", "not today").await;
    assert_eq!(commit.outcome, Outcome::Failed);
    assert_eq!(
        commit.reply,
        Some(Box::new(Reply::Failed("not today".to_owned())))
    );
    assert_eq!(logged(&["failing-requests", "WARN", "not today"]).len(), 1);
}

#[tokio::test]
async fn a_request_that_breaks_twice_is_set_aside_without_a_reply() {
    let deployment = deploy(settings("trapping-requests")).await;
    let commit = call(&deployment, "trap", "").await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
    assert_eq!(commit.reply, None);
    assert_eq!(deployment.dead_letters()[0].kind, "request");
}

#[tokio::test]
async fn a_request_has_no_session_and_may_ask() {
    let deployment = deploy(settings("asking-requests")).await;
    let session = reply(&call(&deployment, "session", "").await);
    assert!(
        session.contains("NotPermitted(\"a request has no client"),
        "{session}"
    );
    let asked = reply(&call(&deployment, "ask", "gateways").await);
    assert!(asked.contains("taken over"), "{asked}");
}

#[tokio::test]
async fn a_reply_is_bounded() {
    let mut settings = settings("large-replies");
    settings.limits.effect_bytes_max = 1_000;
    let deployment = deploy(settings).await;
    assert_eq!(
        reply(&call(&deployment, "large", "1000").await).len(),
        1_000
    );
    let commit = call(&deployment, "large", "1001").await;
    let Some(Reply::Failed(text)) = commit.reply.as_deref() else {
        panic!("{commit:?}");
    };
    assert!(text.contains("the reply has 1001 bytes"), "{text}");
}

#[tokio::test]
async fn a_plugin_that_takes_no_requests_says_so() {
    let plugin = plugin(without(guest(), "request-events")).await;
    assert!(!plugin.exports().iter().any(|it| it.contains("request")));
    let settings = settings("no-requests");
    let deployment = Deployment::start(&runtime(), plugin, settings)
        .await
        .unwrap();
    let commit = call(&deployment, "echo", "hi").await;
    assert_eq!(commit.outcome, Outcome::Failed);
    assert_eq!(commit.reply, Some(Box::new(Reply::Unhandled)));
}
