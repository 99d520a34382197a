//! `tidegate:plugin/gateway`: doing. Each call checks its arguments and collects one effect.

use std::net::SocketAddrV4;
use std::sync::Arc;

use serde::de::IgnoredAny;
use tidegate_wire::effect::{Effect, Recipients, SessionChange};
use tidegate_wire::event::{self, Message};
use tidegate_wire::id::ClientId;
use tidegate_wire::payload::Payload;
use tidegate_wire::{NAME_BYTES_MAX, Name, is_name};

use super::{HostState, Origin, invalid, offered};
use offered::gateway as wit;
use offered::types::{CloseFrame, Error};

/// What an effect costs beside its payload, for the limit of bytes: about its size on a link.
const EFFECT_BYTES: usize = 16;

type Accepted = Result<(), Error>;

impl wit::Host for HostState {
    fn send_to_client(&mut self, client: String, message: wit::Message) -> Accepted {
        let to = Recipients::Client(parse_client(&client)?);
        self.send(to, message, &[])
    }

    fn send_to_clients(
        &mut self,
        clients: Vec<String>,
        message: wit::Message,
        except: Vec<String>,
    ) -> Accepted {
        let to = Recipients::Clients(parse_clients(&clients)?);
        self.send(to, message, &except)
    }

    fn send_to_uids(
        &mut self,
        uids: Vec<String>,
        message: wit::Message,
        except: Vec<String>,
    ) -> Accepted {
        let to = Recipients::Uids(parse_names("uid", uids)?);
        self.send(to, message, &except)
    }

    fn send_to_groups(
        &mut self,
        groups: Vec<String>,
        message: wit::Message,
        except: Vec<String>,
    ) -> Accepted {
        let to = Recipients::Groups(parse_names("group", groups)?);
        self.send(to, message, &except)
    }

    fn send_to_all(&mut self, message: wit::Message, except: Vec<String>) -> Accepted {
        self.send(Recipients::Everyone, message, &except)
    }

    fn send_raw(&mut self, to: wit::Recipients, bytes: Vec<u8>, except: Vec<String>) -> Accepted {
        let to = parse_recipients(to)?;
        let except = parse_clients(&except)?;
        let size = recipient_bytes(&to) + except.len() * EFFECT_BYTES + bytes.len();
        let bytes = Payload::from(bytes);
        self.push(Effect::SendRaw { to, bytes, except }, size)
    }

    fn send_latest(
        &mut self,
        to: wit::Recipients,
        key: String,
        message: wit::Message,
        except: Vec<String>,
    ) -> Accepted {
        let to = parse_recipients(to)?;
        let key = parse_name("key", &key)?;
        let except = parse_clients(&except)?;
        let message = into_message(message);
        let size = recipient_bytes(&to) + except.len() * EFFECT_BYTES + message_bytes(&message);
        let size = size + key.len();
        let effect = Effect::SendLatest {
            to,
            key,
            message,
            except,
        };
        self.push(effect, size)
    }

    fn close_client(&mut self, client: String, farewell: Option<wit::Message>) -> Accepted {
        let client = parse_client(&client)?;
        self.close_one(client, None, farewell.map(into_message))
    }

    fn close_client_with(
        &mut self,
        client: String,
        frame: CloseFrame,
        farewell: Option<wit::Message>,
    ) -> Accepted {
        let client = parse_client(&client)?;
        let frame = parse_frame(&frame)?;
        self.close_one(client, Some(frame), farewell.map(into_message))
    }

    fn close_uid(&mut self, uid: String, farewell: Option<wit::Message>) -> Accepted {
        let uid = parse_name("uid", &uid)?;
        self.close_all_of(uid, None, farewell.map(into_message))
    }

    fn close_uid_with(
        &mut self,
        uid: String,
        frame: CloseFrame,
        farewell: Option<wit::Message>,
    ) -> Accepted {
        let uid = parse_name("uid", &uid)?;
        let frame = parse_frame(&frame)?;
        self.close_all_of(uid, Some(frame), farewell.map(into_message))
    }

    fn destroy_client(&mut self, client: String) -> Accepted {
        let client = parse_client(&client)?;
        self.push(Effect::Destroy { client }, EFFECT_BYTES)
    }

