//! A week of schedules at gateways that come, go, freeze and are killed, whose links break and whose clocks are
//! moved: each tick is done once.

use std::net::Ipv4Addr;

use super::*;
use crate::Missed;
use crate::timetable::Timetable;

/// Random numbers that a seed says.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % bound
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct Node {
    own: Incarnation,
    address: SocketAddrV4,
    book: Book,
    started_ms: i64,
    clock_ms: i64,
    frozen_until_ms: i64,
    links: BTreeSet<Incarnation>,
    /// Tasks: when they are done, of which schedule and tick.
    tasks: Vec<(i64, usize, i64)>,
}

enum Event {
    Said(Incarnation, Incarnation, ScheduleSaid),
    /// On the same link.
    Answer(Incarnation, Incarnation, ScheduleSaid),
    /// What a gateway hears of who is there.
    View(Incarnation),
    Link(Incarnation, Incarnation),
}

/// A task that is done.
#[derive(Clone, Copy, Debug)]
struct Done {
    at_ms: i64,
    by: Incarnation,
    schedule: usize,
    tick_s: i64,
}

struct World {
    dice: Dice,
    now_ms: i64,
    nodes: Vec<Node>,
    events: Vec<(i64, u64, Event)>,
    count: u64,
    next_node: u64,
    /// When what was sent last from one to another arrives, of links and of answers on them.
    arrivals: BTreeMap<(Incarnation, Incarnation, bool), i64>,
    done: Vec<Done>,
    /// When it was killed.
    killed: BTreeMap<Incarnation, (i64, SocketAddrV4)>,
    schedules: Vec<Schedule>,
}

const LEASE_MS: i64 = 10_000;

impl World {
    fn new(seed: u64, start_s: i64, schedules: Vec<Schedule>) -> Self {
        let mut world = Self {
            dice: Dice(seed),
            now_ms: start_s * 1_000,
            nodes: Vec::new(),
            events: Vec::new(),
            count: 0,
            next_node: 1,
            arrivals: BTreeMap::new(),
            done: Vec::new(),
            killed: BTreeMap::new(),
            schedules,
        };
        for _ in 0..3 {
            world.start();
        }
        world
    }

    fn post(&mut self, in_ms: i64, event: Event) {
        self.count += 1;
        self.events.push((self.now_ms + in_ms, self.count, event));
    }

    /// In order on each link.
    fn send(&mut self, from: Incarnation, to: Incarnation, said: ScheduleSaid, is_answer: bool) {
        let at_ms = self.now_ms + 1 + i64::try_from(self.dice.below(40)).unwrap();
        let before_ms = self.arrivals.entry((from, to, is_answer)).or_default();
        *before_ms = at_ms.max(*before_ms);
        let in_ms = *before_ms - self.now_ms;
        let event = match is_answer {
            true => Event::Answer(from, to, said),
            false => Event::Said(from, to, said),
        };
        self.post(in_ms, event);
    }

    fn now(&self, place: usize) -> Now {
        Now {
            wall_ms: self.now_ms + self.nodes[place].clock_ms,
            steady_ms: self.now_ms.unsigned_abs(),
        }
    }

    fn place(&self, own: Incarnation) -> Option<usize> {
        self.nodes.iter().position(|it| it.own == own)
    }

    fn start(&mut self) {
        let number = self.next_node;
        self.next_node += 1;
        // Addresses come again.
        let port = u16::try_from(2_000 + number % 5).unwrap();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        if self.nodes.iter().any(|it| it.address == address) {
            return;
        }
        let own = Incarnation(number);
        let now = Now {
            wall_ms: self.now_ms,
            steady_ms: self.now_ms.unsigned_abs(),
        };
        self.nodes.push(Node {
            own,
            address,
            book: Book::new(own, address, self.schedules.clone(), now),
            started_ms: self.now_ms,
            clock_ms: 0,
            frozen_until_ms: 0,
            links: BTreeSet::new(),
            tasks: Vec::new(),
        });
        self.tell_views(0);
    }

    /// Everybody hears who is there, at different times.
    fn tell_views(&mut self, after_ms: i64) {
        let all: Vec<_> = self.nodes.iter().map(|it| it.own).collect();
        for own in all {
            let in_ms = after_ms + i64::try_from(self.dice.below(3_000)).unwrap();
            self.post(in_ms, Event::View(own));
        }
    }

    fn kill(&mut self, place: usize) {
        let node = self.nodes.remove(place);
        self.killed.insert(node.own, (self.now_ms, node.address));
        // What it has said may be on the way or not.
        let dice = &mut self.dice;
        let lost = |event: &Event| match event {
            Event::Said(from, ..) | Event::Answer(from, ..) => *from == node.own,
            Event::View(_) | Event::Link(..) => false,
        };
        self.events
            .retain(|(_, _, event)| !lost(event) || dice.is(50));
        for other in &mut self.nodes {
            if other.links.remove(&node.own) {
                other.book.unlinked(node.own);
            }
        }
        self.tell_views(LEASE_MS);
    }

