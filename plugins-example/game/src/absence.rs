//! A player's connection is lost: its seat is kept for a while. If it held the table, the other player
//! gets it; and lest both are away, a timer of the tenant keeps a copy, which outlives every client. A
//! second timer ends the round when the time to come back is over.

use std::time::Duration;

use tidegate_sdk::prelude::*;

use crate::holder::{self, Change, TABLE};
use crate::lobby;
use crate::place::{self, PLACE, Place, Purpose};
use crate::rules::Side;
use crate::table::{DROPS_MAX, Outcome, Table};

/// How often the keeper of a table looks whether somebody has come back.
const KEEPER_LOOKS: Duration = Duration::from_secs(1);

/// How often who comes back looks for its table.
const RETURN_LOOKS: Duration = Duration::from_millis(500);

/// So often it looks; the keeper has looked by then.
const RETURN_LOOKS_MAX: u32 = 6;

/// How soon, and how often until it is done, a lost connection is seen to.
const LOST_LOOKS: Duration = Duration::from_millis(50);

/// The connection of a player is gone. What is to be done must be asked for, and in the close of a client
/// whose gateway is lost nothing can be asked: it is done in the event of a timer, at a gateway that is there.
pub(crate) fn closed(client: Client, game: &str, side: Side) -> Result {
    let own: Option<Table> = session::get(TABLE)?;
    let lost = Purpose::Lost {
        client,
        game: game.to_owned(),
        side,
        table: own.filter(|table| table.id == game),
    };
    timers::every(LOST_LOOKS, lost.bytes()?).map(drop)
}

/// The same, where it can be asked. `own` is the table if it was held there.
pub(crate) fn lost(
    timer: &Timer,
    client: Client,
    (game, side): (&str, Side),
    own: Option<Table>,
    grace: Duration,
) -> Result {
    let held_there = own.is_some();
    let table = match own {
        Some(mut table) => {
            table.lose(side, client);
            if !holder::hand_over(&table) {
                log::info!("nobody is left at the table {game}");
            }
            table
        }
        None => match holder::change(game, |table| table.lose(side, client))? {
            Change::Done(held) | Change::Already(held) => held.table,
            // Looked at again.
            Change::Nowhere { sure: false } => return Ok(()),
            // The other one is gone too, and its close keeps the table.
            Change::Stale | Change::Refused(_) | Change::Nowhere { sure: true } => {
                return timer.cancel();
            }
        },
    };
    timer.cancel()?;
    holder::publish(&table)?;
    if table.end.is_some() {
        return Ok(());
    }
    let drops = table.seat(side).drops;
    let keeper = held_there.then(|| keep(&table)).transpose()?;
    let expire = Purpose::Expire {
        game: game.to_owned(),
        side,
        drops,
        keeper,
    };
    let grace = if drops > DROPS_MAX {
        KEEPER_LOOKS
    } else {
        grace
    };
    timers::every(grace, expire.bytes()?).map(drop)
}

fn keep(table: &Table) -> Result<Timer> {
    let table = table.clone();
    timers::every(KEEPER_LOOKS, Purpose::Keep { table }.bytes()?)
}

/// A keeper looks: whoever is back first gets the table, and a table that somebody holds needs no keeper.
pub(crate) fn keeper_looks(timer: &Timer, kept: &Table) -> Result {
    let players = holder::find(&kept.id)?;
    if players.held.is_some() {
        return timer.cancel();
    }
    if !players.is_whole {
        return Ok(());
    }
    for info in players.infos {
        let Some(Place::Returning { secret, .. }) = info.session_key(PLACE)? else {
            continue;
        };
        let Some(side) = kept.side_of(&secret) else {
            continue;
        };
        if holder::gives(info.client, &kept.found_by(side, info.client)) {
            return Ok(());
        }
    }
    Ok(())
}

/// The time to come back is over.
pub(crate) fn expire(
    timer: &Timer,
    game: &str,
    side: Side,
    drops: u32,
    keeper: Option<&Timer>,
) -> Result {
    match holder::change(game, |table| table.give_up(side, drops))? {
        // Asked again after another period.
        Change::Nowhere { sure: false } => return Ok(()),
        Change::Done(held) | Change::Already(held) => holder::publish(&held.table)?,
        Change::Stale | Change::Refused(_) | Change::Nowhere { sure: true } => {}
    }
    if let Some(keeper) = keeper {
        keeper.cancel()?;
    }
    timer.cancel()
}

