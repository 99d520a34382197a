//! Query + hub → answer: one shard's part. Pure, and one step: nothing changes meanwhile.
//!
//! What a page costs is bounded: by its limit where an index has the order that is asked for, and
//! by bytes; a list of uids of some clients looks at each of these clients. A page that ends early
//! says so and is not empty.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddrV4;
use std::ops::Bound;

use tidegate_wire::Name;
use tidegate_wire::event::{Peer, SessionEntries};
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, ClientFields, ClientInfo, GroupInfo, Query, Selector};
use tidegate_wire::sketch::Sketch;

use crate::hub::{Client, Hub, Members};
use crate::select::{Start, selected, size};

/// The most entries of one part of a page. Coordinators ask for more than callers may.
pub const PART_MAX: u32 = 10_000;
/// A part of a page ends once its entries have so many bytes.
pub(crate) const PART_BYTES_MAX: usize = 256 << 10;
/// A part of a page ends once so many members were looked at for it.
const LOOKS_MAX: usize = 100_000;
/// What an entry counts besides its texts.
const ENTRY_BYTES: usize = 64;

/// What a client's connection knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Who is at the other end.
    pub peer: Peer,
    /// Milliseconds since 1970.
    pub connected_at_ms: u64,
    /// The same; none before the first message.
    pub last_message_at_ms: Option<u64>,
    /// Payload bytes of its messages.
    pub bytes_in: u64,
    /// Bytes that were queued for it.
    pub bytes_out: u64,
}

/// What a part is made of: the hub, the gateway's announced address, and what connections know.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The tenant's clients of this shard.
    pub hub: &'a Hub,
    /// The announced address.
    pub gateway: SocketAddrV4,
    /// What a connection knows.
    pub live: &'a dyn Fn(u32) -> Option<Live>,
}

/// One shard's part of the answer. None for queries that act, and for those that need no hub.
#[must_use]
pub fn answer(ground: Ground<'_>, query: &Query) -> Option<Answer> {
    let Ground { hub, gateway, .. } = ground;
    let start = Start::of(gateway, None);
    let counts = |list: &[Name], members: &dyn Fn(&str) -> usize| {
        Answer::Counts(list.iter().map(|name| members(name) as u64).collect())
    };
    Some(match query {
        Query::Clients {
            of,
            fields,
            after,
            limit,
        } => clients(ground, of, *fields, *after, *limit),
        Query::ClientCount { of } => Answer::Count(size(hub, gateway, of) as u64),
        Query::UidCounts(list) => counts(list, &|uid| hub.uid_members(uid).map_or(0, Members::len)),
        Query::GroupCounts(list) => counts(list, &|group| {
            hub.group_members(group).map_or(0, Members::len)
        }),
        Query::Uids { of, after, limit } if of.contains(&Selector::Everyone) => {
            names(hub.uids().names(), after.as_deref(), *limit)
        }
        Query::Uids { of, after, limit } => {
            let clients = selected(hub, gateway, of, start);
            let uids = smallest(hub, clients, after.as_deref(), entries_max(*limit));
            let weight = |uid: &Name| uid.len();
            let (page, more) = Page::new(*limit, weight).fill(uids.into_iter().cloned());
            Answer::Names { page, more }
        }
        Query::UidCount { of } if of.contains(&Selector::Everyone) => {
            Answer::Count(hub.uids().names().len() as u64)
        }
        Query::UidCount { of } => {
            Answer::Count(distinct_uids(hub, selected(hub, gateway, of, start)))
        }
        Query::UidEstimate => Answer::Sketch(sketch(hub)),
        Query::Groups { after, limit } => names(hub.groups().names(), after.as_deref(), *limit),
        Query::GroupInfos { after, limit } => group_infos(hub, after.as_deref(), *limit),
        Query::GroupClients { after, limit } => group_clients(hub, gateway, after.as_ref(), *limit),
        Query::GroupUids { after, limit } => group_uids(hub, after.as_ref(), *limit),
        Query::Gateways
        | Query::Timers { .. }
        | Query::Tasks { .. }
        | Query::CompareAndSet { .. }
        | Query::Command { .. }
        | Query::Once { .. }
        | Query::Request { .. } => return None,
    })
}

fn entries_max(limit: u32) -> usize {
    limit.clamp(1, PART_MAX) as usize
}

/// A page that is being filled.
pub(crate) struct Page<T, F> {
    entries: Vec<T>,
    bytes: usize,
    entries_max: usize,
    weight: F,
}

impl<T, F: Fn(&T) -> usize> Page<T, F> {
    pub(crate) fn new(limit: u32, weight: F) -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            entries_max: entries_max(limit),
            weight,
        }
    }

    /// False if the page is full; then the entry is not taken.
    fn push(&mut self, entry: impl FnOnce() -> T) -> bool {
        if self.entries.len() >= self.entries_max || self.bytes >= PART_BYTES_MAX {
            return false;
        }
        let entry = entry();
        self.bytes += ENTRY_BYTES + (self.weight)(&entry);
        self.entries.push(entry);
        true
    }

    /// The page, and whether something is left over.
    pub(crate) fn fill(mut self, all: impl Iterator<Item = T>) -> (Vec<T>, bool) {
        for entry in all {
            if !self.push(|| entry) {
                return (self.entries, true);
            }
        }
        (self.entries, false)
    }
}

fn names(all: &BTreeSet<Name>, after: Option<&str>, limit: u32) -> Answer {
    let (page, more) = Page::new(limit, |name: &Name| name.len()).fill(behind(all, after).cloned());
    Answer::Names { page, more }
}

/// The names behind one, in order.
fn behind<'a>(all: &'a BTreeSet<Name>, after: Option<&str>) -> impl Iterator<Item = &'a Name> {
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    all.range::<str, _>((start, Bound::Unbounded))
}

