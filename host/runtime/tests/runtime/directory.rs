//! Every question of `directory` becomes the right query, and its answer the right value.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use tidegate_runtime::Deployment;
use tidegate_wire::Name;
use tidegate_wire::cursor::Cursor;
use tidegate_wire::effect::{Effect, Outcome, SessionChange};
use tidegate_wire::event::{Peer, Transport};
use tidegate_wire::query::{
    Answer, Answered, AskError, ClientFields, ClientInfo, CommandError, GroupInfo, Query, Selector,
    SwapRefusal,
};

use crate::harness::{Home, Told, client, deploy, logged, said, settings};

const ALL: ClientFields = ClientFields {
    peer: true,
    uid: true,
    groups: true,
    session: true,
    times: true,
    traffic: true,
};

fn gateway(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new([127, 0, 0, 1].into(), port)
}

fn missing(answer: Answer) -> Told {
    Told::Answer(Answered {
        answer,
        missing: vec![gateway(7272)],
    })
}

fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(|name| Name::from(*name)).collect()
}

fn clients(list: &[u32], more: bool) -> Answer {
    let info = |connection: &u32| ClientInfo::new(client(*connection));
    Answer::Clients {
        page: list.iter().map(info).collect(),
        more,
    }
}

/// Asks one question, to which the home says `told`; gives the query and what the guest printed.
async fn asked(deployment: &Deployment, question: &str, told: impl Into<Told>) -> (Query, String) {
    let home = Home::new();
    home.tell(told);
    let answer = ask(&home, deployment, question).await;
    let mut asked = home.asked();
    assert_eq!(asked.len(), 1, "{question}: {answer}");
    (asked.remove(0).query, answer)
}