    fn bind_uid(&mut self, client: String, uid: String) -> Accepted {
        let client = parse_client(&client)?;
        let uid = parse_name("uid", &uid)?;
        let size = EFFECT_BYTES + uid.len();
        self.push(Effect::BindUid { client, uid }, size)
    }

    fn unbind_uid(&mut self, client: String) -> Accepted {
        let client = parse_client(&client)?;
        self.push(Effect::UnbindUid { client }, EFFECT_BYTES)
    }

    fn join_group(&mut self, client: String, group: String) -> Accepted {
        let client = parse_client(&client)?;
        let group = parse_name("group", &group)?;
        let size = EFFECT_BYTES + group.len();
        self.push(Effect::JoinGroup { client, group }, size)
    }

    fn leave_group(&mut self, client: String, group: String) -> Accepted {
        let client = parse_client(&client)?;
        let group = parse_name("group", &group)?;
        let size = EFFECT_BYTES + group.len();
        self.push(Effect::LeaveGroup { client, group }, size)
    }

    fn ungroup(&mut self, group: String) -> Accepted {
        let group = parse_name("group", &group)?;
        let size = EFFECT_BYTES + group.len();
        self.push(Effect::Ungroup { group }, size)
    }

    fn command(
        &mut self,
        gateways: Option<Vec<String>>,
        name: String,
        payload: Vec<u8>,
    ) -> Accepted {
        if matches!(self.current()?.origin, Origin::Command { .. }) {
            // It could go round for ever, at all gateways.
            return Err(Error::NotPermitted(
                "a command may not start commands".to_owned(),
            ));
        }
        let gateways = gateways.map(|list| parse_gateways(&list)).transpose()?;
        let name = parse_name("command", &name)?;
        let size = EFFECT_BYTES + name.len() + payload.len();
        let payload = Payload::from(payload);
        self.push(
            Effect::Command {
                gateways,
                name,
                payload,
            },
            size,
        )
    }

    fn set_session(&mut self, client: String, entries: Vec<(String, String)>) -> Accepted {
        let client = parse_client(&client)?;
        let entries = parse_entries(entries)?;
        let size = entries
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let change = SessionChange::Replace(entries);
        self.push_session_changes(client, std::iter::once((change, size)))
    }

    fn update_session(
        &mut self,
        client: String,
        entries: Vec<(String, String)>,
        deep: bool,
    ) -> Accepted {
        let client = parse_client(&client)?;
        let entries = parse_entries(entries)?;
        let changes = entries.into_iter().map(|(key, value)| {
            let size = key.len() + value.len();
            let change = if deep {
                SessionChange::Merge { key, value }
            } else {
                SessionChange::Set { key, value }
            };
            (change, size)
        });
        self.push_session_changes(client, changes)
    }

    fn delete_session(&mut self, client: String) -> Accepted {
        let client = parse_client(&client)?;
        self.push_session_changes(client, std::iter::once((SessionChange::Clear, 0)))
    }
}

impl HostState {
    fn close_one(
        &mut self,
        client: ClientId,
        frame: Option<Box<event::CloseFrame>>,
        farewell: Option<Message>,
    ) -> Accepted {
        let size = EFFECT_BYTES + close_bytes(frame.as_deref(), farewell.as_ref());
        let effect = Effect::Close {
            client,
            farewell,
            frame,
        };
        self.push(effect, size)
    }

    fn close_all_of(
        &mut self,
        uid: Name,
        frame: Option<Box<event::CloseFrame>>,
        farewell: Option<Message>,
    ) -> Accepted {
        let size = EFFECT_BYTES + uid.len() + close_bytes(frame.as_deref(), farewell.as_ref());
        let effect = Effect::CloseUid {
            uid,
            farewell,
            frame,
        };
        self.push(effect, size)
    }

    fn send(&mut self, to: Recipients, message: wit::Message, except: &[String]) -> Accepted {
        let except = parse_clients(except)?;
        let message = into_message(message);
        let size = recipient_bytes(&to) + except.len() * EFFECT_BYTES + message_bytes(&message);
        self.push(
            Effect::Send {
                to,
                message,
                except,
            },
            size,
        )
    }
}

