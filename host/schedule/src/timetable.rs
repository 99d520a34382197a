//! When a schedule is due: an expression of cron in a time zone. Needs nothing of the system it runs on: the
//! time zones are built in.
//!
//! Guarantees: an expression whose second, minute and hour are one number each is due once on each of its
//! days, also where clocks are changed: if the clock leaves that time out, at the first moment after it; if the
//! clock repeats it, the first time. Any other expression goes by what the clock shows.

use std::sync::OnceLock;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};

/// A longer text is no expression.
const EXPRESSION_BYTES_MAX: usize = 256;

/// Why there is no timetable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// The text is no expression; says what is wrong with it.
    #[error("{0}")]
    Expression(String),
    /// There is no such time zone.
    #[error("there is no time zone of this name")]
    TimeZone,
    /// The expression is never true.
    #[error("it is never due")]
    Never,
}

/// When a schedule is due.
#[derive(Clone, Debug)]
pub struct Timetable {
    cron: Cron,
    zone: TimeZone,
    expression: String,
    zone_name: String,
}

impl PartialEq for Timetable {
    fn eq(&self, other: &Self) -> bool {
        (&self.expression, &self.zone_name) == (&other.expression, &other.zone_name)
    }
}

fn zones() -> &'static TimeZoneDatabase {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    ZONES.get_or_init(TimeZoneDatabase::bundled)
}

/// The names of all time zones.
#[must_use]
pub fn zone_names() -> Vec<String> {
    let names = zones().available();
    names.map(|name| name.as_str().to_owned()).collect()
}

/// Whether there is a time zone of this name.
#[must_use]
pub fn is_zone(name: &str) -> bool {
    zones().get(name).is_ok()
}

/// Refuses a text that is no expression of cron.
///
/// # Errors
/// What is wrong with it.
pub fn check_expression(text: &str) -> Result<(), TimetableError> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<Cron, TimetableError> {
    let refused = |why: String| Err(TimetableError::Expression(why));
    if text.len() > EXPRESSION_BYTES_MAX {
        return refused(format!(
            "it has {} bytes, at most {EXPRESSION_BYTES_MAX} are right",
            text.len()
        ));
    }
    let fields = text.split_whitespace().count();
    let is_nickname = text.trim().starts_with('@');
    if !is_nickname && !(5..=6).contains(&fields) {
        return refused(format!(
            "it has {fields} fields; five are right, minute, hour, day of month, month and day of week, \
             or six with the second in front"
        ));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    parser
        .parse(text)
        .map_err(|error| TimetableError::Expression(error.to_string()))
}

impl Timetable {
    /// Of this expression in this time zone, like `Europe/Berlin`.
    ///
    /// # Errors
    /// See [`TimetableError`].
    pub fn new(expression: &str, zone_name: &str) -> Result<Self, TimetableError> {
        let cron = parse(expression)?;
        let zone = zones().get(zone_name);
        let timetable = Self {
            cron,
            zone: zone.map_err(|_| TimetableError::TimeZone)?,
            expression: expression.to_owned(),
            zone_name: zone_name.to_owned(),
        };
        // From a day that every expression has behind and before it, whatever clock is here.
        match timetable.next(0) {
            Some(_) => Ok(timetable),
            None => Err(TimetableError::Never),
        }
    }

    /// The expression, as it was given.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The name of the time zone, as it was given.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The first tick after this time, both in seconds since 1970.
    #[must_use]
    pub fn next(&self, after_s: i64) -> Option<i64> {
        let found = self.cron.find_next_occurrence(&self.at(after_s)?, false);
        let at_s = found.ok()?.timestamp().as_second();
        // Whoever asks for the next one again and again must come forward.
        (at_s > after_s).then_some(at_s)
    }

    /// The last tick up to this time, likewise.
    #[must_use]
    pub fn last(&self, until_s: i64) -> Option<i64> {
        let found = self.cron.find_previous_occurrence(&self.at(until_s)?, true);
        let at_s = found.ok()?.timestamp().as_second();
        (at_s <= until_s).then_some(at_s)
    }

    fn at(&self, at_s: i64) -> Option<Zoned> {
        let at = Timestamp::from_second(at_s).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests;
