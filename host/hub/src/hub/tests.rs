//! The hub's own promises, and that a trial leaves nothing behind.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use tidegate_wire::effect::Effect;
use tidegate_wire::event::CloseFrame;
use tidegate_wire::id::ClientId;
use tidegate_wire::payload::Payload;
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::task::TaskId;
use tidegate_wire::timer::TimerId;

use super::*;
use crate::effects::{Changed, Deliver, apply};
use crate::outbound::Outgoing;

#[derive(Clone, Debug)]
enum Command {
    Insert(u32),
    Remove(u32),
    Offline(u32),
    Bind(u32, u8),
    Unbind(u32),
    Join(u32, u8),
    Leave(u32, u8),
    Ungroup(u8),
    Set(u32, u8, usize),
    Clear(u32),
}

fn command() -> impl Strategy<Value = Command> {
    let connection = 0..12u32;
    let name = 0..5u8;
    prop_oneof![
        connection.clone().prop_map(Command::Insert),
        connection.clone().prop_map(Command::Remove),
        connection.clone().prop_map(Command::Offline),
        (connection.clone(), name.clone()).prop_map(|(c, n)| Command::Bind(c, n)),
        connection.clone().prop_map(Command::Unbind),
        (connection.clone(), name.clone()).prop_map(|(c, n)| Command::Join(c, n)),
        (connection.clone(), name.clone()).prop_map(|(c, n)| Command::Leave(c, n)),
        name.clone().prop_map(Command::Ungroup),
        (connection.clone(), name, 0..60usize).prop_map(|(c, n, l)| Command::Set(c, n, l)),
        connection.prop_map(Command::Clear),
    ]
}

fn name(n: u8) -> Name {
    format!("n{n}").into()
}

fn run(hub: &mut Hub, command: &Command) {
    match command {
        Command::Insert(c) => hub.insert(*c),
        Command::Remove(c) => drop(hub.remove(*c)),
        Command::Offline(c) => drop(hub.go_offline(*c)),
        Command::Bind(c, n) => drop(hub.bind_uid(*c, &name(*n))),
        Command::Unbind(c) => drop(hub.unbind_uid(*c)),
        Command::Join(c, n) => drop(hub.join(*c, &name(*n))),
        Command::Leave(c, n) => drop(hub.leave(*c, &name(*n))),
        Command::Ungroup(n) => drop(hub.ungroup(&name(*n))),
        Command::Set(c, n, length) => {
            let change = SessionChange::Set {
                key: name(*n),
                value: "1".repeat(*length),
            };
            let before = hub.client(*c).map(Client::snapshot);
            if hub.change_session(*c, &change) == Err(Refused::Session) {
                assert_eq!(hub.client(*c).map(Client::snapshot), before);
            }
        }
        Command::Clear(c) => drop(hub.change_session(*c, &SessionChange::Clear)),
    }
}

fn check_table(hub: &Hub, table: &Table, has: impl Fn(&Client, &Name) -> bool) -> usize {
    let listed: Vec<&Name> = table.names.iter().collect();
    let mut known: Vec<&Name> = table.members.keys().collect();
    known.sort();
    assert_eq!(listed, known);
    for (name, members) in &table.members {
        assert!(!members.is_empty(), "an empty entry {name}");
        for member in members {
            let client = hub.client(*member).expect("a member without its client");
            assert!(
                has(client, name),
                "{member} does not know that it has {name}"
            );
        }
    }
    table.members.values().map(Members::len).sum()
}

fn check(hub: &Hub) {
    let online = || hub.clients.values().filter(|client| !client.offline);
    let uids = check_table(hub, &hub.uids, |client, name| {
        !client.offline && client.uid.as_ref() == Some(name)
    });
    assert_eq!(uids, online().filter(|c| c.uid.is_some()).count());
    let groups = check_table(hub, &hub.groups, |client, name| {
        !client.offline && client.groups.contains(name)
    });
    assert_eq!(groups, online().map(|c| c.groups.len()).sum::<usize>());
    let offline_groups = check_table(hub, &hub.offline_groups, |client, name| {
        client.offline && client.groups.contains(name)
    });
    let all: usize = hub.clients.values().map(|c| c.groups.len()).sum();
    assert_eq!(groups + offline_groups, all);
    let listed: Members = hub
        .clients
        .iter()
        .filter_map(|(number, client)| (!client.offline).then_some(*number))
        .collect();
    assert_eq!(listed, hub.online);
    for client in hub.clients.values() {
        assert!(client.groups.is_sorted());
        assert!(client.groups.len() <= hub.limits.groups_per_client_max);
        let bytes = client.session.as_ref().map_or(0, |session| session.bytes());
        assert!(bytes <= hub.limits.session_bytes_max);
    }
}

