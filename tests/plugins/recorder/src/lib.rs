//! A guest for tests under violence: what a client sees tells whether any of its events was lost,
//! repeated or out of order, and watchers are told every connect and close with the event's id.
//!
//! * On connect the client is sent `id:ID`; with the query `?watch` it joins `watchers`. They are
//!   told `connected:ID:EVENT`. With `uid=` and `group=` in the query it is bound and joins; with
//!   `groups=1.7` it joins the groups with these numbers, whose names are made of them.
//! * A message `N` adds one to the session's count and is answered by `N:COUNT`; without a loss or
//!   a repetition both go up together.
//! * A message `N>ID:K` is that, and sends `from:SENDER:K` to the client ID.
//! * An `@` behind the number asks for the worker's name: the answer is `N:COUNT@WORKER`.
//! * A `*BYTES` behind that sets a session value of so many bytes, made of the number.
//! * A message `version` is answered by `version:HASH` and not counted.
//! * On close watchers are told `closed:ID:EVENT:REASON:COUNT:UID:GROUPS:VALUE`, the groups joined by
//!   `+`, those with numbers as `gN`, and the number that the value is made of. A name or a value that
//!   is not what it was is `torn`. Every run is also logged, as `closing:ID:EVENT`: a log line says
//!   that the handler ran, what watchers hear that it committed.

use tidegate_sdk::prelude::*;

/// The plugin. It keeps nothing in memory, so that any instance may serve any event.
#[derive(Default)]
pub struct Recorder;

const COUNT: &str = "count";
const WATCHERS: &str = "watchers";
const VALUE: &str = "value";
const TORN: &str = "torn";

#[tidegate_sdk::handler]
impl Handler for Recorder {
    fn on_connect(&mut self, client: Client, _: Peer, request: Option<HttpRequest>) -> Result {
        let event = worker::event_id();
        let asked = |key| request.as_ref().and_then(|request| request.query(key));
        if asked("watch").is_some() {
            client.join(WATCHERS)?;
        }
        if let Some(uid) = asked("uid") {
            client.bind_uid(uid)?;
        }
        if let Some(group) = asked("group") {
            client.join(group)?;
        }
        for number in asked("groups").unwrap_or_default().split('.') {
            if let Ok(number) = number.parse() {
                client.join(&group(number))?;
            }
        }
        client.send(format!("id:{client}"))?;
        gateway::to_group(WATCHERS).send(format!("connected:{client}:{event}"))
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let text = message.into_text()?;
        if text == "version" {
            return client.send(format!("version:{}", worker::plugin_version()));
        }
        let (number, partner) = match text.split_once('>') {
            Some((number, partner)) => (number, Some(partner)),
            None => (text.as_str(), None),
        };
        let (number, bytes) = match number.split_once('*') {
            Some((number, bytes)) => (number, Some(bytes.parse()?)),
            None => (number, None),
        };
        let count = session::get::<u64>(COUNT)?.unwrap_or(0) + 1;
        session::set(COUNT, &count)?;
        if let Some(bytes) = bytes {
            session::set(VALUE, &value(count, bytes))?;
        }
        client.send(match number.strip_suffix('@') {
            Some(number) => format!("{number}:{count}@{}", worker::name()),
            None => format!("{number}:{count}"),
        })?;
        match partner.and_then(|partner| partner.split_once(':')) {
            Some((id, sent)) => id.parse::<Client>()?.send(format!("from:{client}:{sent}")),
            None => Ok(()),
        }
    }

    fn on_close(&mut self, client: Client, closed: Closed) -> Result {
        let event = worker::event_id();
        let count = session::get::<u64>(COUNT)?.unwrap_or(0);
        let reason = closed.reason.name();
        log::info!("closing:{client}:{event}");
        let groups: Vec<_> = closed.groups.iter().map(|name| short(name)).collect();
        let (uid, groups) = (closed.uid.unwrap_or_default(), groups.join("+"));
        let value = session::get::<String>(VALUE)?.map_or_else(String::new, |it| made_of(&it));
        let text = format!("closed:{client}:{event}:{reason}:{count}:{uid}:{groups}:{value}");
        gateway::to_group(WATCHERS).send(text)
    }
}

/// The group with this number; how long its name is follows from the number. `chaos/holdings.rs` has
/// the same.
fn group(number: usize) -> String {
    let head = format!("g{number}.");
    let bytes = (number * 53 % 255 + 1).max(head.len());
    format!("{head:x<bytes$}")
}

/// A group's name as a close says it.
fn short(name: &str) -> String {
    let Some(head) = name.split_once('.').map(|(head, _)| head) else {
        return name.to_owned();
    };
    let number = head.strip_prefix('g').and_then(|it| it.parse().ok());
    match number {
        Some(number) if group(number) == name => head.to_owned(),
        _ => TORN.to_owned(),
    }
}

/// A value of so many bytes, made of a number.
fn value(number: u64, bytes: usize) -> String {
    let letter = char::from(b'a' + (number % 26) as u8);
    let mut text = format!("{number}.");
    text.extend(std::iter::repeat_n(
        letter,
        bytes.saturating_sub(text.len()),
    ));
    text
}

/// The number that a value is made of.
fn made_of(text: &str) -> String {
    let number = text.split_once('.').map(|(number, _)| number);
    match number.and_then(|number| number.parse().ok()) {
        Some(number) if value(number, text.len()) == text => number.to_string(),
        _ => TORN.to_owned(),
    }
}
