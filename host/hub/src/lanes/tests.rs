//! Lanes under any order of sends, commits, losses and returns.

use proptest::prelude::*;
use tidegate_wire::event::{CloseReason, Closed, Message};

use super::*;

fn message(n: u64) -> EventKind {
    EventKind::Message(Message::Binary(n.to_le_bytes().to_vec().into()))
}

fn close() -> EventKind {
    let reason = CloseReason::Client;
    EventKind::Close(Box::new(Closed {
        reason,
        frame: None,
        uid: None,
        groups: vec![],
    }))
}

fn lanes() -> Lanes {
    let mut lanes = Lanes::default();
    lanes.open(1, 0, None);
    lanes
}

#[test]
fn only_the_current_attempt_commits() {
    let mut lanes = lanes();
    lanes.push(1, message(0));
    let first = lanes.send(1, 7).unwrap();
    lanes.counted(1, 100);
    assert_eq!(lanes.take_back(1, 7, true), Some((1, 100)));
    assert_eq!(
        lanes.commit(1, 7, first.sequence, first.attempt),
        Err(Stale)
    );
    let second = lanes.send(1, 8).unwrap();
    assert_eq!(
        (second.sequence, second.attempt, second.losses),
        (first.sequence, 1, 1)
    );
    assert!(second.with_session && second.with_custody);
    assert_eq!(
        lanes.commit(1, 7, first.sequence, first.attempt),
        Err(Stale)
    );
    assert!(lanes.commit(1, 8, second.sequence, second.attempt).is_ok());
    assert_eq!(
        lanes.commit(1, 8, second.sequence, second.attempt),
        Err(Stale)
    );
    assert_eq!((lanes.events(), lanes.bytes()), (0, 0));
}

#[test]
fn a_worker_that_is_to_be_told_more_gets_no_event_before_it_is_idle() {
    let mut lanes = lanes();
    (0..3).for_each(|n| lanes.push(1, message(n)));
    let sent = lanes.send(1, 7).unwrap();
    assert!(lanes.next(1, |_| true).is_some() && lanes.is_at_work(1, 7) && !lanes.is_at_work(1, 8));
    lanes.postpone(1, 7);
    assert!(lanes.next(1, |_| true).is_none());
    assert_eq!(lanes.may_resume(1), None);
    lanes.commit(1, 7, sent.sequence, sent.attempt).unwrap();
    assert_eq!((lanes.may_resume(1), lanes.may_resume(1)), (Some(7), None));
    lanes.send(1, 7).unwrap();
    assert!(lanes.next(1, |_| true).is_some());
}

#[test]
fn a_client_is_single_while_one_worker_alone_knows_it() {
    let mut lanes = lanes();
    assert_eq!(lanes.singles(), 0);
    lanes.name(1, Which::First, 7);
    lanes.told(1, 7);
    assert_eq!(lanes.confirm(1, 7), None);
    assert_eq!((lanes.singles(), lanes.doubts()), (1, 0));
    lanes.name(1, Which::Second, 8);
    assert_eq!((lanes.singles(), lanes.doubts()), (0, 1));
    lanes.take_back(1, 8, true);
    assert_eq!((lanes.singles(), lanes.doubts()), (1, 0));
    lanes.push(1, close());
    let sent = lanes.send(1, 7).unwrap();
    lanes.commit(1, 7, sent.sequence, sent.attempt).unwrap();
    lanes.remove(1);
    assert_eq!((lanes.singles(), lanes.doubts()), (0, 0));
}

#[test]
fn a_worker_that_was_told_all_amid_its_events_gets_the_session_again() {
    let mut lanes = lanes();
    (0..2).for_each(|n| lanes.push(1, message(n)));
    let sent = lanes.send(1, 7).unwrap();
    lanes.told_amid(1, 7);
    assert!(
        lanes.next(1, |_| true).is_none(),
        "what it was told lacks the event"
    );
    lanes.commit(1, 7, sent.sequence, sent.attempt).unwrap();
    assert_eq!(lanes.may_resume(1), Some(7));
    assert!(lanes.send(1, 7).unwrap().with_session);
}

#[test]
fn an_event_that_comes_back_before_those_ahead_of_it_waits_for_them() {
    let mut lanes = lanes();
    (0..3).for_each(|n| lanes.push(1, message(n)));
    let mut send = |counted| {
        let sent = lanes.send(1, 7).unwrap();
        lanes.counted(1, counted);
        sent
    };
    let sent = [send(100), send(20), send(3)];
    assert_eq!(lanes.returned(1, 7, sent[1].sequence, 0), Some((2, 23)));
    // What was sent behind it came back with it.
    assert_eq!(lanes.returned(1, 7, sent[2].sequence, 0), None);
    assert!(lanes.commit(1, 7, sent[2].sequence, 0).is_err());
    assert!(lanes.next(1, |_| true).is_none(), "the first runs");
    assert!(lanes.commit(1, 7, sent[0].sequence, 0).is_ok());
    assert!(lanes.next(1, |_| true).is_some());
    let again = lanes.send(1, 7).unwrap();
    assert_eq!((again.sequence, again.attempt), (sent[1].sequence, 1));
    assert!(again.with_session);
}

