//! Calls of the host: values of this crate in, values of the contract out.

use std::time::Duration;

use crate::bindings::tidegate::plugin::gateway::{self, CloseFrameParam, MessageParam, Recipients};
use crate::bindings::tidegate::plugin::{client, peers, session, tasks, timers, types, worker};
use crate::bindings::wasi::config::store;
use crate::bindings::wasi::logging::logging;
use crate::client::Client;
use crate::directory::Page;
use crate::error::Refused;
use crate::event::{CloseFrame, Peer};
use crate::gateway::To;
use crate::log::Level;
use crate::message::Outgoing;
use crate::timers::{Timer, TimerInfo};

pub(crate) mod directory;
pub(crate) mod hub;

type Result<T = ()> = std::result::Result<T, Refused>;

pub(crate) use worker::{attempt, event_id, instance, plugin_version, tags, tenant, worker_name};

pub(crate) fn send(to: To<'_>, message: &Outgoing<'_>, except: &[Client]) -> Result {
    let message = lower(message);
    let except = ids(except);
    let sent = match to {
        // The call without lists; a client that is its own exception gets nothing either way.
        To::Client(client) if except.is_empty() => {
            gateway::send_to_client(client.as_str(), message)
        }
        To::Client(client) => gateway::send_to_clients(&[client.as_str()], message, &except),
        To::Clients(clients) => gateway::send_to_clients(&ids(clients), message, &except),
        To::Uid(uid) => gateway::send_to_uids(&[uid], message, &except),
        To::Uids(uids) => gateway::send_to_uids(uids, message, &except),
        To::Group(group) => gateway::send_to_groups(&[group], message, &except),
        To::Groups(groups) => gateway::send_to_groups(groups, message, &except),
        To::All => gateway::send_to_all(message, &except),
    };
    lift(sent)
}

pub(crate) fn send_latest(
    to: To<'_>,
    key: &str,
    message: &Outgoing<'_>,
    except: &[Client],
) -> Result {
    let (message, except) = (lower(message), ids(except));
    with_recipients(to, |to| {
        lift(gateway::send_latest(to, key, message, &except))
    })
}

pub(crate) fn send_raw(to: To<'_>, bytes: &[u8], except: &[Client]) -> Result {
    let except = ids(except);
    with_recipients(to, |to| lift(gateway::send_raw(to, bytes, &except)))
}

fn with_recipients(to: To<'_>, send: impl FnOnce(Recipients<'_>) -> Result) -> Result {
    match to {
        To::Client(client) => send(Recipients::Clients(&[client.as_str()])),
        To::Clients(clients) => send(Recipients::Clients(&ids(clients))),
        To::Uid(uid) => send(Recipients::Uids(&[uid])),
        To::Uids(uids) => send(Recipients::Uids(uids)),
        To::Group(group) => send(Recipients::Groups(&[group])),
        To::Groups(groups) => send(Recipients::Groups(groups)),
        To::All => send(Recipients::Everyone),
    }
}

pub(crate) fn close_client(
    client: &Client,
    frame: Option<&CloseFrame>,
    farewell: Option<&Outgoing<'_>>,
) -> Result {
    let (client, farewell) = (client.as_str(), farewell.map(lower));
    lift(match frame {
        Some(frame) => gateway::close_client_with(client, lower_frame(frame), farewell),
        None => gateway::close_client(client, farewell),
    })
}

pub(crate) fn close_uid(
    uid: &str,
    frame: Option<&CloseFrame>,
    farewell: Option<&Outgoing<'_>>,
) -> Result {
    let farewell = farewell.map(lower);
    lift(match frame {
        Some(frame) => gateway::close_uid_with(uid, lower_frame(frame), farewell),
        None => gateway::close_uid(uid, farewell),
    })
}

pub(crate) fn destroy_client(client: &Client) -> Result {
    lift(gateway::destroy_client(client.as_str()))
}

pub(crate) fn bind_uid(client: &Client, uid: &str) -> Result {
    lift(gateway::bind_uid(client.as_str(), uid))
}

pub(crate) fn unbind_uid(client: &Client) -> Result {
    lift(gateway::unbind_uid(client.as_str()))
}

pub(crate) fn join_group(client: &Client, group: &str) -> Result {
    lift(gateway::join_group(client.as_str(), group))
}

pub(crate) fn leave_group(client: &Client, group: &str) -> Result {
    lift(gateway::leave_group(client.as_str(), group))
}

pub(crate) fn ungroup(group: &str) -> Result {
    lift(gateway::ungroup(group))
}

pub(crate) fn set_timer(delay_ms: u64, repeats: bool, payload: &[u8]) -> Result<String> {
    lift(match repeats {
        true => timers::every(delay_ms, payload),
        false => timers::after(delay_ms, payload),
    })
}

