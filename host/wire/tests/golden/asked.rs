//! Frames of questions, requests and the feed, and every variant inside.

use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Outcome, Reply};
use tidegate_wire::event::{CloseReason, EventKind, Peer, Transport};
use tidegate_wire::feed::{Change, ChangeKind, Filter, Happening};
use tidegate_wire::frame::{Frame, GatewayFrame, PeerFrame, WorkerFrame};
use tidegate_wire::handshake::{Accepted, Rejected};
use tidegate_wire::http::HttpAnswer;
use tidegate_wire::payload::Payload;
use tidegate_wire::query::{
    Answer, Answered, Ask, AskError, ClientFields, ClientInfo, CommandError, GroupInfo, Once,
    Query, Question, RequestError, Selector, SwapRefusal, TaskInfo, TimerInfo,
};
use tidegate_wire::schedule::{KnownSchedule, ScheduleSaid, Tick, TickVerdict};

use super::{CLIENT, EVENT, delivery, entries, timer};

fn address() -> std::net::SocketAddrV4 {
    "10.0.0.7:2000".parse().unwrap()
}

fn payload() -> Payload {
    Payload::from(vec![1, 2, 3])
}

fn name() -> Name {
    "n".into()
}

fn peer() -> Box<Peer> {
    Box::new(Peer {
        address: "10.0.0.1:80".parse().unwrap(),
        transport: Transport::WebSocket,
        listener: "l".into(),
        secure: true,
    })
}

fn ask(query: Query, effects: Vec<Effect>) -> Frame {
    PeerFrame::Ask(Box::new(Ask {
        shard: 1,
        number: 300,
        tenant: "t".into(),
        effects,
        query,
        within_ms: 5000,
    }))
    .into()
}

fn answer(answer: Result<Answer, AskError>) -> Frame {
    PeerFrame::Answer {
        shard: 1,
        number: 300,
        answer: Box::new(answer),
    }
    .into()
}

fn selectors() -> Vec<Selector> {
    vec![
        Selector::Everyone,
        Selector::Clients(vec![CLIENT]),
        Selector::Uids(vec!["u".into()]),
        Selector::Groups(vec!["g".into()]),
        Selector::AllOfGroups(vec!["g".into(), "h".into()]),
    ]
}

fn queries() -> Vec<Query> {
    let fields = ClientFields {
        peer: true,
        session: true,
        ..ClientFields::default()
    };
    let command = |gateways| Query::Command {
        gateways,
        name: name(),
        payload: payload(),
    };
    vec![
        Query::Clients {
            of: selectors(),
            fields,
            after: Some(CLIENT),
            limit: 100,
        },
        Query::ClientCount { of: selectors() },
        Query::UidCounts(vec!["u".into()]),
        Query::GroupCounts(vec!["g".into()]),
        Query::Uids {
            of: vec![],
            after: Some("u".into()),
            limit: 100,
        },
        Query::UidCount { of: vec![] },
        Query::UidEstimate,
        Query::Groups {
            after: None,
            limit: 100,
        },
        Query::GroupInfos {
            after: Some("g".into()),
            limit: 100,
        },
        Query::GroupClients {
            after: Some(("g".into(), CLIENT)),
            limit: 100,
        },
        Query::GroupUids {
            after: Some(("g".into(), "u".into())),
            limit: 100,
        },
        Query::Gateways,
        Query::CompareAndSet {
            client: CLIENT,
            key: "k".into(),
            expected: Some("1".into()),
            new: None,
            nth: 2,
        },
        command(None),
        command(Some(vec![address()])),
        Query::Once {
            key: [1; 32],
            request: [2; 32],
            effects: vec![Effect::Ungroup { group: "g".into() }],
        },
        Query::Request {
            key: [1; 32],
            request: [2; 32],
            name: name(),
            payload: payload(),
        },
        Query::Timers {
            of: Some(CLIENT),
            after: Some(timer(None)),
            limit: 100,
        },
        Query::Tasks {
            after: Some(timer(None)),
            limit: 100,
        },
    ]
}

