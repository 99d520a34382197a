//! The game, played natively.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_sdk::prelude::*;
use tidegate_sdk::testing::Gateway;

use crate::Game;

/// Two looks of the lobby.
const PAIRED: Duration = Duration::from_millis(1100);

fn start() -> Gateway<Game> {
    Gateway::start_with(r#"{"turn-s": 30, "grace-s": 20}"#).unwrap()
}

fn say(gateway: &mut Gateway<Game>, client: Client, wish: &Value) {
    gateway.send(client, wish.to_string()).unwrap();
}

fn told(gateway: &mut Gateway<Game>, client: Client) -> Vec<Value> {
    let received = gateway.received(client);
    received.iter().map(|it| it.json().unwrap()).collect()
}

/// The last view of the table that a client was told.
fn table(gateway: &mut Gateway<Game>, client: Client) -> Value {
    let mut told = told(gateway, client);
    told.retain(|it| it["type"] == "table");
    told.pop().expect("no table was told")
}

fn refused(gateway: &mut Gateway<Game>, client: Client) -> String {
    let last = told(gateway, client).pop().expect("nothing was told");
    assert_eq!(last["type"], "refused", "{last}");
    last["text"].as_str().unwrap().to_owned()
}

struct Pair {
    red: Client,
    yellow: Client,
    game: String,
    tokens: [String; 2],
}

impl Pair {
    fn client(&self, red: bool) -> Client {
        if red { self.red } else { self.yellow }
    }
}

/// Two at a table.
fn pair(gateway: &mut Gateway<Game>) -> Pair {
    let names = ["ann", "bob"];
    let clients = names.map(|name| {
        let client = gateway.connect().unwrap();
        say(gateway, client, &json!({"type": "play", "name": name}));
        assert_eq!(told(gateway, client), [json!({"type": "waiting"})]);
        client
    });
    gateway.wait(PAIRED).unwrap();
    let mut seats = Vec::new();
    for client in clients {
        let heard = told(gateway, client);
        let seated = heard.iter().find(|it| it["type"] == "seated").unwrap();
        assert!(heard.iter().any(|it| it["type"] == "table"), "{heard:?}");
        seats.push((client, seated.clone()));
    }
    seats.sort_by_key(|(_, seated)| seated["side"] != "red");
    let text = |at: usize, key: &str| seats[at].1[key].as_str().unwrap().to_owned();
    assert_eq!(text(1, "side"), "yellow");
    Pair {
        red: seats[0].0,
        yellow: seats[1].0,
        game: text(0, "game"),
        tokens: [text(0, "token"), text(1, "token")],
    }
}

/// Plays these columns from this turn on, red first.
fn play(gateway: &mut Gateway<Game>, pair: &Pair, round: u32, from: usize, columns: &str) {
    for (number, digit) in columns.bytes().enumerate() {
        let turn = from + number;
        let red = turn.is_multiple_of(2) == (round % 2 == 1);
        let column = digit - b'0';
        let put = json!({"type": "put", "round": round, "turn": turn, "column": column});
        say(gateway, pair.client(red), &put);
    }
}

/// Connections that are lost, and seen to.
fn lose(gateway: &mut Gateway<Game>, clients: &[Client]) {
    for client in clients {
        gateway.close(*client).unwrap();
    }
    gateway.wait(Duration::from_millis(60)).unwrap();
}

fn come_back(gateway: &mut Gateway<Game>, token: &str) -> Client {
    let client = gateway.connect().unwrap();
    say(gateway, client, &json!({"type": "return", "token": token}));
    client
}

#[test]
fn four_in_a_row_win_and_the_loser_begins_the_next_round() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    play(&mut gateway, &pair, 1, 0, "0101010");
    for client in [pair.red, pair.yellow] {
        let table = table(&mut gateway, client);
        assert_eq!(table["end"], json!({"winner": "red", "why": "four"}));
        assert_eq!(table["red"]["wins"], 1);
    }
    for client in [pair.red, pair.yellow] {
        say(&mut gateway, client, &json!({"type": "again", "round": 1}));
    }
    let next = table(&mut gateway, pair.red);
    assert_eq!(
        (&next["round"], &next["mover"]),
        (&json!(2), &json!("yellow"))
    );
    play(&mut gateway, &pair, 2, 0, "3");
    assert_eq!(table(&mut gateway, pair.red)["moves"], "3");
}

#[test]
fn what_is_said_again_is_done_once() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    play(&mut gateway, &pair, 1, 0, "33");
    let version = table(&mut gateway, pair.red)["version"].clone();
    // As an event that runs again, or a client that has come back and does not know.
    play(&mut gateway, &pair, 1, 0, "33");
    let same = table(&mut gateway, pair.red);
    assert_eq!((&same["moves"], &same["version"]), (&json!("33"), &version));
    let wrong = json!({"type": "put", "round": 1, "turn": 0, "column": 4});
    say(&mut gateway, pair.red, &wrong);
    assert_eq!(refused(&mut gateway, pair.red), "it is not your turn");
}

