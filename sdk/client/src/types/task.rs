//! Schedules. Times are in milliseconds since 1970.

use serde::{Deserialize, Serialize};

/// A schedule of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleInfo {
    /// Its name.
    pub name: String,
    /// Its expression of cron.
    pub cron: String,
    /// The time zone in which that is meant.
    pub time_zone: String,
    /// The last time whose task has ended, as far as the gateway that answers knows; null if there is none.
    pub last_at: Option<u64>,
    /// When it is due next; null if never again.
    pub next_at: Option<u64>,
    /// The time whose task has begun and not ended; null if there is none.
    pub running_at: Option<u64>,
}

/// The schedules of a tenant that the gateway that answers looks after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Schedules {
    /// In the order of the configuration.
    pub schedules: Vec<ScheduleInfo>,
}
