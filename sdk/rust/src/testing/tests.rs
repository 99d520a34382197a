//! What handlers may rely on, checked on the fake; the host's own tests say the same of the host.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::prelude::*;
use crate::testing::{Gateway, event};

mod asking;
mod peers;

type Script = Box<dyn FnMut(Client) -> Result>;

thread_local! {
    static SCRIPT: RefCell<Option<Script>> = const { RefCell::new(None) };
    static CLOSED: RefCell<Vec<(Client, Closed)>> = const { RefCell::new(Vec::new()) };
}

/// A handler that does what the test says.
#[derive(Default)]
struct Scripted;

#[crate::handler]
impl Handler for Scripted {
    fn on_message(&mut self, client: Client, _: Message) -> Result {
        let script = SCRIPT.take();
        script.map_or(Ok(()), |mut script| script(client))
    }

    fn on_close(&mut self, client: Client, closed: Closed) -> Result {
        CLOSED.with_borrow_mut(|told| told.push((client, closed)));
        let changed = session::set("late", &1);
        assert!(matches!(
            changed.unwrap_err().refused(),
            Some(Refused::NotPermitted(_))
        ));
        Ok(())
    }
}

/// Runs `script` in an event of this client.
fn during(
    gateway: &mut Gateway<Scripted>,
    client: Client,
    script: impl FnMut(Client) -> Result + 'static,
) -> Result {
    SCRIPT.set(Some(Box::new(script)));
    gateway.send(client, "go")
}

fn two() -> (Gateway<Scripted>, Client, Client) {
    let mut gateway = Gateway::start().unwrap();
    let a = gateway.connect().unwrap();
    let b = gateway.connect().unwrap();
    (gateway, a, b)
}

#[test]
fn effects_of_a_failed_event_are_dropped() {
    let (mut gateway, a, b) = two();
    let failed = during(&mut gateway, a, move |a| {
        a.join("g")?;
        b.send("x")?;
        session::set("k", &1)?;
        a.close()?;
        bail!("no")
    });
    assert_eq!(failed.unwrap_err().to_string(), "no");
    assert!(gateway.groups(a).is_empty());
    assert!(gateway.received(b).is_empty());
    assert!(gateway.session(a).is_empty());
    assert!(gateway.is_connected(a));
}

#[test]
fn no_client_gets_one_send_twice_and_exceptions_get_none() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, a, move |a| {
        for client in [a, b] {
            client.join("g")?;
            client.join("h")?;
            client.bind_uid("u")?;
        }
        gateway::to_groups(&["g", "h"]).send("groups")?;
        gateway::to_uids(&["u", "u"]).except(&a).send("uids")?;
        gateway::to_clients(&[b, b]).send("clients")?;
        gateway::to_clients(&[]).send("nobody")?;
        a.to().except_all(&[a]).send("not even a")
    })
    .unwrap();
    assert_eq!(gateway.received(a), [Message::from("groups")]);
    let expected = ["groups", "uids", "clients"].map(Message::from);
    assert_eq!(gateway.received(b), expected);
}

#[test]
fn a_closed_client_is_told_once_with_what_it_was() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, b, move |b| {
        b.bind_uid("u")?;
        b.join("g2")?;
        b.join("g1")?;
        b.close_with("bye")?;
        gateway::close_uid("u", Some("bye again".into()))?;
        // Not sent any more, but what it is until the event is done is told.
        b.send("too late")?;
        b.join("g3")
    })
    .unwrap();
    assert_eq!(gateway.received(b), [Message::from("bye")]);
    let closed = Closed {
        reason: CloseReason::Server,
        uid: Some("u".to_owned()),
        groups: ["g1", "g2", "g3"].map(str::to_owned).to_vec(),
    };
    assert_eq!(CLOSED.take(), [(b, closed)]);
    assert_eq!(gateway.connected(), [a]);
    let late = gateway.send(b, "x").unwrap_err();
    assert_eq!(late.refused(), Some(&Refused::Offline));
}

#[test]
fn a_destroyed_client_loses_what_the_event_has_sent_it() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, a, move |_| b.send("before")).unwrap();
    during(&mut gateway, a, move |_| {
        b.send("queued")?;
        b.close_with("bye")?;
        b.destroy()
    })
    .unwrap();
    assert_eq!(gateway.received(b), [Message::from("before")]);
    assert_eq!(CLOSED.take().len(), 1);
}

