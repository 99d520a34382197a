//! The host's side of every call, for native tests: makes of a call the effect or the question that
//! the host makes of it, and hands it to the event that [`testing`](crate::testing) is running on
//! this thread. What effects do and what questions find is the host's own code, `tidegate-hub`.

use std::time::Duration;

use tidegate_wire::effect::{Effect, Recipients, SessionChange};
use tidegate_wire::effect_id::EffectIdError;
use tidegate_wire::peers::{self, InstanceId, PeerMessage};
use tidegate_wire::query::{self, Answer, Query};
use tidegate_wire::task::{self, TaskId};
use tidegate_wire::timer::{SettingRefused, TimerId, check};

use crate::client::Client;
use crate::directory::Page;
use crate::error::Refused;
use crate::event::{CloseFrame, Peer};
use crate::gateway::To;
use crate::log::Level;
use crate::message::Outgoing;
use crate::testing::event::{self, Whose};
use crate::testing::shard;
use crate::timers::{Timer, TimerInfo};

pub(crate) mod directory;
pub(crate) mod hub;
mod values;

use values::{entry, frame, id, ids, message, name, names};
pub(crate) use values::{gateways, name as checked_name, session_entries_of};

type Result<T = ()> = std::result::Result<T, Refused>;

pub(crate) fn send(to: To<'_>, outgoing: &Outgoing<'_>, except: &[Client]) -> Result {
    event::push(Effect::Send {
        to: recipients(to)?,
        message: message(outgoing),
        except: ids(except),
    })
}

pub(crate) fn send_latest(
    to: To<'_>,
    key: &str,
    outgoing: &Outgoing<'_>,
    except: &[Client],
) -> Result {
    event::push(Effect::SendLatest {
        to: recipients(to)?,
        key: name("key", key)?,
        message: message(outgoing),
        except: ids(except),
    })
}

pub(crate) fn send_raw(to: To<'_>, bytes: &[u8], except: &[Client]) -> Result {
    event::push(Effect::SendRaw {
        to: recipients(to)?,
        bytes: bytes.to_vec().into(),
        except: ids(except),
    })
}

fn recipients(to: To<'_>) -> Result<Recipients> {
    Ok(match to {
        To::Client(client) => Recipients::Client(id(&client)),
        To::Clients(clients) => Recipients::Clients(ids(clients)),
        To::Uid(uid) => Recipients::Uids(names("uid", &[uid])?),
        To::Uids(uids) => Recipients::Uids(names("uid", uids)?),
        To::Group(group) => Recipients::Groups(names("group", &[group])?),
        To::Groups(groups) => Recipients::Groups(names("group", groups)?),
        To::All => Recipients::Everyone,
    })
}

pub(crate) fn close_client(
    client: &Client,
    with: Option<&CloseFrame>,
    farewell: Option<&Outgoing<'_>>,
) -> Result {
    event::push(Effect::Close {
        client: id(client),
        farewell: farewell.map(message),
        frame: with.map(frame).transpose()?,
    })
}

pub(crate) fn close_uid(
    uid: &str,
    with: Option<&CloseFrame>,
    farewell: Option<&Outgoing<'_>>,
) -> Result {
    event::push(Effect::CloseUid {
        uid: name("uid", uid)?,
        farewell: farewell.map(message),
        frame: with.map(frame).transpose()?,
    })
}

pub(crate) fn destroy_client(client: &Client) -> Result {
    event::push(Effect::Destroy { client: id(client) })
}

pub(crate) fn bind_uid(client: &Client, uid: &str) -> Result {
    event::push(Effect::BindUid {
        client: id(client),
        uid: name("uid", uid)?,
    })
}

pub(crate) fn unbind_uid(client: &Client) -> Result {
    event::push(Effect::UnbindUid { client: id(client) })
}

pub(crate) fn join_group(client: &Client, group: &str) -> Result {
    event::push(Effect::JoinGroup {
        client: id(client),
        group: name("group", group)?,
    })
}

pub(crate) fn leave_group(client: &Client, group: &str) -> Result {
    event::push(Effect::LeaveGroup {
        client: id(client),
        group: name("group", group)?,
    })
}

pub(crate) fn ungroup(group: &str) -> Result {
    event::push(Effect::Ungroup {
        group: name("group", group)?,
    })
}

pub(crate) fn set_timer(delay_ms: u64, repeats: bool, payload: &[u8]) -> Result<String> {
    check(delay_ms, repeats, payload).map_err(|refused| match refused {
        SettingRefused::Time(text) => Refused::InvalidArgument(text),
        SettingRefused::Payload(text) => Refused::QuotaExceeded(text),
    })?;
    let timer = event::next_id()?;
    event::push(Effect::SetTimer {
        timer: Box::new(timer),
        delay_ms,
        repeats,
        payload: payload.to_vec().into(),
    })?;
    Ok(timer.to_string())
}

pub(crate) fn cancel_timer(timer: &str) -> Result {
    let timer: std::result::Result<TimerId, EffectIdError> = timer.parse();
    let timer = timer.map_err(|error| Refused::InvalidArgument(error.to_string()))?;
    event::push(Effect::CancelTimer {
        timer: Box::new(timer),
    })
}

pub(crate) fn submit_task(payload: &[u8]) -> Result<String> {
    task::check(payload).map_err(Refused::QuotaExceeded)?;
    let task = event::next_id()?;
    event::push(Effect::SubmitTask {
        task: Box::new(task),
        payload: payload.to_vec().into(),
    })?;
    Ok(task.to_string())
}

pub(crate) fn cancel_task(task: &str) -> Result {
    let task: std::result::Result<TaskId, EffectIdError> = task.parse();
    let task = task.map_err(|error| Refused::InvalidArgument(error.to_string()))?;
    event::push(Effect::CancelTask {
        task: Box::new(task),
    })
}

