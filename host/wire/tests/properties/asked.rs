//! Any question, answer, watch and happening.

use std::net::SocketAddrV4;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_wire::effect::Reply;
use tidegate_wire::event::{CloseReason, EventKind, Peer};
use tidegate_wire::feed::{Change, ChangeKind, Filter, Happening};
use tidegate_wire::frame::{Frame, GatewayFrame, PeerFrame, WorkerFrame};
use tidegate_wire::handshake::{Accepted, Rejected};
use tidegate_wire::http::{Fields, HttpAnswer};
use tidegate_wire::query::{
    Answer, Answered, Ask, AskError, ClientFields, ClientInfo, CommandError, GroupInfo, Once,
    Query, Question, RequestError, Selector, SwapRefusal, TaskInfo, TimerInfo,
};
use tidegate_wire::schedule::{KnownSchedule, ScheduleSaid, Tick, TickVerdict};

use super::{client, clients, connect, effects, entries, event, name, names, payload, timer};

pub(crate) fn gateways() -> impl Strategy<Value = Vec<SocketAddrV4>> {
    vec(any::<SocketAddrV4>(), 0..4)
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        payload().prop_map(Reply::Ok),
        "\\PC{0,20}".prop_map(Reply::Failed),
        Just(Reply::Unhandled),
        (
            entries(),
            option::of(name()),
            names(),
            option::of(name()),
            headers()
        )
            .prop_map(|(session, uid, groups, subprotocol, headers)| {
                Reply::Accepted(Box::new(Accepted {
                    session,
                    uid,
                    groups,
                    subprotocol,
                    headers,
                }))
            }),
        (any::<u16>(), headers(), payload()).prop_map(|(status, headers, body)| {
            Reply::Rejected(Box::new(Rejected {
                status,
                headers,
                body,
            }))
        }),
        (any::<u16>(), head_lines(), payload()).prop_map(|(status, headers, body)| {
            Reply::Http(Box::new(HttpAnswer {
                status,
                headers,
                body,
            }))
        }),
    ]
}

/// Lines of a head by HTTP.
pub(crate) fn head_lines() -> impl Strategy<Value = Fields> {
    vec(("\\PC{0,9}", vec(any::<u8>(), 0..9)), 0..3)
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("\\PC{0,9}", "\\PC{0,9}"), 0..3)
}

fn selectors() -> impl Strategy<Value = Vec<Selector>> {
    let selector = prop_oneof![
        Just(Selector::Everyone),
        clients().prop_map(Selector::Clients),
        names().prop_map(Selector::Uids),
        names().prop_map(Selector::Groups),
        names().prop_map(Selector::AllOfGroups),
    ];
    vec(selector, 0..4)
}

fn fields() -> impl Strategy<Value = ClientFields> {
    any::<[bool; 6]>().prop_map(
        |[peer, uid, groups, session, times, traffic]| ClientFields {
            peer,
            uid,
            groups,
            session,
            times,
            traffic,
        },
    )
}

