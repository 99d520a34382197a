//! Windows, coalescing and confirms, under any order of changes, sends and answers.

use proptest::prelude::*;

use super::*;

fn telling() -> CustodyUpdates {
    CustodyUpdates::new(1, 64 << 20)
}

/// Sends what the window allows, each client with so many bytes; gives who was told.
fn send(telling: &mut CustodyUpdates, bytes: usize) -> Vec<u32> {
    let mut told = Vec::new();
    while let Some(next) = telling.next_due() {
        told.push(next.connection);
        match next.task {
            Task::Tell(_) => telling.told(next.connection, bytes, true),
            Task::Release => telling.released(),
        }
        if telling.is_full() {
            telling.ask();
        }
    }
    telling.ask();
    told
}

#[test]
fn no_more_than_the_window_and_one_client_is_under_way() {
    let mut telling = telling();
    (0..100).for_each(|it| telling.mark(it, Part::All));
    assert_eq!(send(&mut telling, 60 << 10).len(), 18);
    assert!(telling.unconfirmed() < WINDOW_BYTES + (60 << 10));
    assert_eq!(send(&mut telling, 60 << 10).len(), 0);
    let confirmed = telling.confirmed(1);
    assert_eq!(confirmed, [0, 1, 2, 3, 4]);
    assert_eq!(send(&mut telling, 60 << 10)[..2], [18, 19], "in order");
}

#[test]
fn one_client_larger_than_the_window_goes_alone() {
    let mut telling = telling();
    (0..2).for_each(|it| telling.mark(it, Part::All));
    assert_eq!(send(&mut telling, 20 << 20), [0]);
    assert_eq!(telling.confirmed(1), [0]);
    assert_eq!(send(&mut telling, 20 << 20), [1]);
}

#[test]
fn changes_of_a_client_that_waits_are_told_once() {
    let (mut telling, name): (_, Name) = (telling(), "a".into());
    for part in [
        Part::Key(&name),
        Part::Group(&name),
        Part::Key(&name),
        Part::Uid,
    ] {
        telling.mark(1, part);
    }
    let next = telling.next_due().unwrap();
    let parts = Parts {
        uid: true,
        groups: Names::Some(vec![name.clone()]),
        keys: Names::Some(vec![name]),
        rank: false,
    };
    assert_eq!((next.task, next.known), (Task::Tell(parts), false));
    assert!(telling.next_due().is_none());
}

#[test]
fn many_changed_keys_are_told_as_the_whole_session() {
    let mut telling = telling();
    for key in 0..=NAMES_MAX {
        telling.mark(1, Part::Key(&key.to_string().into()));
    }
    let Task::Tell(parts) = telling.next_due().unwrap().task else {
        panic!("it must be told");
    };
    assert_eq!(parts.keys, Names::All);
}

#[test]
fn a_release_replaces_what_was_to_be_told_and_a_new_custody_replaces_it() {
    let mut telling = telling();
    telling.mark(1, Part::All);
    telling.release(1);
    assert!(telling.releases());
    telling.mark(1, Part::All);
    assert!(!telling.releases());
    let all = Parts {
        rank: false,
        ..Parts::ALL
    };
    assert_eq!(telling.next_due().unwrap().task, Task::Tell(all));
    assert!(telling.is_idle());
}

#[test]
fn a_confirm_from_before_a_release_does_not_count_for_the_custody_after_it() {
    let mut telling = telling();
    telling.mark(1, Part::All);
    send(&mut telling, 100);
    telling.release(1);
    send(&mut telling, 0);
    telling.mark(1, Part::All);
    send(&mut telling, 100);
    assert!(telling.confirmed(1).is_empty());
    assert_eq!(telling.confirmed(3), [1]);
}

#[test]
fn small_changes_of_known_clients_need_no_confirm() {
    let mut telling = telling();
    telling.mark(1, Part::Uid);
    let next = telling.next_due().unwrap();
    telling.told(next.connection, 100, false);
    assert_eq!(telling.ask(), None);
    for _ in 0..3000 {
        telling.mark(1, Part::Uid);
        let next = telling.next_due().expect("room");
        telling.told(next.connection, 100, false);
    }
    assert!(telling.ask().is_some(), "many of them are confirmed");
}

#[test]
fn what_is_postponed_waits_with_what_is_added_until_it_is_resumed_or_taken() {
    let mut telling = telling();
    telling.told_apart(1);
    telling.mark(1, Part::Uid);
    for take in [false, true] {
        let Some(Task::Tell(parts)) = telling.next_due().map(|next| next.task) else {
            panic!("it is due");
        };
        telling.postpone(1, parts);
        telling.mark(1, Part::Session);
        assert_eq!(telling.next_due(), None);
        let all = Parts {
            uid: true,
            keys: Names::All,
            ..Parts::default()
        };
        if take {
            assert_eq!(telling.take_parts(1), Some(all));
        } else {
            telling.resume(1);
        }
    }
    assert!(telling.is_idle());
    assert_eq!(telling.next_due(), None);
}

#[test]
fn a_release_waits_for_nothing_that_was_postponed() {
    let mut telling = telling();
    telling.postpone(1, Parts::ALL);
    telling.release(1);
    assert_eq!(
        telling.next_due().map(|next| next.task),
        Some(Task::Release)
    );
    telling.resume(1);
    assert!(telling.is_idle() && telling.next_due().is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Mark(u32),
    Postpone(u32),
    Resume(u32),
    Release(u32),
    Apart(u32),
    Send(usize),
    Confirm,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8u32).prop_map(Step::Mark),
        2 => (0..8u32).prop_map(Step::Release),
        1 => (0..8u32).prop_map(Step::Postpone),
        1 => (0..8u32).prop_map(Step::Resume),
        1 => (0..8u32).prop_map(Step::Apart),
        3 => (0..(600usize << 10)).prop_map(Step::Send),
        3 => Just(Step::Confirm),
    ]
}

proptest! {
    /// Whoever is marked is told of after the mark, the window holds, and once all is confirmed
    /// nothing is counted as under way.
    #[test]
    fn everything_marked_is_told_and_the_window_holds(
        steps in proptest::collection::vec(step(), 0..300)
    ) {
        let mut telling = telling();
        let mut due = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Mark(it) => { telling.mark(it, Part::All); due.insert(it); }
                Step::Postpone(it) => {
                    if !telling.tasks.contains_key(&it) {
                        telling.postpone(it, Parts::ALL);
                        due.insert(it);
                    }
                }
                Step::Resume(it) => telling.resume(it),
                Step::Release(it) => { telling.release(it); due.insert(it); }
                Step::Apart(it) => { telling.told_apart(it); due.remove(&it); }
                Step::Send(bytes) => {
                    for told in send(&mut telling, bytes) {
                        prop_assert!(due.remove(&told), "told without need");
                    }
                    prop_assert!(telling.unconfirmed() < WINDOW_BYTES + bytes.max(600 << 10));
                }
                Step::Confirm => { telling.confirmed(telling.number - 1); }
            }
            prop_assert_eq!(telling.is_idle(), due.is_empty());
        }
        (0..8).for_each(|it| telling.resume(it));
        while !telling.is_idle() {
            send(&mut telling, 100).iter().for_each(|it| { due.remove(it); });
            telling.confirmed(telling.number - 1);
        }
        prop_assert!(due.is_empty());
        telling.confirmed(telling.number - 1);
        prop_assert!(telling.unconfirmed() < BATCH_BYTES);
    }
}
