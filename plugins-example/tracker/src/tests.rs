//! The codec as the gateway runs it, natively: packets of the protocol's own documentation.

use serde_json::{Value, json};
use tidegate_sdk::prelude::*;
use tidegate_sdk::testing::CodecConnection;

use crate::Tracker;

const LOGIN: &str = "78780d01012345678901234500018cdd0d0a";
const LOGIN_ACK: &str = "787805010001d9dc0d0a";
const LOCATION: &str = "78781f120b081d112e10cf027ac7eb0c46584900148f01cc00287d001fb8000380810d0a";
const HEARTBEAT: &str = "78780a134004040001000fdcee0d0a";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn reports(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|it| it.json().unwrap()).collect()
}

fn open() -> CodecConnection<Tracker> {
    CodecConnection::open()
}

#[test]
fn packets_are_json_however_they_are_cut() {
    let all = [bytes(LOGIN), bytes(LOCATION), bytes(HEARTBEAT)].concat();
    let whole = open().receive(&all).unwrap();
    assert_eq!(
        reports(&whole),
        [
            json!({"type": "login", "serial": 1, "imei": "123456789012345"}),
            json!({
                "type": "location", "serial": 3, "at": "2011-08-29T17:46:16Z",
                "latitude": 23.111_668_333_333_338, "longitude": 114.409_285,
                "speed-kmh": 0, "course": 143, "satellites": 15, "is-fixed": true,
            }),
            json!({"type": "heartbeat", "serial": 15, "charging": false, "voltage": 4, "signal": 4}),
        ]
    );
    for cut in 0..=all.len() {
        let (first, rest) = all.split_at(cut);
        let mut connection = open();
        let mut messages = connection.receive(first).unwrap();
        messages.extend(connection.receive(rest).unwrap());
        assert_eq!(messages, whole, "cut at {cut}");
        assert!(connection.unfinished().is_empty());
    }
}

#[test]
fn a_tracker_is_acknowledged_and_commanded() {
    let mut connection = open();
    let ack = connection.send(r#"{"ack":"login","serial":1}"#).unwrap();
    assert_eq!(ack, bytes(LOGIN_ACK));
    for number in 1..=2_u8 {
        let command = connection.send(r#"{"command":"DYD#"}"#).unwrap();
        let expected = [
            &[0x78, 0x78, 0x10, 0x80, 8, 0, 0, 0, number][..],
            b"DYD#",
            &[0, 2, 0, number],
        ];
        assert_eq!(command[..17], expected.concat());
        assert!(command.ends_with(&[0x0d, 0x0a]));
    }
    let long = format!(r#"{{"command":"{}"}}"#, "x".repeat(252));
    for wrong in [&*long, "{}", r#"{"ack":"coffee","serial":1}"#, "hello"] {
        assert!(connection.send(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_no_packet_is_refused_with_a_reason() {
    let mut damaged = bytes(LOGIN);
    damaged[5] ^= 1;
    let mut endless = bytes(LOGIN);
    endless[16] = 0;
    for (wrong, why) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), "not with [47, 45]"),
        (damaged, "it says 8cdd"),
        (endless, "a packet ends with 0d 0a"),
        (bytes("787802"), "5 to 4096 are possible"),
        (bytes("7979ffff"), "5 to 4096 are possible"),
    ] {
        let error = open().receive(&wrong).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_it_does_not_know_is_passed_on() {
    let other = crate::packet::write(&crate::packet::Packet {
        kind: 0x94,
        content: &[1, 2],
        serial: 7,
    });
    let messages = open().receive(other.unwrap()).unwrap();
    let expected = json!({"type": "other", "serial": 7, "kind": 0x94, "content": "0102"});
    assert_eq!(reports(&messages), [expected]);
}