fn lists() -> impl Strategy<Value = Query> {
    let limit = any::<u32>;
    let after = || option::of(name());
    prop_oneof![
        (selectors(), fields(), option::of(client()), limit()).prop_map(
            |(of, fields, after, limit)| Query::Clients {
                of,
                fields,
                after,
                limit
            }
        ),
        (selectors(), after(), limit()).prop_map(|(of, after, limit)| Query::Uids {
            of,
            after,
            limit
        }),
        (after(), limit()).prop_map(|(after, limit)| Query::Groups { after, limit }),
        (after(), limit()).prop_map(|(after, limit)| Query::GroupInfos { after, limit }),
        (option::of((name(), client())), limit())
            .prop_map(|(after, limit)| Query::GroupClients { after, limit }),
        (option::of((name(), name())), limit())
            .prop_map(|(after, limit)| Query::GroupUids { after, limit }),
        (option::of(client()), option::of(timer()), any::<u32>()).prop_map(|(of, after, limit)| {
            Query::Timers {
                of,
                after: after.map(Box::new),
                limit,
            }
        }),
        (option::of(timer()), any::<u32>()).prop_map(|(after, limit)| Query::Tasks {
            after: after.map(Box::new),
            limit,
        }),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let text = || option::of("\\PC{0,20}");
    prop_oneof![
        lists(),
        selectors().prop_map(|of| Query::ClientCount { of }),
        names().prop_map(Query::UidCounts),
        names().prop_map(Query::GroupCounts),
        selectors().prop_map(|of| Query::UidCount { of }),
        Just(Query::UidEstimate),
        Just(Query::Gateways),
        (client(), name(), text(), text(), any::<u32>()).prop_map(
            |(client, key, expected, new, nth)| {
                Query::CompareAndSet {
                    client,
                    key,
                    expected,
                    new,
                    nth,
                }
            }
        ),
        (option::of(gateways()), name(), payload()).prop_map(|(gateways, name, payload)| {
            Query::Command {
                gateways,
                name,
                payload,
            }
        }),
        (any::<([u8; 32], [u8; 32])>(), effects()).prop_map(|((key, request), effects)| {
            Query::Once {
                key,
                request,
                effects,
            }
        }),
        (any::<([u8; 32], [u8; 32])>(), name(), payload()).prop_map(
            |((key, request), name, payload)| Query::Request {
                key,
                request,
                name,
                payload,
            }
        ),
    ]
}

fn peer() -> impl Strategy<Value = Option<Box<Peer>>> {
    connect().prop_map(|kind| match kind {
        EventKind::Connect { arrival, .. } => Some(Box::new(arrival.peer.clone())),
        EventKind::Message(_)
        | EventKind::Close(_)
        | EventKind::Request { .. }
        | EventKind::Timer { .. }
        | EventKind::BufferFull { .. }
        | EventKind::BufferDrain
        | EventKind::Handshake { .. }
        | EventKind::Http { .. }
        | EventKind::Task { .. }
        | EventKind::TaskFinished { .. } => None,
    })
}

fn timer_info() -> impl Strategy<Value = TimerInfo> {
    (timer(), any::<u64>(), option::of(any::<u64>()), payload()).prop_map(
        |(timer, due_in_ms, period_ms, payload)| TimerInfo {
            timer,
            due_in_ms,
            period_ms,
            payload,
        },
    )
}

fn info() -> impl Strategy<Value = ClientInfo> {
    let number = || option::of(any::<u64>());
    (
        client(),
        peer(),
        option::of(name()),
        names(),
        entries(),
        (number(), number(), number(), number()),
    )
        .prop_map(|(client, peer, uid, groups, session, numbers)| ClientInfo {
            client,
            peer,
            uid,
            groups,
            session,
            connected_at_ms: numbers.0,
            last_message_at_ms: numbers.1,
            bytes_in: numbers.2,
            bytes_out: numbers.3,
        })
}

fn group() -> impl Strategy<Value = GroupInfo> {
    (name(), any::<(u64, u64, bool)>()).prop_map(|(group, (clients, uids, uids_may_repeat))| {
        GroupInfo {
            group,
            clients,
            uids,
            uids_may_repeat,
        }
    })
}

fn outcome() -> impl Strategy<Value = Result<tidegate_wire::payload::Payload, CommandError>> {
    prop_oneof![
        payload().prop_map(Ok),
        Just(Err(CommandError::Absent)),
        "\\PC{0,9}".prop_map(|text| Err(CommandError::Failed(text))),
        "\\PC{0,9}".prop_map(|text| Err(CommandError::Broken(text))),
        Just(Err(CommandError::Overloaded)),
        Just(Err(CommandError::Timeout)),
    ]
}

fn task_info() -> impl Strategy<Value = TaskInfo> {
    (timer(), any::<(bool, u8, u32, u64)>()).prop_map(
        |(task, (under_way, attempt, steps, age_ms))| TaskInfo {
            task,
            under_way,
            attempt,
            steps,
            age_ms,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let more = any::<bool>;
    prop_oneof![
        (vec(info(), 0..3), more()).prop_map(|(page, more)| Answer::Clients { page, more }),
        (names(), more()).prop_map(|(page, more)| Answer::Names { page, more }),
        (vec(group(), 0..3), more()).prop_map(|(page, more)| Answer::Groups { page, more }),
        (vec((name(), client()), 0..3), more())
            .prop_map(|(page, more)| Answer::GroupClients { page, more }),
        (vec((name(), name()), 0..3), more())
            .prop_map(|(page, more)| Answer::GroupUids { page, more }),
        (vec(timer_info(), 0..3), any::<bool>())
            .prop_map(|(page, more)| Answer::Timers { page, more }),
        (any::<(u64, u64, u64, bool)>(), vec(task_info(), 0..3)).prop_map(
            |((waiting, under_way, oldest_ms, more), page)| Answer::Tasks {
                waiting,
                under_way,
                oldest_ms,
                page,
                more,
            }
        ),
        any::<u64>().prop_map(Answer::Count),
        vec(any::<u64>(), 0..4).prop_map(Answer::Counts),
        vec(any::<u8>(), 0..40).prop_map(Answer::Sketch),
        gateways().prop_map(Answer::Gateways),
        prop_oneof![
            Just(Ok(())),
            Just(Err(SwapRefusal::Offline)),
            Just(Err(SwapRefusal::Conflict)),
            Just(Err(SwapRefusal::TooLarge)),
        ]
        .prop_map(Answer::Swapped),
        vec((any::<SocketAddrV4>(), outcome()), 0..3).prop_map(Answer::Commands),
        prop_oneof![Just(Once::First), Just(Once::Again), Just(Once::Reused)]
            .prop_map(Answer::Applied),
        payload().prop_map(|payload| Answer::Replied(Ok(payload))),
        request_error().prop_map(|error| Answer::Replied(Err(error))),
    ]
}

fn request_error() -> impl Strategy<Value = RequestError> {
    prop_oneof![
        "\\PC{0,20}".prop_map(RequestError::Failed),
        "\\PC{0,20}".prop_map(RequestError::Overloaded),
        Just(RequestError::Unhandled),
        Just(RequestError::DeadLettered),
        Just(RequestError::Timeout),
        Just(RequestError::Ending),
        Just(RequestError::Reused),
        Just(RequestError::Forgotten),
    ]
}

fn error() -> impl Strategy<Value = AskError> {
    prop_oneof![
        Just(AskError::Gone),
        Just(AskError::Timeout),
        "\\PC{0,20}".prop_map(AskError::Invalid),
        "\\PC{0,20}".prop_map(AskError::Overloaded),
    ]
}

fn asked() -> impl Strategy<Value = Frame> {
    let question = (
        any::<(u64, u8, u32)>(),
        event(),
        client(),
        effects(),
        query(),
    )
        .prop_map(
            |((number, attempt, within_ms), event, client, effects, query)| Question {
                number,
                event,
                attempt,
                client,
                effects,
                query,
                within_ms,
            },
        );
    let ask = (any::<(u16, u64, u32)>(), name(), effects(), query()).prop_map(
        |((shard, number, within_ms), tenant, effects, query)| Ask {
            shard,
            number,
            tenant,
            effects,
            query,
            within_ms,
        },
    );
    prop_oneof![
        question.prop_map(|question| Frame::from(WorkerFrame::Question(Box::new(question)))),
        ask.prop_map(|ask| Frame::from(PeerFrame::Ask(Box::new(ask)))),
    ]
}

fn answered() -> impl Strategy<Value = Frame> {
    let found = (answer(), gateways()).prop_map(|(answer, missing)| Answered { answer, missing });
    prop_oneof![
        (any::<u64>(), found).prop_map(|(number, found)| Frame::from(GatewayFrame::Answered {
            number,
            answer: Box::new(Ok(found)),
        })),
        (any::<u64>(), error()).prop_map(|(number, error)| Frame::from(GatewayFrame::Answered {
            number,
            answer: Box::new(Err(error)),
        })),
        (any::<(u16, u64)>(), answer()).prop_map(|((shard, number), answer)| Frame::from(
            PeerFrame::Answer {
                shard,
                number,
                answer: Box::new(Ok(answer)),
            }
        )),
        (any::<(u16, u64)>(), error()).prop_map(|((shard, number), error)| Frame::from(
            PeerFrame::Answer {
                shard,
                number,
                answer: Box::new(Err(error)),
            }
        )),
    ]
}

fn watches() -> impl Strategy<Value = Frame> {
    let kind = prop_oneof![
        Just(ChangeKind::Connected),
        Just(ChangeKind::Closed),
        Just(ChangeKind::Joined),
        Just(ChangeKind::Left),
        Just(ChangeKind::Bound),
        Just(ChangeKind::Unbound),
    ];
    let filter = (vec(kind, 0..6), names(), names()).prop_map(|(kinds, groups, uids)| Filter {
        kinds,
        groups,
        uids,
    });
    let change = prop_oneof![
        peer().prop_filter_map("a connect has a peer", |peer| peer.map(Change::Connected)),
        names().prop_map(|groups| Change::Closed(CloseReason::Idle, groups)),
        name().prop_map(Change::Joined),
        name().prop_map(Change::Left),
        name().prop_map(Change::Bound),
        name().prop_map(Change::Unbound),
    ];
    let happening = (any::<u64>(), client(), option::of(name()), change).prop_map(
        |(at_ms, client, uid, what)| Happening {
            at_ms,
            client,
            uid,
            what,
        },
    );
    prop_oneof![
        (any::<u64>(), name(), filter).prop_map(|(watch, tenant, filter)| Frame::from(
            PeerFrame::Watch {
                watch,
                tenant,
                filter: Box::new(filter),
            }
        )),
        any::<u64>().prop_map(|watch| Frame::from(PeerFrame::Unwatch { watch })),
        schedules(),
        (any::<(u64, u64)>(), vec(happening, 0..4)).prop_map(|((watch, missed), happenings)| {
            Frame::from(PeerFrame::Happened {
                watch,
                happenings,
                missed,
            })
        }),
    ]
}

fn schedules() -> impl Strategy<Value = Frame> {
    let tick = (name(), name(), any::<i64>()).prop_map(|(tenant, schedule, at_s)| Tick {
        tenant,
        schedule,
        at_s,
    });
    let tick = tick.boxed();
    let times = (
        option::of(any::<i64>()),
        any::<i64>(),
        option::of(any::<i64>()),
        option::of(any::<i64>()),
    );
    let known =
        (tick.clone(), times).prop_map(|(tick, (over_s, since_s, last_s, open_s))| KnownSchedule {
            tenant: tick.tenant,
            schedule: tick.schedule,
            over_s,
            since_s,
            last_s,
            open_s,
        });
    let verdict = prop_oneof![
        Just(TickVerdict::Granted),
        Just(TickVerdict::Refused),
        Just(TickVerdict::Early)
    ];
    let said = prop_oneof![
        vec(known, 0..3).prop_map(ScheduleSaid::Known),
        tick.clone().prop_map(ScheduleSaid::Claim),
        (tick.clone(), verdict).prop_map(|(tick, verdict)| ScheduleSaid::Verdict(tick, verdict)),
        tick.clone().prop_map(ScheduleSaid::Over),
        tick.prop_map(ScheduleSaid::Withdrawn),
    ];
    said.prop_map(|said| PeerFrame::Schedule(Box::new(said)).into())
}

/// Any of them.
pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![asked(), answered(), watches()]
}