fn parse_recipients(to: wit::Recipients) -> Result<Recipients, Error> {
    Ok(match to {
        wit::Recipients::Clients(clients) => Recipients::Clients(parse_clients(&clients)?),
        wit::Recipients::Uids(uids) => Recipients::Uids(parse_names("uid", uids)?),
        wit::Recipients::Groups(groups) => Recipients::Groups(parse_names("group", groups)?),
        wit::Recipients::Everyone => Recipients::Everyone,
    })
}

fn into_message(message: wit::Message) -> Message {
    match message {
        wit::Message::Text(text) => Message::Text(text.into_bytes().into()),
        wit::Message::Binary(bytes) => Message::Binary(bytes.into()),
    }
}

fn close_bytes(frame: Option<&event::CloseFrame>, farewell: Option<&Message>) -> usize {
    frame.map_or(0, |it| it.reason.len()) + farewell.map_or(0, message_bytes)
}

fn parse_frame(frame: &CloseFrame) -> Result<Box<event::CloseFrame>, Error> {
    let parsed = event::CloseFrame::of_application(frame.code, &frame.reason);
    parsed.map(Box::new).map_err(invalid)
}

fn message_bytes(message: &Message) -> usize {
    EFFECT_BYTES + message.payload().len()
}

fn recipient_bytes(to: &Recipients) -> usize {
    let names = |names: &[Name]| names.iter().map(|name| EFFECT_BYTES + name.len()).sum();
    match to {
        Recipients::Client(_) | Recipients::Everyone => EFFECT_BYTES,
        Recipients::Clients(clients) => clients.len() * EFFECT_BYTES,
        Recipients::Uids(list) | Recipients::Groups(list) => names(list),
        Recipients::AnyOf {
            clients,
            uids,
            groups,
        } => clients.len() * EFFECT_BYTES + names(uids) + names(groups),
    }
}

pub(super) fn parse_client(text: &str) -> Result<ClientId, Error> {
    text.parse()
        .map_err(|error: tidegate_wire::id::ClientIdError| invalid(error.to_string()))
}

pub(super) fn parse_clients(texts: &[String]) -> Result<Vec<ClientId>, Error> {
    texts.iter().map(|text| parse_client(text)).collect()
}

/// `what` says what the name is for, in the error.
pub(super) fn parse_name(what: &str, text: &str) -> Result<Name, Error> {
    name(what, text).map_err(invalid)
}

/// A name, or what is wrong with it.
pub(crate) fn name(what: &str, text: &str) -> Result<Name, String> {
    if is_name(text) {
        return Ok(Arc::from(text));
    }
    let length = text.len();
    Err(format!(
        "a {what} has 1 to {NAME_BYTES_MAX} bytes, this one has {length}"
    ))
}

pub(super) fn parse_names(what: &str, texts: Vec<String>) -> Result<Vec<Name>, Error> {
    texts.iter().map(|text| parse_name(what, text)).collect()
}

pub(super) fn parse_gateway(text: &str) -> Result<SocketAddrV4, Error> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        let expected = "the announced address of a gateway, IPv4 and port, is expected";
        invalid(format!("{shown:?}: {expected}"))
    })
}

pub(super) fn parse_gateways(texts: &[String]) -> Result<Vec<SocketAddrV4>, Error> {
    texts.iter().map(|text| parse_gateway(text)).collect()
}

fn parse_entries(entries: Vec<(String, String)>) -> Result<Vec<(Name, String)>, Error> {
    entries
        .into_iter()
        .map(|(key, value)| {
            let key = parse_name("session key", &key)?;
            check_json(&key, &value)?;
            Ok((key, value))
        })
        .collect()
}

pub(super) fn check_json(key: &str, text: &str) -> Result<(), Error> {
    json(key, text).map_err(invalid)
}

/// What is wrong with a session's value. Parses without keeping anything; the parser bounds the depth.
pub(crate) fn json(key: &str, text: &str) -> Result<(), String> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "the value of session key {key:?} is not JSON: {error}"
        )),
    }
}
