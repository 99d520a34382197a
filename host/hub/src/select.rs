//! Selectors + hub → clients, in order. Pure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::net::SocketAddrV4;
use std::ops::Bound;

use tidegate_wire::Name;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::Selector;

use crate::hub::{Hub, Members};

/// Where a list of one gateway's clients begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Behind the last of them.
    Nowhere,
    /// Behind a cursor, or at the first of them.
    From(Bound<u32>),
}

impl Start {
    /// Behind this client, which may be one of another gateway.
    #[must_use]
    pub fn of(gateway: SocketAddrV4, after: Option<ClientId>) -> Self {
        let Some(after) = after else {
            return Self::From(Bound::Unbounded);
        };
        let place = ClientId::new(gateway, after.connection).cmp(&after);
        match place {
            std::cmp::Ordering::Less => Self::Nowhere,
            std::cmp::Ordering::Equal => Self::From(Bound::Excluded(after.connection)),
            std::cmp::Ordering::Greater => Self::From(Bound::Unbounded),
        }
    }

    /// These members from here on.
    #[must_use]
    pub fn range(self, members: &Members) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::Nowhere => Box::new(std::iter::empty()),
            Self::From(start) => Box::new(members.range((start, Bound::Unbounded)).copied()),
        }
    }
}

/// The clients of `hub` that any of the selectors names, each once, in order.
pub fn selected<'a>(
    hub: &'a Hub,
    gateway: SocketAddrV4,
    of: &'a [Selector],
    start: Start,
) -> Box<dyn Iterator<Item = u32> + 'a> {
    if of.contains(&Selector::Everyone) {
        return start.range(hub.online());
    }
    let mut sources = Vec::new();
    for selector in of {
        match selector {
            Selector::Everyone => {}
            Selector::Clients(clients) => {
                let own = clients.iter().filter(|client| client.gateway() == gateway);
                let online = own.map(|it| it.connection).filter(|it| hub.is_online(*it));
                let members: Members = online.collect();
                let wanted: Vec<u32> = start.range(&members).collect();
                sources.push(Box::new(wanted.into_iter()) as Box<dyn Iterator<Item = u32>>);
            }
            Selector::Uids(uids) => {
                let sets = distinct(uids).into_iter();
                let sets = sets.filter_map(|uid| hub.uid_members(uid));
                sources.extend(sets.map(|members| start.range(members)));
            }
            Selector::Groups(groups) => {
                let sets = distinct(groups).into_iter();
                let sets = sets.filter_map(|group| hub.group_members(group));
                sources.extend(sets.map(|members| start.range(members)));
            }
            Selector::AllOfGroups(groups) => sources.extend(in_all(hub, groups, start)),
        }
    }
    union(sources)
}

/// How many clients that are.
#[must_use]
pub fn size(hub: &Hub, gateway: SocketAddrV4, of: &[Selector]) -> usize {
    match of {
        [Selector::Everyone] => hub.len(),
        [Selector::Uids(uids)] if uids.len() == 1 => {
            let members = uids.first().and_then(|uid| hub.uid_members(uid));
            members.map_or(0, Members::len)
        }
        [Selector::Groups(groups)] if groups.len() == 1 => {
            let members = groups.first().and_then(|group| hub.group_members(group));
            members.map_or(0, Members::len)
        }
        _ => selected(hub, gateway, of, Start::From(Bound::Unbounded)).count(),
    }
}

fn distinct(names: &[Name]) -> HashSet<&Name> {
    names.iter().collect()
}

/// Members of every one of these groups; nobody is in all of no groups.
fn in_all<'a>(
    hub: &'a Hub,
    groups: &[Name],
    start: Start,
) -> Option<Box<dyn Iterator<Item = u32> + 'a>> {
    let sets: Option<Vec<&Members>> = groups.iter().map(|g| hub.group_members(g)).collect();
    let mut sets = sets?;
    sets.sort_by_key(|members| members.len());
    let (fewest, others) = sets.split_first()?;
    let others = others.to_vec();
    let in_others = move |member: &u32| others.iter().all(|members| members.contains(member));
    Some(Box::new(start.range(fewest).filter(in_others)))
}

/// Each number of these ordered sources once, in order.
fn union<'a>(
    mut sources: Vec<Box<dyn Iterator<Item = u32> + 'a>>,
) -> Box<dyn Iterator<Item = u32> + 'a> {
    if sources.len() <= 1 {
        return sources
            .pop()
            .unwrap_or_else(|| Box::new(std::iter::empty()));
    }
    let first = |(place, source): (usize, &mut Box<dyn Iterator<Item = u32> + 'a>)| {
        Some(Reverse((source.next()?, place)))
    };
    let heads: BinaryHeap<_> = sources.iter_mut().enumerate().filter_map(first).collect();
    Box::new(Union {
        sources,
        heads,
        last: None,
    })
}

struct Union<'a> {
    sources: Vec<Box<dyn Iterator<Item = u32> + 'a>>,
    heads: BinaryHeap<Reverse<(u32, usize)>>,
    last: Option<u32>,
}

impl Iterator for Union<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            let Reverse((number, place)) = self.heads.pop()?;
            let source = self.sources.get_mut(place);
            if let Some(next) = source.and_then(Iterator::next) {
                self.heads.push(Reverse((next, place)));
            }
            if self.last.replace(number) != Some(number) {
                return Some(number);
            }
        }
    }
}
