//! Values of this crate to the wire's, checked as the host checks a guest's, and back.

use std::net::SocketAddrV4;

use serde::de::IgnoredAny;
use tidegate_wire::cursor::Cursor;
use tidegate_wire::event::{self as wire, SessionEntries};
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{self, ClientFields};
use tidegate_wire::{NAME_BYTES_MAX, Name, is_name};

use super::Result;
use crate::client::Client;
use crate::directory::{ClientInfo, Fields, GroupInfo, Page, Selector};
use crate::error::Refused;
use crate::event::CloseFrame;
use crate::message::Outgoing;
use crate::testing::event;
use crate::testing::shard::texts;

pub(super) use crate::testing::shard::id;

pub(super) fn ids(clients: &[Client]) -> Vec<ClientId> {
    clients.iter().map(id).collect()
}

pub(super) fn client(id: ClientId) -> Result<Client> {
    let client = id.to_string().parse();
    client.map_err(|error| Refused::Other(format!("the hub gave {error}")))
}

/// `what` says what the name is for, in the error.
pub(crate) fn name(what: &str, text: &str) -> Result<Name> {
    if is_name(text) {
        return Ok(text.into());
    }
    let length = text.len();
    Err(Refused::InvalidArgument(format!(
        "a {what} has 1 to {NAME_BYTES_MAX} bytes, this one has {length}"
    )))
}

pub(super) fn names(what: &str, texts: &[impl AsRef<str>]) -> Result<Vec<Name>> {
    texts.iter().map(|text| name(what, text.as_ref())).collect()
}

/// A session key with its JSON text.
pub(super) fn entry(key: &str, json: &str) -> Result<(Name, String)> {
    let key = name("session key", key)?;
    match serde_json::from_str::<IgnoredAny>(json) {
        Ok(_) => Ok((key, json.to_owned())),
        Err(error) => Err(Refused::InvalidArgument(format!(
            "the value of session key {key:?} is not JSON: {error}"
        ))),
    }
}

pub(crate) fn session_entries_of<'a>(
    entries: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<SessionEntries> {
    entries.map(|(key, json)| entry(key, json)).collect()
}

pub(super) fn message(outgoing: &Outgoing<'_>) -> wire::Message {
    match outgoing {
        Outgoing::Text(text) => wire::Message::Text(text.as_bytes().to_vec().into()),
        Outgoing::Binary(bytes) => wire::Message::Binary(bytes.to_vec().into()),
    }
}

pub(super) fn frame(frame: &CloseFrame) -> Result<Box<wire::CloseFrame>> {
    let checked = wire::CloseFrame::of_application(frame.code, &frame.reason);
    checked.map(Box::new).map_err(Refused::InvalidArgument)
}

/// Announced addresses.
pub(crate) fn gateways<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<SocketAddrV4>> {
    texts.map(gateway).collect()
}

pub(super) fn gateway(text: &str) -> Result<SocketAddrV4> {
    text.parse().map_err(|_| {
        Refused::InvalidArgument(format!(
            "{text:?}: the announced address of a gateway, IPv4 and port, is expected"
        ))
    })
}

pub(super) fn addresses(gateways: &[SocketAddrV4]) -> Vec<String> {
    gateways.iter().map(SocketAddrV4::to_string).collect()
}

pub(super) fn selectors(of: &[Selector]) -> Result<Vec<query::Selector>> {
    let selector = |selector: &Selector| {
        Ok(match selector {
            Selector::Everyone => query::Selector::Everyone,
            Selector::Clients(clients) => query::Selector::Clients(ids(clients)),
            Selector::Uids(uids) => query::Selector::Uids(names("uid", uids)?),
            Selector::Groups(groups) => query::Selector::Groups(names("group", groups)?),
            Selector::AllOfGroups(groups) => query::Selector::AllOfGroups(names("group", groups)?),
        })
    };
    of.iter().map(selector).collect()
}

/// Reads a cursor with `read`, one of [`Cursor`]'s.
pub(super) fn cursor<T, E: std::fmt::Display>(
    after: Option<&str>,
    read: fn(&str) -> std::result::Result<T, E>,
) -> Result<Option<T>> {
    let read = |text| read(text).map_err(|error| Refused::InvalidArgument(error.to_string()));
    after.map(read).transpose()
}

pub(super) fn fields(fields: Fields) -> ClientFields {
    ClientFields {
        peer: fields.has(Fields::PEER),
        uid: fields.has(Fields::UID),
        groups: fields.has(Fields::GROUPS),
        session: fields.has(Fields::SESSION),
        times: fields.has(Fields::TIMES),
        traffic: fields.has(Fields::TRAFFIC),
    }
}

/// A page of `found`, which goes on behind the last entry if there may be more.
pub(super) fn page<T, U>(
    (found, more): (Vec<T>, bool),
    missing: &[SocketAddrV4],
    after: fn(&T) -> Cursor,
    item: fn(T) -> Result<U>,
) -> Result<Page<U>> {
    let last = found.last().filter(|_| more);
    let next = last.map(|last| after(last).encode());
    Ok(Page {
        items: found.into_iter().map(item).collect::<Result<_>>()?,
        next,
        missing: addresses(missing),
    })
}

pub(super) fn text(name: Name) -> Result<String> {
    Ok(name.to_string())
}

pub(super) const fn after_client(info: &query::ClientInfo) -> Cursor {
    Cursor::Client(info.client)
}

pub(super) fn client_info(info: query::ClientInfo) -> Result<ClientInfo> {
    // As the test gave it: its address need not be one.
    let peer = info.peer.and_then(|_| {
        let peer = event::peek(|event| event.world.shard.peer(info.client).cloned());
        peer.flatten()
    });
    Ok(ClientInfo {
        client: client(info.client)?,
        peer,
        uid: info.uid.map(|uid| uid.to_string()),
        groups: info.groups.iter().map(|it| it.to_string()).collect(),
        session: texts(info.session),
        connected_at_ms: info.connected_at_ms,
        last_message_at_ms: info.last_message_at_ms,
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
    })
}

pub(super) fn group_info(info: query::GroupInfo) -> Result<GroupInfo> {
    Ok(GroupInfo {
        group: info.group.to_string(),
        client_count: info.clients,
        uid_count: info.uids,
    })
}