fn info() -> ClientInfo {
    ClientInfo {
        client: CLIENT,
        peer: Some(peer()),
        uid: Some("u".into()),
        groups: vec!["g".into()],
        session: entries(),
        connected_at_ms: Some(1),
        last_message_at_ms: Some(2),
        bytes_in: Some(300),
        bytes_out: Some(400),
    }
}

fn pages() -> Vec<Answer> {
    let group = GroupInfo {
        group: "g".into(),
        clients: 3,
        uids: 2,
        uids_may_repeat: true,
    };
    vec![
        Answer::Clients {
            page: vec![info(), ClientInfo::new(CLIENT)],
            more: true,
        },
        Answer::Names {
            page: vec!["a".into(), "b".into()],
            more: false,
        },
        Answer::Groups {
            page: vec![group],
            more: true,
        },
        Answer::GroupClients {
            page: vec![("g".into(), CLIENT)],
            more: true,
        },
        Answer::GroupUids {
            page: vec![("g".into(), "u".into())],
            more: false,
        },
    ]
}

fn answers() -> Vec<Answer> {
    let mut answers = pages();
    answers.extend([
        Answer::Count(300),
        Answer::Counts(vec![1, 300]),
        Answer::Sketch(vec![0, 1]),
        Answer::Gateways(vec![address()]),
        Answer::Swapped(Ok(())),
        Answer::Swapped(Err(SwapRefusal::Offline)),
        Answer::Swapped(Err(SwapRefusal::Conflict)),
        Answer::Swapped(Err(SwapRefusal::TooLarge)),
        Answer::Commands(vec![
            (address(), Ok(payload())),
            (address(), Err(CommandError::Absent)),
            (address(), Err(CommandError::Failed("f".into()))),
            (address(), Err(CommandError::Broken("b".into()))),
            (address(), Err(CommandError::Overloaded)),
            (address(), Err(CommandError::Timeout)),
        ]),
        Answer::Applied(Once::First),
        Answer::Applied(Once::Again),
        Answer::Applied(Once::Reused),
        Answer::Replied(Ok(payload())),
    ]);
    answers.extend(
        request_errors()
            .into_iter()
            .map(|it| Answer::Replied(Err(it))),
    );
    answers.push(Answer::Timers {
        page: vec![TimerInfo {
            timer: *timer(Some(CLIENT)),
            due_in_ms: 300,
            period_ms: Some(500),
            payload: payload(),
        }],
        more: true,
    });
    answers.push(Answer::Tasks {
        waiting: 300,
        under_way: 1,
        oldest_ms: 500,
        page: vec![TaskInfo {
            task: *timer(Some(CLIENT)),
            under_way: true,
            attempt: 2,
            steps: 300,
            age_ms: 500,
        }],
        more: true,
    });
    answers
}

fn request_errors() -> Vec<RequestError> {
    vec![
        RequestError::Failed("no".into()),
        RequestError::Unhandled,
        RequestError::DeadLettered,
        RequestError::Timeout,
        RequestError::Overloaded("full".into()),
        RequestError::Ending,
        RequestError::Reused,
        RequestError::Forgotten,
    ]
}

fn errors() -> Vec<AskError> {
    vec![
        AskError::Gone,
        AskError::Timeout,
        AskError::Invalid("i".into()),
        AskError::Overloaded("o".into()),
    ]
}

fn happenings() -> Vec<Happening> {
    let changes = vec![
        Change::Connected(peer()),
        Change::Closed(CloseReason::Slow, vec!["g".into()]),
        Change::Joined("g".into()),
        Change::Left("g".into()),
        Change::Bound("u".into()),
        Change::Unbound("u".into()),
    ];
    let happening = |what| Happening {
        at_ms: 300,
        client: CLIENT,
        uid: Some("u".into()),
        what,
    };
    changes.into_iter().map(happening).collect()
}

fn replies() -> Vec<Reply> {
    vec![
        Reply::Ok(payload()),
        Reply::Failed("f".into()),
        Reply::Unhandled,
        Reply::Accepted(Box::new(Accepted {
            session: entries(),
            uid: Some("u".into()),
            groups: vec!["g".into()],
            subprotocol: Some("s".into()),
            headers: vec![("x".into(), "y".into())],
        })),
        Reply::Rejected(Box::new(Rejected {
            status: 401,
            headers: vec![("x".into(), "y".into())],
            body: payload(),
        })),
        Reply::Http(Box::new(HttpAnswer {
            status: 201,
            headers: vec![("x".into(), vec![0xff])],
            body: payload(),
        })),
    ]
}

