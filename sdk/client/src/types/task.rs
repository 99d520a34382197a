//! Schedules and tasks. Times are in milliseconds since 1970.

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

/// A task that waits or is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskInfo {
    /// Its id, as handlers know it.
    pub task: String,
    /// Whose it is; null if it is no client's.
    pub client: Option<String>,
    /// Whether a worker may have it; else it waits for its turn.
    pub under_way: bool,
    /// How many attempts there were before this one.
    pub attempt: u8,
    /// How many of its steps are committed.
    pub steps: u32,
    /// Milliseconds since it was submitted.
    pub age_ms: u64,
}

/// The tasks of a tenant that wait or are under way: how many, and a part of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tasks {
    /// How many wait for their turn.
    pub waiting: u64,
    /// How many are under way.
    pub under_way: u64,
    /// Milliseconds since the oldest of all was submitted; 0 if there is none.
    pub oldest_ms: u64,
    /// A part of them, ordered by id.
    pub items: Vec<TaskInfo>,
    /// Where the list goes on; null at its end.
    pub next: Option<String>,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
}