    fn fault(&mut self) {
        let place = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
        match self.dice.below(10) {
            0..=2 => {
                // Somebody must remain who knows.
                let old = |it: &Node| it.started_ms + 60_000 < self.now_ms;
                if self.nodes.iter().filter(|it| old(it)).count() > 1 {
                    self.kill(place);
                }
            }
            3..=4 if self.nodes.len() < 4 => self.start(),
            5 => {
                let ms = i64::try_from(self.dice.below(8_000)).unwrap();
                self.nodes[place].frozen_until_ms = self.now_ms + ms;
            }
            6 => {
                let own = self.nodes[place].own;
                let links = std::mem::take(&mut self.nodes[place].links);
                for other in links {
                    self.nodes[place].book.unlinked(other);
                    let in_ms = i64::try_from(self.dice.below(5_000)).unwrap();
                    self.post(in_ms, Event::Link(own, other));
                }
            }
            7 => {
                // To and fro; all clocks together differ by less than what makes one of them wrong.
                let ms = i64::try_from(self.dice.below(5_000_000)).unwrap();
                let now_ms = self.nodes[place].clock_ms;
                self.nodes[place].clock_ms = match now_ms {
                    0 if self.dice.is(50) => ms,
                    0 => -ms,
                    _ => 0,
                };
            }
            _ => {}
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Said(from, to, said) => {
                if let Some(place) = self.place(to) {
                    let now = self.now(place);
                    for answer in self.nodes[place].book.hear(from, said, now) {
                        self.send(to, from, answer, true);
                    }
                }
            }
            Event::Answer(from, to, said) => {
                if let Some(place) = self.place(to) {
                    let now = self.now(place);
                    // Answered on the link that this one dialled: nothing goes back.
                    let _ = self.nodes[place].book.hear(from, said, now);
                }
            }
            Event::View(own) => self.view(own),
            Event::Link(own, other) => {
                let (Some(place), Some(_)) = (self.place(own), self.place(other)) else {
                    return;
                };
                let now = self.now(place);
                let node = &mut self.nodes[place];
                if node.links.insert(other) {
                    node.book.linked(other, now);
                }
            }
        }
    }

    /// A gateway hears who is there: who was killed is until its lease is over.
    fn view(&mut self, own: Incarnation) {
        let Some(place) = self.place(own) else { return };
        let now_ms = self.now_ms;
        let killed = self.killed.iter();
        let killed = killed.filter(|(_, (at_ms, _))| at_ms + LEASE_MS > now_ms);
        let killed = killed.map(|(it, (_, address))| (*it, *address));
        let live = self.nodes.iter().map(|it| (it.own, it.address));
        let all: Vec<_> = live.chain(killed).collect();
        let now = self.now(place);
        let node = &mut self.nodes[place];
        node.book.set_view(all.iter().copied(), true, now);
        let unlinked = all.iter().map(|(it, _)| *it);
        let unlinked: Vec<_> = unlinked
            .filter(|it| *it != own && !node.links.contains(it))
            .collect();
        for other in unlinked {
            self.post(5, Event::Link(own, other));
        }
    }

    fn turn(&mut self) {
        self.events
            .sort_unstable_by_key(|(at_ms, number, _)| (*at_ms, *number));
        let due = self
            .events
            .iter()
            .take_while(|(at_ms, ..)| *at_ms <= self.now_ms);
        let due = due.count();
        let events: Vec<_> = self.events.drain(..due).collect();
        for (at_ms, number, event) in events {
            let to = match &event {
                Event::Said(_, to, _) | Event::Answer(_, to, _) => to,
                Event::View(to) | Event::Link(to, _) => to,
            };
            let frozen = self
                .place(*to)
                .map(|place| self.nodes[place].frozen_until_ms);
            match frozen.filter(|until_ms| *until_ms > self.now_ms) {
                Some(until_ms) => self.events.push((until_ms.max(at_ms), number, event)),
                None => self.take_event(event),
            }
        }
        for place in 0..self.nodes.len() {
            if self.nodes[place].frozen_until_ms > self.now_ms {
                continue;
            }
            let now = self.now(place);
            let (by, at_ms) = (self.nodes[place].own, self.now_ms);
            let node = &mut self.nodes[place];
            let over = node
                .tasks
                .extract_if(.., |(until_ms, ..)| *until_ms <= at_ms);
            for (_, schedule, tick_s) in over.collect::<Vec<_>>() {
                self.done.push(Done {
                    at_ms,
                    by,
                    schedule,
                    tick_s,
                });
                node.book.ended(schedule, tick_s, true, now);
            }
            node.book.look(now);
            for act in self.nodes[place].book.take_acts() {
                if std::env::var_os("TRACE").is_some() {
                    eprintln!("{at_ms} {by} {act:?}");
                }
                match act {
                    Act::Say(to, said) => {
                        if self.nodes[place].links.contains(&to) {
                            self.send(by, to, said, false);
                        }
                    }
                    Act::Begin { schedule, at_s, .. } => {
                        let ms = i64::try_from(self.dice.below(5_000)).unwrap();
                        let until_ms = self.now_ms + ms;
                        self.nodes[place].tasks.push((until_ms, schedule, at_s));
                    }
                    Act::Missed(..) | Act::ClockSetBack(..) | Act::ClockAhead(..) => {}
                }
            }
        }
    }