/// Each with the name of its line.
pub(crate) fn frames() -> Vec<(String, Frame)> {
    let mut out = Vec::new();
    let mut add = |name: String, frame| out.push((name, frame));
    let request = EventKind::Request {
        name: name(),
        payload: payload(),
    };
    add("deliver-request".into(), delivery(request, None));
    for (at, reply) in replies().into_iter().enumerate() {
        let commit = Commit {
            event: EVENT,
            attempt: 1,
            client: CLIENT,
            outcome: Outcome::Done,
            effects: vec![],
            reply: Some(Box::new(reply)),
        };
        add(format!("reply {at}"), WorkerFrame::Commit(commit).into());
    }
    for (at, query) in queries().into_iter().enumerate() {
        add(format!("query {at:02}"), ask(query, vec![]));
    }
    for (at, found) in answers().into_iter().enumerate() {
        add(format!("answer {at:02}"), answer(Ok(found)));
    }
    for (at, error) in errors().into_iter().enumerate() {
        add(format!("ask-error {at}"), answer(Err(error)));
    }
    let question = Question {
        number: 300,
        event: EVENT,
        attempt: 1,
        client: CLIENT,
        effects: vec![Effect::UnbindUid { client: CLIENT }],
        query: Query::UidEstimate,
        within_ms: 5000,
    };
    add(
        "question".into(),
        WorkerFrame::Question(Box::new(question)).into(),
    );
    let answered = Answered {
        answer: Answer::Count(7),
        missing: vec![address()],
    };
    for (at, answer) in [Ok(answered), Err(AskError::Gone)].into_iter().enumerate() {
        let (number, answer) = (300, Box::new(answer));
        add(
            format!("answered {at}"),
            GatewayFrame::Answered { number, answer }.into(),
        );
    }
    for (name, frame) in watches() {
        add(name.into(), frame);
    }
    out
}

fn watches() -> Vec<(&'static str, Frame)> {
    let filter = Filter {
        kinds: vec![
            ChangeKind::Connected,
            ChangeKind::Closed,
            ChangeKind::Joined,
            ChangeKind::Left,
            ChangeKind::Bound,
            ChangeKind::Unbound,
        ],
        groups: vec!["g".into()],
        uids: vec!["u".into()],
    };
    let watch = PeerFrame::Watch {
        watch: 300,
        tenant: "t".into(),
        filter: Box::new(filter),
    }
    .into();
    let happened = PeerFrame::Happened {
        watch: 300,
        happenings: happenings(),
        missed: 9,
    }
    .into();
    let tick = Tick {
        tenant: "t".into(),
        schedule: "s".into(),
        at_s: 300,
    };
    let known = KnownSchedule {
        tenant: "t".into(),
        schedule: "s".into(),
        over_s: Some(240),
        since_s: -1,
        last_s: None,
        open_s: Some(300),
    };
    let said = |said| Frame::from(PeerFrame::Schedule(Box::new(said)));
    vec![
        ("schedules known", said(ScheduleSaid::Known(vec![known]))),
        ("tick claimed", said(ScheduleSaid::Claim(tick.clone()))),
        (
            "tick granted",
            said(ScheduleSaid::Verdict(tick.clone(), TickVerdict::Granted)),
        ),
        (
            "tick refused",
            said(ScheduleSaid::Verdict(tick.clone(), TickVerdict::Refused)),
        ),
        (
            "tick early",
            said(ScheduleSaid::Verdict(tick.clone(), TickVerdict::Early)),
        ),
        ("tick over", said(ScheduleSaid::Over(tick.clone()))),
        ("tick withdrawn", said(ScheduleSaid::Withdrawn(tick))),
        ("watch", watch),
        ("unwatch", PeerFrame::Unwatch { watch: 300 }.into()),
        ("happened", happened),
    ]
}
