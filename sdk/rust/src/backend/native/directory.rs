//! `directory` of the fake: each call makes the host's question of its arguments, asks with the
//! event's own changes, and reads the answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddrV4;

use tidegate_wire::Name;
use tidegate_wire::cursor::Cursor;
use tidegate_wire::effect::SessionChange;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{
    self, ClientFields, CommandError, CommandOutcome, LIMIT_MAX, Query, SwapRefusal,
};
use tidegate_wire::session::Session;

use super::values::{
    addresses, after_client, client, client_info, cursor, entry, fields, gateway, gateways as read,
    group_info, id, name, names, page, selectors, text,
};
use super::{Result, shard};
use crate::client::Client;
use crate::directory::{
    Answer, ClientAddress, ClientInfo, CommandAnswers, Count, Fields, GroupInfo, Page, Selector,
};
use crate::error::{Error, Refused};
use crate::testing::event;

/// Clients that `clients_of_uids` gives at most.
const CLIENTS_OF_UIDS_MAX: usize = 10_000;

/// Asks, and gives what an answer of the expected kind has with those who are missing.
macro_rules! asked {
    ($query:expr, $pattern:pat => $value:expr) => {{
        let answered = event::ask(&$query)?;
        let $pattern = answered.answer else {
            return Err(unexpected(&answered.answer));
        };
        ($value, answered.missing)
    }};
}

pub(crate) fn is_online(client: &Client) -> Result<bool> {
    Ok(one_client(client, ClientFields::default())?.is_some())
}

pub(crate) fn are_uids_online(uids: &[&str]) -> Result<Answer<Vec<bool>>> {
    let counts = counts(&Query::UidCounts(names("uid", uids)?))?;
    Ok(Answer {
        value: counts.value.iter().map(|count| *count > 0).collect(),
        missing: counts.missing,
    })
}

pub(crate) fn clients(of: &[Selector], after: Option<&str>, limit: u32) -> Result<Page<Client>> {
    let query = clients_query(of, Fields::NONE, after, limit)?;
    let (found, missing) = asked!(query, query::Answer::Clients { page, more } => (page, more));
    page(found, &missing, after_client, |info| client(info.client))
}

pub(crate) fn client_count(of: &[Selector]) -> Result<Count> {
    count(&Query::ClientCount { of: selectors(of)? })
}

