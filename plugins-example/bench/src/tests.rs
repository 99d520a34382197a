//! The protocol of `README.md`, spoken to the plugin natively. `X:trap`, `X:spin` and `X:grow`
//! need the host.

use crate::Bench;
use tidegate_sdk::prelude::*;
use tidegate_sdk::testing::Gateway;

fn start() -> (Gateway<Bench>, Client, Client) {
    let mut gateway = Gateway::<Bench>::start().unwrap();
    let a = gateway.connect().unwrap();
    let b = gateway.connect().unwrap();
    (gateway, a, b)
}

fn texts(gateway: &mut Gateway<Bench>, client: Client) -> Vec<String> {
    let received = gateway.received(client).into_iter();
    received
        .map(|message| message.into_text().unwrap())
        .collect()
}

#[test]
fn echo_keeps_the_kind() {
    let (mut gateway, a, _) = start();
    gateway.send(a, "E:a:b").unwrap();
    gateway.send(a, b"E:\xff").unwrap();
    gateway.send(a, "E:").unwrap();
    let expected = [
        Message::from("a:b"),
        Message::Binary(vec![0xff]),
        Message::from(""),
    ];
    assert_eq!(gateway.received(a), expected);
}

#[test]
fn groups_are_joined_left_sent_to_and_emptied() {
    let (mut gateway, a, b) = start();
    gateway.send(a, "J:g").unwrap();
    gateway.send(b, "G:g:x:y").unwrap();
    gateway.send(b, b"G:g:\xfe").unwrap();
    assert_eq!(
        gateway.received(a),
        [Message::from("x:y"), Message::Binary(vec![0xfe])]
    );
    gateway.send(a, "L:g").unwrap();
    gateway.send(b, "J:g").unwrap();
    assert_eq!(gateway.members("g"), [b]);
    gateway.send(a, "N:g").unwrap();
    assert!(gateway.members("g").is_empty());
    gateway.send(a, "B:all").unwrap();
    assert_eq!(texts(&mut gateway, a), ["all"]);
    assert_eq!(texts(&mut gateway, b), ["all"]);
}

#[test]
fn other_instances_are_told() {
    let (mut gateway, a, _) = start();
    gateway.send(a, "Y:news:x:y").unwrap();
    gateway.send(a, b"Y:news:\xfe").unwrap();
    assert!(gateway.send(a, "Y::no topic").is_err());
    let expected = [b"x:y".to_vec(), vec![0xfe]].map(|it| ("news".to_owned(), it));
    assert_eq!(gateway.peer_messages(), expected);
}

#[test]
fn uids_are_bound_sent_to_and_closed() {
    let (mut gateway, a, b) = start();
    gateway.send(a, "U:u1").unwrap();
    gateway.send(b, "P:u1:hi").unwrap();
    gateway.send(b, format!("C:{a}:there")).unwrap();
    assert_eq!(texts(&mut gateway, a), ["hi", "there"]);
    gateway.send(a, "u:").unwrap();
    assert_eq!(gateway.uid(a), None);
    gateway.send(a, "U:u2").unwrap();
    gateway.send(b, "R:u2").unwrap();
    assert_eq!(texts(&mut gateway, a), ["bye"]);
    assert!(!gateway.is_connected(a));
}

#[test]
fn clients_are_closed_and_destroyed() {
    let (mut gateway, a, b) = start();
    let c = gateway.connect().unwrap();
    gateway.send(c, format!("K:{a}")).unwrap();
    gateway.send(c, format!("D:{b}")).unwrap();
    assert_eq!(texts(&mut gateway, a), ["bye"]);
    assert!(texts(&mut gateway, b).is_empty());
    assert_eq!(gateway.connected(), [c]);
}

