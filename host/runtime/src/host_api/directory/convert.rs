//! Arguments and answers of questions: from the contract's values to the wire's, checked, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use tidegate_wire::Name;
use tidegate_wire::cursor::{Cursor, CursorError};
use tidegate_wire::event::{self, SessionEntries};
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{
    Answer, AskError, ClientFields, ClientInfo, CommandError, CommandOutcome, GroupInfo, LIMIT_MAX,
    Selector,
};

use super::super::gateway::{parse_clients, parse_names};
use super::super::{invalid, offered, quota};
use offered::directory as wit;
use offered::types::{Error, Transport};

pub(crate) fn limit(limit: u32) -> Result<u32, Error> {
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(invalid(format!(
        "a limit is 1 to {LIMIT_MAX}, this one is {limit}"
    )))
}

/// `length` names or ids in one question.
pub(super) fn check_length(length: usize) -> Result<(), Error> {
    if u32::try_from(length).is_ok_and(|length| length <= LIMIT_MAX) {
        return Ok(());
    }
    Err(invalid(format!(
        "a question may have {LIMIT_MAX} names and ids, this one has {length}"
    )))
}

pub(super) fn names(what: &str, texts: Vec<String>) -> Result<Vec<Name>, Error> {
    check_length(texts.len())?;
    parse_names(what, texts)
}

pub(crate) fn selectors(of: Vec<wit::Selector>) -> Result<Vec<Selector>, Error> {
    let length = |selector: &wit::Selector| match selector {
        wit::Selector::Everyone => 1,
        wit::Selector::Clients(list)
        | wit::Selector::Uids(list)
        | wit::Selector::Groups(list)
        | wit::Selector::AllOfGroups(list) => list.len().max(1),
    };
    check_length(of.iter().map(length).sum())?;
    let parse = |selector| {
        Ok(match selector {
            wit::Selector::Everyone => Selector::Everyone,
            wit::Selector::Clients(clients) => Selector::Clients(parse_clients(&clients)?),
            wit::Selector::Uids(uids) => Selector::Uids(parse_names("uid", uids)?),
            wit::Selector::Groups(groups) => Selector::Groups(parse_names("group", groups)?),
            wit::Selector::AllOfGroups(groups) => {
                Selector::AllOfGroups(parse_names("group", groups)?)
            }
        })
    };
    of.into_iter().map(parse).collect()
}

/// Reads a cursor with `read`, one of [`Cursor`]'s.
pub(crate) fn cursor<T>(
    after: Option<String>,
    read: fn(&str) -> Result<T, CursorError>,
) -> Result<Option<T>, Error> {
    after
        .map(|text| read(&text).map_err(|error| invalid(error.to_string())))
        .transpose()
}

pub(crate) fn fields(fields: wit::ClientField) -> ClientFields {
    ClientFields {
        peer: fields.contains(wit::ClientField::PEER),
        uid: fields.contains(wit::ClientField::UID),
        groups: fields.contains(wit::ClientField::GROUPS),
        session: fields.contains(wit::ClientField::SESSION),
        times: fields.contains(wit::ClientField::TIMES),
        traffic: fields.contains(wit::ClientField::TRAFFIC),
    }
}

pub(crate) fn coverage(missing: &[SocketAddrV4]) -> wit::Coverage {
    wit::Coverage {
        missing: missing.iter().map(SocketAddrV4::to_string).collect(),
    }
}

/// Where the list goes on: behind its last entry, if there may be more.
pub(super) fn next<T>(page: &[T], more: bool, cursor: fn(&T) -> Cursor) -> Option<String> {
    let last = page.last().filter(|_| more)?;
    Some(cursor(last).encode())
}

pub(super) fn after_client(info: &ClientInfo) -> Cursor {
    Cursor::Client(info.client)
}

pub(super) fn texts(names: Vec<Name>) -> Vec<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

pub(super) fn session(entries: SessionEntries) -> Vec<(String, String)> {
    let pair = |(key, value): (Name, String)| (key.to_string(), value);
    entries.into_iter().map(pair).collect()
}

pub(crate) fn info(info: ClientInfo) -> wit::ClientInfo {
    wit::ClientInfo {
        client: info.client.to_string(),
        peer: info.peer.map(|it| peer(&it)),
        uid: info.uid.map(|uid| uid.to_string()),
        groups: texts(info.groups),
        session: session(info.session),
        connected_at: info.connected_at_ms,
        last_message_at: info.last_message_at_ms,
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
    }
}

/// A page of clients; `missing` had no part in it.
pub(crate) fn info_page(answer: Answer, missing: &[SocketAddrV4]) -> Result<wit::InfoPage, Error> {
    let (page, more) = clients(answer)?;
    Ok(wit::InfoPage {
        next: next(&page, more, after_client),
        clients: page.into_iter().map(info).collect(),
        coverage: coverage(missing),
    })
}

pub(super) fn clients(answer: Answer) -> Result<(Vec<ClientInfo>, bool), Error> {
    let Answer::Clients { page, more } = answer else {
        return Err(unexpected(&answer));
    };
    Ok((page, more))
}

pub(crate) fn count(answer: &Answer) -> Result<u64, Error> {
    let Answer::Count(value) = answer else {
        return Err(unexpected(answer));
    };
    Ok(*value)
}

/// As many counts as names were asked for.
pub(super) fn counts(answer: Answer, asked: usize) -> Result<Vec<u64>, Error> {
    let Answer::Counts(counts) = answer else {
        return Err(unexpected(&answer));
    };
    if counts.len() != asked {
        return Err(Error::Other(format!(
            "the gateway answered with {} counts, {asked} were asked for",
            counts.len()
        )));
    }
    Ok(counts)
}

