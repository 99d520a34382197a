//! What gateways say to each other about schedules, so that each tick begins one task in the cluster.

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::effect_id::EffectId;
use crate::id::{EventId, Incarnation};
use crate::sketch::stable_hash;
use crate::task::TaskId;

/// One time of a schedule: what a task begins with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tick {
    /// Whose schedule.
    pub tenant: Name,
    /// Its name.
    pub schedule: Name,
    /// The time, in seconds since 1970.
    pub at_s: i64,
}

impl Tick {
    /// The task of this tick. It is the same wherever it runs, so that whoever runs it again knows it again.
    #[must_use]
    pub fn task(&self) -> TaskId {
        let mut bytes = self.tenant.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(self.schedule.as_bytes());
        EffectId {
            client: None,
            event: EventId {
                gateway: Incarnation(stable_hash(&bytes)),
                shard: 0,
                sequence: self.at_s.unsigned_abs(),
            },
            nth: 0,
        }
    }
}

/// What a gateway says to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TickVerdict {
    /// Begin it.
    Granted,
    /// It is over, or somebody else has begun it or is about to.
    Refused,
    /// By the clock here it is not yet time.
    Early,
}

/// What a gateway knows of one of its schedules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSchedule {
    /// Whose.
    pub tenant: Name,
    /// Its name.
    pub schedule: Name,
    /// Ticks up to this one are over, in seconds since 1970; none: nobody has told it of any.
    pub over_s: Option<i64>,
    /// Since when it looks after the schedule, likewise: ticks before that it would not know of.
    pub since_s: i64,
    /// The last tick whose task has ended, likewise.
    pub last_s: Option<i64>,
    /// The tick that it has begun or is about to begin, likewise.
    pub open_s: Option<i64>,
}

/// Between gateways, about schedules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleSaid {
    /// All schedules that the sender looks after.
    Known(Vec<KnownSchedule>),
    /// The sender is about to begin this tick.
    Claim(Tick),
    /// Whether it may.
    Verdict(Tick, TickVerdict),
    /// The task of this tick has ended; earlier ticks are over too.
    Over(Tick),
    /// The sender does not begin this tick, or its task was lost.
    Withdrawn(Tick),
}

impl ScheduleSaid {
    /// Bytes of its texts.
    pub(crate) fn texts(&self) -> usize {
        match self {
            Self::Known(known) => {
                let texts = |it: &KnownSchedule| it.tenant.len() + it.schedule.len();
                known.iter().map(texts).sum()
            }
            Self::Claim(tick)
            | Self::Verdict(tick, _)
            | Self::Over(tick)
            | Self::Withdrawn(tick) => tick.tenant.len() + tick.schedule.len(),
        }
    }
}
