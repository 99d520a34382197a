//! A window under tenants that never give back: the others go on, nobody starves, the whole holds.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// A shard that sends lanes' events through a window, and a worker that ends them.
struct Model {
    window: Window,
    rng: StdRng,
    /// Events that each lane still has, and those of it that are under way.
    lanes: BTreeMap<u32, (Tenant, usize, usize)>,
    queued: Vec<u32>,
    under_way: VecDeque<(Tenant, u32, usize)>,
    events_max: usize,
    bytes_max: usize,
    done: BTreeMap<Tenant, usize>,
}

impl Model {
    fn new(seed: u64, window: (usize, usize), tenants: u16, lanes: u32, events: usize) -> Self {
        let lane = |number: u32| {
            let tenant = u16::try_from(number % u32::from(tenants)).unwrap();
            (number, (tenant, events, 0))
        };
        Self {
            window: Window::new(window.0, window.1, tenants.into()),
            rng: StdRng::seed_from_u64(seed),
            lanes: (0..u32::from(tenants) * lanes).map(lane).collect(),
            queued: Vec::new(),
            under_way: VecDeque::new(),
            events_max: window.0,
            bytes_max: window.1,
            done: BTreeMap::new(),
        }
    }

    /// As the shard does it.
    fn pump(&mut self, number: u32, mut is_its_turn: bool) {
        while let Some((tenant, left, under_way)) = self.lanes.get_mut(&number)
            && *left > 0
        {
            let turn = std::mem::take(&mut is_its_turn);
            if !self.window.admits(*tenant, *under_way, turn) {
                if !self.queued.contains(&number) {
                    self.queued.push(number);
                    self.window.wait(*tenant, number, Instant::now());
                }
                return;
            }
            *left -= 1;
            *under_way += 1;
            let bytes = self.rng.random_range(1..=self.bytes_max);
            let counted = self.window.sent(*tenant, bytes);
            self.under_way.push_back((*tenant, number, counted));
            assert!(self.window.events.total() <= self.events_max);
            assert!(self.window.bytes.total() <= self.bytes_max);
        }
    }

    /// One event that is under way ends, if there is one that may.
    fn end_one(&mut self, may_end: impl Fn(Tenant) -> bool) -> bool {
        let able = self.under_way.iter().enumerate();
        let able: Vec<usize> = able
            .filter(|(_, (tenant, ..))| may_end(*tenant))
            .map(|(place, _)| place)
            .collect();
        if able.is_empty() {
            return false;
        }
        let place = able[self.rng.random_range(0..able.len())];
        let (tenant, number, counted) = self.under_way.remove(place).unwrap();
        self.lanes.get_mut(&number).unwrap().2 -= 1;
        *self.done.entry(tenant).or_default() += 1;
        self.window.returned(tenant, 1, counted);
        let mut in_vain = 0;
        while in_vain < LOOKS_MAX
            && let Some(next) = self.window.next(tenant)
        {
            let before = self.under_way.len();
            self.queued.retain(|other| *other != next);
            self.pump(next, true);
            in_vain += usize::from(before == self.under_way.len());
        }
        self.pump(number, false);
        true
    }

    fn run(&mut self, may_end: impl Fn(Tenant) -> bool) {
        let all: Vec<u32> = self.lanes.keys().copied().collect();
        for number in all {
            self.pump(number, false);
        }
        while self.end_one(&may_end) {}
    }

    fn is_done(&self, tenant: Tenant) -> bool {
        let mut lanes = self.lanes.values().filter(|(own, ..)| *own == tenant);
        lanes.all(|(_, left, under_way)| (*left, *under_way) == (0, 0))
    }
}

#[test]
fn of_a_thousand_tenants_half_never_answer_and_the_other_half_is_served_to_the_end() {
    for events in [1_000, 2_048, 50_000] {
        let mut model = Model::new(events as u64, (events, 1 << 20), 1_000, 3, 5);
        model.run(|tenant| tenant % 2 == 1);
        for tenant in 0..1_000 {
            let done = model.done.get(&tenant).copied().unwrap_or_default();
            if tenant % 2 == 1 {
                assert!(
                    model.is_done(tenant),
                    "{tenant}: {done} of 15, {events} in all"
                );
            } else {
                assert_eq!(done, 0);
            }
        }
        // They answer at last.
        while model.end_one(|_| true) {}
        assert!((0..1_000).all(|tenant| model.is_done(tenant)));
        assert!(model.window.is_idle() && model.window.waiting.is_empty());
    }
}

#[test]
fn a_slow_tenant_leaves_half_of_the_window_to_the_only_other_one() {
    let mut window = Window::new(2_000, 1 << 20, 2);
    let mut sent = 0;
    while window.admits(0, 0, false) {
        window.sent(0, 10);
        sent += 1;
    }
    assert_eq!(sent, 1_000);
    assert!(window.admits(1, 0, false));
}

#[test]
fn a_message_larger_than_the_window_takes_what_there_is_and_leaves_others_theirs() {
    let mut window = Window::new(100, 1_000, 2);
    assert_eq!(window.sent(0, 1 << 30), 500);
    assert!(!window.admits(0, 0, false) && window.admits(1, 0, false));
    window.returned(0, 1, 500);
    assert!(window.is_idle() && window.admits(0, 0, false));
}

#[test]
fn one_lane_leaves_room_for_the_others_of_its_tenant() {
    let mut window = Window::new(100, 1_000, 1);
    let mut under_way = 0;
    while window.admits(0, under_way, false) {
        window.sent(0, 1);
        under_way += 1;
    }
    assert_eq!(under_way, 51);
    assert!(window.admits(0, 0, false));
}

#[test]
fn who_waits_comes_before_who_comes_then() {
    let mut window = Window::new(2, 1_000, 1);
    for _ in 0..2 {
        window.sent(0, 1);
    }
    let now = Instant::now();
    window.wait(0, 7, now);
    window.wait(0, 8, now);
    window.returned(0, 1, 1);
    assert!(!window.admits(0, 0, false), "two wait already");
    assert_eq!(window.next(0), Some(7));
    assert!(window.admits(0, 0, true));
    window.sent(0, 1);
    assert_eq!(window.next(0), None);
    assert_eq!(window.into_waiting(), [8]);
}

#[test]
fn only_who_waits_long_is_named() {
    let mut window = Window::new(1, 1_000, 2);
    let (start, long) = (Instant::now(), Duration::from_secs(1));
    window.wait(1, 7, start);
    window.wait(1, 8, start + long);
    assert_eq!(window.long_waiting(start + long / 2, long).count(), 0);
    let waiting: Vec<_> = window.long_waiting(start + long, long).collect();
    assert_eq!(waiting, [(1, 2)]);
    window.retain_waiting(|_| false);
    assert_eq!(window.long_waiting(start + long * 2, long).count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whoever_is_slow_the_others_are_served_to_the_end(
        seed: u64,
        tenants in 1_u16..12,
        lanes in 1_u32..6,
        events in 1_usize..40,
        room in 12_usize..200,
        slow: u16,
    ) {
        let mut model = Model::new(seed, (room, 1 << 16), tenants, lanes, events);
        let is_slow = |tenant: Tenant| slow & (1 << tenant) != 0;
        model.run(|tenant| !is_slow(tenant));
        for tenant in 0..tenants {
            prop_assert!(is_slow(tenant) || model.is_done(tenant), "tenant {}", tenant);
        }
        while model.end_one(|_| true) {}
        prop_assert!((0..tenants).all(|tenant| model.is_done(tenant)));
        prop_assert!(model.window.is_idle());
    }
}
