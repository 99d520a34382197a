//! Who plays whom. Those who wait are a group. Twice a second each of them looks at it: whoever is the
//! second, fourth, … in the order of client ids asks the one before. First it takes itself off the
//! market, then the other one, both by compare-and-set of `place`, so that nobody gets two games; what
//! was begun and not ended (a client that left between) is undone at the next look.

use std::time::Duration;

use tidegate_sdk::prelude::*;

use crate::holder::{self, TABLE, TABLES};
use crate::place::{self, PLACE, Place, Purpose};
use crate::rules::Side;
use crate::table::{Seat, Table};

/// The group of those who wait for an opponent.
const LOBBY: &str = "lobby";

/// How often they look.
const LOOK: Duration = Duration::from_millis(500);

/// How many of them a look sees; others wait until these have gone.
const SEEN_MAX: u32 = 1000;

/// The session key of the name.
const NAME: &str = "name";

/// Puts a client into the lobby.
pub(crate) fn enter(client: Client, name: &str) -> Result {
    session::set(NAME, name)?;
    session::set(PLACE, &Place::Waiting)?;
    client.join(LOBBY)?;
    place::set_clock(LOOK, &Purpose::Pair)
}

/// Takes a client out of the lobby. False: somebody has asked it for a game already.
pub(crate) fn leave(client: Client) -> Result<bool> {
    match client.compare_and_set(PLACE, Some(&Place::Waiting), Some(&Place::Nowhere)) {
        Ok(()) => {
            client.leave(LOBBY)?;
            place::stop_clock()?;
            Ok(true)
        }
        Err(error) if holder::is_raced(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The clock of somebody in the lobby.
pub(crate) fn look(client: Client, turn: Duration) -> Result {
    match place::own()? {
        Place::Waiting => {
            let Some(whom) = neighbour(client)? else {
                return Ok(());
            };
            let claiming = Place::Claiming { whom };
            if take(client, &Place::Waiting, &claiming)? {
                ask(client, whom, turn)?;
            }
            Ok(())
        }
        Place::Claiming { whom } => ask(client, whom, turn),
        Place::Claimed { by } => {
            if place_of(by)? != Some(Place::Claiming { whom: client }) {
                // It has thought better of it, or is gone.
                take(client, &Place::Claimed { by }, &Place::Waiting)?;
            }
            Ok(())
        }
        Place::Nowhere
        | Place::Playing { .. }
        | Place::Returning { .. }
        | Place::Watching { .. } => {
            client.leave(LOBBY)?;
            place::stop_clock()
        }
    }
}

/// Whom to ask: the one before, if this client stands at an even place.
fn neighbour(client: Client) -> Result<Option<Client>> {
    let page = directory::in_group(LOBBY)
        .clients()
        .limit(SEEN_MAX)
        .page()?;
    let mut pairs = page.items.chunks_exact(2);
    Ok(pairs.find_map(|pair| match pair {
        [one, other] if *other == client => Some(*one),
        _ => None,
    }))
}

/// Asks for a game; what this client cannot have it gives up.
fn ask(client: Client, whom: Client, turn: Duration) -> Result {
    let claimed = Place::Claimed { by: client };
    if take(whom, &Place::Waiting, &claimed)? || place_of(whom)?.as_ref() == Some(&claimed) {
        begin(client, whom, turn)
    } else {
        session::set(PLACE, &Place::Waiting)
    }
}

/// Whether the place was still the expected one.
fn take(client: Client, expected: &Place, new: &Place) -> Result<bool> {
    match client.compare_and_set(PLACE, Some(expected), Some(new)) {
        Ok(()) => Ok(true),
        Err(error) if holder::is_raced(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn place_of(client: Client) -> Result<Option<Place>> {
    let info = client.info(Fields::SESSION)?;
    info.map_or(Ok(None), |info| info.session_key(PLACE))
}

fn name_of(client: Client) -> Result<String> {
    let info = client.info(Fields::SESSION)?;
    let name = info.map(|info| info.session_key(NAME)).transpose()?;
    Ok(name.flatten().unwrap_or_else(|| "somebody".to_owned()))
}

/// Seats both. Whoever was asked begins: should it have left in this moment, its clock runs out.
fn begin(client: Client, whom: Client, turn: Duration) -> Result {
    let (red, yellow) = (new_seat(whom)?, new_seat(client)?);
    let table = Table::new(format!("{:016x}", rand::random::<u64>()), red, yellow);
    for player in [client, whom] {
        player.leave(LOBBY)?;
    }
    session::set(TABLE, &table)?;
    client.join(TABLES)?;
    holder::seat(whom, &table, Side::Red)?;
    holder::seat(client, &table, Side::Yellow)?;
    holder::publish(&table)?;
    start_clock(&table, turn)
}

fn new_seat(client: Client) -> Result<Seat> {
    let secret = format!("{:032x}", rand::random::<u128>());
    Ok(Seat::new(name_of(client)?, secret, client))
}

/// The time for a turn begins, on the clock of the client whose event it is.
pub(crate) fn start_clock(table: &Table, turn: Duration) -> Result {
    let purpose = Purpose::Turn {
        game: table.id.clone(),
        version: table.version,
    };
    place::set_clock(turn, &purpose)
}
