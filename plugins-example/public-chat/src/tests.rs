//! The chat, spoken to natively.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_sdk::prelude::*;
use tidegate_sdk::testing::Gateway;

use crate::token::tests::{SECRET, signed};
use crate::{PublicChat, now};

fn start() -> Gateway<PublicChat> {
    start_with(&json!({"burst": 1000, "per-second": 1000}))
}

fn start_with(settings: &Value) -> Gateway<PublicChat> {
    let mut config = json!({"secret": SECRET, "bot-pace-ms": 0});
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
    Gateway::start_with(&config.to_string()).unwrap()
}

fn token(sub: &str, seconds: u64) -> String {
    let claims = json!({"sub": sub, "name": sub.to_uppercase(), "exp": now().as_secs() + seconds});
    signed(&json!({"alg": "HS256"}), &claims, SECRET)
}

fn enter(gateway: &mut Gateway<PublicChat>, sub: &str, room: &str) -> Client {
    let client = gateway.knock(&format!("/?token={}", token(sub, 600)));
    let client = client.unwrap().unwrap();
    say(gateway, client, &json!({"type": "join", "room": room}));
    gateway.wait(Duration::ZERO).unwrap();
    client
}

fn say(gateway: &mut Gateway<PublicChat>, client: Client, wish: &Value) {
    gateway.send(client, wish.to_string()).unwrap();
}

fn told(gateway: &mut Gateway<PublicChat>, client: Client) -> Vec<Value> {
    let received = gateway.received(client);
    received.iter().map(|it| it.json().unwrap()).collect()
}

fn of_type(gateway: &mut Gateway<PublicChat>, client: Client, kind: &str) -> Vec<Value> {
    let mut told = told(gateway, client);
    told.retain(|it| it["type"] == kind);
    told
}

#[test]
fn a_token_opens_the_door_and_says_who_it_is_and_nothing_else_does() {
    let mut gateway = start();
    let ann = gateway.knock(&format!("/?token={}", token("ann", 60)));
    let ann = ann.unwrap().unwrap();
    assert_eq!(gateway.uid(ann).as_deref(), Some("ann"));
    let welcome = &told(&mut gateway, ann)[0];
    assert_eq!(
        (&welcome["uid"], &welcome["name"]),
        (&json!("ann"), &json!("ANN"))
    );
    for query in ["/", "/?token=x", &format!("/?token={}", token("ann", 0))] {
        let rejected = gateway.knock(query).unwrap().unwrap_err();
        assert_eq!(rejected.status, 401, "{query}");
        assert!(!rejected.body.is_empty());
    }
    // A listener that asks nobody.
    let stranger = gateway.connect().unwrap();
    assert_eq!(gateway.close_frame(stranger).map(|it| it.code), Some(4401));
    // The end of the token is the end of the connection.
    gateway.wait(Duration::from_secs(61)).unwrap();
    assert_eq!(gateway.close_frame(ann).map(|it| it.code), Some(4401));
}

#[test]
fn who_comes_hears_what_those_who_are_there_have_said() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    let bob = enter(&mut gateway, "bob", "lobby");
    for number in 0..12 {
        let speaker = if number % 2 == 0 { ann } else { bob };
        say(
            &mut gateway,
            speaker,
            &json!({"type": "say", "text": number.to_string()}),
        );
    }
    say(&mut gateway, ann, &json!({"type": "say", "text": "<b>"}));
    let eve = enter(&mut gateway, "eve", "lobby");
    let history = of_type(&mut gateway, eve, "history").remove(0);
    let lines = history["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 13);
    assert!(lines.iter().any(|line| line["text"] == "<b>"), "{lines:?}");
    assert_eq!(history["here"].as_array().unwrap().len(), 3);
    assert_eq!(history["partial"], false);
    gateway.close(bob).unwrap();
    assert_eq!(of_type(&mut gateway, eve, "went").len(), 1);
    gateway.set_missing(&["10.0.0.1:2000"]);
    let late = enter(&mut gateway, "late", "lobby");
    let history = of_type(&mut gateway, late, "history").remove(0);
    assert_eq!(history["lines"].as_array().unwrap().len(), 7);
    assert_eq!(history["partial"], true);
    for number in 0..50 {
        say(
            &mut gateway,
            ann,
            &json!({"type": "say", "text": number.to_string()}),
        );
    }
    assert_eq!(gateway.session(ann)["said"].as_array().unwrap().len(), 10);
}

