//! `directory` of the host, and what `hub` shares with it.

use super::{Result, lift};
use crate::bindings::tidegate::plugin::directory as host;
use crate::client::Client;
use crate::directory::{
    Answer, ClientAddress, ClientInfo, CommandAnswers, Count, Fields, GroupInfo, Page, Selector,
};
use crate::error::Refused;

pub(crate) fn is_online(client: &Client) -> Result<bool> {
    lift(host::is_online(client.as_str()))
}

pub(crate) fn are_uids_online(uids: &[&str]) -> Result<Answer<Vec<bool>>> {
    lift(host::are_uids_online(uids)).map(answer)
}

pub(crate) fn clients(of: &[Selector], after: Option<&str>, limit: u32) -> Result<Page<Client>> {
    let page = lift(selecting(of, |of| host::clients(of, after, limit)))?;
    let items = page.clients.iter().map(|id| client(id));
    Ok(Page {
        items: items.collect::<Result<_>>()?,
        next: page.next,
        missing: page.coverage.missing,
    })
}

pub(crate) fn client_count(of: &[Selector]) -> Result<Count> {
    lift(selecting(of, host::client_count)).map(count)
}

pub(crate) fn infos(
    of: &[Selector],
    fields: Fields,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<ClientInfo>> {
    let fields = wanted(fields);
    info_page(lift(selecting(of, |of| {
        host::infos(of, fields, after, limit)
    }))?)
}

pub(crate) fn info(client: &Client, fields: Fields) -> Result<Option<ClientInfo>> {
    let info = lift(host::info(client.as_str(), wanted(fields)))?;
    info.map(client_info).transpose()
}

pub(crate) fn clients_of_uids(uids: &[&str]) -> Result<Answer<Vec<Vec<Client>>>> {
    let (lists, coverage) = lift(host::clients_of_uids(uids))?;
    let list = |ids: &Vec<String>| ids.iter().map(|id| client(id)).collect();
    Ok(Answer {
        value: lists.iter().map(list).collect::<Result<_>>()?,
        missing: coverage.missing,
    })
}

pub(crate) fn uids(of: &[Selector], after: Option<&str>, limit: u32) -> Result<Page<String>> {
    lift(selecting(of, |of| host::uids(of, after, limit))).map(names)
}

pub(crate) fn uid_count(of: &[Selector]) -> Result<Count> {
    lift(selecting(of, host::uid_count)).map(count)
}

pub(crate) fn uid_count_estimate() -> Result<Count> {
    lift(host::uid_count_estimate()).map(count)
}

pub(crate) fn groups(after: Option<&str>, limit: u32) -> Result<Page<String>> {
    lift(host::groups(after, limit)).map(names)
}

pub(crate) fn group_infos(after: Option<&str>, limit: u32) -> Result<Page<GroupInfo>> {
    let page = lift(host::group_infos(after, limit))?;
    let items = page.groups.into_iter().map(|info| GroupInfo {
        group: info.group,
        client_count: info.client_count,
        uid_count: info.uid_count,
    });
    Ok(Page {
        items: items.collect(),
        next: page.next,
        missing: page.coverage.missing,
    })
}

pub(crate) fn client_counts_of_groups(groups: &[&str]) -> Result<Answer<Vec<u64>>> {
    lift(host::client_counts_of_groups(groups)).map(answer)
}

pub(crate) fn group_clients(after: Option<&str>, limit: u32) -> Result<Page<(String, Client)>> {
    let page = lift(host::group_clients(after, limit))?;
    let pairs = page.pairs.into_iter();
    let items = pairs.map(|(group, id)| client(&id).map(|client| (group, client)));
    Ok(Page {
        items: items.collect::<Result<_>>()?,
        next: page.next,
        missing: page.coverage.missing,
    })
}

pub(crate) fn group_uids(after: Option<&str>, limit: u32) -> Result<Page<(String, String)>> {
    let page = lift(host::group_uids(after, limit))?;
    Ok(Page {
        items: page.pairs,
        next: page.next,
        missing: page.coverage.missing,
    })
}

pub(crate) fn session_of(client: &Client) -> Result<Option<Vec<(String, String)>>> {
    lift(host::session_of(client.as_str()))
}

pub(crate) fn compare_and_set(
    client: &Client,
    key: &str,
    expected: Option<&str>,
    new: Option<&str>,
) -> Result {
    let client = client.as_str();
    lift(host::compare_and_set_session(client, key, expected, new))
}

pub(crate) fn command(
    gateways: Option<&[&str]>,
    name: &str,
    payload: &[u8],
    within_ms: u32,
) -> Result<CommandAnswers> {
    let answers = lift(host::command(gateways, name, payload, within_ms))?;
    let lifted = answers.into_iter();
    Ok(lifted
        .map(|(gateway, answer)| (gateway, lift(answer)))
        .collect())
}

pub(crate) fn gateways() -> Result<Vec<String>> {
    lift(host::gateways())
}

pub(crate) fn address_of(client: &Client) -> Result<ClientAddress> {
    let address = lift(host::address_of(client.as_str()))?;
    Ok(ClientAddress {
        gateway: address.gateway,
        connection: address.connection,
    })
}

pub(crate) fn client_at(address: &ClientAddress) -> Result<Client> {
    let address = host::ClientAddressParam {
        gateway: address.gateway.as_str(),
        connection: address.connection,
    };
    client(&lift(host::client_at(address))?)
}

/// Calls with the selectors in the contract's types; their lists live as long as the call.
pub(super) fn selecting<T>(of: &[Selector], call: impl FnOnce(&[host::Selector<'_>]) -> T) -> T {
    let lists: Vec<Vec<&str>> = of.iter().map(list).collect();
    let selectors: Vec<_> = of
        .iter()
        .zip(&lists)
        .map(|(selector, list)| match selector {
            Selector::Everyone => host::Selector::Everyone,
            Selector::Clients(_) => host::Selector::Clients(list),
            Selector::Uids(_) => host::Selector::Uids(list),
            Selector::Groups(_) => host::Selector::Groups(list),
            Selector::AllOfGroups(_) => host::Selector::AllOfGroups(list),
        })
        .collect();
    call(&selectors)
}

fn list(selector: &Selector) -> Vec<&str> {
    match selector {
        Selector::Everyone => Vec::new(),
        Selector::Clients(clients) => clients.iter().map(Client::as_str).collect(),
        Selector::Uids(names) | Selector::Groups(names) | Selector::AllOfGroups(names) => {
            names.iter().map(String::as_str).collect()
        }
    }
}

pub(super) fn wanted(fields: Fields) -> host::ClientField {
    let each = [
        (Fields::PEER, host::ClientField::PEER),
        (Fields::UID, host::ClientField::UID),
        (Fields::GROUPS, host::ClientField::GROUPS),
        (Fields::SESSION, host::ClientField::SESSION),
        (Fields::TIMES, host::ClientField::TIMES),
        (Fields::TRAFFIC, host::ClientField::TRAFFIC),
    ];
    let wanted = each.into_iter().filter(|(field, _)| fields.has(*field));
    wanted.fold(host::ClientField::empty(), |all, (_, field)| all | field)
}

pub(super) fn info_page(page: host::InfoPage) -> Result<Page<ClientInfo>> {
    let items = page.clients.into_iter().map(client_info);
    Ok(Page {
        items: items.collect::<Result<_>>()?,
        next: page.next,
        missing: page.coverage.missing,
    })
}

fn client_info(info: host::ClientInfo) -> Result<ClientInfo> {
    Ok(ClientInfo {
        client: client(&info.client)?,
        peer: info.peer.map(Into::into),
        uid: info.uid,
        groups: info.groups,
        session: info.session,
        connected_at_ms: info.connected_at,
        last_message_at_ms: info.last_message_at,
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
    })
}

fn client(id: &str) -> Result<Client> {
    id.parse()
        .map_err(|error| Refused::Other(format!("the host gave {error}")))
}

fn answer<T>((value, coverage): (T, host::Coverage)) -> Answer<T> {
    Answer {
        value,
        missing: coverage.missing,
    }
}

fn count(count: host::Count) -> Count {
    Count {
        value: count.value,
        missing: count.coverage.missing,
    }
}

fn names(page: host::NamePage) -> Page<String> {
    Page {
        items: page.names,
        next: page.next,
        missing: page.coverage.missing,
    }
}
