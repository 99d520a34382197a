//! What one book decides, by tables, and what several decide that talk with each other.

use std::net::Ipv4Addr;

use super::*;
use crate::timetable::Timetable;
use crate::{KEPT_MAX, Missed};

fn schedule(expression: &str, missed: Missed) -> Schedule {
    Schedule {
        tenant: "t".into(),
        name: "s".into(),
        timetable: Timetable::new(expression, "UTC").unwrap(),
        payload: "at {at}".to_owned(),
        missed,
        late_s: 60,
    }
}

const NONE: [i64; 0] = [];

fn address(number: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, number)
}

const fn at(wall_s: i64) -> Now {
    Now {
        wall_ms: wall_s * 1_000,
        steady_ms: wall_s.unsigned_abs() * 1_000,
    }
}

fn book(number: u16, missed: Missed) -> Book {
    let own = Incarnation(number.into());
    let schedules = vec![schedule("* * * * *", missed)];
    Book::new(own, address(number), schedules, at(0))
}

fn alone(missed: Missed) -> Book {
    let mut book = book(1, missed);
    book.set_view(std::iter::empty(), true, at(0));
    book
}

/// The ticks that begin, each of which ends at once.
fn run(book: &mut Book, now: Now) -> Vec<i64> {
    let mut begun = Vec::new();
    loop {
        book.look(now);
        let acts = book.take_acts();
        let begins = acts.iter().filter_map(|act| match act {
            Act::Begin { at_s, .. } => Some(*at_s),
            Act::Say(..) | Act::Missed(..) | Act::ClockSetBack(..) | Act::ClockAhead(..) => None,
        });
        let begins: Vec<i64> = begins.collect();
        if begins.is_empty() {
            return begun;
        }
        for at_s in begins {
            book.ended(0, at_s, true, now);
            begun.push(at_s);
        }
    }
}

#[test]
fn a_gateway_alone_begins_each_tick_once() {
    let mut book = alone(Missed::Skip);
    assert_eq!(run(&mut book, at(59)), NONE);
    assert_eq!(run(&mut book, at(60)), [60]);
    assert_eq!(run(&mut book, at(60)), NONE);
    assert_eq!(run(&mut book, at(119)), NONE);
    assert_eq!(run(&mut book, at(120)), [120]);
    let status = book.status(&"t".into(), at(120));
    assert_eq!((status[0].last_s, status[0].next_s), (Some(120), Some(180)));
}

#[test]
fn what_is_missed_is_treated_as_the_schedule_says() {
    let table = [
        (Missed::Skip, 630, vec![600]),
        (Missed::Once, 630, vec![600]),
        (Missed::All, 250, vec![60, 120, 180, 240]),
    ];
    for (missed, now_s, begun) in table {
        assert_eq!(run(&mut alone(missed), at(now_s)), begun, "{missed:?}");
    }
    // Later than the schedule allows: half an hour after the only tick of the hour.
    for (missed, begun) in [(Missed::Skip, vec![]), (Missed::Once, vec![3_600])] {
        let schedules = vec![schedule("0 * * * *", missed)];
        let mut book = Book::new(Incarnation(1), address(1), schedules, at(0));
        book.set_view(std::iter::empty(), true, at(0));
        assert_eq!(run(&mut book, at(5_400)), begun, "{missed:?}");
        assert_eq!(run(&mut book, at(7_200)), [7_200], "{missed:?}");
    }
}

#[test]
fn of_very_many_missed_ticks_the_newest_are_made_up_for() {
    let mut book = alone(Missed::All);
    let kept = i64::try_from(KEPT_MAX).unwrap();
    book.look(at(60 * 5_000));
    let acts = book.take_acts();
    let first = 60 * (5_000 - kept + 1);
    let begin = Act::Begin {
        schedule: 0,
        at_s: first,
        missed: 1_000,
    };
    assert_eq!(acts, [begin], "so many are counted");
    book.ended(0, first, true, at(60 * 5_000));
    assert_eq!(run(&mut book, at(60 * 5_000)).len(), KEPT_MAX - 1);
}

#[test]
fn a_schedule_has_one_task_at_a_time() {
    let mut book = alone(Missed::All);
    book.look(at(60));
    assert_eq!(book.take_acts().len(), 1);
    book.look(at(200));
    assert_eq!(book.take_acts(), []);
    book.ended(0, 60, true, at(200));
    assert_eq!(run(&mut book, at(200)), [120, 180]);
}

