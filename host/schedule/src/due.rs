//! What of a schedule is due, and what of it is missed, as its policy says.

use crate::{Missed, Schedule};

/// So many missed ticks of one schedule are made up for with [`Missed::All`].
pub const KEPT_MAX: usize = 100;
/// So many missed ticks are counted; of more it is not known how many they were.
const COUNTED_MAX: u64 = 1_000;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The tick that is to begin next; none: all that are due are missed.
    pub(crate) tick_s: Option<i64>,
    /// The newest tick that is due.
    pub(crate) newest_s: i64,
    /// How many are left out before the tick, or with all.
    pub(crate) missed: u64,
}

/// What is due of a schedule whose ticks up to `over_s` are over; none if nothing is.
pub(crate) fn due(schedule: &Schedule, over_s: i64, now_s: i64) -> Option<Due> {
    let newest_s = before(schedule, now_s, over_s)?;
    let late_s = now_s.abs_diff(newest_s);
    let tick_s = match schedule.missed {
        Missed::Skip if late_s > schedule.late_s => None,
        Missed::Skip | Missed::Once => Some(newest_s),
        Missed::All => Some(oldest_kept(schedule, over_s, newest_s)),
    };
    let left_out = match tick_s {
        Some(tick_s) => count_before(schedule, over_s, tick_s),
        None => 1 + count_before(schedule, over_s, newest_s),
    };
    Some(Due {
        tick_s,
        newest_s,
        missed: left_out,
    })
}

/// The last tick up to `until_s` that is not over.
fn before(schedule: &Schedule, until_s: i64, over_s: i64) -> Option<i64> {
    let last = schedule.timetable.last(until_s);
    last.filter(|at_s| *at_s > over_s)
}

fn oldest_kept(schedule: &Schedule, over_s: i64, newest_s: i64) -> i64 {
    let mut oldest_s = newest_s;
    for _ in 1..KEPT_MAX {
        match before(schedule, oldest_s - 1, over_s) {
            Some(at_s) => oldest_s = at_s,
            None => break,
        }
    }
    oldest_s
}

/// How many ticks are due before this one.
fn count_before(schedule: &Schedule, over_s: i64, tick_s: i64) -> u64 {
    let (mut at_s, mut count) = (tick_s, 0);
    while count < COUNTED_MAX
        && let Some(earlier_s) = before(schedule, at_s - 1, over_s)
    {
        at_s = earlier_s;
        count += 1;
    }
    count
}
