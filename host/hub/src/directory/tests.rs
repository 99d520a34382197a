//! Answers merged from parts, against a model that has everything in one place: clients spread
//! over the shards of gateways, every query paged with small limits.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the one answer that it expects"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use tidegate_wire::Name;
use tidegate_wire::effect::SessionChange;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, ClientFields, Query, Selector};

use super::*;
use crate::answer::{Ground, answer};
use crate::hub::Hub;

const GATEWAYS: usize = 3;
const SHARDS: usize = 2;

fn address(gateway: usize) -> SocketAddrV4 {
    // Ports out of the order of their making.
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, [3000, 1000, 2000][gateway])
}

#[derive(Clone, Debug)]
struct Someone {
    gateway: usize,
    connection: u32,
    uid: Option<u8>,
    groups: BTreeSet<u8>,
}

impl Someone {
    fn id(&self) -> ClientId {
        ClientId::new(address(self.gateway), self.connection)
    }
}

fn uid(number: u8) -> Name {
    format!("u{number}").into()
}

fn group(number: u8) -> Name {
    format!("g{number}").into()
}

fn someone() -> impl Strategy<Value = Someone> {
    (
        0..GATEWAYS,
        0..60u32,
        proptest::option::of(0..9u8),
        btree_set(0..6u8, 0..4),
    )
        .prop_map(|(gateway, connection, uid, groups)| Someone {
            gateway,
            connection,
            uid,
            groups,
        })
}

fn everybody() -> impl Strategy<Value = BTreeMap<ClientId, Someone>> {
    vec(someone(), 0..50).prop_map(|list| list.into_iter().map(|one| (one.id(), one)).collect())
}

fn selectors() -> impl Strategy<Value = Vec<Selector>> {
    let names = |make: fn(u8) -> Name| {
        vec(0..10u8, 0..4).prop_map(move |list| list.into_iter().map(make).collect::<Vec<_>>())
    };
    let clients = vec((0..GATEWAYS, 0..60u32), 0..9).prop_map(|list| {
        let id = |(gateway, connection)| ClientId::new(address(gateway), connection);
        Selector::Clients(list.into_iter().map(id).collect())
    });
    let selector = prop_oneof![
        Just(Selector::Everyone),
        clients,
        names(uid).prop_map(Selector::Uids),
        names(group).prop_map(Selector::Groups),
        names(group).prop_map(Selector::AllOfGroups),
    ];
    vec(selector, 0..4)
}

/// The shards of one gateway after the other.
struct Cluster {
    hubs: Vec<Vec<Hub>>,
}

impl Cluster {
    fn new(everybody: &BTreeMap<ClientId, Someone>) -> Self {
        let mut hubs: Vec<Vec<Hub>> = vec![vec![Hub::default(); SHARDS]; GATEWAYS];
        for one in everybody.values() {
            let hub = &mut hubs[one.gateway][one.connection as usize % SHARDS];
            hub.insert(one.connection);
            if let Some(number) = one.uid {
                hub.bind_uid(one.connection, &uid(number)).unwrap();
            }
            for number in &one.groups {
                hub.join(one.connection, &group(*number)).unwrap();
            }
        }
        Self { hubs }
    }

    /// As gateways do it: shards, then gateways.
    fn ask(&self, query: &Query) -> Answer {
        let of_gateway = |(gateway, shards): (usize, &Vec<Hub>)| {
            let part = |hub| {
                let ground = Ground {
                    hub,
                    gateway: address(gateway),
                    live: &|_| None,
                };
                answer(ground, query).unwrap()
            };
            merge(query, shards.iter().map(part).collect()).unwrap()
        };
        merge(
            query,
            self.hubs.iter().enumerate().map(of_gateway).collect(),
        )
        .unwrap()
    }
}

/// Whom the selectors name, by looking at everybody.
fn chosen<'a>(everybody: &'a BTreeMap<ClientId, Someone>, of: &[Selector]) -> Vec<&'a Someone> {
    let is_in = |one: &Someone, name: &Name| one.groups.iter().any(|it| group(*it) == *name);
    let named = |one: &&Someone| {
        of.iter().any(|selector| match selector {
            Selector::Everyone => true,
            Selector::Clients(clients) => clients.contains(&one.id()),
            Selector::Uids(uids) => one.uid.is_some_and(|it| uids.contains(&uid(it))),
            Selector::Groups(groups) => groups.iter().any(|name| is_in(one, name)),
            Selector::AllOfGroups(groups) => {
                !groups.is_empty() && groups.iter().all(|name| is_in(one, name))
            }
        })
    };
    everybody.values().filter(named).collect()
}

