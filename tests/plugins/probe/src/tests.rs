//! The protocol of `README.md`, natively. What traps and loops needs the host.

use serde_json::{Value, json};
use tidegate_sdk::prelude::*;
use tidegate_sdk::testing::Gateway;

use crate::Probe;

/// A gateway with a client of uid `ann` in groups `g` and `h`, and one that is nobody.
fn start() -> (Gateway<Probe>, Client, Client) {
    let mut gateway = Gateway::<Probe>::start().unwrap();
    let ann = gateway.connect_to("/?uid=ann&group=g&group=h").unwrap();
    let other = gateway.connect().unwrap();
    for client in [ann, other] {
        assert_eq!(gateway.received(client), [Message::from(client.as_str())]);
    }
    (gateway, ann, other)
}

fn ask(gateway: &mut Gateway<Probe>, client: Client, request: &Value) -> Value {
    gateway.send(client, request.to_string()).unwrap();
    let mut received = gateway.received(client);
    let answer = received.pop().unwrap();
    answer.json().unwrap()
}

#[test]
fn steps_of_one_event_see_each_other_and_an_error_is_one_result() {
    let (mut gateway, ann, other) = start();
    let request = json!({"do": [
        {"op": "join_group", "client": "me", "group": "new"},
        {"op": "client_count", "of": [{"groups": ["new"]}]},
        {"op": "is_online", "client": "nobody"},
        {"op": "what"},
        {"op": "clients", "of": [{"clients": [other]}, {"uids": ["ann"]}], "limit": 1},
    ]});
    let answer = ask(&mut gateway, ann, &request);
    let ok = &answer["ok"];
    assert_eq!(ok[0], Value::Null);
    assert_eq!(ok[1], json!({"count": 1, "missing": []}));
    for wrong in [&ok[2], &ok[3]] {
        let error = wrong["error"].as_str().unwrap();
        assert!(error.starts_with("invalid-argument: "), "{error}");
    }
    assert_eq!(ok[4]["items"], json!([ann]));
    assert!(ok[4]["next"].is_string());
}

#[test]
fn an_event_that_is_told_to_fail_leaves_nothing_and_answers_nothing() {
    let (mut gateway, ann, _) = start();
    let join = json!({"op": "join_group", "client": "me", "group": "new"});
    let failing = json!({"do": [join], "then": "fail"});
    assert!(gateway.send(ann, failing.to_string()).is_err());
    assert!(gateway.received(ann).is_empty());
    assert_eq!(gateway.groups(ann), ["g", "h"]);
    let quiet = json!({"do": [join], "quiet": true});
    gateway.send(ann, quiet.to_string()).unwrap();
    assert!(gateway.received(ann).is_empty());
    assert_eq!(gateway.groups(ann), ["g", "h", "new"]);
}

#[test]
fn every_send_reaches_its_recipients_in_its_kind() {
    let (mut gateway, ann, other) = start();
    let sends = json!({"do": [
        {"op": "send_to_client", "client": ann, "message": "1"},
        {"op": "send_to_clients", "clients": [ann, other], "message": "2", "except": [other]},
        {"op": "send_to_uids", "uids": ["ann"], "message": {"binary": "/w=="}},
        {"op": "send_to_groups", "groups": ["g", "h"], "message": "4"},
        {"op": "send_to_all", "message": "5", "except": ["me"]},
        {"op": "send_raw", "to": {"groups": ["g"]}, "text": "6"},
        {"op": "close_uid", "uid": "ann", "farewell": "bye"},
    ], "quiet": true});
    gateway.send(other, sends.to_string()).unwrap();
    let expected = [
        Message::from("1"),
        "2".into(),
        Message::Binary(vec![0xff]),
        "4".into(),
        "5".into(),
        "bye".into(),
    ];
    assert_eq!(gateway.received(ann), expected);
    assert_eq!(gateway.received_raw(ann), [b"6"]);
    assert!(gateway.received(other).is_empty());
}

#[test]
fn a_close_is_told_to_the_watchers() {
    let (mut gateway, ann, other) = start();
    gateway.close(other).unwrap();
    let watcher = gateway.connect_to("/?group=watchers").unwrap();
    gateway.received(watcher);
    gateway.close(ann).unwrap();
    let told = format!("closed:{ann}:client:ann:g,h");
    assert_eq!(gateway.received(watcher), [Message::from(told)]);
}