#[test]
fn the_close_waits_until_everything_before_it_is_committed() {
    let mut lanes = lanes();
    lanes.push(1, message(0));
    lanes.push(1, close());
    let first = lanes.send(1, 7).unwrap();
    assert!(lanes.next(1, |_| true).is_none());
    lanes.commit(1, 7, first.sequence, 0).unwrap();
    assert!(
        lanes.next(1, |_| true).is_some()
            && lanes.next(1, |_| true).is_some_and(|next| next.is_close)
    );
}

#[test]
fn without_binding_one_event_is_under_way_at_a_time() {
    let mut lanes = lanes();
    lanes.push(1, message(0));
    lanes.push(1, message(1));
    lanes.send(1, 7).unwrap();
    assert!(lanes.next(1, |_| false).is_none());
    assert!(lanes.next(1, |_| true).is_some());
}

#[test]
fn a_stale_mirror_holds_the_lane_until_it_is_idle() {
    let mut lanes = lanes();
    lanes.push(1, message(0));
    let first = lanes.send(1, 7).unwrap();
    lanes.push(1, message(1));
    lanes.session_changed(1);
    assert!(lanes.next(1, |_| true).is_none());
    lanes.commit(1, 7, first.sequence, 0).unwrap();
    assert!(lanes.next(1, |_| true).is_some());
    assert!(lanes.send(1, 7).unwrap().with_session);
}

#[test]
fn memory_of_a_burst_is_given_back_when_it_is_over() {
    const CLIENTS: u32 = 100_000;
    let mut lanes = Lanes::default();
    for connection in 0..CLIENTS {
        lanes.open(connection, 0, None);
    }
    (0..10_000).for_each(|n| lanes.push(7, message(n)));
    while let Some(sending) = lanes.send(7, 1) {
        lanes
            .commit(7, 1, sending.sequence, sending.attempt)
            .unwrap();
    }
    assert_eq!(lanes.lanes[&7].events.capacity(), 0);
    for connection in (0..CLIENTS).filter(|it| it % 50 != 7) {
        lanes.remove(connection);
    }
    let (left, places) = (lanes.len(), lanes.lanes.capacity());
    assert!(places <= 4 * left, "{places} places for {left} lanes");
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    Send(u32),
    Commit,
    CommitOld,
    Lose(u32),
    SessionChanged,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Push),
        4 => (0..3u32).prop_map(Step::Send),
        4 => Just(Step::Commit),
        1 => Just(Step::CommitOld),
        1 => (0..3u32).prop_map(Step::Lose),
        1 => Just(Step::SessionChanged),
    ]
}

proptest! {
    /// Whatever happens, the committed events are 1, 2, 3 … without a gap or a repetition.
    #[test]
    fn every_event_is_committed_once_and_in_order(
        steps in proptest::collection::vec(step(), 0..300), binds: bool
    ) {
        let mut lanes = lanes();
        let mut under_way: VecDeque<(u32, u64, u8)> = VecDeque::new();
        let mut old: Vec<(u32, u64, u8)> = Vec::new();
        let (mut pushed, mut committed) = (0u64, 0u64);
        for step in steps {
            match step {
                Step::Push => { pushed += 1; lanes.push(1, message(pushed)); }
                Step::Send(choice) if lanes.next(1, |_| binds).is_some() => {
                    let bound = lanes.worker(1).filter(|_| binds || !under_way.is_empty());
                    let worker = bound.unwrap_or(choice);
                    let sending = lanes.send(1, worker).unwrap();
                    under_way.push_back((worker, sending.sequence, sending.attempt));
                }
                Step::Send(_) => {}
                Step::Commit => if let Some((worker, sequence, attempt)) = under_way.pop_front() {
                    prop_assert!(lanes.commit(1, worker, sequence, attempt).is_ok());
                    committed += 1;
                    prop_assert_eq!(sequence, committed);
                    old.push((worker, sequence, attempt));
                },
                Step::CommitOld => for (worker, sequence, attempt) in &old {
                    prop_assert_eq!(lanes.commit(1, *worker, *sequence, *attempt), Err(Stale));
                },
                Step::Lose(worker) => {
                    let back = lanes.take_back(1, worker, true).unwrap().0;
                    if lanes.worker(1).is_none() {
                        prop_assert_eq!(back, under_way.len());
                        old.extend(under_way.drain(..));
                    }
                }
                Step::SessionChanged => lanes.session_changed(1),
            }
            prop_assert_eq!(lanes.events() as u64, pushed - committed);
        }
    }
}
