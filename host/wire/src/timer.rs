//! Timers of handlers: what they may be set to.

use crate::effect_id::EffectId;

/// One timer, cluster-wide: a client's fires among its events and ends with it.
pub type TimerId = EffectId;

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
