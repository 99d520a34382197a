//! Tasks against a simple list, and their bounds.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use proptest::prelude::*;

fn id(client: Option<u32>, sequence: u64) -> TaskId {
    let own = |it| ClientId::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2000), it);
    TaskId {
        client: client.map(own),
        event: EventId {
            gateway: Incarnation(1),
            shard: 0,
            sequence,
        },
        nth: 0,
    }
}

fn payload(bytes: usize) -> Payload {
    Payload::from(vec![b'x'; bytes])
}

#[test]
fn no_more_than_so_many_are_under_way_and_the_others_follow_in_their_order() {
    let mut tasks = Tasks::new(1 << 20, 2, 1);
    for n in 0..4 {
        tasks.submit(0, id(None, n), payload(3)).unwrap();
    }
    let mut begun: Vec<TaskId> = (0..4)
        .filter_map(|lane| Some(tasks.begin(0, lane)?.0))
        .collect();
    assert_eq!(begun, [id(None, 0), id(None, 1)]);
    assert!(!tasks.may_begin(0));
    tasks.remove(0, &id(None, 1));
    assert!(tasks.may_begin(0));
    begun.extend(tasks.begin(0, 9).map(|it| it.0));
    assert_eq!(begun.last(), Some(&id(None, 2)));
    assert_eq!((tasks.waiting(0), tasks.under_way(0)), (1, 2));
}

#[test]
fn what_is_cancelled_does_not_begin_and_what_is_under_way_is_told_where() {
    let mut tasks = Tasks::new(1 << 20, 1, 1);
    for n in 0..3 {
        tasks.submit(0, id(None, n), payload(3)).unwrap();
    }
    assert_eq!(tasks.begin(0, 5).map(|it| it.0), Some(id(None, 0)));
    assert_eq!(tasks.cancel(0, &id(None, 1)), Cancelled::Waiting);
    assert_eq!(tasks.cancel(0, &id(None, 1)), Cancelled::Unknown);
    assert_eq!(tasks.cancel(0, &id(None, 0)), Cancelled::UnderWay(5));
    assert_eq!(tasks.cancel(0, &id(None, 0)), Cancelled::Unknown);
    assert!(tasks.is_cancelled(0, &id(None, 0)));
    assert_eq!(
        tasks.cancel(1, &id(None, 2)),
        Cancelled::Unknown,
        "another tenant"
    );
    tasks.remove(0, &id(None, 0));
    assert_eq!(tasks.begin(0, 6).map(|it| it.0), Some(id(None, 2)));
}

#[test]
fn the_tasks_of_a_client_are_bounded_in_number_and_all_in_bytes() {
    let mut tasks = Tasks::new(1 << 20, 1, 1);
    let most = u64::try_from(TASKS_OF_CLIENT_MAX).unwrap();
    for n in 0..most {
        tasks.submit(0, id(Some(7), n), payload(1)).unwrap();
    }
    let more = tasks.submit(0, id(Some(7), most), payload(1));
    assert_eq!(more, Err(TaskRefused::TooMany));
    tasks.submit(0, id(Some(8), most), payload(1)).unwrap();
    let large = tasks.submit(0, id(None, 1), payload(1 << 20));
    assert_eq!(large, Err(TaskRefused::NoRoom));
    tasks.cancel(0, &id(Some(7), 3));
    tasks.submit(0, id(Some(7), most), payload(1)).unwrap();
}

#[test]
fn who_submits_and_cancels_all_the_time_leaves_nothing_behind() {
    let mut tasks = Tasks::new(1 << 20, 1, 1);
    tasks.submit(0, id(None, 0), payload(1)).unwrap();
    assert!(tasks.begin(0, 1).is_some());
    for n in 1..100_000 {
        tasks.submit(0, id(Some(1), n), payload(100)).unwrap();
        assert_eq!(tasks.cancel(0, &id(Some(1), n)), Cancelled::Waiting);
        assert!(tasks.rows[0].waiting.len() <= ROW_KEPT + 1);
    }
    tasks.remove(0, &id(None, 0));
    assert!(tasks.tasks.is_empty() && tasks.of_client.is_empty());
    assert_eq!(tasks.bytes.total(), 0);
}