    /// The next time at which something may happen.
    fn next_ms(&mut self) -> i64 {
        let now_ms = self.now_ms;
        let event = self.events.iter().map(|(at_ms, ..)| *at_ms).min();
        let mut next_ms = event.unwrap_or(i64::MAX);
        for node in &mut self.nodes {
            let tasks = node.tasks.iter().map(|(until_ms, ..)| *until_ms);
            next_ms = next_ms.min(tasks.min().unwrap_or(i64::MAX));
            let due_ms = node.book.next_ms().map(|at_ms| at_ms - node.clock_ms);
            // It looks again and again while it asks or waits for others.
            let due_ms = due_ms.map_or(now_ms + 500, |due_ms| due_ms.max(now_ms + 400));
            next_ms = next_ms.min(due_ms);
        }
        next_ms.max(now_ms + 1)
    }

    fn run(&mut self, until_ms: i64, faults_until_ms: i64) {
        let mut next_fault_ms = self.now_ms + 60_000;
        while self.now_ms < until_ms {
            self.turn();
            self.now_ms = self.next_ms().min(until_ms);
            if self.now_ms >= next_fault_ms {
                next_fault_ms =
                    self.now_ms + 1_000 + i64::try_from(self.dice.below(1_200_000)).unwrap();
                if self.now_ms < faults_until_ms {
                    self.fault();
                } else {
                    self.nodes.iter_mut().for_each(|it| it.clock_ms = 0);
                }
            }
        }
    }

    /// Whether it is excused that a tick was done before this time, and again: who did it was killed before
    /// it could say so.
    fn is_excused(&self, first: &Done) -> bool {
        let killed_ms = self.killed.get(&first.by);
        killed_ms.is_some_and(|(at_ms, _)| at_ms - first.at_ms < 9_000)
    }
}

const DAY_S: i64 = 86_400;

fn week(seed: u64, start: &str) {
    let start_s = start.parse::<jiff::Timestamp>().unwrap().as_second();
    let zone = "Europe/Berlin";
    let named = |name: &str, expression: &str| Schedule {
        tenant: "t".into(),
        name: name.into(),
        timetable: Timetable::new(expression, zone).unwrap(),
        payload: String::new(),
        missed: Missed::All,
        late_s: 60,
    };
    let schedules = vec![
        named("night", "30 2 * * *"),
        named("often", "*/10 * * * *"),
        named("hourly", "5 * * * *"),
    ];
    let mut world = World::new(seed, start_s, schedules.clone());
    let end_s = start_s + 7 * DAY_S;
    world.run((end_s + 3 * 3_600) * 1_000, end_s * 1_000);
    for (place, schedule) in schedules.iter().enumerate() {
        let mut at_s = start_s;
        let mut expected = Vec::new();
        while let Some(next_s) = schedule.timetable.next(at_s).filter(|it| *it < end_s) {
            expected.push(next_s);
            at_s = next_s;
        }
        for tick_s in &expected {
            let done = world.done.iter();
            let done: Vec<&Done> = done
                .filter(|it| (it.schedule, it.tick_s) == (place, *tick_s))
                .collect();
            let excused = done.iter().filter(|it| world.is_excused(it)).count();
            assert!(
                !done.is_empty() && done.len() <= 1 + excused,
                "seed {seed}, {schedule}, {}: {done:?}",
                crate::rfc3339(*tick_s)
            );
        }
    }
}

/// More of them with `TIDEGATE_WEEKS`, from another one with `TIDEGATE_SEED`.
fn seeds(first: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    let first = number("TIDEGATE_SEED").unwrap_or(first);
    first..first + number("TIDEGATE_WEEKS").unwrap_or(4)
}

#[test]
fn each_tick_of_a_week_is_done_once_when_clocks_are_put_forward() {
    for seed in seeds(0) {
        week(seed, "2026-03-26T00:00:00Z");
    }
}

#[test]
fn each_tick_of_a_week_is_done_once_when_clocks_are_put_back() {
    for seed in seeds(1_000) {
        week(seed, "2026-10-22T00:00:00Z");
    }
}