pub(crate) fn infos(
    of: &[Selector],
    fields: Fields,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<ClientInfo>> {
    let query = clients_query(of, fields, after, limit)?;
    let (found, missing) = asked!(query, query::Answer::Clients { page, more } => (page, more));
    page(found, &missing, after_client, client_info)
}

pub(super) fn clients_query(
    of: &[Selector],
    wanted: Fields,
    after: Option<&str>,
    limit: u32,
) -> Result<Query> {
    Ok(Query::Clients {
        of: selectors(of)?,
        fields: fields(wanted),
        after: cursor(after, Cursor::client)?,
        limit,
    })
}

pub(crate) fn info(client: &Client, wanted: Fields) -> Result<Option<ClientInfo>> {
    let found = one_client(client, fields(wanted))?;
    found.map(client_info).transpose()
}

/// One client; a time-out if its gateway had no part in the answer.
fn one_client(client: &Client, fields: ClientFields) -> Result<Option<query::ClientInfo>> {
    let client = id(client);
    let query = Query::Clients {
        of: vec![query::Selector::Clients(vec![client])],
        fields,
        after: None,
        limit: 1,
    };
    let (page, missing) = asked!(query, query::Answer::Clients { page, .. } => page);
    let found = page.into_iter().find(|info| info.client == client);
    if found.is_none() && missing.contains(&client.gateway()) {
        return Err(Refused::Timeout);
    }
    Ok(found)
}

pub(crate) fn clients_of_uids(uids: &[&str]) -> Result<Answer<Vec<Vec<Client>>>> {
    let uids = names("uid", uids)?;
    let mut by_uid: HashMap<Name, Vec<Client>> = HashMap::new();
    let mut missing = BTreeSet::new();
    let (mut found, mut after) = (0, None);
    loop {
        let query = Query::Clients {
            of: vec![query::Selector::Uids(uids.clone())],
            fields: fields(Fields::UID),
            after,
            limit: LIMIT_MAX,
        };
        let ((page, more), without) =
            asked!(query, query::Answer::Clients { page, more } => (page, more));
        missing.extend(without);
        found += page.len();
        if found > CLIENTS_OF_UIDS_MAX {
            return Err(Refused::QuotaExceeded(format!(
                "these uids have more than {CLIENTS_OF_UIDS_MAX} clients; use `clients`"
            )));
        }
        after = page.last().map(|info| info.client).filter(|_| more);
        for info in page {
            if let Some(uid) = info.uid {
                by_uid.entry(uid).or_default().push(client(info.client)?);
            }
        }
        if after.is_none() {
            break;
        }
    }
    let of_one = |uid| by_uid.get(uid).cloned().unwrap_or_default();
    Ok(Answer {
        value: uids.iter().map(of_one).collect(),
        missing: missing.iter().map(SocketAddrV4::to_string).collect(),
    })
}

pub(crate) fn uids(of: &[Selector], after: Option<&str>, limit: u32) -> Result<Page<String>> {
    name_page(&Query::Uids {
        of: selectors(of)?,
        after: cursor(after, Cursor::name)?,
        limit,
    })
}

pub(crate) fn uid_count(of: &[Selector]) -> Result<Count> {
    count(&Query::UidCount { of: selectors(of)? })
}

pub(crate) fn uid_count_estimate() -> Result<Count> {
    count(&Query::UidEstimate)
}

pub(crate) fn groups(after: Option<&str>, limit: u32) -> Result<Page<String>> {
    name_page(&Query::Groups {
        after: cursor(after, Cursor::name)?,
        limit,
    })
}

pub(crate) fn group_infos(after: Option<&str>, limit: u32) -> Result<Page<GroupInfo>> {
    let after = cursor(after, Cursor::name)?;
    let query = Query::GroupInfos { after, limit };
    let (found, missing) = asked!(query, query::Answer::Groups { page, more } => (page, more));
    let cursor = |info: &query::GroupInfo| Cursor::Name(info.group.clone());
    page(found, &missing, cursor, group_info)
}

pub(crate) fn client_counts_of_groups(groups: &[&str]) -> Result<Answer<Vec<u64>>> {
    counts(&Query::GroupCounts(names("group", groups)?))
}

pub(crate) fn group_clients(after: Option<&str>, limit: u32) -> Result<Page<(String, Client)>> {
    let after = cursor(after, Cursor::group_client)?;
    let query = Query::GroupClients { after, limit };
    let (found, missing) =
        asked!(query, query::Answer::GroupClients { page, more } => (page, more));
    let cursor = |(group, client): &(Name, ClientId)| Cursor::GroupClient(group.clone(), *client);
    let pair = |(group, id): (Name, ClientId)| Ok((group.to_string(), client(id)?));
    page(found, &missing, cursor, pair)
}

pub(crate) fn group_uids(after: Option<&str>, limit: u32) -> Result<Page<(String, String)>> {
    let after = cursor(after, Cursor::group_uid)?;
    let query = Query::GroupUids { after, limit };
    let (found, missing) = asked!(query, query::Answer::GroupUids { page, more } => (page, more));
    let cursor = |(group, uid): &(Name, Name)| Cursor::GroupUid(group.clone(), uid.clone());
    let pair = |(group, uid): (Name, Name)| Ok((group.to_string(), uid.to_string()));
    page(found, &missing, cursor, pair)
}

pub(crate) fn session_of(client: &Client) -> Result<Option<Vec<(String, String)>>> {
    let found = one_client(client, fields(Fields::SESSION))?;
    Ok(found.map(|info| shard::texts(info.session)))
}

/// At once: on what is committed, without the event's own changes.
pub(crate) fn compare_and_set(
    client: &Client,
    key: &str,
    expected: Option<&str>,
    new: Option<&str>,
) -> Result {
    for json in expected.iter().chain(&new) {
        entry(key, json)?;
    }
    if let Some(new) = new {
        let (key, value) = entry(key, new)?;
        let alone = &mut Session::default();
        event::apply_within_limit(alone, &SessionChange::Set { key, value })?;
    }
    let client = id(client);
    let query = Query::CompareAndSet {
        client,
        key: name("session key", key)?,
        expected: expected.map(str::to_owned),
        new: new.map(str::to_owned),
        // Nobody tries an event again.
        nth: 0,
    };
    let answer = event::compare_and_set(client, &query)?.answer;
    let query::Answer::Swapped(swapped) = answer else {
        return Err(unexpected(&answer));
    };
    swapped.map_err(|refusal| match refusal {
        SwapRefusal::Offline => Refused::Offline,
        SwapRefusal::Conflict => Refused::Conflict,
        SwapRefusal::TooLarge => event::session_too_large(),
    })
}

pub(crate) fn command(
    to: Option<&[&str]>,
    called: &str,
    payload: &[u8],
    within_ms: u32,
) -> Result<CommandAnswers> {
    let named = to.map(|to| read(to.iter().copied())).transpose()?;
    let named: Option<BTreeSet<SocketAddrV4>> = named.map(|list| list.into_iter().collect());
    let query = Query::Command {
        gateways: named.as_ref().map(|set| set.iter().copied().collect()),
        name: name("command", called)?,
        payload: payload.to_vec().into(),
    };
    event::may_ask()?;
    if named.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(Vec::new());
    }
    if within_ms == 0 {
        return Err(Refused::Timeout);
    }
    let asked = event::change(|event| event.world.asked(&query))?;
    let part = match asked.here {
        true => {
            let outcome = (shard::GATEWAY, execute(called, payload)?);
            Some(query::Answer::Commands(vec![outcome]))
        }
        false => None,
    };
    let answered = asked.conclude(&query, part)?;
    let query::Answer::Commands(answers) = answered.answer else {
        return Err(unexpected(&answered.answer));
    };
    // Who neither answered nor is missing is not there.
    let absent = named.into_iter().flatten();
    let mut all: BTreeMap<_, _> = absent.map(|it| (it, Err(Refused::Offline))).collect();
    let missing = answered.missing.into_iter();
    all.extend(missing.map(|it| (it, Err(Refused::Timeout))));
    all.extend(answers.into_iter().map(|(it, given)| (it, outcome(given))));
    let all = all.into_iter();
    Ok(all
        .map(|(gateway, outcome)| (gateway.to_string(), outcome))
        .collect())
}

