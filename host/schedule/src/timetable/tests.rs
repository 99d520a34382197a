//! Changes of clocks by tables; forwards and backwards by properties.

use proptest::prelude::*;

use super::*;

/// The ticks between two times, as people in the zone would write them.
fn between(expression: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let timetable = Timetable::new(expression, zone).unwrap();
    let [mut at_s, to_s] = [from, to].map(|it| it.parse::<Timestamp>().unwrap().as_second());
    let mut found = Vec::new();
    while let Some(next_s) = timetable.next(at_s).filter(|next_s| *next_s <= to_s) {
        at_s = next_s;
        let at = timetable.at(at_s).unwrap();
        found.push(at.strftime("%d %H:%M:%S %:z").to_string());
    }
    found
}

const BERLIN: &str = "Europe/Berlin";

#[test]
fn a_time_that_does_not_exist_is_due_at_the_first_moment_after_it() {
    let (from, to) = ("2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z");
    assert_eq!(
        between("30 2 * * *", BERLIN, from, to),
        [
            "28 02:30:00 +01:00",
            "29 03:00:00 +02:00",
            "30 02:30:00 +02:00"
        ]
    );
    // What goes by the clock leaves out what the clock leaves out.
    assert_eq!(
        between(
            "30 */1 * * *",
            BERLIN,
            "2026-03-28T23:45:00Z",
            "2026-03-29T02:00:00Z"
        ),
        ["29 01:30:00 +01:00", "29 03:30:00 +02:00"]
    );
}

#[test]
fn a_time_that_comes_twice_is_due_once_and_what_goes_by_the_clock_twice() {
    let (from, to) = ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(
        between("30 2 * * *", BERLIN, from, to),
        ["25 02:30:00 +02:00", "26 02:30:00 +01:00"]
    );
    assert_eq!(
        between(
            "30 * * * *",
            BERLIN,
            "2026-10-24T23:45:00Z",
            "2026-10-25T02:00:00Z"
        ),
        ["25 02:30:00 +02:00", "25 02:30:00 +01:00"]
    );
}

#[test]
fn seconds_may_stand_in_front() {
    assert_eq!(
        between(
            "*/20 59 23 31 12 *",
            "UTC",
            "2026-12-31T23:00:00Z",
            "2027-01-01T00:00:00Z"
        ),
        [
            "31 23:59:00 +00:00",
            "31 23:59:20 +00:00",
            "31 23:59:40 +00:00"
        ]
    );
}

#[test]
fn what_is_no_timetable_is_refused_with_what_is_wrong() {
    for (expression, zone, part) in [
        ("", "UTC", "it has 0 fields; five are right"),
        ("* * * *", "UTC", "it has 4 fields"),
        ("* * * * * * *", "UTC", "it has 7 fields"),
        ("61 * * * *", "UTC", "out of bounds"),
        ("x * * * *", "UTC", ""),
        ("@sometimes", "UTC", ""),
        ("0 0 30 2 *", "UTC", "it is never due"),
        ("* * * * *", "Europe/Berlim", "there is no time zone"),
    ] {
        let error = Timetable::new(expression, zone).unwrap_err().to_string();
        assert!(error.contains(part), "{expression} {zone}: {error}");
    }
    assert!(zone_names().iter().any(|name| name == BERLIN));
    assert!(is_zone("UTC") && !is_zone("UTD"));
}

fn expression() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "30 2 * * *",
        "0 3 * * *",
        "*/7 * * * *",
        "15 1,2,3 * * *",
        "0 0 * * *",
        "*/13 * * * * *",
        "59 59 23 * * SUN",
        "0 2 L * *",
        "30 0-4 * * *",
    ])
}

proptest! {
    /// Forwards and backwards find the same ticks, also where clocks are changed.
    #[test]
    fn the_last_tick_up_to_the_next_one_is_the_next_one(
        expression in expression(),
        zone in prop::sample::select(vec![BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"]),
        change in prop::sample::select(vec!["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z",
            "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z", "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z"]),
        away_s in -90_000_i64..90_000,
    ) {
        let timetable = Timetable::new(expression, zone).unwrap();
        let at_s = change.parse::<Timestamp>().unwrap().as_second() + away_s;
        let next_s = timetable.next(at_s).unwrap();
        prop_assert!(next_s > at_s);
        prop_assert_eq!(timetable.last(next_s), Some(next_s));
        let last_s = timetable.last(next_s - 1).unwrap();
        prop_assert!(last_s <= at_s, "{} is between {} and {}", last_s, at_s, next_s);
        prop_assert_eq!(timetable.next(last_s), Some(next_s));
    }
}
