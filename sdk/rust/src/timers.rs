//! Calls back later. Setting and cancelling are effects: they happen with the event that asks for them,
//! or not at all.
//!
//! A timer that is set in a client's event is the client's: [`Handler::on_timer`](crate::Handler::on_timer)
//! comes among the client's other events, and the timer ends with the client. One that is set elsewhere,
//! or in `on_close`, is the tenant's: it lives at the gateway that took the event, and ends when that
//! gateway ends. Traps, swaps and lost workers end neither.
//!
//! ```
//! use std::time::Duration;
//!
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Gateway;
//!
//! #[derive(Default)]
//! struct Turns;
//!
//! const PATIENCE: Duration = Duration::from_secs(30);
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Turns {
//!     fn on_message(&mut self, client: Client, _: Message) -> Result {
//!         // Whoever plays in time has as long again.
//!         if let Some(timer) = session::get::<Timer>("turn")? {
//!             timer.cancel()?;
//!         }
//!         session::set("turn", &timers::after(PATIENCE, "turn")?)
//!     }
//!
//!     fn on_timer(&mut self, client: Option<Client>, _: Timer, _: Vec<u8>) -> Result {
//!         client.map_or(Ok(()), |client| client.close_with("too slow"))
//!     }
//! }
//!
//! # fn main() -> Result {
//! let mut gateway = Gateway::<Turns>::start()?;
//! let client = gateway.connect()?;
//! gateway.send(client, "e4")?;
//! gateway.wait(Duration::from_secs(20))?;
//! gateway.send(client, "Nf3")?;
//! gateway.wait(Duration::from_secs(20))?;
//! assert!(gateway.is_connected(client));
//! gateway.wait(Duration::from_secs(10))?;
//! assert_eq!(gateway.received(client), [Message::from("too slow")]);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend;
use crate::directory::List;
use crate::error::Result;

/// A timer, wherever it lives. A name, not a handle: it may be kept, and names nothing once the timer
/// has run out or was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timer(String);

impl Timer {
    pub(crate) const fn new(id: String) -> Self {
        Self(id)
    }

    /// Its id, as the host has given it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Ends it, also one of another client. Nothing happens if it has run out; an event of it that
    /// waits already still comes.
    pub fn cancel(&self) -> Result {
        Ok(backend::cancel_timer(&self.0)?)
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Calls `on_timer` once, so long after the event's effects have happened, with this payload (at most
/// 64 KiB). At the longest a year of 366 days.
pub fn after(delay: Duration, payload: impl AsRef<[u8]>) -> Result<Timer> {
    let id = backend::set_timer(milliseconds(delay), false, payload.as_ref())?;
    Ok(Timer::new(id))
}

/// Calls `on_timer` again and again, the first time after one period. One event of it waits at a time:
/// times that pass meanwhile are left out.
pub fn every(period: Duration, payload: impl AsRef<[u8]>) -> Result<Timer> {
    let id = backend::set_timer(milliseconds(period), true, payload.as_ref())?;
    Ok(Timer::new(id))
}

/// A timer that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerInfo {
    /// Which.
    pub timer: Timer,
    /// Until it runs out.
    pub due_in: Duration,
    /// Of one that repeats.
    pub period: Option<Duration>,
    /// What it was set with.
    pub payload: Vec<u8>,
}

/// In a client's event the timers of the client, else those of the tenant that are no client's,
/// wherever they live; ordered by id. Those that this event sets or cancels are not there, or still
/// there.
pub fn waiting() -> List<TimerInfo> {
    List::new(backend::timers)
}

/// Rounded up: no timer runs out before its time.
fn milliseconds(duration: Duration) -> u64 {
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(milliseconds).unwrap_or(u64::MAX)
}