/// Pages through a list; `query` makes the query behind a key.
fn pages<T: Clone + std::fmt::Debug, K>(
    query: impl Fn(Option<K>) -> Query,
    mut ask: impl FnMut(&Query) -> Answer,
    read: impl Fn(Answer) -> (Vec<T>, bool),
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let (page, more) = read(ask(&query(all.last().map(&key))));
        assert!(
            !more || !page.is_empty(),
            "an empty page with more behind it"
        );
        all.extend(page);
        if !more {
            return all;
        }
    }
}

fn clients_after(of: &[Selector], after: Option<ClientId>, limit: u32) -> Query {
    Query::Clients {
        of: of.to_vec(),
        fields: ClientFields::default(),
        after,
        limit,
    }
}

fn ids(answer: Answer) -> (Vec<ClientId>, bool) {
    match answer {
        Answer::Clients { page, more } => (page.iter().map(|info| info.client).collect(), more),
        other => panic!("{other:?}"),
    }
}

fn names(answer: Answer) -> (Vec<Name>, bool) {
    match answer {
        Answer::Names { page, more } => (page, more),
        other => panic!("{other:?}"),
    }
}

fn check_selected(all: &BTreeMap<ClientId, Someone>, of: &[Selector], limit: u32) {
    let cluster = Cluster::new(all);
    let expected = chosen(all, of);
    let found = pages(
        |after| clients_after(of, after, limit),
        |query| cluster.ask(query),
        ids,
        |id| *id,
    );
    let expected_ids: Vec<ClientId> = expected.iter().map(|one| one.id()).collect();
    assert_eq!(found, expected_ids);
    let count = cluster.ask(&Query::ClientCount { of: of.to_vec() });
    assert_eq!(count, Answer::Count(expected.len() as u64));
    let found = pages(
        |after| Query::Uids {
            of: of.to_vec(),
            after,
            limit,
        },
        |query| cluster.ask(query),
        names,
        Name::clone,
    );
    let uids: BTreeSet<Name> = expected.iter().filter_map(|one| one.uid).map(uid).collect();
    assert_eq!(found, uids.into_iter().collect::<Vec<_>>());
}

fn members(all: &BTreeMap<ClientId, Someone>) -> BTreeMap<Name, Vec<&Someone>> {
    let mut groups: BTreeMap<Name, Vec<&Someone>> = BTreeMap::new();
    for one in all.values() {
        for number in &one.groups {
            groups.entry(group(*number)).or_default().push(one);
        }
    }
    groups
}

fn uids_of(clients: &[&Someone]) -> BTreeSet<Name> {
    clients.iter().filter_map(|one| one.uid).map(uid).collect()
}