#[test]
fn a_line_with_a_newline_is_not_sent_to_a_client_of_lines() {
    let (mut gateway, a, _) = two();
    let lines = Peer {
        transport: Transport::TextLines,
        ..Peer::default()
    };
    let b = gateway.connect_with(lines, None).unwrap();
    during(&mut gateway, a, |_| {
        gateway::to_all().send("two\nlines")?;
        gateway::to_all().send("one line")
    })
    .unwrap();
    assert_eq!(gateway.received(b), [Message::from("one line")]);
    assert_eq!(gateway.received(a).len(), 2);
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Typed {
    name: String,
    visits: u32,
    tags: Vec<String>,
}

#[test]
fn a_typed_session_is_loaded_and_stored_field_by_field() {
    let (mut gateway, a, _) = two();
    gateway
        .set_session(a, &json!({"visits": 2, "other": {"deep": true}}))
        .unwrap();
    during(&mut gateway, a, |_| {
        let mut typed: Typed = session::load()?;
        assert_eq!(typed.visits, 2);
        typed.visits += 1;
        typed.tags.push("x".to_owned());
        session::store(&typed)?;
        assert_eq!(session::get::<u32>("visits")?, Some(3));
        Ok(())
    })
    .unwrap();
    let session = gateway.session(a);
    assert_eq!(session["visits"], 3);
    assert_eq!(session["tags"], json!(["x"]));
    assert_eq!(session["other"], json!({"deep": true}));
}

#[test]
fn storing_writes_only_what_differs() {
    let (mut gateway, a, _) = two();
    gateway
        .set_session(a, &json!({"name": "ann", "tags": [], "visits": 1}))
        .unwrap();
    during(&mut gateway, a, |_| {
        let mut typed: Typed = session::load()?;
        typed.visits = 9;
        session::store(&typed)?;
        // One effect: a field that was not touched must not undo another writer.
        assert_eq!(event::peek(|event| event.effects.len()), Some(1));
        Ok(())
    })
    .unwrap();
    assert_eq!(gateway.session(a)["visits"], 9);
}

#[test]
fn sessions_of_others_are_replaced_merged_and_deleted() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, a, move |_| {
        b.set_session(&json!({"k": {"x": 1}}))?;
        b.merge_session(&json!({"k": {"y": 2}}))?;
        b.update_session(&json!({"l": 3}))
    })
    .unwrap();
    assert_eq!(gateway.session(b)["k"], json!({"x": 1, "y": 2}));
    assert_eq!(gateway.session(b)["l"], 3);
    during(&mut gateway, a, move |_| b.delete_session()).unwrap();
    assert!(gateway.session(b).is_empty());
}