pub(crate) fn commit_step() -> Result<u32> {
    event::commit_step()
}

pub(crate) fn resume() -> u32 {
    event::resume()
}

pub(crate) fn tell_peers(topic: &str, payload: &[u8]) -> Result {
    let topic = name("topic", topic)?;
    peers::check(payload).map_err(Refused::QuotaExceeded)?;
    event::push(Effect::PeerMessage(Box::new(PeerMessage {
        from: InstanceId(0),
        topic,
        payload: payload.to_vec().into(),
    })))
}

pub(crate) fn timers(after: Option<&str>, limit: u32) -> Result<Page<TimerInfo>> {
    let wrong = |error: EffectIdError| Refused::InvalidArgument(error.to_string());
    let after: Option<TimerId> = after.map(str::parse).transpose().map_err(wrong)?;
    let query = Query::Timers {
        of: event::whose().map(|own| id(&own)),
        after: after.map(Box::new),
        limit,
    };
    let answered = event::ask(&query)?;
    let Answer::Timers { page, more } = answered.answer else {
        return Err(Refused::Other(format!("{query:?} was answered otherwise")));
    };
    let last = page.last().map(|it| it.timer.to_string());
    let info = |info: query::TimerInfo| TimerInfo {
        timer: Timer::new(info.timer.to_string()),
        due_in: Duration::from_millis(info.due_in_ms),
        period: info.period_ms.map(Duration::from_millis),
        payload: info.payload.to_vec(),
    };
    Ok(Page {
        items: page.into_iter().map(info).collect(),
        next: last.filter(|_| more),
        missing: answered.missing.iter().map(ToString::to_string).collect(),
    })
}

pub(crate) fn set_session(client: &Client, entries: &[(&str, &str)]) -> Result {
    let change = SessionChange::Replace(session_entries_of(entries.iter().copied())?);
    event::push_session(id(client), vec![change])
}

pub(crate) fn update_session(client: &Client, entries: &[(&str, &str)], deep: bool) -> Result {
    let entries = session_entries_of(entries.iter().copied())?.into_iter();
    let change = |(key, value)| match deep {
        true => SessionChange::Merge { key, value },
        false => SessionChange::Set { key, value },
    };
    event::push_session(id(client), entries.map(change).collect())
}

pub(crate) fn delete_session(client: &Client) -> Result {
    event::push_session(id(client), vec![SessionChange::Clear])
}

pub(crate) fn command(to: Option<&[&str]>, called: &str, payload: &[u8]) -> Result {
    if event::peek(|event| event.whose) == Some(Whose::Command) {
        return Err(Refused::NotPermitted(
            "a command may not start commands".to_owned(),
        ));
    }
    event::push(Effect::Command {
        gateways: to.map(|to| gateways(to.iter().copied())).transpose()?,
        name: name("command", called)?,
        payload: payload.to_vec().into(),
    })
}

pub(crate) fn client_id() -> Result<String> {
    Ok(event::own_client()?.to_string())
}

pub(crate) fn client_peer() -> Result<Peer> {
    if event::is_http() {
        return Ok(crate::testing::web_socket());
    }
    event::arrival(|shard, client| shard.peer(client).cloned())
}

pub(crate) fn client_gateway() -> Result<String> {
    Ok(id(&event::own_client()?).gateway().to_string())
}

pub(crate) fn client_subprotocol() -> Result<Option<String>> {
    event::arrival(|shard, client| Some(shard.subprotocol(client)))
}

pub(crate) fn client_connected_at_ms() -> Result<u64> {
    event::arrival(|shard, client| shard.connected_at_ms(client))
}

pub(crate) fn client_closed_with() -> Result<Option<CloseFrame>> {
    event::arrival(|shard, client| Some(shard.closed_with(client)))
}

pub(crate) fn session_get(key: &str) -> Result<Option<String>> {
    event::session(|session| session.get(key).map(str::to_owned))
}

pub(crate) fn session_set(key: &str, json: &str) -> Result {
    let (key, value) = entry(key, json)?;
    event::change_session(SessionChange::Set { key, value })
}

pub(crate) fn session_remove(key: &str) -> Result {
    event::change_session(SessionChange::Remove {
        key: name("session key", key)?,
    })
}

pub(crate) fn session_entries() -> Result<Vec<(String, String)>> {
    event::session(shard::entries)
}

pub(crate) fn session_clear() -> Result {
    event::change_session(SessionChange::Clear)
}

pub(crate) fn tenant() -> String {
    "default".to_owned()
}

pub(crate) fn plugin_version() -> String {
    "0".repeat(64)
}

pub(crate) fn worker_name() -> String {
    "testing".to_owned()
}

pub(crate) const fn instance() -> u32 {
    0
}

pub(crate) const fn tags() -> Vec<String> {
    Vec::new()
}

pub(crate) fn event_id() -> String {
    event::peek(|event| event.id.clone()).unwrap_or_default()
}

pub(crate) const fn attempt() -> u32 {
    0
}

#[allow(clippy::unnecessary_wraps, reason = "the same signature as under wasm")]
pub(crate) fn config_get(key: &str) -> Result<Option<String>> {
    let entries = config_entries()?;
    Ok(entries
        .into_iter()
        .find(|(k, _)| k == key)
        .map(|(_, value)| value))
}

#[allow(clippy::unnecessary_wraps, reason = "the same signature as under wasm")]
pub(crate) fn config_entries() -> Result<Vec<(String, String)>> {
    Ok(event::peek(|event| event.config.clone()).unwrap_or_default())
}

pub(crate) fn log(level: Level, context: &str, message: &str) {
    eprintln!("{level:?} {context}: {message}");
}
