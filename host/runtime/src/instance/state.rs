//! The memory of an instance, given to its successor: `save` and `restore`, within their own bounds
//! of time and size.

use std::time::Duration;

use tokio::time::timeout;

use super::Instance;
use super::failure;
use super::store::{begin_call, ended};

/// What comes with the bytes themselves when they are copied out of the guest.
const COPIED_BESIDE: usize = 4096;

/// Why memory was not handed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateFailure {
    /// It took too long.
    #[error("not done within {0} ms")]
    Late(u128),
    /// It gave too much.
    #[error("{bytes} bytes, at most {bytes_max} are handed on")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// The new version does not want it.
    #[error("refused: {0}")]
    Refused(String),
    /// It trapped or ran into a limit.
    #[error("{0}")]
    Broken(Box<failure::Failure>),
}

impl StateFailure {
    /// Whether the instance can still be called.
    pub(crate) const fn is_sound(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::Refused(_) => true,
            Self::Late(_) | Self::Broken(_) => false,
        }
    }
}

impl Instance {
    /// Whether it can give and take memory.
    pub(crate) const fn has_state(&self) -> bool {
        self.state.is_some()
    }

    /// What its successor should know.
    pub(crate) async fn save(
        &mut self,
        within: Duration,
        bytes_max: usize,
    ) -> Result<Vec<u8>, StateFailure> {
        let Some(guest) = &self.state else {
            return Ok(Vec::new());
        };
        begin_call(&mut self.store);
        // The engine stops what is larger before it is copied.
        self.store
            .set_hostcall_fuel(bytes_max.saturating_add(COPIED_BESIDE));
        let result = timeout(within, guest.call_save(&mut self.store)).await;
        self.store.set_hostcall_fuel(self.limits.hostcall_bytes());
        if result.is_err() {
            return Err(StateFailure::Late(within.as_millis()));
        }
        let saved = ended(&mut self.store, result).map_err(StateFailure::Broken)?;
        let bytes = saved.len();
        if bytes > bytes_max {
            return Err(StateFailure::TooLarge { bytes, bytes_max });
        }
        Ok(saved)
    }

    /// Takes what its predecessor saved. After a failure it must be dropped.
    pub(crate) async fn restore(
        &mut self,
        from_version: &str,
        saved: &[u8],
        within: Duration,
    ) -> Result<(), StateFailure> {
        let Some(guest) = &self.state else {
            return Ok(());
        };
        begin_call(&mut self.store);
        let call = guest.call_restore(&mut self.store, from_version, saved);
        let result = timeout(within, call).await;
        if result.is_err() {
            return Err(StateFailure::Late(within.as_millis()));
        }
        ended(&mut self.store, result)
            .map_err(StateFailure::Broken)?
            .map_err(StateFailure::Refused)
    }
}
