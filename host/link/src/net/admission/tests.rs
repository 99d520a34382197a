//! The table by itself: who is told to go, for whose sake.

use proptest::prelude::*;

use super::*;

fn table(connections: usize, strangers: usize, idle: usize) -> AdmissionTable {
    AdmissionTable::new(AdmissionLimits {
        connections_max: connections,
        strangers_per_address_max: strangers,
        idle_per_address_max: idle,
    })
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

impl AdmissionTable {
    fn told(&self) -> Vec<u64> {
        let mut told: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, member)| member.stage == Stage::Leaving)
            .map(|(number, _)| *number)
            .collect();
        told.sort_unstable();
        told
    }
}

#[test]
fn the_oldest_stranger_of_an_address_goes_and_others_stay() {
    let mut table = table(100, 2, 2);
    let other = table.enter(address(2)).0;
    let first = table.enter(address(1)).0;
    let second = table.enter(address(1)).0;
    assert!(table.told().is_empty());
    let _third = table.enter(address(1)).0;
    assert_eq!(table.told(), [first]);
    // Whoever has said something stays longer than whoever has not.
    table.put(second, Stage::Unfinished);
    let _fourth = table.enter(address(1)).0;
    assert!(!table.told().contains(&second) && !table.told().contains(&other));
}

#[test]
fn at_the_limit_of_the_port_those_that_wait_go_and_the_busy_never() {
    let mut table = table(4, 10, 10);
    let enter = |table: &mut AdmissionTable, from: u8, stage: Stage| {
        let number = table.enter(address(from)).0;
        table.put(number, stage);
        number
    };
    let busy = enter(&mut table, 1, Stage::Busy);
    let idle = enter(&mut table, 2, Stage::Idle);
    let _idle = enter(&mut table, 2, Stage::Idle);
    let silent = table.enter(address(3)).0;
    // As long as strangers have no more than their part, the oldest idle one goes.
    let begun = enter(&mut table, 4, Stage::Unfinished);
    assert_eq!(table.told(), [idle]);
    // Then the oldest stranger that has not said a word.
    let _next = enter(&mut table, 5, Stage::Busy);
    assert_eq!(table.told(), [idle, silent]);
    let _next = enter(&mut table, 6, Stage::Busy);
    let _next = enter(&mut table, 7, Stage::Busy);
    assert!(table.told().contains(&begun) && !table.told().contains(&busy));
    // Whoever speaks before it has gone stays.
    table.put(silent, Stage::Busy);
    assert!(!table.told().contains(&silent));
}

#[test]
fn of_answers_that_are_not_taken_the_one_that_stands_still_longest_goes_after_the_idle() {
    let mut table = table(4, 10, 10);
    let all: Vec<u64> = (0..4).map(|_| table.enter(address(1)).0).collect();
    let [stuck, idle, slow, busy] = all[..] else {
        panic!("{all:?}");
    };
    table.untaken(slow);
    table.untaken(stuck);
    table.untaken(slow);
    table.put(idle, Stage::Idle);
    table.put(busy, Stage::Busy);
    for expected in [vec![idle], vec![stuck, idle]] {
        let number = table.enter(address(2)).0;
        table.put(number, Stage::Busy);
        assert_eq!(table.told(), expected);
    }
    // What it takes now is too late.
    table.untaken(stuck);
    assert_eq!(table.told(), [stuck, idle]);
}

#[test]
fn idle_connections_of_one_address_are_limited() {
    let mut table = table(100, 10, 2);
    let all: Vec<u64> = (0..4)
        .map(|_| {
            let number = table.enter(address(1)).0;
            table.put(number, Stage::Busy);
            table.put(number, Stage::Idle);
            number
        })
        .collect();
    assert_eq!(table.told(), all[..2]);
}

#[test]
fn an_address_is_the_same_in_both_families_and_an_ipv6_host_is_its_network() {
    let of = |text: &str| Origin::of(text.parse().unwrap());
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
}

#[tokio::test]
async fn room_comes_back_when_a_busy_connection_waits_or_goes() {
    let admissions = Admissions::new(AdmissionLimits {
        connections_max: 1,
        strangers_per_address_max: 1,
        idle_per_address_max: 1,
    });
    let only = admissions.admit(address(1));
    only.busy();
    let waits = tokio::spawn({
        let admissions = admissions.clone();
        async move { admissions.room().await }
    });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    only.idle();
    waits.await.unwrap();
    let _next = admissions.admit(address(2));
    only.told_to_go().await;
    drop(only);
    assert_eq!(admissions.len(), 1);
}

proptest! {
    /// Whatever happens, no limit is passed by those that stay, and nothing is left behind.
    #[test]
    fn limits_hold_and_the_table_is_empty_at_the_end(
        steps in prop::collection::vec((0_u8..7, 0_usize..32, 0_u8..4), 0..200)
    ) {
        let mut table = table(8, 3, 2);
        let mut inside = Vec::new();
        for (what, which, from) in steps {
            let chosen = (!inside.is_empty()).then(|| inside[which % inside.len()]);
            match (what, chosen) {
                (0 | 1, _) => inside.push(table.enter(address(from)).0),
                (2, Some(number)) => table.put(number, Stage::Unfinished),
                (3, Some(number)) => table.put(number, Stage::Busy),
                (4, Some(number)) => table.put(number, Stage::Idle),
                (5, Some(number)) => table.untaken(number),
                (6, Some(number)) => {
                    table.leave(number);
                    inside.retain(|it| *it != number);
                }
                _ => {}
            }
            for waiting in table.origins.values() {
                prop_assert!(waiting.strangers.len() <= 3 && waiting.idle.len() <= 2);
            }
            prop_assert_eq!(table.members.len(), inside.len());
            prop_assert_eq!(table.told().len(), table.leaving);
            let strangers: usize = table.origins.values().map(|it| it.strangers.len()).sum();
            prop_assert_eq!(strangers, table.strangers);
        }
        for number in inside {
            table.leave(number);
        }
        prop_assert!(table.waiting.is_empty() && table.origins.is_empty() && table.strangers == 0);
        prop_assert_eq!(table.leaving, 0);
    }
}
