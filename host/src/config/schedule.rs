//! Schedules of tenants, `[[schedule]]`, and the types of their keys.

use std::ops::RangeInclusive;

use tidegate_schedule::timetable::{check_expression, is_zone, zone_names};
use tidegate_wire::Name;
use tidegate_wire::task::PAYLOAD_BYTES_MAX;

use super::error::{ConfigError, nearest};
use super::section::section;
use super::setting::{Setting, is_not, parsed, quoted};
use super::types::Missed;

/// So many schedules may a configuration have: gateways tell each other of all of them.
pub(crate) const SCHEDULES_MAX: usize = 256;

section! {
    /// A schedule of a tenant: at each of its times a task begins, once in the cluster, one at a time
    /// (`task-events` of the tenant's plugin). The gateways that have it and a listener of the tenant look
    /// after it; give it to all of them. There may be many.
    pub struct Schedule {
        /// Its name; a tenant has each once.
        name: Option<Name> = None;
        /// Whose task it begins.
        tenant: Name = "default".into();
        /// When: minute, hour, day of month, month and day of week, as in cron, or six fields with the second
        /// in front. A time that the clock leaves out is due at the first moment after it, one that
        /// the clock repeats the first time, if second, minute and hour are one number each; any other
        /// expression goes by what the clock shows.
        cron: Expression = Expression("0 * * * *".to_owned());
        /// The time zone in which that is meant, like `Europe/Berlin`. Zones are built in; the system
        /// needs none.
        time_zone: ZoneName = ZoneName("UTC".to_owned());
        /// What the task is given. `{at}` in it becomes the time of the tick, like
        /// `2026-03-29T01:00:00Z`.
        payload: String = String::new() => 0..=PAYLOAD_BYTES_MAX as u64 / 2;
        /// What happens to times at which no task could begin, because no gateway was there, the task
        /// of the time before was not done, or the clock was set forwards: `skip` leaves them out and begins the newest one if it
        /// is not too late, `once` begins the newest one however late, `all` begins each of them one after the
        /// other, the newest 100.
        missed: Missed = Missed::Skip;
        /// How late a task may begin with `skip`.
        late_seconds: u64 = 60 => 1..=86_400;
    }
}

/// An expression of cron.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression(pub(super) String);

impl Expression {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for Expression {
    const WANTED: &'static str = "an expression of cron, like `30 2 * * *`";
    const EXAMPLE: &'static str = "\"30 2 * * *\"";

    fn read(
        node: super::value::Node,
        _: Option<&RangeInclusive<u64>>,
    ) -> Result<Self, ConfigError> {
        parsed(node, |text| match check_expression(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(why) => Err(format!("{}: {why}", is_not(text, Self::WANTED))),
        })
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// The name of a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneName(pub(super) String);

impl ZoneName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for ZoneName {
    const WANTED: &'static str = "a time zone, like `Europe/Berlin` or `UTC`";
    const EXAMPLE: &'static str = "\"UTC\"";

    fn read(
        node: super::value::Node,
        _: Option<&RangeInclusive<u64>>,
    ) -> Result<Self, ConfigError> {
        parsed(node, |text| {
            if is_zone(text) {
                return Ok(Self(text.to_owned()));
            }
            let names = zone_names();
            let meant = nearest(text, names.iter().map(String::as_str));
            let meant = meant.map_or(String::new(), |name| format!(", did you mean `{name}`?"));
            Err(format!("{}{meant}", is_not(text, Self::WANTED)))
        })
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}