proptest! {
    #[test]
    fn any_sequence_of_commands_keeps_the_tables_consistent(
        commands in proptest::collection::vec(command(), 0..200)
    ) {
        let limits = HubLimits { groups_per_client_max: 3, session_bytes_max: 100 };
        let mut hub = Hub::new(limits);
        for command in &commands {
            run(&mut hub, command);
            check(&hub);
        }
        let all: Vec<u32> = hub.clients.keys().copied().collect();
        for connection in all {
            hub.remove(connection);
        }
        prop_assert_eq!(hub, Hub::new(limits));
    }
}

#[test]
fn a_bind_replaces_the_earlier_uid() {
    let mut hub = Hub::default();
    hub.insert(1);
    hub.bind_uid(1, &"a".into()).unwrap();
    hub.bind_uid(1, &"b".into()).unwrap();
    assert!(hub.uid_members("a").is_none());
    assert_eq!(hub.uid_members("b").unwrap().len(), 1);
}

#[test]
fn ungroup_leaves_the_clients_there() {
    let mut hub = Hub::default();
    hub.insert(1);
    hub.insert(2);
    hub.join(1, &"g".into()).unwrap();
    hub.join(2, &"g".into()).unwrap();
    assert_eq!(hub.ungroup(&"g".into()).len(), 2);
    assert_eq!(hub.len(), 2);
    assert!(hub.group_members("g").is_none());
    assert!(hub.client(1).unwrap().groups().is_empty());
}

#[test]
fn a_session_over_its_limit_stays_as_it_was() {
    let mut hub = Hub::new(HubLimits {
        groups_per_client_max: 1,
        session_bytes_max: 8,
    });
    hub.insert(1);
    let set = |value: &str| SessionChange::Set {
        key: "k".into(),
        value: value.to_owned(),
    };
    hub.change_session(1, &set("1")).unwrap();
    assert_eq!(
        hub.change_session(1, &set("12345678")),
        Err(Refused::Session)
    );
    let snapshot = hub.client(1).unwrap().snapshot();
    assert_eq!(
        (snapshot.version, snapshot.entries),
        (1, vec![("k".into(), "1".to_owned())])
    );
}

const GATEWAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2000);

fn effect() -> impl Strategy<Value = Effect> {
    let client = (0..12u32).prop_map(|number| ClientId::new(GATEWAY, number));
    let named = (client.clone(), (0..5u8).prop_map(name));
    let change = prop_oneof![
        ((0..5u8).prop_map(name), 0..60usize).prop_map(|(key, length)| SessionChange::Set {
            key,
            value: "1".repeat(length),
        }),
        (0..5u8)
            .prop_map(name)
            .prop_map(|key| SessionChange::Remove { key }),
        Just(SessionChange::Clear),
    ];
    prop_oneof![
        named
            .clone()
            .prop_map(|(client, uid)| Effect::BindUid { client, uid }),
        client
            .clone()
            .prop_map(|client| Effect::UnbindUid { client }),
        named
            .clone()
            .prop_map(|(client, group)| Effect::JoinGroup { client, group }),
        named.prop_map(|(client, group)| Effect::LeaveGroup { client, group }),
        (0..5u8)
            .prop_map(name)
            .prop_map(|group| Effect::Ungroup { group }),
        (0..5u8).prop_map(name).prop_map(|uid| Effect::CloseUid {
            uid,
            farewell: None,
            frame: None,
        }),
        client.clone().prop_map(|client| Effect::Destroy { client }),
        client.clone().prop_map(|client| Effect::Close {
            client,
            farewell: None,
            frame: None,
        }),
        (client, change).prop_map(|(client, change)| Effect::Session { client, change }),
    ]
}

/// Notes whom effects close.
#[derive(Default)]
struct Closing(Vec<u32>);