fn clients(
    ground: Ground<'_>,
    of: &[Selector],
    fields: ClientFields,
    after: Option<ClientId>,
    limit: u32,
) -> Answer {
    let start = Start::of(ground.gateway, after);
    let all = selected(ground.hub, ground.gateway, of, start);
    let infos = all.filter_map(|connection| info(ground, connection, fields));
    let weight = |info: &ClientInfo| {
        let session = info.session.iter();
        let session: usize = session.map(|(key, value)| key.len() + value.len()).sum();
        session + info.groups.iter().map(|group| group.len()).sum::<usize>()
    };
    let (page, more) = Page::new(limit, weight).fill(infos);
    Answer::Clients { page, more }
}

fn info(ground: Ground<'_>, connection: u32, fields: ClientFields) -> Option<ClientInfo> {
    let client = ground.hub.client(connection)?;
    let mut info = ClientInfo::new(ClientId::new(ground.gateway, connection));
    if fields.uid {
        info.uid = client.uid().cloned();
    }
    if fields.groups {
        info.groups = client.groups().to_vec();
    }
    if fields.session {
        info.session = client
            .session()
            .map(SessionEntries::from)
            .unwrap_or_default();
    }
    if !(fields.peer || fields.times || fields.traffic) {
        return Some(info);
    }
    if let Some(live) = (ground.live)(connection) {
        info.peer = fields.peer.then(|| Box::new(live.peer));
        if fields.times {
            info.connected_at_ms = Some(live.connected_at_ms);
            info.last_message_at_ms = live.last_message_at_ms;
        }
        if fields.traffic {
            info.bytes_in = Some(live.bytes_in);
            info.bytes_out = Some(live.bytes_out);
        }
    }
    Some(info)
}

/// The first distinct uids of these clients behind one, in order: one more than `count`, so that
/// the caller sees whether there are more.
fn smallest<'a>(
    hub: &'a Hub,
    clients: impl Iterator<Item = u32>,
    after: Option<&str>,
    count: usize,
) -> BTreeSet<&'a Name> {
    let mut uids = BTreeSet::new();
    for uid in clients.filter_map(|number| hub.client(number).and_then(Client::uid)) {
        if after.is_none_or(|after| **uid > *after) {
            uids.insert(uid);
            if uids.len() > count + 1 {
                uids.pop_last();
            }
        }
    }
    uids
}

fn distinct_uids(hub: &Hub, clients: impl Iterator<Item = u32>) -> u64 {
    let uids = clients.filter_map(|number| hub.client(number).and_then(Client::uid));
    uids.collect::<HashSet<_>>().len() as u64
}

fn sketch(hub: &Hub) -> Vec<u8> {
    let mut sketch = Sketch::default();
    hub.uids().names().iter().for_each(|uid| sketch.add(uid));
    sketch.into_bytes()
}

fn group_infos(hub: &Hub, after: Option<&str>, limit: u32) -> Answer {
    let mut page = Page::new(limit, |info: &GroupInfo| info.group.len());
    let mut looks = 0;
    for group in behind(hub.groups().names(), after) {
        let Some(members) = hub.group_members(group) else {
            continue;
        };
        let info = || GroupInfo {
            group: group.clone(),
            clients: members.len() as u64,
            uids: distinct_uids(hub, members.iter().copied()),
            uids_may_repeat: false,
        };
        if looks >= LOOKS_MAX || !page.push(info) {
            return Answer::Groups {
                page: page.entries,
                more: true,
            };
        }
        looks += members.len();
    }
    Answer::Groups {
        page: page.entries,
        more: false,
    }
}

/// Groups from the one in the cursor on.
fn from_group<'a>(
    hub: &'a Hub,
    group: Option<&str>,
) -> impl Iterator<Item = (&'a Name, &'a Members)> {
    let start = group.map_or(Bound::Unbounded, Bound::Included);
    let names = hub.groups().names();
    let names = names.range::<str, _>((start, Bound::Unbounded));
    names.filter_map(|group| Some((group, hub.group_members(group)?)))
}

fn group_clients(
    hub: &Hub,
    gateway: SocketAddrV4,
    after: Option<&(Name, ClientId)>,
    limit: u32,
) -> Answer {
    let pairs = from_group(hub, after.map(|(group, _)| &**group)).flat_map(|(group, members)| {
        let last = after.filter(|(last, _)| last == group);
        let start = Start::of(gateway, last.map(|(_, client)| *client));
        let pair = move |member| (group.clone(), ClientId::new(gateway, member));
        start.range(members).map(pair)
    });
    let (page, more) = Page::new(limit, |(group, _): &(Name, ClientId)| group.len()).fill(pairs);
    Answer::GroupClients { page, more }
}

fn group_uids(hub: &Hub, after: Option<&(Name, Name)>, limit: u32) -> Answer {
    let mut page = Page::new(limit, |(group, uid): &(Name, Name)| group.len() + uid.len());
    let mut looks = 0;
    let full = |page: Vec<(Name, Name)>| Answer::GroupUids { page, more: true };
    for (group, members) in from_group(hub, after.map(|(group, _)| &**group)) {
        // An empty page would not say where it goes on.
        if looks >= LOOKS_MAX && !page.entries.is_empty() {
            return full(page.entries);
        }
        looks += members.len();
        let last = after.filter(|(last, _)| last == group);
        let last = last.map(|(_, uid)| &**uid);
        let uids = smallest(hub, members.iter().copied(), last, entries_max(limit));
        for uid in uids {
            if !page.push(|| (group.clone(), uid.clone())) {
                return full(page.entries);
            }
        }
    }
    Answer::GroupUids {
        page: page.entries,
        more: false,
    }
}
