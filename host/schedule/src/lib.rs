//! ◆ Schedules: when they are due, and which gateway begins the task of each tick.
//!
//! Guarantees: [`timetable`] gives each tick of an expression in a time zone once, also where clocks are
//! changed. Of gateways that hear each other, [`book`] has one begin the task of a tick; one that is lost is stood
//! in for by the next; what nobody could begin in time is treated as the schedule says.

pub mod book;
mod due;
pub mod timetable;

use std::fmt;

use tidegate_wire::Name;
use timetable::Timetable;

/// What happens to ticks that could not begin when they were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are left out; the newest one still begins if it is not later than the schedule allows.
    #[default]
    Skip,
    /// The newest one begins, however late; those before it are left out.
    Once,
    /// All of them begin, one after the other; of more than [`due::KEPT_MAX`] the newest.
    All,
}

/// A schedule of a tenant.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Whose.
    pub tenant: Name,
    /// Its name, once in a tenant.
    pub name: Name,
    /// When it is due.
    pub timetable: Timetable,
    /// What its task is given; `{at}` in it becomes the time of the tick.
    pub payload: String,
    /// What happens to ticks that are late.
    pub missed: Missed,
    /// How late a tick may begin, with [`Missed::Skip`], in seconds.
    pub late_s: u64,
}

impl Schedule {
    /// What the task of a tick is given.
    #[must_use]
    pub fn payload_at(&self, at_s: i64) -> String {
        self.payload.replace("{at}", &rfc3339(at_s))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.tenant)
    }
}

/// A time in seconds since 1970 as text, like `2026-03-29T01:00:00Z`.
#[must_use]
pub fn rfc3339(at_s: i64) -> String {
    jiff::Timestamp::from_second(at_s).map_or_else(|_| at_s.to_string(), |at| at.to_string())
}

pub use due::KEPT_MAX;
