//! Where a client is, in its session under the key `place`, and its one clock, under the key `clock`.
//! Clocks repeat until they are stopped: an event of one that fails is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_sdk::prelude::*;

use crate::protocol::FromClient;
use crate::rules::Side;
use crate::table::Table;

/// The session key of the place.
pub(crate) const PLACE: &str = "place";

/// The session key of the clock.
const CLOCK: &str = "clock";

/// Where a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "lowercase")]
pub(crate) enum Place {
    #[default]
    Nowhere,
    /// In the lobby, and free.
    Waiting,
    /// In the lobby, about to ask this one for a game.
    Claiming {
        whom: Client,
    },
    /// In the lobby, asked by this one.
    Claimed {
        by: Client,
    },
    Playing {
        game: String,
        side: Side,
    },
    /// Looks for the table to which it has a token.
    Returning {
        game: String,
        secret: String,
        tries: u32,
    },
    Watching {
        game: String,
    },
}

/// Where the client is whose event it is.
pub(crate) fn own() -> Result<Place> {
    Ok(session::get(PLACE)?.unwrap_or_default())
}

/// What a timer is for; its payload.
#[derive(Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "lowercase")]
pub(crate) enum Purpose {
    /// A client's clock: look for an opponent.
    Pair,
    /// A client's clock: whose turn it is since this version is too slow.
    Turn { game: String, version: u64 },
    /// A client's clock: look for the table again.
    Return,
    /// A client's: what it watches, once it is in the group of the watchers.
    Look { game: String },
    /// A client's: what it said while the table changed hands is tried again.
    Retry { wish: FromClient, tries: u32 },
    /// The tenant's: the connection of a player is gone, with the table if it held it.
    Lost {
        client: Client,
        game: String,
        side: Side,
        table: Option<Table>,
    },
    /// The tenant's: keeps a table that its holder has left behind.
    Keep { table: Table },
    /// The tenant's: the time to come back is over.
    Expire {
        game: String,
        side: Side,
        drops: u32,
        keeper: Option<Timer>,
    },
}

impl Purpose {
    /// The payload of a timer.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// Starts the client's clock, in place of another one.
pub(crate) fn set_clock(period: Duration, purpose: &Purpose) -> Result {
    stop_clock()?;
    session::set(CLOCK, &timers::every(period, purpose.bytes()?)?)
}

/// Stops the client's clock, if it runs.
pub(crate) fn stop_clock() -> Result {
    if let Some(timer) = session::get::<Timer>(CLOCK)? {
        timer.cancel()?;
        session::remove(CLOCK)?;
    }
    Ok(())
}

/// Whether this timer is the client's clock, and not one that was stopped while its event waited.
pub(crate) fn is_clock(timer: &Timer) -> Result<bool> {
    Ok(session::get::<Timer>(CLOCK)?.as_ref() == Some(timer))
}
