//! Events go in, commits come out: all or nothing.

use tidegate_runtime::Limits;
use tidegate_wire::effect::{Effect, Outcome, Recipients, SessionChange};
use tidegate_wire::event::{EventKind, Message};

use crate::harness::{Home, client, close, connect, deploy, eventually, logged, said, settings};

#[tokio::test]
async fn effects_of_one_event_are_committed_in_order() {
    let deployment = deploy(settings("effects")).await;
    let home = Home::new();
    let commit = home
        .run(
            &deployment,
            client(1),
            "echo hi\njoin room\nbind ann\ngroup room all\nclose",
        )
        .await;
    assert_eq!(commit.outcome, Outcome::Done);
    assert_eq!(commit.client, client(1));
    let text = |text: &str| Message::Text(text.as_bytes().to_vec().into());
    let expected = vec![
        Effect::Send {
            to: Recipients::Client(client(1)),
            message: text("hi"),
            except: vec![],
        },
        Effect::JoinGroup {
            client: client(1),
            group: "room".into(),
        },
        Effect::BindUid {
            client: client(1),
            uid: "ann".into(),
        },
        Effect::Send {
            to: Recipients::Groups(vec!["room".into()]),
            message: text("all"),
            except: vec![client(1)],
        },
        Effect::Close {
            client: client(1),
            farewell: None,
            frame: None,
        },
    ];
    assert_eq!(commit.effects, expected);
}

#[tokio::test]
async fn connect_binary_and_close_reach_the_handler() {
    let deployment = deploy(settings("kinds")).await;
    let home = Home::new();
    let commit = home
        .commit_of(home.send(&deployment, client(1), 0, connect()))
        .await;
    assert_eq!(said(&commit), ["hello 127.0.0.1:5000 "]);
    let binary = EventKind::Message(Message::Binary(vec![0, 255, 7].into()));
    let commit = home
        .commit_of(home.send(&deployment, client(1), 0, binary))
        .await;
    assert!(matches!(
        &commit.effects[..],
        [Effect::Send { message: Message::Binary(bytes), .. }] if bytes[..] == [0, 255, 7]
    ));
    home.run(&deployment, client(1), "set name \"ann\"").await;
    let commit = home
        .commit_of(home.send(&deployment, client(1), 0, close()))
        .await;
    let said = said(&commit).join("");
    assert!(said.contains("left [\"g\"] last=\"ann\""), "{said}");
    assert!(
        said.contains("NotPermitted"),
        "no change of a closed client's session: {said}"
    );
    assert_eq!(commit.effects.len(), 1);
}

#[tokio::test]
async fn an_error_of_the_handler_drops_its_effects_and_is_logged() {
    let deployment = deploy(settings("refusing")).await;
    let home = Home::new();
    let commit = home
        .run(
            &deployment,
            client(1),
            "echo hi\nset k 1\nerr sorry about that",
        )
        .await;
    assert_eq!(commit.outcome, Outcome::Failed);
    assert!(commit.effects.is_empty());
    assert_eq!(logged(&["refusing", "WARN", "sorry about that"]).len(), 1);
    let commit = home.run(&deployment, client(1), "count\nget k").await;
    assert_eq!(said(&commit), ["1", "none"], "the instance lives on");
}

