//! Who may come: the guest's verdict, checked, and nothing beside it.

use tidegate_runtime::Deployment;
use tidegate_wire::effect::{Commit, Outcome, Reply};
use tidegate_wire::event::{EventKind, HttpRequest, Message};
use tidegate_wire::handshake::SignIn;

use crate::harness::{Home, arrival, client, deploy, guest, plugin, runtime, settings, without};

async fn ask(deployment: &Deployment, said: SignIn) -> Commit {
    let home = Home::new();
    let arrival = arrival();
    let kind = EventKind::Handshake { arrival, said };
    let sequence = home.send(deployment, client(9), 0, kind);
    home.commit_of(sequence).await
}

fn query(pairs: &[(&str, &str)]) -> SignIn {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    SignIn::Request(Box::new(HttpRequest {
        query: pairs.collect(),
        ..HttpRequest::default()
    }))
}

fn first(text: &str) -> SignIn {
    SignIn::Message(Message::Text(text.as_bytes().to_vec().into()))
}

#[tokio::test]
async fn what_the_handler_says_is_the_reply_and_there_are_no_effects() {
    let deployment = deploy(settings("handshakes")).await;
    let said = [
        ("uid", "ann"),
        ("group", "g"),
        ("sub", "s"),
        ("header", "v"),
    ];
    let commit = ask(&deployment, query(&said)).await;
    assert_eq!((commit.outcome, commit.effects.len()), (Outcome::Done, 0));
    let Some(Reply::Accepted(accepted)) = commit.reply.as_deref() else {
        panic!("{commit:?}");
    };
    let peer = ("peer".into(), "\"127.0.0.1:5000\"".to_owned());
    assert_eq!(accepted.session, [peer]);
    assert_eq!(accepted.uid.as_deref(), Some("ann"));
    assert_eq!(accepted.groups, ["g".into()]);
    assert_eq!(accepted.subprotocol.as_deref(), Some("s"));
    assert_eq!(accepted.headers, [("x-header".to_owned(), "v".to_owned())]);

    let commit = ask(&deployment, query(&[("reject", "403")])).await;
    let Some(Reply::Rejected(rejected)) = commit.reply.as_deref() else {
        panic!("{commit:?}");
    };
    assert_eq!(
        (rejected.status, &rejected.body[..]),
        (403, &b"not you"[..])
    );

    let commit = ask(&deployment, first("uid=bob")).await;
    assert!(
        matches!(commit.reply.as_deref(), Some(Reply::Accepted(it)) if it.uid.as_deref() == Some("bob"))
    );
    let commit = ask(&deployment, first("reject=1")).await;
    assert!(
        matches!(commit.reply.as_deref(), Some(Reply::Rejected(it)) if it.body[..] == *b"not you")
    );

    let commit = ask(&deployment, query(&[("effect", "")])).await;
    assert!(commit.effects.is_empty(), "{commit:?}");
    assert!(matches!(commit.reply.as_deref(), Some(Reply::Accepted(it))
        if it.uid.as_deref().is_some_and(|uid| uid.contains("NotPermitted"))));
}

#[tokio::test]
async fn a_verdict_that_makes_no_sense_lets_nobody_in() {
    let deployment = deploy(settings("odd-handshakes")).await;
    for said in [
        query(&[("uid", "")]),
        query(&[("group", &"g".repeat(256))]),
        query(&[("key", "no json")]),
        query(&[("reject", "200")]),
        first("uid="),
    ] {
        let commit = ask(&deployment, said).await;
        assert_eq!(commit.outcome, Outcome::Failed, "{commit:?}");
        assert!(
            matches!(commit.reply.as_deref(), Some(Reply::Failed(_))),
            "{commit:?}"
        );
    }
    let commit = ask(&deployment, query(&[("trap", "")])).await;
    assert_eq!(commit.outcome, Outcome::DeadLettered);
}

#[tokio::test]
async fn a_plugin_that_does_not_decide_who_may_come_says_so() {
    let plugin = plugin(without(guest(), "handshake-events")).await;
    let deployment = Deployment::start(&runtime(), plugin, settings("no-handshakes"))
        .await
        .unwrap();
    let commit = ask(&deployment, query(&[])).await;
    assert_eq!(commit.outcome, Outcome::Failed);
    assert_eq!(commit.reply.as_deref(), Some(&Reply::Unhandled));
}