/// The test's own code runs outside the event: it may make calls itself.
fn execute(name: &str, payload: &[u8]) -> Result<CommandOutcome> {
    let answering = event::change(|event| Ok(event.world.answering.take()))?;
    let Some(mut answering) = answering else {
        return Ok(Err(CommandError::Absent));
    };
    let answer = answering(name, payload);
    event::change(|event| {
        event.world.answering = Some(answering);
        Ok(())
    })?;
    let failed = |error: Error| CommandError::Failed(error.to_string());
    Ok(answer.map(Into::into).map_err(failed))
}

fn outcome(outcome: CommandOutcome) -> Result<Vec<u8>> {
    match outcome {
        Ok(payload) => Ok(payload.to_vec()),
        Err(CommandError::Absent) => Err(Refused::NotPermitted(
            "the tenant has no command component on this gateway; in a test: \
             testing::Gateway::answer_commands"
                .to_owned(),
        )),
        Err(CommandError::Failed(text) | CommandError::Broken(text)) => Err(Refused::Other(text)),
        Err(CommandError::Overloaded) => Err(Refused::QuotaExceeded(
            "too many commands run or wait there".to_owned(),
        )),
        Err(CommandError::Timeout) => Err(Refused::Timeout),
    }
}

pub(crate) fn gateways() -> Result<Vec<String>> {
    let (all, _) = asked!(Query::Gateways, query::Answer::Gateways(all) => all);
    Ok(addresses(&all))
}

pub(crate) fn address_of(client: &Client) -> Result<ClientAddress> {
    event::is_no_command()?;
    let client = id(client);
    Ok(ClientAddress {
        gateway: client.gateway().to_string(),
        connection: client.connection,
    })
}

pub(crate) fn client_at(address: &ClientAddress) -> Result<Client> {
    event::is_no_command()?;
    client(ClientId::new(
        gateway(&address.gateway)?,
        address.connection,
    ))
}

fn count(query: &Query) -> Result<Count> {
    let (value, missing) = asked!(*query, query::Answer::Count(count) => count);
    Ok(Answer {
        value,
        missing: addresses(&missing),
    })
}

fn counts(query: &Query) -> Result<Answer<Vec<u64>>> {
    let (value, missing) = asked!(*query, query::Answer::Counts(counts) => counts);
    Ok(Answer {
        value,
        missing: addresses(&missing),
    })
}

fn name_page(query: &Query) -> Result<Page<String>> {
    let (found, missing) = asked!(*query, query::Answer::Names { page, more } => (page, more));
    page(found, &missing, |name| Cursor::Name(name.clone()), text)
}

/// The hub gives each question an answer of its kind.
pub(super) fn unexpected(answer: &query::Answer) -> Refused {
    Refused::Other(format!("an answer of another kind: {answer:?}"))
}
