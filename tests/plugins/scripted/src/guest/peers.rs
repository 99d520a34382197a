//! What other instances say: kept, or done if the topic is `script`.

use std::cell::RefCell;

use super::bindings::exports::tidegate::plugin::peer_events::Guest as PeerEvents;
use super::bindings::tidegate::plugin::{peers, session, worker};
use super::{Scripted, answer, asking, config, tell_all};

thread_local! {
    static HEARD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A script is `trap`, `err TEXT`, `on VERSION SCRIPT`, or `effects`: keep what comes of trying some.
impl PeerEvents for Scripted {
    fn on_peer_message(topic: String, payload: Vec<u8>) -> Result<(), String> {
        let text = String::from_utf8_lossy(&payload);
        if topic == "script" {
            return run(&text);
        }
        keep(format!("{topic}={text}"));
        Ok(())
    }
}

fn run(script: &str) -> Result<(), String> {
    let (command, rest) = script.split_once(' ').unwrap_or((script, ""));
    match command {
        "trap" => panic!("told to trap by another instance"),
        "err" => Err(rest.to_owned()),
        "on" => match rest.split_once(' ') {
            Some((version, script)) if version == worker::plugin_version() => run(script),
            _ => Ok(()),
        },
        "effects" => {
            let tried = [
                tell_all("x"),
                tell("x", b"x"),
                answer(session::get("k")).map(drop),
            ];
            tried.into_iter().for_each(|it| keep(format!("{it:?}")));
            keep(asking::ask("gateways"));
            keep(format!("{:?}", config("greeting")));
            Ok(())
        }
        other => Err(format!("no such script: {other}")),
    }
}

fn keep(text: String) {
    HEARD.with_borrow_mut(|heard| heard.push(text));
}

/// All that was kept, line by line.
pub(super) fn heard() -> String {
    HEARD.with_borrow(|heard| heard.join("\n"))
}

pub(super) fn tell(topic: &str, payload: &[u8]) -> Result<(), String> {
    answer(peers::send(topic, payload))
}

/// Says so many numbers, from 0.
pub(super) fn tell_many(topic: &str, count: u32) -> Result<(), String> {
    (0..count).try_for_each(|number| tell(topic, number.to_string().as_bytes()))
}
