//! The host's side of every call, for native tests: checks arguments as the host does and hands
//! effects to the event that [`testing`](crate::testing) is running on this thread.

use std::collections::BTreeMap;

use crate::client::Client;
use crate::error::Refused;
use crate::gateway::To;
use crate::log::Level;
use crate::message::Outgoing;
use crate::testing::effect::{Change, Effect, Parcel};
use crate::testing::event;
use crate::testing::hub::ADDRESS;

pub(crate) mod directory;
pub(crate) mod hub;

type Result<T = ()> = std::result::Result<T, Refused>;

/// The longest uid, group or session key, in bytes.
const NAME_BYTES_MAX: usize = 255;

pub(crate) fn send(to: To<'_>, message: &Outgoing<'_>, except: &[Client]) -> Result {
    parcel(to, Parcel::Message(message.clone().into()), except)
}

pub(crate) fn send_raw(to: To<'_>, bytes: &[u8], except: &[Client]) -> Result {
    parcel(to, Parcel::Raw(bytes.to_owned()), except)
}

fn parcel(to: To<'_>, parcel: Parcel, except: &[Client]) -> Result {
    match to {
        To::Uid(uid) => check_name("uid", uid)?,
        To::Uids(uids) => uids.iter().try_for_each(|uid| check_name("uid", uid))?,
        To::Group(group) => check_name("group", group)?,
        To::Groups(groups) => groups
            .iter()
            .try_for_each(|group| check_name("group", group))?,
        To::Client(_) | To::Clients(_) | To::All => {}
    }
    event::push(Effect::Send {
        to: to.into(),
        parcel,
        except: except.to_vec(),
    })
}

pub(crate) fn close_client(client: &Client, farewell: Option<&Outgoing<'_>>) -> Result {
    let farewell = farewell.cloned().map(Into::into);
    event::push(Effect::Close {
        client: *client,
        farewell,
    })
}

pub(crate) fn close_uid(uid: &str, farewell: Option<&Outgoing<'_>>) -> Result {
    check_name("uid", uid)?;
    let farewell = farewell.cloned().map(Into::into);
    event::push(Effect::CloseUid {
        uid: uid.to_owned(),
        farewell,
    })
}

pub(crate) fn destroy_client(client: &Client) -> Result {
    event::push(Effect::Destroy { client: *client })
}

pub(crate) fn bind_uid(client: &Client, uid: &str) -> Result {
    check_name("uid", uid)?;
    event::push(Effect::BindUid {
        client: *client,
        uid: uid.to_owned(),
    })
}

pub(crate) fn unbind_uid(client: &Client) -> Result {
    event::push(Effect::UnbindUid { client: *client })
}

pub(crate) fn join_group(client: &Client, group: &str) -> Result {
    check_name("group", group)?;
    event::push(Effect::Join {
        client: *client,
        group: group.to_owned(),
    })
}

pub(crate) fn leave_group(client: &Client, group: &str) -> Result {
    check_name("group", group)?;
    event::push(Effect::Leave {
        client: *client,
        group: group.to_owned(),
    })
}

pub(crate) fn ungroup(group: &str) -> Result {
    check_name("group", group)?;
    event::push(Effect::Ungroup {
        group: group.to_owned(),
    })
}

pub(crate) fn set_session(client: &Client, entries: &[(&str, &str)]) -> Result {
    entries
        .iter()
        .try_for_each(|(key, json)| check_entry(key, json))?;
    let owned = |&(key, json): &(&str, &str)| (key.to_owned(), json.to_owned());
    let entries: BTreeMap<_, _> = entries.iter().map(owned).collect();
    event::push(Effect::Session {
        client: *client,
        change: Change::Replace(entries),
    })
}

pub(crate) fn update_session(client: &Client, entries: &[(&str, &str)], deep: bool) -> Result {
    entries
        .iter()
        .try_for_each(|(key, json)| check_entry(key, json))?;
    for &(key, json) in entries {
        let make = if deep { Change::Merge } else { Change::Set };
        let change = make(key.to_owned(), json.to_owned());
        event::push(Effect::Session {
            client: *client,
            change,
        })?;
    }
    Ok(())
}

pub(crate) fn delete_session(client: &Client) -> Result {
    event::push(Effect::Session {
        client: *client,
        change: Change::Clear,
    })
}

pub(crate) fn command(gateways: Option<&[&str]>, name: &str, payload: &[u8]) -> Result {
    let wanted = directory::check_command(gateways, name)?;
    event::push(Effect::Command {
        name: name.to_owned(),
        payload: payload.to_owned(),
        here: wanted.iter().any(|gateway| gateway == ADDRESS),
    })
}

pub(crate) fn session_get(key: &str) -> Result<Option<String>> {
    event::session(|session| session.get(key).cloned())
}

pub(crate) fn session_set(key: &str, json: &str) -> Result {
    check_entry(key, json)?;
    event::change_session(Change::Set(key.to_owned(), json.to_owned()))
}

pub(crate) fn session_remove(key: &str) -> Result {
    check_name("session key", key)?;
    event::change_session(Change::Remove(key.to_owned()))
}

pub(crate) fn session_entries() -> Result<Vec<(String, String)>> {
    event::session(|session| session.clone().into_iter().collect())
}

pub(crate) fn session_clear() -> Result {
    event::change_session(Change::Clear)
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

fn check_entry(key: &str, json: &str) -> Result {
    check_name("session key", key)?;
    serde_json::from_str::<serde::de::IgnoredAny>(json)
        .map(|_| ())
        .map_err(|error| {
            Refused::InvalidArgument(format!(
                "the value of session key {key:?} is not JSON: {error}"
            ))
        })
}

fn check_name(what: &str, name: &str) -> Result {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Refused::InvalidArgument(format!(
            "a {what} has 1 to {NAME_BYTES_MAX} bytes, this one has {}",
            name.len()
        )));
    }
    Ok(())
}
