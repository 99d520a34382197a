//! The names of what an event asks for and what outlasts it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{ClientId, EventId, Incarnation};

/// One timer or task, cluster-wide: the event that has asked for it, and which of that event's it is. An
/// event that runs again names them the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EffectId {
    /// Whose it is; none: it is the tenant's.
    pub client: Option<ClientId>,
    /// The event that has asked for it.
    pub event: EventId,
    /// Its number among those of this event, from 0.
    pub nth: u32,
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(client) = self.client {
            write!(f, "{client}-")?;
        }
        write!(f, "{}-{}", self.event, self.nth)
    }
}

/// A text that is no such id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a timer: use one that `after` or `every` has given, as it is")]
pub struct EffectIdError(pub String);

impl FromStr for EffectId {
    type Err = EffectIdError;

    fn from_str(text: &str) -> Result<Self, EffectIdError> {
        let error = || EffectIdError(text.chars().take(80).collect());
        let mut parts = text.rsplit('-');
        let mut part = || parts.next().ok_or_else(error);
        let (nth, sequence, shard, gateway) = (part()?, part()?, part()?, part()?);
        let client = parts.next().map(|it| it.parse().map_err(|_| error()));
        let client = client.transpose()?;
        let id = (|| {
            Some(Self {
                client,
                event: EventId {
                    gateway: Incarnation(u64::from_str_radix(gateway, 16).ok()?),
                    shard: shard.parse().ok()?,
                    sequence: sequence.parse().ok()?,
                },
                nth: nth.parse().ok()?,
            })
        })();
        // As it was given: no sign, no zero in front, nothing before it.
        id.filter(|id| id.to_string() == text).ok_or_else(error)
    }
}
