//! What a call does → effects of one commit.

use tidegate_client as api;
use tidegate_wire::effect::{Effect, Recipients, SessionChange};
use tidegate_wire::event::{CloseFrame, Message, SessionEntries};
use tidegate_wire::id::ClientId;
use tidegate_wire::json::DEPTH_MAX;

use crate::names::{bounded, client, clients, gateways, name, names};
use crate::problem::ApiRefusal;

/// The effects of one action. A send to nobody has none.
pub(crate) fn action(action: api::Action) -> Result<Vec<Effect>, ApiRefusal> {
    let one = match action {
        api::Action::Send(it) => return send(it),
        api::Action::UpdateSession(it) => {
            return update(client(&it.client)?, it.entries, it.deep);
        }
        api::Action::Close(it) => Effect::Close {
            client: client(&it.client)?,
            farewell: it.farewell.map(message),
            frame: frame(it.code, it.reason.as_deref())?,
        },
        api::Action::Destroy(it) => Effect::Destroy {
            client: client(&it.client)?,
        },
        api::Action::CloseUid(it) => Effect::CloseUid {
            uid: name("uid", &it.uid)?,
            farewell: it.farewell.map(message),
            frame: frame(it.code, it.reason.as_deref())?,
        },
        api::Action::Bind(it) => Effect::BindUid {
            client: client(&it.client)?,
            uid: name("uid", &it.uid)?,
        },
        api::Action::Unbind(it) => Effect::UnbindUid {
            client: client(&it.client)?,
        },
        api::Action::Join(it) => Effect::JoinGroup {
            client: client(&it.client)?,
            group: name("group", &it.group)?,
        },
        api::Action::Leave(it) => Effect::LeaveGroup {
            client: client(&it.client)?,
            group: name("group", &it.group)?,
        },
        api::Action::Ungroup(it) => Effect::Ungroup {
            group: name("group", &it.group)?,
        },
        api::Action::SetSession(it) => Effect::Session {
            client: client(&it.client)?,
            change: SessionChange::Replace(entries(it.entries)?),
        },
        api::Action::DeleteSession(it) => Effect::Session {
            client: client(&it.client)?,
            change: SessionChange::Clear,
        },
        api::Action::Command(it) => Effect::Command {
            gateways: gateways(it.gateways.as_ref())?,
            name: name("command", &it.name)?,
            payload: it.payload.into_bytes().into(),
        },
    };
    Ok(vec![one])
}

/// The effects of several actions, in order.
pub(crate) fn batch(batch: api::Batch) -> Result<Vec<Effect>, ApiRefusal> {
    bounded("action", batch.actions.len())?;
    let mut effects = Vec::new();
    for (at, it) in batch.actions.into_iter().enumerate() {
        match action(it) {
            Ok(more) => effects.extend(more),
            Err(mut refusal) => {
                refusal.detail = format!("actions[{at}]: {}", refusal.detail);
                return Err(refusal);
            }
        }
    }
    Ok(effects)
}

fn send(send: api::Send) -> Result<Vec<Effect>, ApiRefusal> {
    let except = clients(&send.except)?;
    let Some(to) = recipients(&send.to)? else {
        return Ok(Vec::new());
    };
    let effect = match (send.raw, send.latest) {
        (true, None) => Effect::SendRaw {
            to,
            bytes: send.message.into_bytes().into(),
            except,
        },
        (true, Some(_)) => {
            return Err(ApiRefusal::invalid(
                "`raw` bytes take no place under a key: leave `latest` or `raw` out",
            ));
        }
        (false, Some(key)) => Effect::SendLatest {
            to,
            key: name("key", &key)?,
            message: message(send.message),
            except,
        },
        (false, None) => Effect::Send {
            to,
            message: message(send.message),
            except,
        },
    };
    Ok(vec![effect])
}

/// The union of the selectors; none: it is empty.
fn recipients(to: &api::Recipients) -> Result<Option<Recipients>, ApiRefusal> {
    bounded("selector", to.0.len())?;
    let (mut everyone, mut ids) = (false, Vec::new());
    let (mut uids, mut groups) = (Vec::new(), Vec::new());
    for selector in &to.0 {
        is_said(selector)?;
        if selector.all_of_groups.is_some() {
            return Err(ApiRefusal::invalid(
                "`all_of_groups` cannot be sent to: ask for its clients and send to their ids",
            ));
        }
        everyone |= selector.everyone == Some(true);
        ids.extend(clients(selector.clients.as_deref().unwrap_or_default())?);
        uids.extend(names("uid", selector.uids.as_deref().unwrap_or_default())?);
        groups.extend(names(
            "group",
            selector.groups.as_deref().unwrap_or_default(),
        )?);
    }
    bounded("selector's names", ids.len() + uids.len() + groups.len())?;
    if everyone {
        return Ok(Some(Recipients::Everyone));
    }
    Ok(match (ids.as_slice(), uids.is_empty(), groups.is_empty()) {
        ([], true, true) => None,
        ([one], true, true) => Some(Recipients::Client(*one)),
        (_, true, true) => Some(Recipients::Clients(ids)),
        ([], false, true) => Some(Recipients::Uids(uids)),
        ([], true, false) => Some(Recipients::Groups(groups)),
        _ => Some(Recipients::AnyOf {
            clients: ids,
            uids,
            groups,
        }),
    })
}

/// A selector without members is more likely a mistake than nobody.
pub(crate) fn is_said(selector: &api::Selector) -> Result<(), ApiRefusal> {
    if *selector == api::Selector::default() {
        return Err(ApiRefusal::invalid(
            "a selector has at least one of `everyone`, `clients`, `uids`, `groups`, \
             `all_of_groups`; nobody is written as an empty list",
        ));
    }
    Ok(())
}

/// What a WebSocket is closed with, if anything is said of it.
fn frame(code: Option<u16>, reason: Option<&str>) -> Result<Option<Box<CloseFrame>>, ApiRefusal> {
    if code.is_none() && reason.is_none() {
        return Ok(None);
    }
    let frame = CloseFrame::of_application(code.unwrap_or(1000), reason.unwrap_or_default());
    frame
        .map(|frame| Some(Box::new(frame)))
        .map_err(ApiRefusal::invalid)
}

pub(crate) fn message(message: api::Message) -> Message {
    match message {
        api::Message::Text(text) => Message::Text(text.into_bytes().into()),
        api::Message::Binary(bytes) => Message::Binary(bytes.into()),
    }
}

fn entries(entries: api::SessionEntries) -> Result<SessionEntries, ApiRefusal> {
    bounded("session key", entries.len())?;
    let checked = entries
        .into_iter()
        .map(|(key, value)| Ok((name("session key", &key)?, json(&value)?)));
    checked.collect()
}

/// The text of a value that parsers can read, since a handler is going to.
pub(crate) fn json(value: &api::Json) -> Result<String, ApiRefusal> {
    let depth = tidegate_wire::json::depth(value.text());
    match depth <= DEPTH_MAX {
        true => Ok(value.text().to_owned()),
        false => Err(ApiRefusal::invalid(format!(
            "a JSON value is nested {depth} deep: {DEPTH_MAX} is right at most"
        ))),
    }
}

/// One change for each key, so that other keys keep what others write.
pub(crate) fn update(
    client: ClientId,
    update: api::SessionEntries,
    deep: bool,
) -> Result<Vec<Effect>, ApiRefusal> {
    let changes = entries(update)?.into_iter().map(|(key, value)| {
        let change = match deep {
            true => SessionChange::Merge { key, value },
            false => SessionChange::Set { key, value },
        };
        Effect::Session { client, change }
    });
    Ok(changes.collect())
}