#[test]
fn a_task_that_found_no_room_is_tried_again() {
    let mut book = alone(Missed::Skip);
    book.look(at(60));
    assert_eq!(book.take_acts().len(), 1);
    book.ended(0, 60, false, at(60));
    assert_eq!(run(&mut book, at(60)), NONE, "not at once");
    assert_eq!(run(&mut book, at(62)), [60]);
}

#[test]
fn a_clock_that_is_set_back_begins_nothing_twice_and_one_that_was_wrong_is_not_waited_for() {
    let mut book = alone(Missed::Skip);
    assert_eq!(run(&mut book, at(7_200)), [7_200]);
    for now_s in [3_600, 3_660, 7_199, 7_200, 7_259] {
        assert_eq!(run(&mut book, at(now_s)), NONE, "{now_s}");
    }
    assert_eq!(run(&mut book, at(7_260)), [7_260]);
    // A year ahead, and back.
    let year = 366 * 86_400;
    assert_eq!(run(&mut book, at(year)), [year]);
    book.look(at(8_000));
    assert_eq!(book.take_acts(), [Act::ClockSetBack(0, year)]);
    assert_eq!(run(&mut book, at(8_040)), [8_040]);
}

#[test]
fn what_was_kept_is_known_again() {
    let mut first = alone(Missed::Once);
    assert_eq!(run(&mut first, at(60)), [60]);
    let mut second = Book::new(
        Incarnation(2),
        address(1),
        vec![schedule("* * * * *", Missed::Once)],
        at(1_000),
    );
    second.restore(&first.kept());
    second.set_view(std::iter::empty(), true, at(1_000));
    assert_eq!(
        run(&mut second, at(1_000)),
        [960],
        "missed while nobody was there"
    );
}

/// Brings what was said to those it is for, until nothing is said any more.
fn talk(books: &mut [Book], now: Now) -> Vec<(u64, i64)> {
    let mut begun = Vec::new();
    loop {
        let mut said = Vec::new();
        for book in &mut *books {
            for act in book.take_acts() {
                match act {
                    Act::Say(to, what) => said.push((book.own, to, what)),
                    Act::Begin { at_s, .. } => begun.push((book.own.0, at_s)),
                    Act::Missed(..) | Act::ClockSetBack(..) | Act::ClockAhead(..) => {}
                }
            }
        }
        if said.is_empty() {
            return begun;
        }
        for (from, to, what) in said {
            let Some(book) = books.iter_mut().find(|it| it.own == to) else {
                continue;
            };
            let answers = book.hear(from, what, now);
            let asker = books.iter_mut().find(|it| it.own == from);
            if let Some(asker) = asker {
                for answer in answers {
                    asker.hear(to, answer, now);
                }
            }
        }
    }
}

fn view(books: &mut [Book], numbers: &[u16], now: Now) {
    let all = |own: Incarnation| {
        let others = numbers
            .iter()
            .map(|it| (Incarnation((*it).into()), address(*it)));
        others.filter(move |(it, _)| *it != own).collect::<Vec<_>>()
    };
    for book in books {
        let others = all(book.own);
        book.set_view(others.iter().copied(), true, now);
        for (other, _) in others {
            book.linked(other, now);
        }
    }
}

fn three() -> Vec<Book> {
    let mut books: Vec<Book> = (1..=3).map(|it| book(it, Missed::Skip)).collect();
    view(&mut books, &[1, 2, 3], at(0));
    assert_eq!(talk(&mut books, at(0)), []);
    books
}

fn look(books: &mut [Book], now: Now) -> Vec<(u64, i64)> {
    books.iter_mut().for_each(|book| book.look(now));
    talk(books, now)
}

