//! Timers against a simple list, and their bounds.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use proptest::prelude::*;

fn own(connection: u32) -> ClientId {
    ClientId::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2000), connection)
}

fn id(client: Option<u32>, sequence: u64) -> TimerId {
    TimerId {
        client: client.map(own),
        event: EventId {
            gateway: Incarnation(1),
            shard: 0,
            sequence,
        },
        nth: 0,
    }
}

fn setting(delay_ms: u64, repeats: bool) -> Setting {
    Setting {
        tenant: 0,
        delay_ms,
        repeats,
        payload: Payload::from(vec![b'x'; 10]),
    }
}

fn timers() -> Timers {
    Timers::new(1 << 20, 1)
}

/// What has run out by now, in order, with how late it is noticed.
fn run_out(timers: &mut Timers, now_us: u64) -> Vec<(TimerId, u64)> {
    std::iter::from_fn(|| timers.run_out(now_us))
        .map(|it| (it.timer, it.late_us))
        .collect()
}

#[test]
fn timers_run_out_in_the_order_of_their_times_and_once() {
    let mut timers = timers();
    let (late, soon) = (id(None, 1), id(Some(7), 2));
    timers.set(late, setting(30, false), 0).unwrap();
    timers.set(soon, setting(10, false), 0).unwrap();
    assert_eq!(timers.next_us(), Some(10_000));
    assert_eq!(run_out(&mut timers, 9_999), []);
    assert_eq!(
        run_out(&mut timers, 40_000),
        [(soon, 30_000), (late, 10_000)]
    );
    assert_eq!(run_out(&mut timers, u64::MAX), []);
    assert!(timers.is_empty() && timers.next_us().is_none());
}

#[test]
fn one_that_repeats_waits_for_its_last_event_and_leaves_out_what_it_has_missed() {
    let mut timers = timers();
    let timer = id(None, 1);
    timers.set(timer, setting(10, true), 0).unwrap();
    assert_eq!(run_out(&mut timers, 10_000), [(timer, 0)]);
    assert_eq!(run_out(&mut timers, 25_000), []);
    timers.committed(0, &timer);
    assert_eq!(timers.next_us(), Some(30_000));
    assert_eq!(run_out(&mut timers, 99_000), [(timer, 69_000)]);
    timers.committed(0, &timer);
    assert_eq!(timers.next_us(), Some(100_000));
    timers.cancel(0, &timer);
    assert_eq!(timers.next_us(), None);
}

#[test]
fn a_period_of_nothing_is_a_millisecond() {
    let mut timers = timers();
    let timer = id(None, 1);
    timers.set(timer, setting(0, true), 0).unwrap();
    assert_eq!(run_out(&mut timers, 0), [(timer, 0)]);
    assert_eq!(timers.next_us(), Some(1_000));
}

#[test]
fn the_timers_of_a_client_end_with_it() {
    let mut timers = timers();
    for nth in 0..3 {
        timers
            .set(id(Some(7), nth), setting(10, nth == 0), 0)
            .unwrap();
    }
    timers.set(id(Some(8), 9), setting(10, false), 0).unwrap();
    timers.end_client(0, own(7));
    assert_eq!(run_out(&mut timers, 10_000), [(id(Some(8), 9), 0)]);
    assert_eq!(timers.bytes.total(), 0);
}

#[test]
fn a_timer_that_is_set_again_by_another_run_of_its_event_stays_as_it_is() {
    let mut timers = timers();
    timers.set(id(Some(7), 1), setting(10, false), 0).unwrap();
    timers
        .set(id(Some(7), 1), setting(10, false), 5_000)
        .unwrap();
    assert_eq!(run_out(&mut timers, 20_000).len(), 1);
    assert!(timers.of_client.is_empty());
}

#[test]
fn another_tenant_cannot_cancel() {
    let mut timers = Timers::new(1 << 20, 2);
    timers.set(id(None, 1), setting(10, false), 0).unwrap();
    timers.cancel(1, &id(None, 1));
    assert_eq!(timers.len(), 1);
}

#[test]
fn what_timers_keep_is_bounded_by_tenant_and_by_client() {
    let mut timers = Timers::new(10 * (TIMER_BYTES + 10), 1);
    for nth in 0..10 {
        timers.set(id(None, nth), setting(10, false), 0).unwrap();
    }
    let refused = timers.set(id(None, 10), setting(10, false), 0);
    assert_eq!(refused, Err(TimerRefused::NoRoom));
    timers.cancel(0, &id(None, 3));
    timers.set(id(None, 10), setting(10, false), 0).unwrap();

    let mut timers = Timers::new(1 << 30, 1);
    for nth in 0..TIMERS_OF_CLIENT_MAX as u64 {
        timers.set(id(Some(7), nth), setting(10, false), 0).unwrap();
    }
    let refused = timers.set(id(Some(7), u64::MAX), setting(10, false), 0);
    assert_eq!(refused, Err(TimerRefused::TooMany));
    timers
        .set(id(Some(8), u64::MAX), setting(10, false), 0)
        .unwrap();
}