/// Who knows the secret of a seat takes it. Gives whether the table was found.
pub(crate) fn come_back(client: Client, game: &str, secret: &str, turn: Duration) -> Result<bool> {
    let before = std::cell::Cell::new(None);
    let change = holder::change(game, |table| {
        let side = table.side_of(secret);
        before.set(side.and_then(|side| table.seat(side).client));
        table.come_back(secret, client)
    })?;
    let (Change::Done(held) | Change::Already(held)) = change else {
        let Change::Refused(text) = change else {
            return Ok(false);
        };
        give_up(client, game, text)?;
        return Ok(true);
    };
    let table = held.table;
    let Some(side) = table.side_of(secret) else {
        return Ok(false);
    };
    if let Some(other) = before.get().filter(|other| *other != client) {
        // Half-open, or another window.
        let closing = other.closing();
        closing
            .code(4001, "your seat is taken from elsewhere")
            .close()?;
    }
    holder::seat(client, &table, side)?;
    holder::publish(&table)?;
    if table.is_running() {
        lobby::start_clock(&table, turn)?;
    } else {
        place::stop_clock()?;
    }
    Ok(true)
}

/// Nobody holds the table at this moment: its keeper finds this client among the players.
pub(crate) fn wait_for_table(client: Client, game: &str, secret: &str) -> Result {
    client.join(&holder::players(game))?;
    let place = Place::Returning {
        game: game.to_owned(),
        secret: secret.to_owned(),
        tries: 0,
    };
    session::set(PLACE, &place)?;
    place::set_clock(RETURN_LOOKS, &Purpose::Return)
}

/// The clock of somebody who comes back.
pub(crate) fn look(client: Client, turn: Duration) -> Result {
    let Place::Returning {
        game,
        secret,
        tries,
    } = place::own()?
    else {
        return place::stop_clock();
    };
    if come_back(client, &game, &secret, turn)? {
        return Ok(());
    }
    if tries >= RETURN_LOOKS_MAX {
        return give_up(client, &game, "this game is over");
    }
    let tries = tries + 1;
    session::set(
        PLACE,
        &Place::Returning {
            game,
            secret,
            tries,
        },
    )
}

fn give_up(client: Client, game: &str, text: &str) -> Result {
    client.leave(&holder::players(game))?;
    session::remove(PLACE)?;
    place::stop_clock()?;
    client.send_json(&crate::ToClient::Refused { text })
}

/// A player leaves for good.
pub(crate) fn leave(client: Client, game: &str, side: Side) -> Result {
    let change = holder::change(game, |table| table.leave(side, client))?;
    if let Change::Done(held) | Change::Already(held) = change {
        if held.holder == client {
            holder::hand_over(&held.table);
        }
        holder::publish(&held.table)?;
    }
    session::remove(TABLE)?;
    client.leave(holder::TABLES)?;
    client.leave(&holder::players(game))?;
    session::remove(PLACE)?;
    session::remove("game")?;
    place::stop_clock()
}

/// The clock of whoever moved last: the other one was too slow, unless it was stopped or moved on.
pub(crate) fn run_out(game: &str, version: u64) -> Result {
    match holder::change(game, |table| table.run_out(version))? {
        // Looked at again after another period.
        Change::Nowhere { .. } => Ok(()),
        Change::Stale | Change::Refused(_) => place::stop_clock(),
        Change::Done(held) | Change::Already(held) => {
            place::stop_clock()?;
            holder::publish(&held.table)
        }
    }
}

/// A change that only who sits there may make.
pub(crate) fn only_seated(
    table: &mut Table,
    side: Side,
    client: Client,
    change: impl FnOnce(&mut Table) -> Outcome,
) -> Outcome {
    if table.seat(side).client == Some(client) {
        change(table)
    } else {
        Outcome::Refused("your seat is taken from elsewhere")
    }
}