#[test]
fn one_of_three_begins_a_tick_and_the_next_stands_in_when_it_is_gone() {
    let mut books = three();
    let begun = look(&mut books, at(60));
    let &[(first, 60)] = begun.as_slice() else {
        panic!("{begun:?}")
    };
    // It is lost before its task has ended.
    let left: Vec<u16> = (1..=3).filter(|it| u64::from(*it) != first).collect();
    books.retain(|book| book.own.0 != first);
    assert_eq!(look(&mut books, at(65)), [], "it is still in the view");
    view(&mut books, &left, at(66));
    talk(&mut books, at(66));
    let begun = look(&mut books, at(66));
    let &[(second, 60)] = begun.as_slice() else {
        panic!("{begun:?}")
    };
    let book = books.iter_mut().find(|it| it.own.0 == second).unwrap();
    book.ended(0, 60, true, at(67));
    assert_eq!(talk(&mut books, at(67)), []);
    assert_eq!(look(&mut books, at(70)), [], "it is over");
    for book in &books {
        assert_eq!(book.status(&"t".into(), at(70))[0].last_s, Some(60));
    }
}

#[test]
fn two_that_both_take_themselves_for_the_first_begin_one_task() {
    // Neither has heard of the other's schedules, and both have waited long enough.
    let mut books = vec![book(1, Missed::Skip), book(2, Missed::Skip)];
    for (place, other) in [(0, 2), (1, 1)] {
        let book = books.get_mut(place).unwrap();
        let others = [(Incarnation(other), address(u16::try_from(other).unwrap()))];
        book.set_view(others.into_iter(), true, at(0));
        book.linked(Incarnation(other), at(0));
        let _ = book.take_acts();
    }
    let begun = look(&mut books, at(60));
    let mut all = begun;
    all.extend(look(&mut books, at(62)));
    assert_eq!(all.len(), 1, "{all:?}");
}

#[test]
fn a_clock_that_is_ahead_waits_for_the_others_and_one_that_is_behind_holds_nobody_up() {
    let mut books = three();
    // An hour ahead.
    for place in 0..3 {
        books[place].look(at(3_600));
        assert_eq!(talk(&mut books, at(30)), [], "{place}");
    }
    // One of the others is behind.
    let mut begun = Vec::new();
    for now_s in [60, 62, 64, 66] {
        for place in 0..3 {
            books[place].look(at(now_s));
            let mut said = Vec::new();
            for act in books[place].take_acts() {
                match act {
                    Act::Say(to, what) => said.push((to, what)),
                    Act::Begin { at_s, .. } => begun.push(at_s),
                    Act::Missed(..) | Act::ClockSetBack(..) | Act::ClockAhead(..) => {}
                }
            }
            let from = books[place].own;
            for (to, what) in said {
                let behind = if to == Incarnation(2) {
                    at(1)
                } else {
                    at(now_s)
                };
                let book = books.iter_mut().find(|it| it.own == to).unwrap();
                for answer in book.hear(from, what, behind) {
                    books[place].hear(to, answer, at(now_s));
                }
            }
            for act in books[place].take_acts() {
                if let Act::Begin { at_s, .. } = act {
                    begun.push(at_s);
                }
            }
        }
    }
    assert_eq!(begun, [60]);
}

#[test]
fn one_that_ends_in_peace_is_not_waited_for() {
    let mut books = three();
    let begun = look(&mut books, at(60));
    let (first, _) = begun[0];
    let place = books.iter().position(|it| it.own.0 == first).unwrap();
    books[place].ended(0, 60, true, at(61));
    books[place].end();
    talk(&mut books, at(61));
    let begun = look(&mut books, at(120));
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_ne!(begun[0].0, first);
}

#[test]
fn one_that_cannot_be_reached_is_waited_for_until_it_leaves_the_view() {
    let mut books = three();
    let first = {
        let begun = look(&mut books, at(60));
        let (first, _) = begun[0];
        let place = books.iter().position(|it| it.own.0 == first).unwrap();
        books[place].ended(0, 60, true, at(61));
        talk(&mut books, at(61));
        first
    };
    books.retain(|book| book.own.0 != first);
    for book in &mut books {
        book.unlinked(Incarnation(first));
    }
    for now_s in [120, 125, 130] {
        assert_eq!(look(&mut books, at(now_s)), [], "{now_s}");
    }
    let left: Vec<u16> = (1..=3).filter(|it| u64::from(*it) != first).collect();
    view(&mut books, &left, at(131));
    talk(&mut books, at(131));
    assert_eq!(look(&mut books, at(132)).len(), 1);
}

#[test]
fn the_payload_says_which_tick_it_is() {
    let it = schedule("* * * * *", Missed::Skip);
    assert_eq!(it.payload_at(60), "at 1970-01-01T00:01:00Z");
}
