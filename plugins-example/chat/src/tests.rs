//! The chat, spoken to natively.

use crate::Chat;
use serde_json::{Value, json};
use tidegate_sdk::prelude::*;
use tidegate_sdk::testing::Gateway;

fn say(gateway: &mut Gateway<Chat>, client: Client, wish: &Value) {
    gateway.send(client, wish.to_string()).unwrap();
}

fn told(gateway: &mut Gateway<Chat>, client: Client) -> Vec<Value> {
    gateway
        .received(client)
        .iter()
        .map(|message| message.json().unwrap())
        .collect()
}

fn tag(client: Client) -> String {
    client.as_str()[12..].to_owned()
}

/// A client in a room, with what it was told so far thrown away.
fn enter(gateway: &mut Gateway<Chat>, nick: &str, room: &str) -> Client {
    let client = gateway.connect().unwrap();
    say(
        gateway,
        client,
        &json!({"type": "enter", "nick": nick, "room": room}),
    );
    let entered = json!({"type": "entered", "nick": nick, "tag": tag(client), "room": room});
    assert_eq!(told(gateway, client), [entered]);
    client
}

fn start() -> Gateway<Chat> {
    Gateway::start().unwrap()
}

#[test]
fn a_room_hears_what_is_said_in_it_and_no_other_room_does() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    let bob = enter(&mut gateway, "bob", "lobby");
    let eve = enter(&mut gateway, "eve", "cellar");
    let joined = json!({"type": "joined", "nick": "bob", "tag": tag(bob), "room": "lobby"});
    assert_eq!(told(&mut gateway, ann), [joined]);
    say(&mut gateway, ann, &json!({"type": "say", "text": "hi <b>"}));
    let said =
        json!({"type": "said", "nick": "ann", "tag": tag(ann), "room": "lobby", "text": "hi <b>"});
    assert_eq!(told(&mut gateway, bob), vec![said.clone()]);
    assert_eq!(told(&mut gateway, ann), [said]);
    assert!(told(&mut gateway, eve).is_empty());
}

#[test]
fn a_private_message_reaches_its_recipient_and_its_sender_only() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "a");
    let bob = enter(&mut gateway, "bob", "b");
    let eve = enter(&mut gateway, "eve", "a");
    told(&mut gateway, ann);
    say(
        &mut gateway,
        ann,
        &json!({"type": "tell", "to": "bob", "text": "psst"}),
    );
    let psst = json!({"type": "told", "nick": "ann", "tag": tag(ann), "to": "bob", "text": "psst"});
    assert_eq!(told(&mut gateway, bob), vec![psst.clone()]);
    assert_eq!(told(&mut gateway, ann), [psst]);
    assert!(told(&mut gateway, eve).is_empty());
    say(
        &mut gateway,
        bob,
        &json!({"type": "tell", "to": "bob", "text": "note"}),
    );
    assert_eq!(told(&mut gateway, bob).len(), 1);
}

#[test]
fn nobody_can_speak_for_somebody_else() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    let mallory = enter(&mut gateway, "mallory", "lobby");
    told(&mut gateway, ann);
    let forged = json!({"type": "say", "text": "x", "nick": "ann", "tag": tag(ann)});
    say(&mut gateway, mallory, &forged);
    let heard = told(&mut gateway, ann);
    assert_eq!(heard[0]["nick"], "mallory");
    assert_eq!(heard[0]["tag"], tag(mallory));
}

#[test]
fn two_clients_of_one_nickname_differ_by_their_tags() {
    let mut gateway = start();
    let one = enter(&mut gateway, "ann", "lobby");
    let two = enter(&mut gateway, "ann", "lobby");
    told(&mut gateway, one);
    say(&mut gateway, two, &json!({"type": "say", "text": "me"}));
    assert_eq!(told(&mut gateway, one)[0]["tag"], tag(two));
}

#[test]
fn leaving_closing_moving_and_renaming_are_noticed() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    let bob = enter(&mut gateway, "bob", "lobby");
    told(&mut gateway, ann);
    say(
        &mut gateway,
        bob,
        &json!({"type": "enter", "nick": "rob", "room": "lobby"}),
    );
    say(
        &mut gateway,
        bob,
        &json!({"type": "enter", "nick": "rob", "room": "cellar"}),
    );
    say(
        &mut gateway,
        bob,
        &json!({"type": "enter", "nick": "rob", "room": "lobby"}),
    );
    gateway.close(bob).unwrap();
    let about = |kind: &str, nick: &str| json!({"type": kind, "nick": nick, "tag": tag(bob), "room": "lobby"});
    let mut renamed = about("renamed", "rob");
    renamed["was"] = "bob".into();
    let expected = [
        renamed,
        about("parted", "rob"),
        about("joined", "rob"),
        about("parted", "rob"),
    ];
    assert_eq!(told(&mut gateway, ann), expected);
}

