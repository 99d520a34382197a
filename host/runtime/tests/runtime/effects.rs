//! Events go in, commits come out: all or nothing.

use tidegate_runtime::{Deployment, Limits};
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients, SessionChange};
use tidegate_wire::event::{EventKind, Message};
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::timer::TimerId;

use crate::harness::{
    Home, client, close, connect, deploy, eventually, guest, logged, plugin, request, runtime,
    said, settings, without,
};

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
    assert_eq!(commit.effects.len(), 2, "a timer and what it said");
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

fn timer_of(client: Option<ClientId>, sequence: u64, nth: u32) -> TimerId {
    let event = EventId {
        gateway: Incarnation(7),
        shard: 0,
        sequence,
    };
    TimerId { client, event, nth }
}

/// The timers that a commit sets: which, after how long, whether again, and with what.
fn timers(commit: &Commit) -> Vec<(TimerId, u64, bool, String)> {
    let set = commit.effects.iter().filter_map(|effect| {
        if let Effect::SetTimer {
            timer,
            delay_ms,
            repeats,
            payload,
        } = effect
        {
            let payload = String::from_utf8_lossy(payload).into_owned();
            return Some((**timer, *delay_ms, *repeats, payload));
        }
        None
    });
    set.collect()
}

#[tokio::test]
async fn timers_are_named_by_the_event_that_sets_them() {
    let deployment = deploy(settings("timers")).await;
    let home = Home::new();
    let own = |sequence, nth| timer_of(Some(client(1)), sequence, nth);
    let script = "after 20 echo late\nevery 5 echo again";
    let commit = home.run(&deployment, client(1), script).await;
    let sequence = commit.event.sequence;
    let expected = [
        (own(sequence, 0), 20, false, "echo late".to_owned()),
        (own(sequence, 1), 5, true, "echo again".to_owned()),
    ];
    assert_eq!(timers(&commit), expected);
    let named = [0, 1].map(|nth| own(sequence, nth).to_string());
    assert_eq!(said(&commit), named, "what the handler was given");

    let cancel = format!("cancel {}", named[0]);
    let commit = home.run(&deployment, client(2), &cancel).await;
    let timer = Box::new(own(sequence, 0));
    assert_eq!(commit.effects, [Effect::CancelTimer { timer }]);
    let commit = home.run(&deployment, client(1), "cancel nothing").await;
    assert_eq!(commit.outcome, Outcome::Failed, "{commit:?}");

    // Whose client is gone, or who has none, sets timers of the tenant.
    let commit = home
        .commit_of(home.send(&deployment, client(1), 0, close()))
        .await;
    let of_tenant = timer_of(None, commit.event.sequence, 0);
    assert_eq!(timers(&commit)[0].0, of_tenant);
    let commit = home
        .commit_of(home.send(&deployment, client(3), 0, request("after", "x")))
        .await;
    let of_tenant = timer_of(None, commit.event.sequence, 0);
    assert_eq!(timers(&commit), [(of_tenant, 7, false, "x".to_owned())]);
}

#[tokio::test]
async fn timers_and_buffers_reach_the_handler() {
    let deployment = deploy(settings("timer-events")).await;
    let home = Home::new();
    let event = |client, kind| home.commit_of(home.send(&deployment, client, 0, kind));
    let run_out = |timer: TimerId| EventKind::Timer {
        timer: Box::new(timer),
        payload: b"echo it is time".to_vec().into(),
    };
    let own = timer_of(Some(client(1)), 5, 0);
    let commit = event(client(1), run_out(own)).await;
    assert_eq!(said(&commit), ["it is time"]);
    let commit = event(client(9), run_out(timer_of(None, 5, 0))).await;
    let told = said(&commit).join("");
    assert!(
        told.starts_with("timer 0000000000000007-0-5-0: echo it is time, Err(Error::NotPermitted"),
        "{told}"
    );
    let commit = event(client(1), EventKind::BufferFull { bytes: 70 }).await;
    assert_eq!(said(&commit), ["full: 70"]);
    let commit = event(client(1), EventKind::BufferDrain).await;
    assert_eq!(said(&commit), ["drained"]);
}

#[tokio::test]
async fn what_a_plugin_does_not_export_is_done_without_it() {
    let bytes = without(guest(), "timer-events");
    let bytes = without(bytes, "handshake-events");
    let bytes = without(bytes, "peer-events");
    let bytes = without(bytes, "task-events");
    let plugin = plugin(without(bytes, "buffer-events")).await;
    let exports = plugin.exports();
    assert_eq!(exports.len(), 5, "{exports:?}");
    let deployment = Deployment::start(&runtime(), plugin, settings("no-timers"))
        .await
        .unwrap();
    let home = Home::new();
    for kind in [
        EventKind::Timer {
            timer: Box::new(timer_of(Some(client(1)), 5, 0)),
            payload: vec![].into(),
        },
        EventKind::BufferFull { bytes: 70 },
        EventKind::BufferDrain,
    ] {
        let commit = home
            .commit_of(home.send(&deployment, client(1), 0, kind))
            .await;
        assert_eq!((commit.outcome, commit.reply), (Outcome::Done, None));
    }
}