#[test]
fn numbers_keep_every_digit_when_sessions_are_changed_merged_and_compared() {
    let (mut gateway, a, b) = two();
    let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
    let long = "123456789012345678901234567890";
    let object = raw(&format!(r#"{{"n":{long}}}"#));
    during(&mut gateway, a, move |_| {
        b.set_session(&BTreeMap::from([("k", object.clone()), ("n", raw(long))]))?;
        b.merge_session(&json!({"k": {"y": 2}}))
    })
    .unwrap();
    let session = gateway.world.shard.session(&b);
    let merged = format!(r#"{{"n":{long},"y":2}}"#);
    assert_eq!(session.get("k"), Some(merged.as_str()));
    assert_eq!(session.get("n"), Some(long));
    during(&mut gateway, a, move |_| {
        let other = "123456789012345678901234567891";
        let refused = directory::compare_and_set_json(&b, "n", Some(other), Some("1"));
        assert!(matches!(
            refused.unwrap_err().refused(),
            Some(Refused::Conflict)
        ));
        directory::compare_and_set_json(&b, "n", Some(long), Some("1"))
    })
    .unwrap();
}

#[test]
fn a_session_has_a_limit_and_a_change_is_made_whole_or_not_at_all() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, a, move |a| {
        let large = "x".repeat(40_000);
        let too_large = |result: Result| {
            let error = result.unwrap_err();
            assert!(matches!(error.refused(), Some(Refused::QuotaExceeded(_))));
        };
        a.update_session(&json!({"a": large}))?;
        too_large(a.update_session(&json!({"b": 1, "c": large})));
        assert_eq!(session::get::<u32>("b")?, None);
        too_large(a.set_session(&json!({"a": large, "b": large})));
        too_large(b.set_session(&json!({"a": large, "b": large})));
        // Too large by itself, then only beside what is committed.
        too_large(a.compare_and_set("b", None::<&()>, Some(&"x".repeat(70_000))));
        a.compare_and_set("b", None::<&()>, Some(&large))?;
        too_large(a.compare_and_set("c", None::<&()>, Some(&large)));
        a.compare_and_set("b", Some(&large), None::<&()>)
    })
    .unwrap();
    let keys: Vec<String> = gateway.session(a).into_keys().collect();
    assert_eq!(keys, ["a"]);
    let large = "x".repeat(70_000);
    assert!(gateway.set_session(b, &json!({"k": large})).is_err());
}

#[test]
fn a_client_is_in_a_thousand_groups_at_most() {
    let (mut gateway, a, _) = two();
    during(&mut gateway, a, |a| {
        (0..1001).try_for_each(|number| a.join(&format!("g{number}")))
    })
    .unwrap();
    assert_eq!(gateway.groups(a).len(), 1000);
}

#[test]
fn arguments_are_checked_at_once() {
    let (mut gateway, a, _) = two();
    during(&mut gateway, a, |a| {
        let long = "x".repeat(256);
        let refused = [
            a.join(""),
            a.bind_uid(&long),
            gateway::to_group(&long).send("x"),
            gateway::to_uids(&["u", ""]).send("x"),
            session::set_json("k", "{"),
            session::set(&long, &1),
            a.set_session(&[1]),
        ];
        assert!(refused.iter().all(Result::is_err));
        let error = a.join("").unwrap_err();
        assert!(
            matches!(error.refused(), Some(Refused::InvalidArgument(_))),
            "{error}"
        );
        a.join(&"x".repeat(255))
    })
    .unwrap();
}

#[test]
fn nothing_is_permitted_outside_an_event() {
    let (_, a, _) = two();
    for result in [
        a.send("x"),
        a.join("g"),
        session::set("k", &1),
        session::clear(),
    ] {
        assert!(matches!(
            result.unwrap_err().refused(),
            Some(Refused::NotPermitted(_))
        ));
    }
    assert_eq!(worker::event_id(), "");
}

#[derive(Debug)]
struct Picky;

#[crate::handler]
impl Handler for Picky {
    fn on_start(config: &Config) -> Result<Self> {
        assert!(gateway::to_all().send("x").is_err());
        assert_eq!(config::get("limit")?, Some("3".to_owned()));
        match config.get::<u32>("limit")? {
            Some(3) => Ok(Self),
            other => bail!("limit is {other:?}, 3 is expected"),
        }
    }
}

#[test]
fn a_handler_may_refuse_its_configuration() {
    assert!(Gateway::<Picky>::start_with(r#"{"limit":3}"#).is_ok());
    let refused = Gateway::<Picky>::start_with("[]").err().unwrap();
    assert!(refused.to_string().contains("no JSON object"), "{refused}");
}

#[test]
fn a_handler_closes_with_a_code_that_applications_may_use() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, a, move |_| {
        for code in [999, 1001, 2999, 5000] {
            let refused = b.closing().code(code, "").close().unwrap_err();
            let invalid = matches!(refused.refused(), Some(Refused::InvalidArgument(_)));
            assert!(invalid, "{code}");
        }
        b.closing().code(4003, "banned").farewell("bye").close()
    })
    .unwrap();
    assert_eq!(gateway.received(b), [Message::from("bye")]);
    let reason = "banned".to_owned();
    assert_eq!(
        gateway.close_frame(b),
        Some(CloseFrame { code: 4003, reason })
    );
}

#[test]
fn of_what_is_sent_under_a_key_in_one_event_the_last_goes_out_in_the_first_ones_place() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, a, move |_| {
        b.to().latest("k").send("old")?;
        b.send("between")?;
        b.to().latest("k").send("new")
    })
    .unwrap();
    assert_eq!(gateway.received(b), ["new", "between"].map(Message::from));
}
