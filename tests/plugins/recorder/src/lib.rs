//! A guest for tests under violence: what a client sees tells whether any of its events was lost,
//! repeated or out of order, and watchers are told every connect and close with the event's id.
//!
//! * On connect the client is sent `id:ID`; with the query `?watch` it joins `watchers`. They are
//!   told `connected:ID:EVENT`. With `uid=` and `group=` in the query it is bound and joins.
//! * A message `N` adds one to the session's count and is answered by `N:COUNT`; without a loss or
//!   a repetition both go up together.
//! * A message `N>ID:K` is that, and sends `from:SENDER:K` to the client ID.
//! * An `@` behind the number asks for the worker's name: the answer is `N:COUNT@WORKER`.
//! * A message `version` is answered by `version:HASH` and not counted.
//! * On close watchers are told `closed:ID:EVENT:REASON:COUNT:UID:GROUPS`, the groups joined by `+`.
//!   Every run is also logged, as `closing:ID:EVENT`: a log line says that the handler ran, what
//!   watchers hear that it committed.

use tidegate_sdk::prelude::*;

/// The plugin. It keeps nothing in memory, so that any instance may serve any event.
#[derive(Default)]
pub struct Recorder;

const COUNT: &str = "count";
const WATCHERS: &str = "watchers";

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
        let count = session::get::<u64>(COUNT)?.unwrap_or(0) + 1;
        session::set(COUNT, &count)?;
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
        let (uid, groups) = (closed.uid.unwrap_or_default(), closed.groups.join("+"));
        let text = format!("closed:{client}:{event}:{reason}:{count}:{uid}:{groups}");
        gateway::to_group(WATCHERS).send(text)
    }
}