#[tokio::test]
async fn a_session_is_read_back_at_once_and_committed_key_by_key() {
    let deployment = deploy(settings("session")).await;
    let home = Home::new();
    let script =
        "set a 1\nset b {\"x\":1}\nget a\nmerge b {\"y\":2}\nget b\nremove a\nget a\nentries";
    let commit = home.run(&deployment, client(1), script).await;
    let expected = [
        "1",
        r#"{"x":1,"y":2}"#,
        "none",
        r#"[("b", "{\"x\":1,\"y\":2}")]"#,
    ];
    assert_eq!(said(&commit), expected);
    let changes: Vec<_> = commit
        .effects
        .iter()
        .filter_map(|effect| {
            if let Effect::Session { change, .. } = effect {
                Some(change.clone())
            } else {
                None
            }
        })
        .collect();
    assert!(matches!(
        &changes[..],
        [
            SessionChange::Set { .. },
            SessionChange::Set { .. },
            SessionChange::Merge { .. },
            SessionChange::Remove { .. },
        ]
    ));
    let commit = home
        .run(&deployment, client(1), "get b\nclear\nentries")
        .await;
    assert_eq!(
        said(&commit),
        [r#"{"x":1,"y":2}"#, "[]"],
        "the next event sees the commit"
    );
    assert!(home.session(client(1)).is_empty());
    let own = format!("set-of {} 5\nget k", client(1));
    assert_eq!(said(&home.run(&deployment, client(1), &own).await), ["5"]);
}

#[tokio::test]
async fn bad_arguments_are_refused_by_name() {
    let deployment = deploy(settings("arguments")).await;
    let home = Home::new();
    for (script, name, word) in [
        ("send 12zz hi", "arguments", "12zz"),
        ("join ", "arguments", "a group has 1 to 255 bytes"),
        ("set k {", "arguments", "not JSON"),
        ("set  1", "arguments", "a session key has"),
    ] {
        let commit = home.run(&deployment, client(1), script).await;
        assert_eq!(commit.outcome, Outcome::Failed, "{script}");
        assert_eq!(
            logged(&[name, "InvalidArgument", word]).len(),
            1,
            "{script}"
        );
    }
}

#[tokio::test]
async fn effects_are_limited_in_number_and_in_bytes() {
    let mut settings = settings("quota");
    settings.limits = Limits {
        effects_max: 10,
        effect_bytes_max: 1000,
        session_bytes_max: 100,
        ..Limits::default()
    };
    let deployment = deploy(settings).await;
    let home = Home::new();
    assert_eq!(
        said(&home.run(&deployment, client(1), "many 10").await).len(),
        10
    );
    for (script, word) in [
        ("many 11", "an event may have 10 effects"),
        ("large 1001", "may have 1000 bytes"),
        (
            &format!("set k \"{}\"", "x".repeat(100)),
            "a session may have 100 bytes",
        ),
    ] {
        let commit = home.run(&deployment, client(1), script).await;
        assert_eq!(commit.outcome, Outcome::Failed, "{script}");
        assert!(commit.effects.is_empty());
        assert_eq!(
            logged(&["quota", "QuotaExceeded", word]).len(),
            1,
            "{script}"
        );
    }
}

#[tokio::test]
async fn an_instance_knows_who_it_is_and_how_it_is_configured() {
    let mut settings = settings("identity");
    settings.config = serde_json::from_str(r#"{"text":"plain","list":[1,2]}"#).unwrap();
    let deployment = deploy(settings).await;
    let home = Home::new();
    let commit = home
        .run(
            &deployment,
            client(1),
            "who\nconfig text\nconfig list\nversion\nevent-id",
        )
        .await;
    let version = deployment.version().borrow().to_string();
    let expected = [
        "identity w1 0 [\"blue\"] 0",
        "plain",
        "[1,2]",
        &version,
        &commit.event.to_string(),
    ];
    assert_eq!(said(&commit), expected);
}

#[tokio::test]
async fn what_a_guest_prints_and_logs_is_in_the_log_with_its_tenant() {
    let deployment = deploy(settings("printing")).await;
    let home = Home::new();
    home.run(&deployment, client(1), "print one\nlog two").await;
    eventually("both lines are logged", || {
        logged(&["INFO", "printing", "one"]).len() == 1
            && logged(&["ERROR", "printing", "context=\"scripted\"", "two"]).len() == 1
    })
    .await;
}

#[tokio::test]
async fn output_over_the_limit_is_left_out_and_counted() {
    let mut settings = settings("chatty");
    settings.limits.log_bytes_per_second = 2000;
    let deployment = deploy(settings).await;
    let home = Home::new();
    let script = vec!["print spam"; 500].join("\n");
    home.run(&deployment, client(1), &script).await;
    assert!(logged(&["chatty", "spam"]).len() < 200);
    let said_so = || !logged(&["chatty", "left out", "suppressed="]).is_empty();
    for _ in 0..1000 {
        home.run(&deployment, client(1), "print more").await;
        if said_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the suppressed lines are not told");
}