#[test]
fn a_client_has_the_shape_of_the_client_api() {
    let (mut gateway, ann, other) = start();
    let set = json!({"op": "set_session", "client": ann, "entries": {"k": {"a": [1]}, "n": null}});
    assert_eq!(ask(&mut gateway, other, &set), json!({"ok": null}));
    let fields = json!(["peer", "uid", "groups", "session", "times", "traffic"]);
    let info = json!({"op": "info", "client": ann, "fields": fields});
    let mut info = ask(&mut gateway, other, &info)["ok"].take();
    assert!(info["connected_at"].take().is_u64());
    assert!(info["bytes_out"].take().is_u64());
    let expected = json!({
        "client": ann,
        "peer": {"address": "127.0.0.1:50000", "transport": "web-socket",
                 "listener": "testing", "secure": false},
        "uid": "ann", "groups": ["g", "h"], "session": {"k": {"a": [1]}, "n": null},
        "connected_at": null, "last_message_at": null, "bytes_in": 0, "bytes_out": null,
    });
    assert_eq!(info, expected);
    let session = json!({"op": "session_of", "client": ann});
    let session = ask(&mut gateway, other, &session);
    assert_eq!(session["ok"], json!({"k": {"a": [1]}, "n": null}));
}

#[test]
fn compare_and_set_tells_absent_from_null() {
    let (mut gateway, ann, _) = start();
    let mut cas = |arguments: Value| {
        let mut step = json!({"op": "compare_and_set_session", "client": "me", "key": "k"});
        for (name, value) in arguments.as_object().unwrap() {
            step[name] = value.clone();
        }
        ask(&mut gateway, ann, &step)
    };
    assert_eq!(
        cas(json!({"expected": null, "new": 1}))["error"],
        "conflict"
    );
    assert_eq!(cas(json!({"new": null}))["ok"], Value::Null);
    assert_eq!(cas(json!({"new": 1}))["error"], "conflict");
    assert_eq!(cas(json!({"expected": null, "new": 1}))["ok"], Value::Null);
    assert_eq!(gateway.session(ann)["k"], 1);
}

#[test]
fn commands_answer_for_each_gateway() {
    let (mut gateway, ann, _) = start();
    gateway.answer_commands(|name, payload| match name {
        "echo" => Ok(payload.to_owned()),
        _ => bail!("no"),
    });
    let mut wait = |name: &str| {
        let step = json!({"op": "command_wait", "name": name, "text": "x"});
        ask(&mut gateway, ann, &step)["ok"][0].take()
    };
    assert_eq!(wait("echo")["text"], "x");
    assert_eq!(wait("what")["error"], "other: no");
}

#[test]
fn a_request_runs_steps_without_a_client() {
    let (mut gateway, ann, _) = start();
    assert_eq!(gateway.request("echo", "x").unwrap(), b"x");
    assert_eq!(
        gateway.request("fail", "why").unwrap_err().to_string(),
        "why"
    );
    let steps = json!({"do": [
        {"op": "send_to_all", "message": "hi"},
        {"op": "uids", "of": [{"everyone": true}]},
        {"op": "session_get", "key": "k"},
        {"op": "destroy_client", "client": "me"},
    ]});
    let answer = gateway.request("run", steps.to_string()).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["ok"][1]["items"], json!(["ann"]));
    let error = |at: usize| answer["ok"][at]["error"].as_str().unwrap().to_owned();
    assert!(error(2).starts_with("not-permitted"), "{}", error(2));
    assert!(error(3).starts_with("invalid-argument"), "{}", error(3));
    assert_eq!(gateway.received(ann), [Message::from("hi")]);
}

#[test]
fn what_is_not_of_the_protocol_is_refused() {
    let (mut gateway, ann, _) = start();
    for request in ["hello", "{}", r#"{"do":1}"#, r#"{"op":"send_to_all"}"#] {
        gateway.send(ann, request).unwrap();
        let answer: Value = gateway.received(ann)[0].json().unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!(
            error.starts_with("invalid-argument: "),
            "{request}: {error}"
        );
    }
}