#[test]
fn who_leaves_gives_room_and_nickname_back() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    say(&mut gateway, ann, &json!({"type": "leave"}));
    assert_eq!(told(&mut gateway, ann), [json!({"type": "left"})]);
    assert_eq!(gateway.uid(ann), None);
    assert!(gateway.groups(ann).is_empty());
    gateway.close(ann).unwrap();
}

#[test]
fn nothing_is_lost_with_an_instance() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    gateway.replace_instance().unwrap();
    say(
        &mut gateway,
        ann,
        &json!({"type": "say", "text": "still here"}),
    );
    assert_eq!(told(&mut gateway, ann)[0]["nick"], "ann");
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut gateway = start();
    let client = gateway.connect().unwrap();
    let wrong = [
        "hello".to_owned(),
        json!({"type": "say", "text": "too early"}).to_string(),
        json!({"type": "who"}).to_string(),
        json!({"type": "enter", "nick": "a b", "room": "r"}).to_string(),
        json!({"type": "enter", "nick": "", "room": "r"}).to_string(),
        json!({"type": "enter", "nick": "n".repeat(33), "room": "r"}).to_string(),
        json!({"type": "enter", "nick": "n", "room": "r/s"}).to_string(),
        json!({"type": "say", "text": " "}).to_string(),
        json!({"type": "dance"}).to_string(),
    ];
    for wish in &wrong {
        gateway.send(client, wish).unwrap();
        let answer = told(&mut gateway, client);
        assert_eq!(answer[0]["type"], "refused", "{wish}");
        assert_eq!(answer.len(), 1);
    }
    gateway.send(client, b"\xff").unwrap();
    assert_eq!(gateway.uid(client), None);
    assert!(gateway.session(client).is_empty());
    gateway.close(client).unwrap();
}

#[test]
fn a_room_lists_its_members_and_says_when_it_may_not_know_all() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    let bob = enter(&mut gateway, "bob", "lobby");
    enter(&mut gateway, "eve", "cellar");
    told(&mut gateway, ann);
    let who = |client, nick: &str| json!({"nick": nick, "tag": tag(client)});
    let mut expected = json!({
        "type": "members", "room": "lobby", "count": 2, "partial": false,
        "members": [who(ann, "ann"), who(bob, "bob")],
    });
    say(&mut gateway, ann, &json!({"type": "who"}));
    assert_eq!(told(&mut gateway, ann), vec![expected.clone()]);
    gateway.set_missing(&["10.0.0.1:2000"]);
    gateway.close(bob).unwrap();
    told(&mut gateway, ann);
    say(&mut gateway, ann, &json!({"type": "who"}));
    expected["members"] = json!([who(ann, "ann")]);
    expected["count"] = 1.into();
    expected["partial"] = true.into();
    assert_eq!(told(&mut gateway, ann), [expected]);
}

#[test]
fn the_members_of_a_full_room_are_counted() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    for number in 0..600 {
        let client = gateway.connect().unwrap();
        let nick = format!("n{number}");
        let wish = json!({"type": "enter", "nick": nick, "room": "lobby"});
        say(&mut gateway, client, &wish);
    }
    told(&mut gateway, ann);
    say(&mut gateway, ann, &json!({"type": "who"}));
    let answer = &told(&mut gateway, ann)[0];
    assert_eq!(answer["count"], 601);
    assert_eq!(answer["members"].as_array().unwrap().len(), 500);
}

#[test]
fn the_others_see_who_is_typing_and_nothing_is_kept() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    let bob = enter(&mut gateway, "bob", "lobby");
    told(&mut gateway, ann);
    let before = gateway.session(bob);
    say(&mut gateway, bob, &json!({"type": "typing"}));
    let typing = json!({"type": "typing", "nick": "bob", "tag": tag(bob), "room": "lobby"});
    assert_eq!(told(&mut gateway, ann), [typing]);
    assert!(told(&mut gateway, bob).is_empty());
    assert_eq!(gateway.session(bob), before);
}

#[test]
fn a_private_message_to_nobody_is_refused_only_if_that_is_sure() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    let tell = json!({"type": "tell", "to": "bob", "text": "psst"});
    say(&mut gateway, ann, &tell);
    assert_eq!(told(&mut gateway, ann)[0]["type"], "refused");
    gateway.set_missing(&["10.0.0.1:2000"]);
    say(&mut gateway, ann, &tell);
    assert_eq!(told(&mut gateway, ann)[0]["type"], "told");
}