pub(crate) fn cancel_timer(timer: &str) -> Result {
    lift(timers::cancel(timer))
}

pub(crate) fn submit_task(payload: &[u8]) -> Result<String> {
    lift(tasks::submit(payload))
}

pub(crate) fn cancel_task(task: &str) -> Result {
    lift(tasks::cancel(task))
}

pub(crate) fn commit_step() -> Result<u32> {
    lift(tasks::commit())
}

pub(crate) use tasks::resume;

pub(crate) fn tell_peers(topic: &str, payload: &[u8]) -> Result {
    lift(peers::send(topic, payload))
}

pub(crate) fn timers(after: Option<&str>, limit: u32) -> Result<Page<TimerInfo>> {
    let page = lift(timers::waiting(after, limit))?;
    let info = |info: timers::TimerInfo| TimerInfo {
        timer: Timer::new(info.timer),
        due_in: Duration::from_millis(info.due_in_ms),
        period: info.period_ms.map(Duration::from_millis),
        payload: info.payload,
    };
    Ok(Page {
        items: page.timers.into_iter().map(info).collect(),
        next: page.next,
        missing: page.coverage.missing,
    })
}

pub(crate) fn set_session(client: &Client, entries: &[(&str, &str)]) -> Result {
    lift(gateway::set_session(client.as_str(), entries))
}

pub(crate) fn update_session(client: &Client, entries: &[(&str, &str)], deep: bool) -> Result {
    lift(gateway::update_session(client.as_str(), entries, deep))
}

pub(crate) fn delete_session(client: &Client) -> Result {
    lift(gateway::delete_session(client.as_str()))
}

pub(crate) fn command(gateways: Option<&[&str]>, name: &str, payload: &[u8]) -> Result {
    lift(gateway::command(gateways, name, payload))
}

pub(crate) fn client_id() -> Result<String> {
    lift(client::id())
}

pub(crate) fn client_peer() -> Result<Peer> {
    lift(client::peer()).map(Into::into)
}

pub(crate) fn client_gateway() -> Result<String> {
    lift(client::gateway())
}

pub(crate) fn client_subprotocol() -> Result<Option<String>> {
    lift(client::subprotocol())
}

pub(crate) fn client_connected_at_ms() -> Result<u64> {
    lift(client::connected_at_ms())
}

pub(crate) fn client_closed_with() -> Result<Option<CloseFrame>> {
    let frame = lift(client::closed_with())?;
    Ok(frame.map(|frame| CloseFrame {
        code: frame.code,
        reason: frame.reason,
    }))
}

pub(crate) fn session_get(key: &str) -> Result<Option<String>> {
    lift(session::get(key))
}

pub(crate) fn session_set(key: &str, json: &str) -> Result {
    lift(session::set(key, json))
}

pub(crate) fn session_remove(key: &str) -> Result {
    lift(session::remove(key))
}

pub(crate) fn session_entries() -> Result<Vec<(String, String)>> {
    lift(session::entries())
}

pub(crate) fn session_clear() -> Result {
    lift(session::clear())
}

pub(crate) fn config_get(key: &str) -> Result<Option<String>> {
    store::get(key).map_err(config_error)
}

pub(crate) fn config_entries() -> Result<Vec<(String, String)>> {
    store::get_all().map_err(config_error)
}

pub(crate) fn log(level: Level, context: &str, message: &str) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
        Level::Critical => logging::Level::Critical,
    };
    logging::log(level, context, message);
}

fn ids(clients: &[Client]) -> Vec<&str> {
    clients.iter().map(Client::as_str).collect()
}

fn lower_frame(frame: &CloseFrame) -> CloseFrameParam<'_> {
    CloseFrameParam {
        code: frame.code,
        reason: &frame.reason,
    }
}

fn lower<'a>(message: &'a Outgoing<'_>) -> MessageParam<'a> {
    match message {
        Outgoing::Text(text) => MessageParam::Text(text),
        Outgoing::Binary(bytes) => MessageParam::Binary(bytes),
    }
}

fn lift<T>(result: std::result::Result<T, types::Error>) -> Result<T> {
    result.map_err(|error| match error {
        types::Error::InvalidArgument(text) => Refused::InvalidArgument(text),
        types::Error::Offline => Refused::Offline,
        types::Error::Timeout => Refused::Timeout,
        types::Error::QuotaExceeded(text) => Refused::QuotaExceeded(text),
        types::Error::NotPermitted(text) => Refused::NotPermitted(text),
        types::Error::Conflict => Refused::Conflict,
        types::Error::Other(text) => Refused::Other(text),
    })
}

fn config_error(error: store::Error) -> Refused {
    match error {
        store::Error::Upstream(text) | store::Error::Io(text) => Refused::Other(text),
    }
}