#[test]
fn pages_have_the_timers_of_one_client_or_of_nobody_each_once() {
    let mut timers = Timers::new(1 << 20, 2);
    for nth in 0..7 {
        timers
            .set(id(Some(7), nth), setting(10 + nth, nth == 2), 0)
            .unwrap();
        timers.set(id(Some(8), nth), setting(10, false), 0).unwrap();
        timers.set(id(None, nth), setting(10, false), 0).unwrap();
        let of_another = Setting {
            tenant: 1,
            ..setting(10, false)
        };
        timers.set(id(None, 100 + nth), of_another, 0).unwrap();
    }
    for (client, expected) in [(Some(7), 7), (Some(8), 7), (None, 7), (Some(9), 0)] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = timers.page(0, client.map(own), after.as_ref(), 3, 500);
            assert!(page.len() <= 3);
            found.extend(page.iter().map(|it| it.timer.event.sequence));
            after = page.last().map(|it| it.timer);
            if !more {
                break;
            }
        }
        assert_eq!(found, (0..expected).collect::<Vec<_>>(), "{client:?}");
    }
    let (page, _) = timers.page(0, Some(own(7)), None, 3, 500);
    let told: Vec<_> = page.iter().map(|it| (it.due_in_ms, it.period_ms)).collect();
    assert_eq!(told, [(10, None), (11, None), (12, Some(12))]);
}

/// What can happen to timers.
#[derive(Clone, Debug)]
enum Step {
    Set(Option<u32>, u64, bool),
    Cancel(usize),
    EndClient(u32),
    Committed(usize),
    Wait(u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (proptest::option::of(0..3_u32), 0..40_u64, any::<bool>())
            .prop_map(|(client, delay, repeats)| Step::Set(client, delay, repeats)),
        1 => (0..40_usize).prop_map(Step::Cancel),
        1 => (0..3_u32).prop_map(Step::EndClient),
        3 => (0..40_usize).prop_map(Step::Committed),
        4 => (1..30_u64).prop_map(Step::Wait),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    /// Whatever is set, ended and committed in between: what runs out is what a list would say, looked
    /// at every millisecond.
    #[test]
    fn timers_are_a_list_that_is_looked_at_all_the_time(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        struct Model { id: TimerId, next_ms: u64, period_ms: u64, under_way: bool }
        let mut timers = timers();
        let mut model: Vec<Model> = Vec::new();
        let mut ids = Vec::new();
        let mut now_ms = 0;
        for (sequence, step) in steps.into_iter().enumerate() {
            match step {
                Step::Set(client, delay_ms, repeats) => {
                    let id = id(client, sequence as u64);
                    ids.push(id);
                    timers.set(id, setting(delay_ms, repeats), now_ms * 1_000).unwrap();
                    let period_ms = delay_ms.max(1) * u64::from(repeats);
                    model.push(Model { id, next_ms: now_ms + delay_ms, period_ms, under_way: false });
                }
                Step::Cancel(at) => if let Some(id) = ids.get(at) {
                    timers.cancel(0, id);
                    model.retain(|it| it.id != *id);
                },
                Step::EndClient(client) => {
                    timers.end_client(0, own(client));
                    model.retain(|it| it.id.client.is_none_or(|it| it.connection != client));
                }
                Step::Committed(at) => if let Some(id) = ids.get(at) {
                    timers.committed(0, id);
                    for it in model.iter_mut().filter(|it| it.id == *id) {
                        it.under_way = false;
                    }
                },
                Step::Wait(ms) => {
                    // One that is set to nothing has run out before the clock goes on.
                    let mut expected = Vec::new();
                    for now_ms in now_ms..=now_ms + ms {
                        for it in model.iter_mut().filter(|it| it.next_ms == now_ms) {
                            if !it.under_way {
                                expected.push(it.id);
                            }
                            it.under_way = true;
                            it.next_ms = now_ms + it.period_ms;
                        }
                        model.retain(|it| it.next_ms != now_ms);
                    }
                    now_ms += ms;
                    let mut found: Vec<TimerId> = run_out(&mut timers, now_ms * 1_000)
                        .into_iter().map(|(id, _)| id).collect();
                    expected.sort_unstable();
                    found.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
                Step::Clear => {
                    timers.clear();
                    model.clear();
                }
            }
            prop_assert_eq!(timers.len(), model.len());
            let bytes = model.len() * (TIMER_BYTES + 10);
            prop_assert_eq!(timers.bytes.total(), bytes);
            prop_assert_eq!(timers.next_us(), model.iter().map(|it| it.next_ms * 1_000).min());
        }
    }
}