#[test]
fn whoever_talks_too_fast_is_told_to_wait_and_whoever_goes_on_is_closed() {
    let mut gateway = start_with(&json!({"burst": 5, "per-second": 1}));
    let ann = enter(&mut gateway, "ann", "lobby");
    let bob = enter(&mut gateway, "bob", "lobby");
    told(&mut gateway, ann);
    // Joining was worth three messages. It goes on though instances come and go.
    for _ in 0..3 {
        gateway.replace_instance().unwrap();
        say(&mut gateway, ann, &json!({"type": "say", "text": "hi"}));
    }
    let slow = of_type(&mut gateway, ann, "slow");
    assert_eq!(slow.len(), 1);
    assert!(
        (1..=1000).contains(&slow[0]["wait-ms"].as_u64().unwrap()),
        "{slow:?}"
    );
    for _ in 0..10 {
        assert!(gateway.is_connected(ann));
        say(&mut gateway, ann, &json!({"type": "say", "text": "hi"}));
    }
    assert_eq!(gateway.close_frame(ann).map(|it| it.code), Some(4429));
    assert_eq!(of_type(&mut gateway, bob, "said").len(), 2);
}

#[test]
fn the_bot_answers_piece_by_piece_and_goes_on_on_another_worker() {
    for lost_after in [None, Some(0), Some(4)] {
        let mut gateway = start();
        let ann = enter(&mut gateway, "ann", "lobby");
        let bob = enter(&mut gateway, "bob", "lobby");
        say(
            &mut gateway,
            ann,
            &json!({"type": "ask", "text": "why is the sky blue"}),
        );
        say(&mut gateway, ann, &json!({"type": "ask", "text": "and"}));
        assert_eq!(of_type(&mut gateway, ann, "refused").len(), 1);
        if let Some(steps) = lost_after {
            gateway.lose_tasks_after(steps);
        }
        gateway.run_tasks().unwrap();
        let pieces = of_type(&mut gateway, bob, "piece");
        let numbers: Vec<u64> = pieces
            .iter()
            .filter_map(|it| it["number"].as_u64())
            .collect();
        assert_eq!(numbers, (0..pieces.len() as u64).collect::<Vec<_>>());
        let text: String = pieces.iter().filter_map(|it| it["text"].as_str()).collect();
        assert!(text.ends_with("backwards: blue sky the is why"), "{text}");
        let eve = enter(&mut gateway, "eve", "lobby");
        let history = of_type(&mut gateway, eve, "history").remove(0);
        assert_eq!(history["lines"][2]["text"], json!(text));
        assert_eq!(history["lines"][2]["name"], "bot");
    }
}

#[test]
fn an_answer_may_be_stopped_and_another_one_asked_for() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    for _ in 0..2 {
        say(&mut gateway, ann, &json!({"type": "ask", "text": "why"}));
        say(&mut gateway, ann, &json!({"type": "stop"}));
    }
    gateway.run_tasks().unwrap();
    let told = told(&mut gateway, ann);
    assert!(told.iter().all(|it| it["type"] != "piece"), "{told:?}");
    assert_eq!(told.iter().filter(|it| it["type"] == "stopped").count(), 2);
}

#[test]
fn whoever_reads_slowly_is_spared_what_is_worth_little() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    let bob = enter(&mut gateway, "bob", "lobby");
    let typing = json!({"type": "typing"});
    say(&mut gateway, ann, &typing);
    assert_eq!(of_type(&mut gateway, bob, "typing").len(), 1);
    gateway.fill_buffer(bob, 600_000).unwrap();
    say(&mut gateway, ann, &typing);
    say(&mut gateway, ann, &json!({"type": "say", "text": "hi"}));
    let kinds: Vec<Value> = told(&mut gateway, bob)
        .iter()
        .map(|it| it["type"].clone())
        .collect();
    assert_eq!(kinds, ["said"]);
    gateway.drain_buffer(bob).unwrap();
    say(&mut gateway, ann, &typing);
    assert_eq!(of_type(&mut gateway, bob, "typing").len(), 1);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut gateway = start();
    let ann = enter(&mut gateway, "ann", "lobby");
    told(&mut gateway, ann);
    let wrong = [
        "hello".to_owned(),
        json!({"type": "join", "room": "a b"}).to_string(),
        json!({"type": "say", "text": " "}).to_string(),
        json!({"type": "say", "text": "x".repeat(501)}).to_string(),
        json!({"type": "ask", "text": "x".repeat(201)}).to_string(),
    ];
    for wish in &wrong {
        gateway.send(ann, wish).unwrap();
        assert_eq!(told(&mut gateway, ann)[0]["type"], "refused", "{wish}");
    }
    say(&mut gateway, ann, &json!({"type": "leave"}));
    say(&mut gateway, ann, &json!({"type": "say", "text": "hi"}));
    assert_eq!(of_type(&mut gateway, ann, "refused").len(), 1);
    let short = r#"{"secret": "short"}"#;
    assert!(Gateway::<PublicChat>::start_with(short).is_err());
    assert!(Gateway::<PublicChat>::start_with("{}").is_err());
}
