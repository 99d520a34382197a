//! The calls of `gateway`.

use serde_json::Value;
use tidegate_sdk::directory::Selector;
use tidegate_sdk::gateway::Closing;
use tidegate_sdk::prelude::*;

use crate::arguments::Arguments;

/// Makes a call, if it is one of these.
pub(crate) fn call(op: &str, it: &Arguments<'_>) -> Option<Result<Value>> {
    let done = match op {
        "send_to_client" => to_client(it),
        "send_to_clients" => to_clients(it),
        "send_to_uids" => to_uids(it),
        "send_to_groups" => to_groups(it),
        "send_to_all" => to_all(it),
        "send_raw" => raw(it),
        "send_latest" => latest(it),
        "close_client" => close_client(it),
        "close_uid" => close_uid(it),
        "destroy_client" => it.client().and_then(|client| client.destroy()),
        "bind_uid" => named(it, "uid", gateway::bind_uid),
        "unbind_uid" => it.client().and_then(|client| client.unbind_uid()),
        "join_group" => named(it, "group", gateway::join_group),
        "leave_group" => named(it, "group", gateway::leave_group),
        "ungroup" => it.text("group").and_then(gateway::ungroup),
        "set_session" | "update_session" => session(op, it),
        "delete_session" => it.client().and_then(|client| client.delete_session()),
        "command" => command(it),
        _ => return None,
    };
    Some(done.map(|()| Value::Null))
}

fn to_client(it: &Arguments<'_>) -> Result {
    it.client()?.send(it.needed_message("message")?)
}

fn to_clients(it: &Arguments<'_>) -> Result {
    let (clients, except) = (it.clients("clients")?, it.clients("except")?);
    let to = gateway::to_clients(&clients).except_all(&except);
    to.send(it.needed_message("message")?)
}

fn to_uids(it: &Arguments<'_>) -> Result {
    let (uids, except) = (it.texts("uids")?, it.clients("except")?);
    let to = gateway::to_uids(&uids).except_all(&except);
    to.send(it.needed_message("message")?)
}

fn to_groups(it: &Arguments<'_>) -> Result {
    let (groups, except) = (it.texts("groups")?, it.clients("except")?);
    let to = gateway::to_groups(&groups).except_all(&except);
    to.send(it.needed_message("message")?)
}

fn to_all(it: &Arguments<'_>) -> Result {
    let to = gateway::to_all().except_all(&it.clients("except")?);
    to.send(it.needed_message("message")?)
}

/// To all, so many times as `times` says, with the number of each in the place of `#`.
fn latest(it: &Arguments<'_>) -> Result {
    let (key, text) = (it.text("key")?, it.text("message")?);
    let times = it.get("times").and_then(Value::as_u64).unwrap_or(1);
    for number in 0..times {
        let text = text.replace('#', &number.to_string());
        gateway::to_all().latest(key).send(text)?;
    }
    Ok(())
}

/// To each part of the selector on its own: the contract's raw send has one kind of recipient.
fn raw(it: &Arguments<'_>) -> Result {
    let (bytes, except) = (it.payload()?, it.clients("except")?);
    let mut to = Vec::new();
    it.select(it.get("to").unwrap_or(&Value::Null), &mut to)?;
    for selector in &to {
        match selector {
            Selector::Everyone => gateway::to_all().except_all(&except).send_raw(&bytes)?,
            Selector::Clients(clients) => {
                let to = gateway::to_clients(clients).except_all(&except);
                to.send_raw(&bytes)?;
            }
            Selector::Uids(uids) => {
                let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
                let to = gateway::to_uids(&uids).except_all(&except);
                to.send_raw(&bytes)?;
            }
            Selector::Groups(groups) => {
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                let to = gateway::to_groups(&groups).except_all(&except);
                to.send_raw(&bytes)?;
            }
            Selector::AllOfGroups(_) => {
                let why = "a send has no all_of_groups".to_owned();
                return Err(Refused::InvalidArgument(why).into());
            }
        }
    }
    Ok(())
}

fn close_client(it: &Arguments<'_>) -> Result {
    close(it, gateway::closing(&it.client()?))
}

fn close_uid(it: &Arguments<'_>) -> Result {
    close(it, gateway::closing_uid(it.text("uid")?))
}

fn close(it: &Arguments<'_>, mut closing: Closing<'_>) -> Result {
    if let Some(farewell) = it.message("farewell")? {
        closing = closing.farewell(farewell);
    }
    if let Some(code) = it.get("code").and_then(Value::as_u64) {
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        closing = closing.code(code, it.text("reason").unwrap_or_default());
    }
    closing.close()
}

fn named(it: &Arguments<'_>, name: &str, call: fn(&Client, &str) -> Result) -> Result {
    call(&it.client()?, it.text(name)?)
}

fn session(op: &str, it: &Arguments<'_>) -> Result {
    let client = it.client()?;
    let entries = it.entries("entries")?;
    let entries: Vec<(&str, &str)> = entries
        .iter()
        .map(|(key, json)| (*key, json.as_str()))
        .collect();
    if op == "set_session" {
        return gateway::set_session(&client, &entries);
    }
    gateway::update_session(&client, &entries, it.flag("deep"))
}

fn command(it: &Arguments<'_>) -> Result {
    let gateways = it.optional_texts("gateways")?;
    gateway::command(gateways.as_deref(), it.text("name")?, &it.payload()?)
}