#[test]
fn a_turn_has_a_time_and_every_turn_has_it_anew() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    for turn in 0..4 {
        gateway.wait(Duration::from_secs(25)).unwrap();
        play(&mut gateway, &pair, 1, turn, "3");
    }
    assert_eq!(table(&mut gateway, pair.red)["end"], Value::Null);
    gateway.wait(Duration::from_secs(31)).unwrap();
    let end = json!({"winner": "yellow", "why": "time"});
    assert_eq!(table(&mut gateway, pair.yellow)["end"], end);
    gateway.wait(Duration::from_secs(300)).unwrap();
    assert!(told(&mut gateway, pair.yellow).is_empty());
}

#[test]
fn whoever_drops_comes_back_to_the_game_as_it_was_whoever_held_the_table() {
    for red_drops in [true, false] {
        let mut gateway = start();
        let pair = pair(&mut gateway);
        play(&mut gateway, &pair, 1, 0, "3344");
        lose(&mut gateway, &[pair.client(red_drops)]);
        let stays = pair.client(!red_drops);
        let paused = table(&mut gateway, stays);
        let away = if red_drops { "red" } else { "yellow" };
        assert_eq!(paused[away]["here"], false);
        // Both clocks would have run out.
        gateway.wait(Duration::from_secs(19)).unwrap();
        gateway.replace_instance().unwrap();
        let back = come_back(&mut gateway, &pair.tokens[usize::from(!red_drops)]);
        let again = table(&mut gateway, back);
        assert_eq!(
            (&again["moves"], &again["end"]),
            (&json!("3344"), &Value::Null)
        );
        gateway.wait(Duration::from_secs(29)).unwrap();
        let red = if red_drops { back } else { pair.red };
        let put = json!({"type": "put", "round": 1, "turn": 4, "column": 6});
        say(&mut gateway, red, &put);
        assert_eq!(table(&mut gateway, stays)["moves"], "33446");
        assert!(gateway.failures().is_empty(), "{:?}", gateway.failures());
    }
}

#[test]
fn while_one_is_away_the_game_waits_and_at_the_end_of_the_grace_time_the_other_wins() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    lose(&mut gateway, &[pair.yellow]);
    let put = json!({"type": "put", "round": 1, "turn": 0, "column": 0});
    say(&mut gateway, pair.red, &put);
    assert!(refused(&mut gateway, pair.red).contains("is away"));
    gateway.wait(Duration::from_secs(21)).unwrap();
    let end = json!({"winner": "red", "why": "gone"});
    assert_eq!(table(&mut gateway, pair.red)["end"], end);
    // It may still come and see how it has ended.
    let late = come_back(&mut gateway, &pair.tokens[1]);
    assert_eq!(table(&mut gateway, late)["end"], end);
}

#[test]
fn a_table_that_both_have_left_is_kept_for_whoever_is_back_first() {
    for first in [0, 1] {
        let mut gateway = start();
        let pair = pair(&mut gateway);
        play(&mut gateway, &pair, 1, 0, "012");
        lose(&mut gateway, &[pair.red, pair.yellow]);
        gateway.wait(Duration::from_secs(5)).unwrap();
        let one = come_back(&mut gateway, &pair.tokens[first]);
        gateway.wait(Duration::from_secs(3)).unwrap();
        let found = table(&mut gateway, one);
        assert_eq!(
            (&found["moves"], &found["mover"]),
            (&json!("012"), &json!("yellow"))
        );
        let other = come_back(&mut gateway, &pair.tokens[1 - first]);
        let yellow = if first == 1 { one } else { other };
        let put = json!({"type": "put", "round": 1, "turn": 3, "column": 6});
        say(&mut gateway, yellow, &put);
        assert_eq!(table(&mut gateway, one)["moves"], "0126");
        // No clock of the time before has anything to say.
        gateway.wait(Duration::from_secs(28)).unwrap();
        assert!(
            told(&mut gateway, other)
                .iter()
                .all(|it| it["end"].is_null())
        );
    }
}

#[test]
fn a_game_that_nobody_came_back_to_is_over() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    lose(&mut gateway, &[pair.red, pair.yellow]);
    gateway.wait(Duration::from_secs(60)).unwrap();
    let late = come_back(&mut gateway, &pair.tokens[0]);
    gateway.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(refused(&mut gateway, late), "this game is over");
    say(&mut gateway, late, &json!({"type": "play", "name": "ann"}));
    assert_eq!(told(&mut gateway, late), [json!({"type": "waiting"})]);
}

#[test]
fn a_token_takes_the_seat_also_from_a_connection_that_is_still_there() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    let back = come_back(&mut gateway, &pair.tokens[1]);
    let frame = gateway.close_frame(pair.yellow);
    assert_eq!(frame.map(|frame| frame.code), Some(4001));
    assert!(!gateway.is_connected(pair.yellow));
    gateway.wait(Duration::from_millis(60)).unwrap();
    let now = table(&mut gateway, back);
    assert_eq!(now["yellow"]["here"], true);
    play(&mut gateway, &pair, 1, 0, "5");
    assert_eq!(table(&mut gateway, back)["moves"], "5");
    let forged = format!("{}.{}", pair.game, "0".repeat(32));
    let stranger = come_back(&mut gateway, &forged);
    assert!(refused(&mut gateway, stranger).contains("no seat"));
}