async fn ask(home: &std::sync::Arc<Home>, deployment: &Deployment, question: &str) -> String {
    let commit = home
        .run(deployment, client(1), &format!("ask {question}"))
        .await;
    said(&commit).remove(0)
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[tokio::test]
async fn questions_about_one_client() {
    let deployment = deploy(settings("one-client")).await;
    let one = |fields| Query::Clients {
        of: vec![Selector::Clients(vec![client(5)])],
        fields,
        after: None,
        limit: 1,
    };
    let line = format!("is-online {}", client(5));
    let nothing = ClientFields::default();
    let (query, answer) = asked(&deployment, &line, clients(&[5], false)).await;
    assert_eq!((query, answer.as_str()), (one(nothing), "Ok(true)"));
    let (_, answer) = asked(&deployment, &line, clients(&[], false)).await;
    assert_eq!(answer, "Ok(false)");
    let (_, answer) = asked(&deployment, &line, missing(clients(&[], false))).await;
    assert_eq!(answer, "Err(Error::Timeout)", "its gateway did not answer");

    let mut info = ClientInfo::new(client(5));
    info.peer = Some(Box::new(Peer {
        address: "10.0.0.9:99".parse().unwrap(),
        transport: Transport::Tcp,
        listener: "inside".into(),
        secure: true,
    }));
    info.session = vec![("k".into(), "7".to_owned())];
    let found = Answer::Clients {
        page: vec![info],
        more: false,
    };
    let line = format!("info {}", client(5));
    let (query, answer) = asked(&deployment, &line, found.clone()).await;
    let peer = ClientFields {
        peer: true,
        ..nothing
    };
    assert_eq!(query, one(peer));
    has(
        &answer,
        &["10.0.0.9:99", "Transport::Tcp", "inside", "secure: true"],
    );
    let line = format!("session-of {}", client(5));
    let (query, answer) = asked(&deployment, &line, found).await;
    let session = ClientFields {
        session: true,
        ..nothing
    };
    assert_eq!(
        (query, answer.as_str()),
        (one(session), "Ok(Some([(\"k\", \"7\")]))")
    );
    let (_, answer) = asked(&deployment, &line, clients(&[], false)).await;
    assert_eq!(answer, "Ok(None)");
}

#[tokio::test]
async fn pages_of_clients_go_on_behind_their_last_entry() {
    let deployment = deploy(settings("client-pages")).await;
    let cursor = Cursor::Client(client(3)).encode();
    let line = format!(
        "clients everyone+uids=a,b+groups=g+all-of=h,i+clients={} {cursor} 2",
        client(9)
    );
    let (query, answer) = asked(&deployment, &line, clients(&[4, 5], true)).await;
    let expected = Query::Clients {
        of: vec![
            Selector::Everyone,
            Selector::Uids(names(&["a", "b"])),
            Selector::Groups(names(&["g"])),
            Selector::AllOfGroups(names(&["h", "i"])),
            Selector::Clients(vec![client(9)]),
        ],
        fields: ClientFields::default(),
        after: Some(client(3)),
        limit: 2,
    };
    assert_eq!(query, expected);
    let next = Cursor::Client(client(5)).encode();
    has(&answer, &[&client(4).to_string(), &next, "missing: []"]);
    let (_, answer) = asked(
        &deployment,
        "clients everyone - 2",
        missing(clients(&[4], false)),
    )
    .await;
    has(&answer, &["next: None", "missing: [\"127.0.0.1:7272\"]"]);

    let mut info = ClientInfo::new(client(5));
    info.uid = Some("ann".into());
    info.groups = names(&["x"]);
    info.connected_at_ms = Some(11);
    info.bytes_out = Some(22);
    let page = Answer::Clients {
        page: vec![info],
        more: true,
    };
    let (query, answer) = asked(&deployment, "infos everyone - 1", page).await;
    assert!(matches!(
        query,
        Query::Clients {
            fields: ALL,
            after: None,
            limit: 1,
            ..
        }
    ));
    has(&answer, &["ann", "[\"x\"]", "Some(11)", "Some(22)", &next]);
}

#[tokio::test]
async fn counts_and_names() {
    let deployment = deploy(settings("names")).await;
    let page = |more| Answer::Names {
        page: names(&["a", "b"]),
        more,
    };
    let next = Cursor::Name("b".into()).encode();
    let (query, answer) = asked(
        &deployment,
        "client-count everyone",
        missing(Answer::Count(7)),
    )
    .await;
    let of = vec![Selector::Everyone];
    assert_eq!(query, Query::ClientCount { of: of.clone() });
    has(&answer, &["value: 7", "127.0.0.1:7272"]);
    let (query, answer) = asked(&deployment, "uid-count everyone", Answer::Count(6)).await;
    assert_eq!(query, Query::UidCount { of: of.clone() });
    has(&answer, &["value: 6"]);
    let (query, answer) = asked(&deployment, "uid-count-estimate", Answer::Count(5)).await;
    assert_eq!(query, Query::UidEstimate);
    has(&answer, &["value: 5"]);
    let after = Cursor::Name("0".into()).encode();
    let (query, answer) = asked(&deployment, &format!("uids everyone {after} 2"), page(true)).await;
    let expected = Query::Uids {
        of,
        after: Some("0".into()),
        limit: 2,
    };
    assert_eq!(query, expected);
    has(&answer, &["[\"a\", \"b\"]", &next]);
    let (query, answer) = asked(&deployment, "groups - 2", page(false)).await;
    assert_eq!(
        query,
        Query::Groups {
            after: None,
            limit: 2
        }
    );
    has(&answer, &["[\"a\", \"b\"]", "next: None"]);
    let (query, answer) = asked(
        &deployment,
        "are-uids-online a,b",
        Answer::Counts(vec![0, 2]),
    )
    .await;
    assert_eq!(query, Query::UidCounts(names(&["a", "b"])));
    has(&answer, &["[false, true]"]);
    let counts = Answer::Counts(vec![3, 0]);
    let (query, answer) = asked(&deployment, "client-counts-of-groups g,h", counts).await;
    assert_eq!(query, Query::GroupCounts(names(&["g", "h"])));
    has(&answer, &["[3, 0]"]);
}

#[tokio::test]
async fn groups_with_what_is_in_them() {
    let deployment = deploy(settings("group-pages")).await;
    let group = GroupInfo {
        group: "g".into(),
        clients: 4,
        uids: 3,
        uids_may_repeat: false,
    };
    let page = Answer::Groups {
        page: vec![group],
        more: true,
    };
    let (query, answer) = asked(&deployment, "group-infos - 9", page).await;
    assert_eq!(
        query,
        Query::GroupInfos {
            after: None,
            limit: 9
        }
    );
    let next = Cursor::Name("g".into()).encode();
    has(&answer, &["client-count: 4", "uid-count: 3", &next]);

    let cursor = Cursor::GroupClient("g".into(), client(1));
    let page = Answer::GroupClients {
        page: vec![("g".into(), client(2))],
        more: true,
    };
    let line = format!("group-clients {} 1", cursor.encode());
    let (query, answer) = asked(&deployment, &line, page).await;
    let after = Some(("g".into(), client(1)));
    assert_eq!(query, Query::GroupClients { after, limit: 1 });
    let next = Cursor::GroupClient("g".into(), client(2)).encode();
    has(&answer, &[&format!("(\"g\", \"{}\")", client(2)), &next]);

    let cursor = Cursor::GroupUid("g".into(), "a".into());
    let page = Answer::GroupUids {
        page: vec![("g".into(), "b".into())],
        more: true,
    };
    let line = format!("group-uids {} 1", cursor.encode());
    let (query, answer) = asked(&deployment, &line, page).await;
    let after = Some(("g".into(), "a".into()));
    assert_eq!(query, Query::GroupUids { after, limit: 1 });
    let next = Cursor::GroupUid("g".into(), "b".into()).encode();
    has(&answer, &["(\"g\", \"b\")", &next]);
}

#[tokio::test]
async fn clients_of_uids_are_collected_over_pages_and_bounded() {
    let deployment = deploy(settings("of-uids")).await;
    let home = Home::new();
    let page = |list: &[(u32, &str)], more| {
        let info = |(connection, uid): &(u32, &str)| {
            let mut info = ClientInfo::new(client(*connection));
            info.uid = Some((*uid).into());
            info
        };
        Answer::Clients {
            page: list.iter().map(info).collect(),
            more,
        }
    };
    home.tell(missing(page(&[(1, "b"), (2, "a")], true)));
    home.tell(page(&[(3, "b")], false));
    let answer = ask(&home, &deployment, "clients-of-uids a,b,c").await;
    let (one, two, three) = (client(1), client(2), client(3));
    has(
        &answer,
        &[
            &format!("[[\"{two}\"], [\"{one}\", \"{three}\"], []]"),
            "missing: [\"127.0.0.1:7272\"]",
        ],
    );
    let asked = home.asked();
    assert!(
        matches!(&asked[0].query, Query::Clients { after: None, fields, limit: 1000, .. } if fields.uid)
    );
    assert!(matches!(&asked[1].query, Query::Clients { after: Some(after), .. } if *after == two));
    assert!(asked[1].within <= asked[0].within, "one deadline for all");

    for start in 0..11 {
        let ids: Vec<u32> = (start * 1000..(start + 1) * 1000).collect();
        home.tell(clients(&ids, true));
    }
    let answer = ask(&home, &deployment, "clients-of-uids a").await;
    has(&answer, &["QuotaExceeded", "more than 10000 clients"]);
    assert_eq!(home.asked().len(), 11);
}

#[tokio::test]
async fn a_compare_and_set_is_read_back_under_the_events_own_changes() {
    let deployment = deploy(settings("swapping")).await;
    let home = Home::new();
    let own = client(1);
    home.run(&deployment, own, "set a 1\nset b 2").await;
    home.tell(Answer::Swapped(Ok(())));
    home.tell(Answer::Swapped(Ok(())));
    let script = format!("set b 3\nask cas {own} a 1 9\nask cas {own} b 2 -\nentries\nget b");
    let commit = home.run(&deployment, own, &script).await;
    assert_eq!(
        said(&commit),
        ["Ok(())", "Ok(())", "[(\"a\", \"9\"), (\"b\", \"3\")]", "3"]
    );
    let asked = home.asked();
    assert!(
        asked[0].effects.is_empty(),
        "compared with what is committed"
    );
    let expected = Query::CompareAndSet {
        client: own,
        key: "a".into(),
        expected: Some("1".to_owned()),
        new: Some("9".to_owned()),
        nth: 0,
    };
    assert_eq!(asked[0].query, expected);
    for (told, word) in [
        (SwapRefusal::Offline, "Err(Error::Offline)"),
        (SwapRefusal::Conflict, "Err(Error::Conflict)"),
        (SwapRefusal::TooLarge, "QuotaExceeded"),
    ] {
        home.tell(Answer::Swapped(Err(told)));
        let line = format!("cas {} k - 1", client(2));
        has(&ask(&home, &deployment, &line).await, &[word]);
    }
}

#[tokio::test]
async fn commands_give_one_entry_for_each_gateway() {
    let deployment = deploy(settings("commanding")).await;
    let answers = Answer::Commands(vec![
        (gateway(1), Ok(b"pong".to_vec().into())),
        (gateway(2), Err(CommandError::Failed("no".to_owned()))),
        (gateway(3), Err(CommandError::Absent)),
        (gateway(4), Err(CommandError::Overloaded)),
        (gateway(5), Err(CommandError::Timeout)),
    ]);
    let (query, answer) = asked(&deployment, "command - ping hi 500", missing(answers)).await;
    let expected = Query::Command {
        gateways: None,
        name: "ping".into(),
        payload: b"hi".to_vec().into(),
    };
    assert_eq!(query, expected);
    has(
        &answer,
        &[
            "(\"127.0.0.1:1\", Ok([112, 111, 110, 103]))",
            "(\"127.0.0.1:2\", Err(Error::Other(\"no\")))",
            "(\"127.0.0.1:3\", Err(Error::NotPermitted(",
            "(\"127.0.0.1:4\", Err(Error::QuotaExceeded(",
            "(\"127.0.0.1:5\", Err(Error::Timeout))",
            "(\"127.0.0.1:7272\", Err(Error::Timeout))",
        ],
    );
    let line = "command 127.0.0.1:9,127.0.0.1:1,127.0.0.1:9 ping hi 500";
    let answers = Answer::Commands(vec![(gateway(1), Ok(Vec::new().into()))]);
    let (query, answer) = asked(&deployment, line, answers).await;
    let named = Some(vec![gateway(1), gateway(9)]);
    assert!(matches!(query, Query::Command { gateways, .. } if gateways == named));
    let expected = "Ok([(\"127.0.0.1:1\", Ok([])), (\"127.0.0.1:9\", Err(Error::Offline))])";
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn addresses_are_looked_up_nowhere() {
    let deployment = deploy(settings("addresses")).await;
    let home = Home::new();
    let line = format!("address-of {}", client(5));
    let answer = ask(&home, &deployment, &line).await;
    has(&answer, &["127.0.0.1:7272", "connection: 5"]);
    let answer = ask(&home, &deployment, "client-at 127.0.0.1:7272 5").await;
    assert_eq!(answer, format!("Ok(\"{}\")", client(5)));
    assert!(home.asked().is_empty());
    let gateways = Answer::Gateways(vec![gateway(1), gateway(2)]);
    let (query, answer) = asked(&deployment, "gateways", gateways).await;
    assert_eq!(query, Query::Gateways);
    assert_eq!(answer, "Ok([\"127.0.0.1:1\", \"127.0.0.1:2\"])");
}

#[tokio::test]
async fn bad_arguments_are_refused_without_asking() {
    let deployment = deploy(settings("bad-questions")).await;
    let home = Home::new();
    let many = vec!["x"; 1001].join(",");
    let cursor = Cursor::Name("n".into()).encode();
    for (line, word) in [
        ("is-online zz", "zz"),
        ("info 7f00", "7f00"),
        ("clients everyone - 0", "a limit is 1 to 1000"),
        ("uids everyone - 1001", "a limit is 1 to 1000"),
        ("groups what 1", "is not a cursor"),
        (&format!("clients everyone {cursor} 1"), "is not a cursor"),
        ("clients groups=a,,b - 1", "a group has 1 to 255 bytes"),
        (&format!("are-uids-online {many}"), "this one has 1001"),
        (&format!("client-count uids={many}"), "this one has 1001"),
        (&format!("cas {} k - {{", client(1)), "not JSON"),
        (&format!("cas {}  - 1", client(1)), "a session key has"),
        ("command nowhere c x 10", "nowhere"),
        ("client-at 1.2.3.4 1", "1.2.3.4"),
    ] {
        let answer = ask(&home, &deployment, line).await;
        has(&answer, &["InvalidArgument", word]);
    }
    assert!(home.asked().is_empty());
}

#[tokio::test]
async fn what_an_event_has_changed_travels_with_its_question() {
    let deployment = deploy(settings("own-effects")).await;
    let home = Home::new();
    home.tell(Answer::Count(1));
    let script =
        "echo hi\njoin room\nset k 1\nbind ann\nclose\ngroup room all\nask client-count everyone";
    home.run(&deployment, client(1), script).await;
    let asking = home.asked().remove(0);
    let change = SessionChange::Set {
        key: "k".into(),
        value: "1".to_owned(),
    };
    let expected = vec![
        Effect::JoinGroup {
            client: client(1),
            group: "room".into(),
        },
        Effect::Session {
            client: client(1),
            change,
        },
        Effect::BindUid {
            client: client(1),
            uid: "ann".into(),
        },
        Effect::Close {
            client: client(1),
            farewell: None,
            frame: None,
        },
    ];
    assert_eq!(asking.effects, expected);
    assert_eq!((asking.event.sequence, asking.attempt), (0, 0));
}

#[tokio::test]
async fn each_refusal_has_its_error() {
    let deployment = deploy(settings("refused-questions")).await;
    for (told, words) in [
        (AskError::Gone, ["Error::Other", "taken over"]),
        (AskError::Timeout, ["Error::Timeout", ""]),
        (
            AskError::Invalid("odd".to_owned()),
            ["InvalidArgument", "odd"],
        ),
        (
            AskError::Overloaded("full".to_owned()),
            ["QuotaExceeded", "full"],
        ),
    ] {
        let (_, answer) = asked(&deployment, "gateways", Told::Refuse(told)).await;
        has(&answer, &words);
    }
    let (_, answer) = asked(&deployment, "gateways", Answer::Count(1)).await;
    has(&answer, &["Error::Other", "a count"]);
}

#[tokio::test]
async fn an_unanswered_question_times_out_and_the_handler_goes_on() {
    let mut settings = settings("unanswered");
    settings.limits.query_ms = 50;
    let deployment = deploy(settings).await;
    let home = Home::new();
    home.tell(Told::Nothing);
    let commit = home
        .run(&deployment, client(1), "ask gateways\necho on\ncount")
        .await;
    assert_eq!(said(&commit), ["Err(Error::Timeout)", "on", "0"]);
    assert!(home.asked()[0].within <= Duration::from_millis(50));
    let commit = home.run(&deployment, client(1), "count").await;
    assert_eq!(said(&commit), ["1"], "the same instance");
}

#[tokio::test]
async fn a_question_never_waits_into_the_end_of_its_event() {
    let mut settings = settings("impatient");
    settings.limits.wall_ms = 1_000;
    settings.limits.query_ms = 60_000;
    let deployment = deploy(settings).await;
    let home = Home::new();
    home.tell(Told::Nothing);
    let start = Instant::now();
    let commit = home
        .run(
            &deployment,
            client(1),
            "ask gateways\nask gateways\necho on",
        )
        .await;
    let timeout = "Err(Error::Timeout)";
    assert_eq!(said(&commit), [timeout, timeout, "on"]);
    assert!(start.elapsed() < Duration::from_secs(10));
    let asked = home.asked();
    assert_eq!(asked.len(), 1, "for the second there is no time");
    assert!(asked[0].within <= Duration::from_millis(900));
}

#[tokio::test]
async fn waiting_costs_no_cpu() {
    let mut settings = settings("waiting-questions");
    settings.limits.cpu_ms = 20;
    settings.limits.wall_ms = 30_000;
    let deployment = deploy(settings).await;
    let home = Home::new();
    for _ in 0..50 {
        home.tell(Told::Late(Duration::from_millis(12)));
    }
    let commit = home.run(&deployment, client(1), "ask often 50").await;
    assert_eq!(said(&commit), ["50"]);
    let commit = home.run(&deployment, client(1), "burn 2000").await;
    assert_eq!(commit.outcome, Outcome::DeadLettered, "work still does");
    assert!(!logged(&["waiting-questions", "CPU limit of 20 ms"]).is_empty());
}

#[tokio::test]
async fn questions_are_limited_per_event() {
    let mut settings = settings("curious");
    settings.limits.queries_max = 3;
    let deployment = deploy(settings).await;
    let home = Home::new();
    for _ in 0..4 {
        home.tell(Answer::Gateways(Vec::new()));
    }
    let script = "ask often 10\nask gateways";
    let answers = said(&home.run(&deployment, client(1), script).await);
    assert_eq!(answers[0], "3");
    has(&answers[1], &["QuotaExceeded", "3 questions"]);
    let answers = said(&home.run(&deployment, client(1), "ask gateways").await);
    assert_eq!(answers, ["Ok([])"], "the next event has its own");
}
