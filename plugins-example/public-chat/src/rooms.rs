//! Rooms are groups; each has a second one, of those who read fast enough for what is worth little. What
//! somebody has said in a room stays in their own session, so the history of a room is what those who
//! are there have said: it needs no store, survives swaps and lost workers, and goes with its authors.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_sdk::prelude::*;

use crate::protocol::{Line, ToClient, Who};
use crate::{Member, Purpose, now_ms};

/// So many of their own lines members keep.
const OWN_LINES_MAX: usize = 10;

/// So many lines of all a history has.
const LINES_MAX: usize = 30;

/// Of so many members the history is made.
const MEMBERS_MAX: u32 = 200;

/// What a session keeps of the room, under the keys `room`, `said` and `counter`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Here {
    pub(crate) room: Option<String>,
    said: Vec<Line>,
    counter: u64,
}

/// The group of a room.
pub(crate) fn everybody(room: &str) -> String {
    format!("room:{room}")
}

/// The group of its members that read fast enough for what is worth little.
pub(crate) fn quick(room: &str) -> String {
    format!("quick:{room}")
}

/// Goes from the room where the client is, if it is in one, to another.
pub(crate) fn join(client: Client, member: &Member, room: &str) -> Result {
    let mut here: Here = session::load()?;
    if here.room.as_deref() != Some(room) {
        if let Some(before) = here.room.take() {
            part(client, member, &before)?;
        }
        gateway::to_group(&everybody(room)).send_json(&ToClient::Came(member.who()))?;
        client.join(&everybody(room))?;
        client.join(&quick(room))?;
        (here.room, here.said) = (Some(room.to_owned()), Vec::new());
        session::store(&here)?;
    }
    client.send_json(&ToClient::Joined { room })?;
    // In an event of its own: by then the client is in the room, and misses nothing that is said between.
    timers::after(Duration::ZERO, Purpose::History.bytes()?).map(drop)
}

/// Leaves the room.
pub(crate) fn leave(client: Client, member: &Member) -> Result {
    let mut here: Here = session::load()?;
    if let Some(room) = here.room.take() {
        part(client, member, &room)?;
        here.said.clear();
        session::store(&here)?;
    }
    client.send_json(&ToClient::Left)
}

fn part(client: Client, member: &Member, room: &str) -> Result {
    client.leave(&everybody(room))?;
    client.leave(&quick(room))?;
    gateway::to_group(&everybody(room)).send_json(&ToClient::Went(member.who()))
}

/// Tells the room, and remembers it.
pub(crate) fn say(client: Client, who: Who, room: &str, text: String) -> Result {
    let line = remember(client, who, text)?;
    gateway::to_group(&everybody(room)).send_json(&ToClient::Said(&line))
}

/// Keeps a line in the session of the client whose event it is.
pub(crate) fn remember(client: Client, who: Who, text: String) -> Result<Line> {
    let mut here: Here = session::load()?;
    here.counter += 1;
    let line = Line {
        // In the order in which they were said, also within a millisecond.
        id: format!("{client}-{:010}", here.counter),
        at: now_ms(),
        uid: who.uid,
        name: who.name,
        text,
    };
    here.said.push(line.clone());
    let old = here.said.len().saturating_sub(OWN_LINES_MAX);
    here.said.drain(..old);
    session::store(&here)?;
    Ok(line)
}

/// Tells a client what was said in its room.
pub(crate) fn history(client: Client) -> Result {
    let here: Here = session::load()?;
    let Some(room) = here.room else {
        return Ok(());
    };
    let members = directory::in_group(&everybody(&room));
    let wanted = Fields::UID | Fields::SESSION;
    let page = members.infos(wanted).limit(MEMBERS_MAX).page()?;
    let partial = page.next.is_some() || !page.is_whole();
    let (mut lines, mut who) = (Vec::new(), Vec::new());
    for info in page {
        let said: Option<Vec<Line>> = info.session_key("said")?;
        lines.extend(said.unwrap_or_default());
        if let (Some(uid), Some(name)) = (info.uid.clone(), info.session_key("name")?) {
            who.push(Who { uid, name });
        }
    }
    lines.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
    lines.drain(..lines.len().saturating_sub(LINES_MAX));
    client.send_json(&ToClient::History {
        room: &room,
        lines,
        here: who,
        partial,
    })
}
