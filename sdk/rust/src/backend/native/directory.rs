//! `directory` of the fake: checks arguments as the host does and asks the fake hub with the
//! event's own changes.

use std::net::SocketAddrV4;

use super::{Result, check_entry, check_name};
use crate::client::Client;
use crate::directory::{
    Answer, ClientAddress, ClientInfo, CommandAnswers, Count, Fields, GroupInfo, Page, Selector,
};
use crate::error::Refused;
use crate::testing::ask;
use crate::testing::event;
use crate::testing::hub::{ADDRESS, Hub};
use crate::testing::json;
use crate::testing::world::refusal;

/// The most names or ids of one list.
const LIST_MAX: usize = 1000;

pub(crate) fn is_online(client: &Client) -> Result<bool> {
    Ok(event::ask(|hub| Ok(hub.is_open(*client)))?.0)
}

pub(crate) fn are_uids_online(uids: &[&str]) -> Result<Answer<Vec<bool>>> {
    let lists = clients_of_uids(uids)?;
    Ok(Answer {
        value: lists.value.iter().map(|list| !list.is_empty()).collect(),
        missing: lists.missing,
    })
}

pub(crate) fn clients(of: &[Selector], after: Option<&str>, limit: u32) -> Result<Page<Client>> {
    check(of)?;
    paged(|hub| {
        let selected = hub.selected(of).into_iter().map(|(client, _)| client);
        ask::page(
            'c',
            selected,
            |client| vec![client.as_str()],
            (after, limit),
        )
    })
}

pub(crate) fn client_count(of: &[Selector]) -> Result<Count> {
    check(of)?;
    answered(|hub| Ok(hub.selected(of).len() as u64))
}