impl Deliver for Closing {
    fn send(&mut self, _connection: u32, _message: &Outgoing<'_>) {}
    fn close(
        &mut self,
        connection: u32,
        _farewell: Option<&Outgoing<'_>>,
        _frame: Option<&CloseFrame>,
    ) {
        self.0.push(connection);
    }
    fn destroy(&mut self, connection: u32) {
        self.0.push(connection);
    }
    fn changed(&mut self, _hub: &Hub, _connection: u32, _what: Changed<'_>) {}
    fn is_watched(&self) -> bool {
        false
    }
    fn refused(&mut self, _connection: u32, _effect: &Effect, _why: Refused) {}
    fn set_timer(&mut self, _timer: TimerId, _delay_ms: u64, _repeats: bool, _payload: &Payload) {}
    fn cancel_timer(&mut self, _timer: &TimerId) {}
    fn submit_task(&mut self, _task: TaskId, _payload: &Payload) {}
    fn cancel_task(&mut self, _task: &TaskId) {}
    fn tell_peers(&mut self, _message: &PeerMessage) {}
}

proptest! {
    #[test]
    fn a_trial_looks_like_a_commit_and_leaves_nothing(
        commands in proptest::collection::vec(command(), 0..100),
        effects in proptest::collection::vec(effect(), 0..30),
    ) {
        let limits = HubLimits { groups_per_client_max: 3, session_bytes_max: 100 };
        let mut hub = Hub::new(limits);
        commands.iter().for_each(|command| run(&mut hub, command));
        let before = hub.clone();
        let trial = Trial::begin(&mut hub, GATEWAY, &effects);
        check(&hub);
        let mut committed = before.clone();
        let mut closing = Closing::default();
        for effect in &effects {
            apply(&mut committed, GATEWAY, effect, &mut closing);
        }
        for connection in closing.0 {
            committed.go_offline(connection);
        }
        prop_assert_eq!(&hub, &committed);
        trial.undo(&mut hub);
        prop_assert_eq!(&hub, &before);
    }
}

#[test]
fn a_client_that_went_offline_is_on_no_list_but_keeps_its_record() {
    let mut hub = Hub::default();
    hub.insert(1);
    hub.insert(2);
    for connection in [1, 2] {
        hub.join(connection, &"g".into()).unwrap();
        hub.bind_uid(connection, &"u".into()).unwrap();
    }
    assert!(hub.go_offline(1) && !hub.go_offline(1));
    assert!(!hub.is_online(1));
    assert_eq!(hub.connections().collect::<Vec<_>>(), [2]);
    assert_eq!(hub.uid_members("u").unwrap(), &Members::from([2]));
    assert_eq!(hub.group_members("g").unwrap(), &Members::from([2]));
    // Its last events still change what its close will tell.
    hub.bind_uid(1, &"late".into()).unwrap();
    hub.join(1, &"h".into()).unwrap();
    assert!(hub.uid_members("late").is_none() && hub.group_members("h").is_none());
    hub.ungroup(&"g".into());
    let last = hub.remove(1).unwrap();
    assert_eq!(last.uid().map(|uid| &**uid), Some("late"));
    assert_eq!(last.groups(), &[Name::from("h")]);
}

#[test]
fn a_compare_and_set_compares_json_and_changes_all_or_nothing() {
    let mut hub = Hub::new(HubLimits {
        session_bytes_max: 20,
        ..HubLimits::default()
    });
    let key = Name::from("k");
    let absent = hub.compare_and_set(1, &key, None, Some("1"));
    assert_eq!(absent, Err(SwapRefusal::Offline));
    hub.insert(1);
    for (expected, new, wanted) in [
        (Some("1"), Some("2"), Err(SwapRefusal::Conflict)),
        (None, Some("[1, 2]"), Ok(())),
        (None, Some("3"), Err(SwapRefusal::Conflict)),
        (Some("[1,2.0]"), Some("{}"), Ok(())),
        (
            Some("{}"),
            Some("\"more than the limit\""),
            Err(SwapRefusal::TooLarge),
        ),
        (Some(" {}"), None, Ok(())),
        (None, None, Ok(())),
    ] {
        let swapped = hub.compare_and_set(1, &key, expected, new);
        assert_eq!(swapped, wanted, "{expected:?} {new:?}");
    }
    assert!(hub.client(1).unwrap().session().is_none());
    hub.go_offline(1);
    let gone = hub.compare_and_set(1, &key, None, Some("1"));
    assert_eq!(gone, Err(SwapRefusal::Offline));
}

#[test]
fn memory_of_a_burst_is_given_back_when_it_is_over() {
    const CLIENTS: u32 = 50_000;
    let mut hub = Hub::default();
    for connection in 0..CLIENTS {
        hub.insert(connection);
        hub.bind_uid(connection, &format!("u{connection}").into())
            .unwrap();
        hub.join(connection, &format!("g{connection}").into())
            .unwrap();
    }
    for connection in 100..CLIENTS {
        hub.remove(connection);
    }
    let tables = [&hub.uids, &hub.groups, &hub.offline_groups].map(|it| it.members.capacity());
    let places = tables.into_iter().chain([hub.clients.capacity()]);
    assert!(places.max() <= Some(2048), "{tables:?}");
}