pub(super) fn name_page(answer: Answer, missing: &[SocketAddrV4]) -> Result<wit::NamePage, Error> {
    let Answer::Names { page, more } = answer else {
        return Err(unexpected(&answer));
    };
    Ok(wit::NamePage {
        next: next(&page, more, |name| Cursor::Name(name.clone())),
        names: texts(page),
        coverage: coverage(missing),
    })
}

pub(in crate::host_api) fn peer(peer: &event::Peer) -> wit::Peer {
    wit::Peer {
        address: peer.address.to_string(),
        transport: match peer.transport {
            event::Transport::WebSocket => Transport::WebSocket,
            event::Transport::Tcp => Transport::Tcp,
            event::Transport::TextLines => Transport::TextLines,
            event::Transport::LengthPrefixed => Transport::LengthPrefixed,
        },
        listener: peer.listener.to_string(),
        secure: peer.secure,
    }
}

pub(super) fn group_page(
    answer: Answer,
    missing: &[SocketAddrV4],
) -> Result<wit::GroupPage, Error> {
    let Answer::Groups { page, more } = answer else {
        return Err(unexpected(&answer));
    };
    Ok(wit::GroupPage {
        next: next(&page, more, |it| Cursor::Name(it.group.clone())),
        groups: page.into_iter().map(group_info).collect(),
        coverage: coverage(missing),
    })
}

pub(super) fn group_client_page(
    answer: Answer,
    missing: &[SocketAddrV4],
) -> Result<wit::GroupClientPage, Error> {
    let text = |(group, client): &(Name, ClientId)| (group.to_string(), client.to_string());
    let Answer::GroupClients { page, more } = answer else {
        return Err(unexpected(&answer));
    };
    Ok(wit::GroupClientPage {
        next: next(&page, more, |(group, client)| {
            Cursor::GroupClient(group.clone(), *client)
        }),
        pairs: page.iter().map(text).collect(),
        coverage: coverage(missing),
    })
}

pub(super) fn group_uid_page(
    answer: Answer,
    missing: &[SocketAddrV4],
) -> Result<wit::GroupUidPage, Error> {
    let text = |(group, uid): &(Name, Name)| (group.to_string(), uid.to_string());
    let Answer::GroupUids { page, more } = answer else {
        return Err(unexpected(&answer));
    };
    Ok(wit::GroupUidPage {
        next: next(&page, more, |(group, uid)| {
            Cursor::GroupUid(group.clone(), uid.clone())
        }),
        pairs: page.iter().map(text).collect(),
        coverage: coverage(missing),
    })
}

fn group_info(group: GroupInfo) -> wit::GroupInfo {
    wit::GroupInfo {
        group: group.group.to_string(),
        client_count: group.clients,
        uid_count: group.uids,
    }
}

type Outcomes = Vec<(String, Result<Vec<u8>, Error>)>;

/// One entry for each gateway, ordered by address. Of the named ones, who neither answered nor is
/// missing is not there.
pub(super) fn outcomes(
    answer: Answer,
    missing: &[SocketAddrV4],
    named: Option<BTreeSet<SocketAddrV4>>,
) -> Result<Outcomes, Error> {
    let Answer::Commands(answers) = answer else {
        return Err(unexpected(&answer));
    };
    let absent = named.into_iter().flatten();
    let mut all: BTreeMap<_, _> = absent.map(|it| (it, Err(Error::Offline))).collect();
    all.extend(missing.iter().map(|it| (*it, Err(Error::Timeout))));
    all.extend(answers.into_iter().map(|(it, given)| (it, outcome(given))));
    let text = |(gateway, outcome): (SocketAddrV4, _)| (gateway.to_string(), outcome);
    Ok(all.into_iter().map(text).collect())
}

fn outcome(outcome: CommandOutcome) -> Result<Vec<u8>, Error> {
    match outcome {
        Ok(payload) => Ok(payload.to_vec()),
        Err(CommandError::Absent) => Err(Error::NotPermitted(
            "the tenant has no command component on this gateway".to_owned(),
        )),
        Err(CommandError::Failed(text) | CommandError::Broken(text)) => Err(Error::Other(text)),
        Err(CommandError::Overloaded) => {
            Err(quota("too many commands run or wait there".to_owned()))
        }
        Err(CommandError::Timeout) => Err(Error::Timeout),
    }
}

pub(crate) fn refusal(error: AskError) -> Error {
    match error {
        AskError::Gone => Error::Other(
            "the event was taken over by another worker, or its gateway is ending".to_owned(),
        ),
        AskError::Timeout => Error::Timeout,
        AskError::Invalid(text) => invalid(text),
        AskError::Overloaded(text) => quota(text),
    }
}

/// Nobody who keeps to the protocol answers so.
pub(in crate::host_api) fn unexpected(answer: &Answer) -> Error {
    let kind = match answer {
        Answer::Clients { .. } => "clients",
        Answer::Count(_) => "a count",
        Answer::Counts(_) => "counts",
        Answer::Names { .. } => "names",
        Answer::Groups { .. } => "groups",
        Answer::GroupClients { .. } => "groups with clients",
        Answer::GroupUids { .. } => "groups with uids",
        Answer::Sketch(_) => "a sketch",
        Answer::Gateways(_) => "gateways",
        Answer::Swapped(_) => "a compare-and-set",
        Answer::Commands(_) => "commands",
        Answer::Applied(_) => "applied effects",
        Answer::Replied(_) => "a reply",
        Answer::Timers { .. } => "timers",
        Answer::Tasks { .. } => "tasks",
    };
    Error::Other(format!("the gateway answered with {kind}, unasked"))
}
