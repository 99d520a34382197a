//! The decision, event by event, and under whatever order of events.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_wire::id::Incarnation;

use super::{Act, Cause, Event, Plan};

const A: Incarnation = Incarnation(1);
const B: Incarnation = Incarnation(2);

fn two() -> Plan {
    let (plan, acts) = Plan::prepare([A, B]);
    assert_eq!(acts, [Act::Prepare(A), Act::Prepare(B)]);
    plan
}

#[test]
fn all_prepare_then_it_is_written_then_all_switch() {
    let mut plan = two();
    assert!(plan.on(Event::Prepared(A)).is_empty());
    assert_eq!(plan.on(Event::Prepared(B)), [Act::Write]);
    assert!(plan.on(Event::Written).is_empty());
    assert!(!plan.is_undecided());
    assert!(plan.on(Event::Switched(B)).is_empty());
    assert_eq!(plan.awaited(), [A]);
    assert_eq!(plan.on(Event::Switched(A)), [Act::Done(2)]);
}

#[test]
fn what_was_written_before_is_not_written_again_and_only_switches() {
    let (mut plan, acts) = Plan::decided([A, B]);
    assert!(acts.is_empty() && !plan.is_undecided());
    assert!(plan.on(Event::Switched(B)).is_empty());
    assert_eq!(plan.on(Event::Expired), [Act::Done(1)]);
    let (_, acts) = Plan::decided([]);
    assert_eq!(acts, [Act::Done(0)]);
}

#[test]
fn one_refusal_discards_everywhere_else() {
    let mut plan = two();
    plan.on(Event::Prepared(A));
    let refused = plan.on(Event::Refused(B, "no".to_owned()));
    let cause = Cause::Refused(B, "no".to_owned());
    assert_eq!(refused, [Act::Discard(A), Act::Fail(cause)]);
    assert!(plan.on(Event::Prepared(B)).is_empty());
}

#[test]
fn what_was_prepared_and_let_go_counts_as_refused() {
    let mut plan = two();
    plan.on(Event::Prepared(A));
    let refused = plan.on(Event::Refused(A, "displaced".to_owned()));
    assert_eq!(refused.first(), Some(&Act::Discard(B)));
}

#[test]
fn a_worker_lost_before_the_decision_fails_it_and_one_lost_after_does_not() {
    let mut plan = two();
    plan.on(Event::Prepared(A));
    assert_eq!(
        plan.on(Event::Lost(A)),
        [Act::Discard(B), Act::Fail(Cause::Lost(A))]
    );

    let mut plan = two();
    plan.on(Event::Prepared(A));
    plan.on(Event::Prepared(B));
    assert!(plan.on(Event::Written).is_empty());
    assert!(plan.on(Event::Lost(A)).is_empty());
    assert_eq!(plan.on(Event::Switched(B)), [Act::Done(1)]);
}

#[test]
fn the_slow_one_is_named_while_preparing_and_left_behind_while_switching() {
    let mut plan = two();
    plan.on(Event::Prepared(A));
    let slow = plan.on(Event::Expired);
    assert_eq!(slow.last(), Some(&Act::Fail(Cause::TooSlow(B))));

    let mut plan = two();
    plan.on(Event::Prepared(A));
    plan.on(Event::Prepared(B));
    plan.on(Event::Written);
    plan.on(Event::Switched(A));
    assert_eq!(plan.on(Event::Expired), [Act::Done(1)]);
}

#[test]
fn what_could_not_be_written_is_discarded() {
    let mut plan = two();
    plan.on(Event::Prepared(A));
    plan.on(Event::Prepared(B));
    let cause = Cause::NotWritten("full".to_owned());
    let acts = plan.on(Event::NotWritten("full".to_owned()));
    assert_eq!(acts, [Act::Discard(A), Act::Discard(B), Act::Fail(cause)]);
}

#[test]
fn a_change_without_preparation_is_written_at_once() {
    let (mut plan, acts) = Plan::at_once([A]);
    assert_eq!(acts, [Act::Write]);
    assert!(plan.on(Event::Written).is_empty());
    assert_eq!(plan.on(Event::Switched(A)), [Act::Done(1)]);
    let (mut plan, _) = Plan::at_once([]);
    assert_eq!(plan.on(Event::Written), [Act::Done(0)]);
}

fn event() -> impl Strategy<Value = Event> {
    let worker = || (1..5u64).prop_map(Incarnation);
    prop_oneof![
        8 => worker().prop_map(Event::Prepared),
        1 => worker().prop_map(|it| Event::Refused(it, "no".to_owned())),
        1 => worker().prop_map(Event::Lost),
        1 => Just(Event::Expired),
        4 => worker().prop_map(Event::Switched),
        1 => Just(Event::Written),
        1 => Just(Event::NotWritten("full".to_owned())),
    ]
}

proptest! {
    /// Whatever comes in whatever order.
    #[test]
    fn nobody_switches_unless_all_have_prepared(
        count in 1..4u64,
        events in vec(event(), 0..40),
        writes in any::<bool>(),
    ) {
        let workers: BTreeSet<Incarnation> = (1..=count).map(Incarnation).collect();
        let (mut plan, first) = Plan::prepare(workers.iter().copied());
        prop_assert_eq!(first.len(), workers.len());
        let (mut prepared, mut broken) = (BTreeSet::new(), BTreeSet::new());
        let (mut written, mut last) = (0, None);
        for event in events {
            let mut acts = plan.on(event.clone());
            if written == 0 && last.is_none() {
                match &event {
                    Event::Prepared(it) => { prepared.insert(*it); }
                    Event::Refused(it, _) | Event::Lost(it) => { broken.insert(*it); }
                    Event::Expired | Event::Written | Event::NotWritten(_) | Event::Switched(_) => {}
                }
            }
            if acts.contains(&Act::Write) {
                written += 1;
                prop_assert!(workers.is_subset(&prepared) && workers.is_disjoint(&broken));
                prop_assert!(last.is_none());
                let answer = if writes {
                    Event::Written
                } else {
                    Event::NotWritten("full".to_owned())
                };
                acts.extend(plan.on(answer));
            }
            prop_assert!(written <= 1);
            for act in &acts {
                match act {
                    Act::Done(switched) => {
                        prop_assert!(written == 1 && writes && last.is_none());
                        prop_assert!(u64::from(*switched) <= count);
                        last = Some(true);
                    }
                    Act::Fail(_) => {
                        prop_assert!((written == 0 || !writes) && last.is_none());
                        let told = acts.iter().filter(|it| matches!(it, Act::Discard(_))).count();
                        let there = workers.difference(&broken).count();
                        prop_assert_eq!(told, there, "all that are there discard");
                        last = Some(false);
                    }
                    Act::Discard(_) => prop_assert!(!writes || written == 0),
                    Act::Prepare(_) | Act::Write => {}
                }
            }
        }
    }
}
