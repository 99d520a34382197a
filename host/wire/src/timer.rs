//! Timers of handlers: their ids, and what they may be set to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{ClientId, EventId, Incarnation};

/// The longest time for which a timer may be set, in milliseconds: a year of 366 days.
pub const DELAY_MS_MAX: u64 = 366 * 24 * 3_600 * 1_000;
/// The largest payload of a timer.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// Why a timer may not be set so. The text says what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingRefused {
    /// For so long, or so often.
    Time(String),
    /// With so many bytes.
    Payload(String),
}

/// Refuses what no timer may be set to.
///
/// # Errors
/// What would be right.
pub fn check(delay_ms: u64, repeats: bool, payload: &[u8]) -> Result<(), SettingRefused> {
    if repeats && delay_ms == 0 {
        let text = "a period has at least one millisecond".to_owned();
        return Err(SettingRefused::Time(text));
    }
    if delay_ms > DELAY_MS_MAX {
        return Err(SettingRefused::Time(format!(
            "a timer may be set for {DELAY_MS_MAX} ms, a year, not for {delay_ms} ms"
        )));
    }
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(SettingRefused::Payload(format!(
            "the payload of a timer may have {PAYLOAD_BYTES_MAX} bytes, this one has {}",
            payload.len()
        )));
    }
    Ok(())
}

/// One timer, cluster-wide: the event in which it was set, and which of that event's timers it is. An
/// event that runs again gives its timers the same ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimerId {
    /// The client among whose events it fires and with whom it ends; none: it is the tenant's.
    pub client: Option<ClientId>,
    /// The event in which it was set.
    pub event: EventId,
    /// It is this event's timer of that number, from 0.
    pub nth: u16,
}

impl fmt::Display for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(client) = self.client {
            write!(f, "{client}-")?;
        }
        write!(f, "{}-{}", self.event, self.nth)
    }
}

/// A text that is not a timer's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a timer: use one that `after` or `every` has given, as it is")]
pub struct TimerIdError(pub String);

impl FromStr for TimerId {
    type Err = TimerIdError;

    fn from_str(text: &str) -> Result<Self, TimerIdError> {
        let error = || TimerIdError(text.chars().take(80).collect());
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