pub(crate) fn infos(
    of: &[Selector],
    fields: Fields,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<ClientInfo>> {
    check(of)?;
    paged(|hub| info_page(hub, of, fields, (after, limit)))
}

pub(super) fn info_page(
    hub: &Hub,
    of: &[Selector],
    fields: Fields,
    which: (Option<&str>, u32),
) -> Result<Page<ClientInfo>> {
    let selected = hub.selected(of).into_iter();
    let infos = selected.map(|(client, state)| ask::info(client, state, fields));
    ask::page('c', infos, |info| vec![info.client.as_str()], which)
}

pub(crate) fn info(client: &Client, fields: Fields) -> Result<Option<ClientInfo>> {
    Ok(event::ask(|hub| Ok(hub.info(*client, fields)))?.0)
}

pub(crate) fn clients_of_uids(uids: &[&str]) -> Result<Answer<Vec<Vec<Client>>>> {
    check_names("uid", uids)?;
    answered(|hub| {
        let of_one = |uid: &&str| {
            let of = [Selector::Uids(vec![(*uid).to_owned()])];
            let clients = hub.selected(&of).into_iter();
            clients.map(|(client, _)| client).collect()
        };
        Ok(uids.iter().map(of_one).collect())
    })
}

pub(crate) fn uids(of: &[Selector], after: Option<&str>, limit: u32) -> Result<Page<String>> {
    check(of)?;
    paged(|hub| names(hub.selected_uids(of), (after, limit)))
}

pub(crate) fn uid_count(of: &[Selector]) -> Result<Count> {
    check(of)?;
    answered(|hub| Ok(hub.selected_uids(of).len() as u64))
}

pub(crate) fn uid_count_estimate() -> Result<Count> {
    uid_count(&[Selector::Everyone])
}

pub(crate) fn groups(after: Option<&str>, limit: u32) -> Result<Page<String>> {
    paged(|hub| names(hub.members_of_groups().into_keys(), (after, limit)))
}

pub(crate) fn group_infos(after: Option<&str>, limit: u32) -> Result<Page<GroupInfo>> {
    paged(|hub| {
        let infos = hub.group_infos();
        ask::page('n', infos, |info| vec![&info.group], (after, limit))
    })
}

pub(crate) fn client_counts_of_groups(groups: &[&str]) -> Result<Answer<Vec<u64>>> {
    check_names("group", groups)?;
    answered(|hub| {
        let counts = groups.iter().map(|group| hub.members(group).len() as u64);
        Ok(counts.collect())
    })
}

pub(crate) fn group_clients(after: Option<&str>, limit: u32) -> Result<Page<(String, Client)>> {
    paged(|hub| {
        let pairs = hub.group_clients();
        ask::page('m', pairs, |(g, c)| vec![g, c.as_str()], (after, limit))
    })
}

pub(crate) fn group_uids(after: Option<&str>, limit: u32) -> Result<Page<(String, String)>> {
    paged(|hub| {
        let pairs = hub.group_uids();
        ask::page('u', pairs, |(g, u)| vec![g, u], (after, limit))
    })
}

pub(crate) fn session_of(client: &Client) -> Result<Option<Vec<(String, String)>>> {
    Ok(info(client, Fields::SESSION)?.map(|info| info.session))
}

/// At once: on the hub as it is, without the event's own changes.
pub(crate) fn compare_and_set(
    client: &Client,
    key: &str,
    expected: Option<&str>,
    new: Option<&str>,
) -> Result {
    check_name("session key", key)?;
    for json in expected.iter().chain(new.iter()) {
        check_entry(key, json)?;
    }
    event::may_ask()?;
    event::change(|event| {
        let hub = &mut event.world.hub;
        if !hub.is_open(*client) {
            return Err(Refused::Offline);
        }
        let is_expected = match (hub.session(*client).get(key), expected) {
            (Some(found), Some(expected)) => json::same(found, expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        if !is_expected {
            return Err(Refused::Conflict);
        }
        hub.set_session_key(*client, key, new);
        if event.whose == event::Whose::Client(*client) {
            match new {
                Some(json) => event.session.insert(key.to_owned(), json.to_owned()),
                None => event.session.remove(key),
            };
        }
        Ok(())
    })
}

pub(crate) fn command(
    gateways: Option<&[&str]>,
    name: &str,
    payload: &[u8],
    _within_ms: u32,
) -> Result<CommandAnswers> {
    let wanted = check_command(gateways, name)?;
    event::may_ask()?;
    let mut answers = CommandAnswers::new();
    for gateway in wanted {
        let answer = if gateway == ADDRESS {
            execute(name, payload)
        } else {
            Err(Refused::Offline)
        };
        answers.push((gateway, answer));
    }
    let missing = event::ask(|_| Ok(()))?.1.into_iter();
    answers.extend(missing.map(|gateway| (gateway, Err(Refused::Timeout))));
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(answers)
}

/// The test's own code runs outside the event: it may make calls itself.
fn execute(name: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let answering = event::change(|event| Ok(event.world.answering.take()))?;
    let Some(mut answering) = answering else {
        return Err(Refused::NotPermitted(
            "this tenant has no commands; in a test: testing::Gateway::answer_commands".to_owned(),
        ));
    };
    let answer = answering(name, payload).map_err(|error| refusal(&error));
    event::change(|event| {
        event.world.answering = Some(answering);
        Ok(())
    })?;
    answer
}

pub(crate) fn gateways() -> Result<Vec<String>> {
    Ok(event::ask(|_| Ok(vec![ADDRESS.to_owned()]))?.0)
}

pub(crate) fn address_of(client: &Client) -> Result<ClientAddress> {
    event::may_ask()?;
    let number = u128::from_str_radix(client.as_str(), 16);
    let number = number.map_err(|error| Refused::InvalidArgument(error.to_string()))?;
    let [.., a, b, c, d, p, q, w, x, y, z] = number.to_be_bytes();
    let gateway = SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([p, q]));
    Ok(ClientAddress {
        gateway: gateway.to_string(),
        connection: u32::from_be_bytes([w, x, y, z]),
    })
}

pub(crate) fn client_at(address: &ClientAddress) -> Result<Client> {
    event::may_ask()?;
    let gateway = check_address(&address.gateway)?;
    let ip = gateway.ip().to_bits();
    let (port, connection) = (gateway.port(), address.connection);
    let id = format!("{ip:08x}{port:04x}{connection:08x}");
    id.parse()
        .map_err(|error| Refused::InvalidArgument(format!("{error}")))
}

/// Checks the arguments of a command; which gateways it is for.
pub(super) fn check_command(gateways: Option<&[&str]>, name: &str) -> Result<Vec<String>> {
    check_name("command", name)?;
    let Some(gateways) = gateways else {
        return Ok(vec![ADDRESS.to_owned()]);
    };
    check_length(gateways.len())?;
    let mut wanted: Vec<String> = gateways
        .iter()
        .map(|gateway| Ok(check_address(gateway)?.to_string()))
        .collect::<Result<_>>()?;
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}

fn check_address(gateway: &str) -> Result<SocketAddrV4> {
    gateway.parse().map_err(|_| {
        Refused::InvalidArgument(format!(
            "{gateway:?} is not a gateway's address: IPv4 address and port are expected, as in \
             127.0.0.1:2000"
        ))
    })
}

pub(super) fn check(of: &[Selector]) -> Result {
    for selector in of {
        match selector {
            Selector::Everyone => {}
            Selector::Clients(clients) => check_length(clients.len())?,
            Selector::Uids(uids) => check_names("uid", uids)?,
            Selector::Groups(groups) | Selector::AllOfGroups(groups) => {
                check_names("group", groups)?;
            }
        }
    }
    Ok(())
}

fn check_names(what: &str, names: &[impl AsRef<str>]) -> Result {
    check_length(names.len())?;
    names
        .iter()
        .try_for_each(|name| check_name(what, name.as_ref()))
}

fn check_length(length: usize) -> Result {
    if length > LIST_MAX {
        return Err(Refused::InvalidArgument(format!(
            "a list has at most {LIST_MAX} entries, this one has {length}"
        )));
    }
    Ok(())
}

fn answered<T>(find: impl FnOnce(&Hub) -> Result<T>) -> Result<Answer<T>> {
    let (value, missing) = event::ask(find)?;
    Ok(Answer { value, missing })
}

fn paged<T>(find: impl FnOnce(&Hub) -> Result<Page<T>>) -> Result<Page<T>> {
    let (page, missing) = event::ask(find)?;
    Ok(Page { missing, ..page })
}

fn names(
    names: impl IntoIterator<Item = String>,
    which: (Option<&str>, u32),
) -> Result<Page<String>> {
    ask::page('n', names, |name| vec![name], which)
}