#[test]
fn watchers_see_the_table_and_every_move_and_may_not_touch_it() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    play(&mut gateway, &pair, 1, 0, "1");
    let watcher = gateway.connect().unwrap();
    say(&mut gateway, watcher, &json!({"type": "games"}));
    let list = told(&mut gateway, watcher).remove(0);
    assert_eq!(list["games"][0]["game"], json!(pair.game), "{list}");
    say(
        &mut gateway,
        watcher,
        &json!({"type": "watch", "game": pair.game}),
    );
    gateway.wait(Duration::ZERO).unwrap();
    assert_eq!(table(&mut gateway, watcher)["moves"], "1");
    play(&mut gateway, &pair, 1, 1, "2");
    assert_eq!(table(&mut gateway, watcher)["moves"], "12");
    let put = json!({"type": "put", "round": 1, "turn": 2, "column": 2});
    say(&mut gateway, watcher, &put);
    assert_eq!(refused(&mut gateway, watcher), "you are not at a table");
    say(
        &mut gateway,
        pair.red,
        &json!({"type": "hover", "column": 3}),
    );
    let hover = json!({"type": "hover", "side": "red", "column": 3});
    for other in [watcher, pair.yellow] {
        assert_eq!(told(&mut gateway, other).pop().as_ref(), Some(&hover));
    }
}

#[test]
fn who_leaves_or_resigns_has_lost_and_may_play_on_with_others() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    say(
        &mut gateway,
        pair.red,
        &json!({"type": "play", "name": "ann"}),
    );
    assert!(refused(&mut gateway, pair.red).contains("end that game first"));
    say(
        &mut gateway,
        pair.red,
        &json!({"type": "resign", "round": 1}),
    );
    let end = json!({"winner": "yellow", "why": "resigned"});
    assert_eq!(table(&mut gateway, pair.yellow)["end"], end);
    for client in [pair.red, pair.yellow] {
        say(
            &mut gateway,
            client,
            &json!({"type": "play", "name": "again"}),
        );
        let players = gateway.members(&format!("players:{}", pair.game));
        assert!(!players.contains(&client));
    }
    gateway.wait(PAIRED).unwrap();
    let table = table(&mut gateway, pair.red);
    assert_ne!(table["game"], json!(pair.game));
    assert_eq!(gateway.members("tables").len(), 1);
}

#[test]
fn an_odd_one_waits_and_whoever_asked_and_left_is_forgotten() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    let odd = gateway.connect().unwrap();
    say(&mut gateway, odd, &json!({"type": "play", "name": "odd"}));
    gateway.wait(PAIRED).unwrap();
    assert_eq!(told(&mut gateway, odd), [json!({"type": "waiting"})]);
    // Somebody has asked it and is gone.
    let mut session = gateway.session(odd);
    session.insert("place".to_owned(), json!({"at": "claimed", "by": pair.red}));
    gateway.set_session(odd, &session).unwrap();
    gateway.wait(PAIRED).unwrap();
    let late = gateway.connect().unwrap();
    say(&mut gateway, late, &json!({"type": "play", "name": "late"}));
    gateway.wait(PAIRED).unwrap();
    let names = table(&mut gateway, late);
    assert_eq!(names["red"]["name"], "odd");
    say(&mut gateway, late, &json!({"type": "leave"}));
    let end = json!({"winner": "red", "why": "resigned"});
    assert_eq!(table(&mut gateway, odd)["end"], end);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut gateway = start();
    let client = gateway.connect().unwrap();
    let wrong = [
        "hello".to_owned(),
        json!({"type": "play", "name": "a b"}).to_string(),
        json!({"type": "put", "round": 1, "turn": 0, "column": 0}).to_string(),
        json!({"type": "put", "round": -1, "turn": 0, "column": 0}).to_string(),
        json!({"type": "watch", "game": "players:x"}).to_string(),
        json!({"type": "return", "token": "x"}).to_string(),
        json!({"type": "dance"}).to_string(),
    ];
    for wish in &wrong {
        gateway.send(client, wish).unwrap();
        refused(&mut gateway, client);
    }
    assert!(gateway.session(client).is_empty());
    for config in [r#"{"turn-s": 0}"#, r#"{"grace-s": 601}"#, r#"{"turn": 3}"#] {
        assert!(Gateway::<Game>::start_with(config).is_err(), "{config}");
    }
}

#[test]
fn what_is_said_while_the_table_changes_hands_is_done_when_it_is_found() {
    let mut gateway = start();
    let pair = pair(&mut gateway);
    let back = come_back(&mut gateway, &pair.tokens[1]);
    told(&mut gateway, pair.red);
    // Yellow held the table, and is gone in this moment.
    play(&mut gateway, &pair, 1, 0, "3");
    assert!(told(&mut gateway, pair.red).is_empty());
    gateway.wait(Duration::from_millis(200)).unwrap();
    for client in [pair.red, back] {
        assert_eq!(table(&mut gateway, client)["moves"], "3");
    }
    say(&mut gateway, pair.red, &json!({"type": "leave"}));
}