#[test]
fn sessions_are_set_read_and_updated_by_others() {
    let (mut gateway, a, b) = start();
    gateway.send(a, "?:k").unwrap();
    gateway.send(a, r#"S:k:{"x":{"y":1}}"#).unwrap();
    gateway
        .send(b, format!(r#"M:{a}:k:{{"x":{{"z":2}}}}"#))
        .unwrap();
    gateway.send(a, "?:k").unwrap();
    gateway.send(b, format!("T:{a}:k:[1]")).unwrap();
    gateway.send(a, "?:k").unwrap();
    assert_eq!(
        texts(&mut gateway, a),
        ["null", r#"{"x":{"y":1,"z":2}}"#, "[1]"]
    );
    assert!(gateway.send(a, "S:k:{").is_err());
}

#[test]
fn the_plugin_says_who_it_is() {
    let (mut gateway, a, _) = start();
    gateway.send(a, "I:").unwrap();
    gateway.send(a, "W:").unwrap();
    let said = texts(&mut gateway, a);
    assert_eq!(said[0], a.to_string());
    let who: serde_json::Value = serde_json::from_str(&said[1]).unwrap();
    assert_eq!(who["tenant"], "default");
    assert_eq!(who["attempt"], 0);
    assert!(!who["event-id"].as_str().unwrap().is_empty());
}

#[test]
fn clients_are_counted_and_looked_up() {
    let (mut gateway, a, b) = start();
    gateway.send(b, "J:g").unwrap();
    for command in ["#:", "#:g", "#:nobody", &format!("O:{b}")] {
        gateway.send(a, command).unwrap();
    }
    gateway.close(b).unwrap();
    gateway.set_missing(&["10.0.0.1:2000"]);
    for command in ["#:", &format!("O:{b}")] {
        gateway.send(a, command).unwrap();
    }
    assert_eq!(
        texts(&mut gateway, a),
        ["2", "1", "0", "true", "1+", "false"]
    );
    assert!(gateway.send(a, "O:nobody").is_err());
}

#[test]
fn raw_bytes_go_back_as_they_are() {
    let (mut gateway, a, _) = start();
    gateway.send(a, b"F:\x81\x02hi").unwrap();
    assert_eq!(gateway.received_raw(a), [b"\x81\x02hi"]);
}

#[test]
fn an_error_leaves_nothing_behind() {
    let (mut gateway, a, b) = start();
    assert!(gateway.send(a, "X:err").is_err());
    assert!(gateway.received(b).is_empty());
    assert!(gateway.groups(a).is_empty());
}

#[test]
fn an_unknown_command_is_named() {
    let (mut gateway, a, _) = start();
    for command in ["", "E", "Z:1", "é:", "X:what", "G:no-colon"] {
        let error = gateway.send(a, command).unwrap_err().to_string();
        assert!(
            error.contains("command") || error.contains("colon"),
            "{command}: {error}"
        );
    }
    assert!(
        gateway
            .send(a, "Z:1")
            .unwrap_err()
            .to_string()
            .contains("Z:")
    );
}

#[test]
fn hello_is_sent_to_whoever_asks_for_it() {
    let mut gateway = Gateway::<Bench>::start().unwrap();
    let a = gateway.connect_to("/?hello=moin").unwrap();
    assert_eq!(texts(&mut gateway, a), ["moin"]);
}

#[test]
fn watchers_are_told_every_close() {
    let (mut gateway, a, b) = start();
    gateway.send(b, "J:watchers").unwrap();
    for command in ["U:u", "J:g2", "J:g1", "S:k:[1]"] {
        gateway.send(a, command).unwrap();
    }
    gateway.close(a).unwrap();
    assert_eq!(
        texts(&mut gateway, b),
        [format!("closed:{a}:client:u:g1,g2:[1]")]
    );
    let c = gateway.connect().unwrap();
    gateway.send(b, format!("K:{c}")).unwrap();
    assert_eq!(
        texts(&mut gateway, b),
        [format!("closed:{c}:server:-::null")]
    );
    assert!(gateway.failures().is_empty());
}
