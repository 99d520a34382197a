//! A bot that thinks aloud: its answer is a task, and each piece of it a step. Each piece reaches the
//! room once and in order, also when the worker is lost in the middle: another one goes on behind it. A
//! real one would ask a language model in place of `answer`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_sdk::prelude::*;

use crate::protocol::{ToClient, Who};
use crate::rooms;

/// The bot's uid and name; no token has it.
pub(crate) const NAME: &str = "bot";

/// The session key of the task that answers the client.
const ASKED: &str = "asked";

/// The payload of the task, and with the text its result.
#[derive(Serialize, Deserialize)]
struct Asked {
    room: String,
    name: String,
    question: String,
}

/// Begins an answer. One at a time for each client.
pub(crate) fn ask(client: Client, room: &str, name: &str, question: String) -> Result {
    if session::get::<Task>(ASKED)?.is_some() {
        let text = "the bot still answers you: stop it first";
        return client.send_json(&ToClient::Refused { text });
    }
    let asked = Asked {
        room: room.to_owned(),
        name: name.to_owned(),
        question,
    };
    session::set(ASKED, &tasks::submit(serde_json::to_vec(&asked)?)?)
}

/// Ends the answer where it is.
pub(crate) fn stop(room: &str) -> Result {
    let Some(task) = session::get::<Task>(ASKED)? else {
        return Ok(());
    };
    task.cancel()?;
    session::remove(ASKED)?;
    tell_end(room, &task, "it was told to stop")
}

fn tell_end(room: &str, task: &Task, why: &str) -> Result {
    let answer = task.as_str();
    gateway::to_group(&rooms::everybody(room)).send_json(&ToClient::Stopped { answer, why })
}

/// The task. No event of a client waits for it, so it may take its time.
pub(crate) fn think(task: &Task, payload: &[u8], pace: Duration) -> Result<Vec<u8>> {
    let asked: Asked = serde_json::from_slice(payload)?;
    let room = rooms::everybody(&asked.room);
    let answer = answer(&asked.name, &asked.question);
    let first = tasks::resume();
    for (number, text) in (0..).zip(&answer).skip_while(|(number, _)| *number < first) {
        pause(pace);
        gateway::to_group(&room).send_json(&ToClient::Piece {
            answer: task.as_str(),
            number,
            text,
        })?;
        tasks::commit()?;
    }
    gateway::to_group(&room).send_json(&ToClient::Answered {
        answer: task.as_str(),
    })?;
    Ok(answer.concat().into_bytes())
}

/// The answer is over; whoever asked remembers it for the history, if it is still in the room.
pub(crate) fn finished(client: Option<Client>, task: &Task, end: Finished) -> Result {
    let Some(client) = client else {
        return Ok(());
    };
    session::remove(ASKED)?;
    let here: rooms::Here = session::load()?;
    match (here.room, end) {
        (Some(room), Err(why)) => tell_end(&room, task, &why),
        (Some(_), Ok(text)) => {
            let who = Who {
                uid: NAME.to_owned(),
                name: NAME.to_owned(),
            };
            rooms::remember(client, who, String::from_utf8(text)?).map(drop)
        }
        (None, _) => Ok(()),
    }
}

/// What a model would say, piece by piece: the same in every run, as steps must be.
fn answer(name: &str, question: &str) -> Vec<String> {
    let backwards: Vec<&str> = question.split_whitespace().rev().collect();
    let text = format!(
        "{name}, there is no model behind me, so I can only say it backwards: {}",
        backwards.join(" ")
    );
    text.split_inclusive(' ').map(str::to_owned).collect()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pace of a model; a task may wait, nobody waits for it"
)]
fn pause(pace: Duration) {
    if !pace.is_zero() {
        std::thread::sleep(pace);
    }
}