fn check_groups(all: &BTreeMap<ClientId, Someone>, limit: u32) {
    let (cluster, groups) = (Cluster::new(all), members(all));
    let ask = |query: &Query| cluster.ask(query);
    let found = pages(
        |after| Query::Groups { after, limit },
        ask,
        names,
        Name::clone,
    );
    assert_eq!(found, groups.keys().cloned().collect::<Vec<_>>());
    let infos = pages(
        |after| Query::GroupInfos { after, limit },
        ask,
        |answer| match answer {
            Answer::Groups { page, more } => (page, more),
            other => panic!("{other:?}"),
        },
        |info| info.group.clone(),
    );
    assert_eq!(infos.len(), groups.len());
    for (info, (group, clients)) in infos.iter().zip(&groups) {
        assert_eq!((&info.group, info.clients), (group, clients.len() as u64));
        let uids = uids_of(clients).len() as u64;
        assert!(
            info.uids == uids || info.uids_may_repeat && info.uids > uids,
            "{info:?}"
        );
    }
    let found = pages(
        |after| Query::GroupClients { after, limit },
        ask,
        |answer| match answer {
            Answer::GroupClients { page, more } => (page, more),
            other => panic!("{other:?}"),
        },
        Clone::clone,
    );
    let expected = groups.iter();
    let expected =
        expected.flat_map(|(group, list)| list.iter().map(|it| (group.clone(), it.id())));
    assert_eq!(found, expected.collect::<Vec<_>>());
    let found = pages(
        |after| Query::GroupUids { after, limit },
        ask,
        |answer| match answer {
            Answer::GroupUids { page, more } => (page, more),
            other => panic!("{other:?}"),
        },
        Clone::clone,
    );
    let expected = groups.iter();
    let expected =
        expected.flat_map(|(group, list)| uids_of(list).into_iter().map(|it| (group.clone(), it)));
    assert_eq!(found, expected.collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merged_pages_are_the_whole_list_in_order(
        all in everybody(), of in selectors(), limit in 1..12u32
    ) {
        check_selected(&all, &of, limit);
        check_groups(&all, limit);
    }

    #[test]
    fn whoever_stays_is_listed_once_while_others_come_and_go(
        stays in everybody(),
        changes in vec(everybody(), 1..20),
        limit in 1..9u32,
    ) {
        let mut turns = changes.iter().cycle();
        let found = pages(
            |after| clients_after(&[Selector::Everyone], after, limit),
            |query| {
                let mut now = turns.next().unwrap().clone();
                now.extend(stays.clone());
                Cluster::new(&now).ask(query)
            },
            ids,
            |id| *id,
        );
        prop_assert!(found.is_sorted());
        for id in stays.keys() {
            prop_assert_eq!(found.iter().filter(|it| *it == id).count(), 1);
        }
        let distinct: BTreeSet<_> = found.iter().collect();
        prop_assert_eq!(distinct.len(), found.len());
    }
}

#[test]
fn counts_and_sketches_of_parts_add_up() {
    let uids = Query::UidCounts(vec!["a".into(), "b".into()]);
    let parts = vec![Answer::Counts(vec![1, 0]), Answer::Counts(vec![2, 3])];
    assert_eq!(merge(&uids, parts), Some(Answer::Counts(vec![3, 3])));
    assert_eq!(merge(&uids, vec![]), Some(Answer::Counts(vec![0, 0])));
    let swap = Query::CompareAndSet {
        client: ClientId::new(address(0), 1),
        key: "k".into(),
        expected: None,
        new: None,
        nth: 0,
    };
    assert_eq!(merge(&swap, vec![]), None);
    // A part of another kind is no part.
    let count = Query::ClientCount { of: vec![] };
    let parts = vec![Answer::Count(2), Answer::Counts(vec![9])];
    assert_eq!(merge(&count, parts), Some(Answer::Count(2)));
}

#[test]
fn a_page_ends_early_at_its_bytes_and_goes_on_behind() {
    let mut hub = Hub::default();
    for connection in 0..10 {
        hub.insert(connection);
        let change = SessionChange::Set {
            key: "k".into(),
            value: "1".repeat(60_000),
        };
        hub.change_session(connection, &change).unwrap();
    }
    let query = |after| Query::Clients {
        of: vec![Selector::Everyone],
        fields: ClientFields {
            session: true,
            ..ClientFields::default()
        },
        after,
        limit: 1000,
    };
    let mut calls = 0;
    let found = pages(
        query,
        |query| {
            calls += 1;
            let ground = Ground {
                hub: &hub,
                gateway: address(0),
                live: &|_| None,
            };
            answer(ground, query).unwrap()
        },
        ids,
        |id| *id,
    );
    assert_eq!((found.len(), calls), (10, 2));
}

#[test]
fn only_those_who_can_matter_are_asked() {
    let client = ClientId::new(address(1), 7);
    let clients = |of: Vec<Selector>, after| reach(&clients_after(&of, after, 10));
    let one = || vec![Selector::Clients(vec![client])];
    assert_eq!(clients(one(), None), Reach::Homes(vec![client]));
    assert_eq!(clients(one(), Some(client)), Reach::Homes(vec![client]));
    let everyone = || vec![Selector::Everyone];
    assert_eq!(clients(everyone(), None), Reach::Everywhere);
    assert_eq!(clients(everyone(), Some(client)), Reach::From(client));
    assert_eq!(clients(vec![], Some(client)), Reach::Nobody);
    assert_eq!(clients(vec![Selector::Uids(vec![])], None), Reach::Nobody);
    let mut mixed = one();
    mixed.push(Selector::Groups(vec!["g".into()]));
    assert_eq!(clients(mixed, None), Reach::Everywhere);
}

#[test]
fn a_query_that_breaks_a_rule_is_refused() {
    let limit = |limit| check(&Query::Groups { after: None, limit });
    assert!(limit(1).is_ok() && limit(1000).is_ok());
    assert!(limit(0).is_err() && limit(1001).is_err());
    let list = |count: usize| {
        let of = vec![Selector::Groups(vec!["g".into(); count])];
        check(&Query::ClientCount { of })
    };
    assert!(list(1000).is_ok() && list(1001).is_err());
    assert!(check(&Query::UidCounts(vec!["".into()])).is_err());
    assert!(check(&Query::UidCounts(vec!["x".repeat(256).into()])).is_err());
}

#[test]
fn the_owner_of_a_key_does_not_depend_on_the_order_and_keys_spread() {
    let all = [address(0), address(1), address(2)];
    let mut counts = BTreeMap::new();
    for key in 0..=255 {
        let found = owner(&[key; 32], all.into_iter());
        assert_eq!(found, owner(&[key; 32], all.into_iter().rev()));
        *counts.entry(found.unwrap()).or_insert(0) += 1;
        // Whoever leaves changes only the keys that it had.
        let left = owner(&[key; 32], all.into_iter().skip(1));
        assert!(left == found || found == Some(all[0]));
    }
    assert!(
        counts.len() == 3 && counts.values().all(|count| *count > 40),
        "{counts:?}"
    );
}
