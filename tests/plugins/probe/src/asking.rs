//! The calls of `directory`.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_sdk::directory::{self, ClientAddress, List};
use tidegate_sdk::prelude::*;

use crate::arguments::Arguments;
use crate::shape;

/// How long `command_wait` waits if the step does not say.
const WAIT_MS: u32 = 1000;

/// Makes a call, if it is one of these.
pub(crate) fn call(op: &str, it: &Arguments<'_>) -> Option<Result<Value>> {
    Some(match op {
        "is_online" => it
            .client()
            .and_then(|client| Ok(client.is_online()?.into())),
        "are_uids_online" => are_uids_online(it),
        "clients" => it
            .of()
            .and_then(|of| list(it, of.clients(), |id| json!(id))),
        "client_count" => it.of().and_then(|of| Ok(shape::count(&of.count()?))),
        "infos" => infos(it),
        "info" => info(it),
        "clients_of_uids" => clients_of_uids(it),
        "uids" => it.of().and_then(|of| list(it, of.uids(), |uid| json!(uid))),
        "uid_count" => it.of().and_then(|of| Ok(shape::count(&of.uid_count()?))),
        "uid_count_estimate" => directory::uid_count_estimate().map(|count| shape::count(&count)),
        "groups" => list(it, directory::groups(), |group| json!(group)),
        "group_infos" => list(
            it,
            directory::group_infos(),
            |info| json!({"group": info.group, "clients": info.client_count, "uids": info.uid_count}),
        ),
        "client_counts_of_groups" => client_counts_of_groups(it),
        "group_clients" => list(
            it,
            directory::group_clients(),
            |(group, client)| json!({"group": group, "client": client}),
        ),
        "group_uids" => list(
            it,
            directory::group_uids(),
            |(group, uid)| json!({"group": group, "uid": uid}),
        ),
        "session_of" => session_of(it),
        "compare_and_set_session" => compare_and_set_session(it),
        "command_wait" => command_wait(it),
        "gateways" => directory::gateways().map(|gateways| json!(gateways)),
        "address_of" => address_of(it),
        "client_at" => client_at(it),
        _ => return None,
    })
}

/// One page of a list.
fn list<T>(it: &Arguments<'_>, list: List<T>, shape: impl Fn(&T) -> Value) -> Result<Value> {
    let page = list.after(it.after()?).limit(it.limit()?).page()?;
    let items: Vec<_> = page.items.iter().map(shape).collect();
    Ok(json!({"items": items, "next": page.next, "missing": page.missing}))
}

fn are_uids_online(it: &Arguments<'_>) -> Result<Value> {
    let answer = directory::are_uids_online(&it.texts("uids")?)?;
    Ok(json!({"online": answer.value, "missing": answer.missing}))
}

fn clients_of_uids(it: &Arguments<'_>) -> Result<Value> {
    let answer = directory::clients_of_uids(&it.texts("uids")?)?;
    Ok(json!({"clients": answer.value, "missing": answer.missing}))
}

fn client_counts_of_groups(it: &Arguments<'_>) -> Result<Value> {
    let answer = directory::client_counts_of_groups(&it.texts("groups")?)?;
    Ok(json!({"counts": answer.value, "missing": answer.missing}))
}

fn infos(it: &Arguments<'_>) -> Result<Value> {
    let infos = it.of()?.infos(it.fields()?);
    list(it, infos, shape::info)
}

fn info(it: &Arguments<'_>) -> Result<Value> {
    let info = it.client()?.info(it.fields()?)?;
    Ok(info.as_ref().map_or(Value::Null, shape::info))
}

fn session_of(it: &Arguments<'_>) -> Result<Value> {
    let session = directory::session_of(&it.client()?)?;
    Ok(session.map_or(Value::Null, |entries| shape::session(&entries)))
}

fn compare_and_set_session(it: &Arguments<'_>) -> Result<Value> {
    let (expected, new) = (it.json("expected"), it.json("new"));
    directory::compare_and_set_json(
        &it.client()?,
        it.text("key")?,
        expected.as_deref(),
        new.as_deref(),
    )?;
    Ok(Value::Null)
}

fn command_wait(it: &Arguments<'_>) -> Result<Value> {
    let gateways = it.optional_texts("gateways")?;
    let within = Duration::from_millis(it.number("timeout_ms", WAIT_MS)?.into());
    let name = it.text("name")?;
    let answers = directory::command(gateways.as_deref(), name, &it.payload()?, within)?;
    let answers = answers.into_iter();
    Ok(answers
        .map(|(gateway, answer)| shape::command(&gateway, answer))
        .collect())
}

fn address_of(it: &Arguments<'_>) -> Result<Value> {
    let address = it.client()?.address()?;
    Ok(json!({"gateway": address.gateway, "connection": address.connection}))
}

fn client_at(it: &Arguments<'_>) -> Result<Value> {
    let address = ClientAddress {
        gateway: it.text("gateway")?.to_owned(),
        connection: it.number("connection", 0)?,
    };
    Ok(json!(directory::client_at(&address)?))
}