#[test]
fn the_tasks_of_a_client_that_is_gone_go_on_without_it_and_are_not_those_of_its_successor() {
    let mut tasks = Tasks::new(1 << 20, 4, 1);
    for (client, n) in [(Some(7), 1), (Some(8), 2), (None, 3)] {
        tasks.submit(0, id(client, n), payload(1)).unwrap();
    }
    let own = id(Some(7), 0).client.unwrap();
    tasks.end_client(0, own);
    assert_eq!((tasks.waiting(0), tasks.of_client.len()), (3, 1));
    let has_client = |over: Option<Over>| over.unwrap().has_client;
    tasks.submit(0, id(Some(7), 9), payload(1)).unwrap();
    assert!(!has_client(tasks.remove(0, &id(Some(7), 1))));
    assert!(has_client(tasks.remove(0, &id(Some(8), 2))));
    assert!(
        has_client(tasks.remove(0, &id(Some(7), 9))),
        "of the next client"
    );
    assert!(tasks.of_client.is_empty());
}

proptest! {
    /// Whatever is asked for in whatever order: the counts are those of a plain list.
    #[test]
    fn the_counts_are_right(steps in prop::collection::vec((0..4_u8, 0..12_u64), 0..200)) {
        let mut tasks = Tasks::new(1 << 20, 3, 1);
        let (mut waiting, mut under_way) = (Vec::new(), Vec::new());
        for (step, n) in steps {
            let task = id((n % 2 == 0).then_some(4), n);
            match step {
                0 => {
                    tasks.submit(0, task, payload(1)).unwrap();
                    if !waiting.contains(&task) && !under_way.contains(&task) {
                        waiting.push(task);
                    }
                }
                1 => {
                    let may = under_way.len() < 3 && !waiting.is_empty();
                    prop_assert_eq!(tasks.may_begin(0), may);
                    let begun = tasks.begin(0, 1).map(|it| it.0);
                    prop_assert_eq!(begun.is_some(), may);
                    if let Some(begun) = begun {
                        prop_assert!(waiting.contains(&begun));
                        waiting.retain(|it| *it != begun);
                        under_way.push(begun);
                    }
                }
                2 => {
                    tasks.remove(0, &task);
                    waiting.retain(|it| *it != task);
                    under_way.retain(|it| *it != task);
                }
                _ => {
                    let cancelled = tasks.cancel(0, &task);
                    let waits = waiting.contains(&task);
                    prop_assert_eq!(cancelled == Cancelled::Waiting, waits);
                    waiting.retain(|it| *it != task);
                }
            }
            prop_assert_eq!((tasks.waiting(0), tasks.under_way(0)), (waiting.len(), under_way.len()));
            prop_assert_eq!(tasks.count_begun(), under_way.len());
        }
    }
}

#[test]
fn those_of_a_tenant_are_listed_page_by_page_with_their_ages() {
    let mut tasks = Tasks::new(1 << 20, 1, 2);
    for n in 0..5 {
        tasks.tick(n * 1_000_000);
        tasks.submit(0, id(None, n), payload(1)).unwrap();
    }
    tasks.submit(1, id(Some(3), 9), payload(1)).unwrap();
    assert!(tasks.begin(0, 7).is_some());
    tasks.tick(5_000_000);
    let progress = |lane| (u8::try_from(lane).unwrap(), 40);
    let (first, more) = tasks.page(0, None, 3, progress);
    assert_eq!((first.len(), more), (3, true));
    let begun = &first[0];
    assert_eq!((begun.task, begun.under_way), (id(None, 0), true));
    assert_eq!((begun.attempt, begun.steps, begun.age_ms), (7, 40, 5_000));
    assert_eq!((first[1].under_way, first[1].age_ms), (false, 4_000));
    let (rest, more) = tasks.page(0, Some(&first[2].task), 3, progress);
    let rest: Vec<_> = rest.iter().map(|it| it.task).collect();
    assert_eq!((rest, more), (vec![id(None, 3), id(None, 4)], false));
    let is_about = |ms: u64, about: u64| ms.abs_diff(about) < 100;
    assert!(is_about(tasks.oldest_ms(0), 5_000) && is_about(tasks.oldest_ms(1), 1_000));
    tasks.remove(0, &id(None, 0));
    assert!(is_about(tasks.oldest_ms(0), 4_000));
    assert_eq!(tasks.oldest_ms(7), 0);
    assert_eq!(tasks.page(7, None, 3, progress), (vec![], false));
}
