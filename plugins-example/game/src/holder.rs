//! Where a table is: in the session of one of its players, the holder, under the key `table`. Nobody
//! remembers who that is: the players of a game are a group, and asking it for its sessions finds the
//! table. Every change is a compare-and-set there, so that of two that happen at once one is first and
//! the other one looks again, whichever instances, workers and gateways they come from.

use serde::Serialize;
use tidegate_sdk::prelude::*;

use crate::place::Place;
use crate::protocol::{ToClient, View};
use crate::rules::Side;
use crate::table::{Outcome, Table};

/// The session key of the table.
pub(crate) const TABLE: &str = "table";

/// The group of those who hold a table.
pub(crate) const TABLES: &str = "tables";

/// Two are usual; who comes back makes more.
const PLAYERS_MAX: u32 = 100;

/// So often a change looks again when somebody else was faster.
const TRIES: usize = 20;

/// The group of the players of a game.
pub(crate) fn players(game: &str) -> String {
    format!("players:{game}")
}

/// The group of those who watch a game.
pub(crate) fn watchers(game: &str) -> String {
    format!("watchers:{game}")
}

/// A table and who holds it.
pub(crate) struct Held {
    pub(crate) holder: Client,
    pub(crate) table: Table,
    /// As it was read: what is compared, whatever version of this plugin has written it.
    text: String,
}

/// What the group of the players of a game says.
pub(crate) struct Players {
    pub(crate) held: Option<Held>,
    pub(crate) infos: Vec<ClientInfo>,
    /// Every gateway has answered: if there is no table, nobody has it.
    pub(crate) is_whole: bool,
}

/// Looks for the table of a game.
pub(crate) fn find(game: &str) -> Result<Players> {
    let group = directory::in_group(&players(game));
    let page = group.infos(Fields::SESSION).limit(PLAYERS_MAX).page()?;
    let is_whole = page.is_whole();
    let mut held: Option<Held> = None;
    for info in &page.items {
        let Some(text) = info.session_json(TABLE) else {
            continue;
        };
        let table: Table = serde_json::from_str(text)?;
        let newer = held
            .as_ref()
            .is_none_or(|it| it.table.version < table.version);
        if table.id == game && newer {
            let (holder, text) = (info.client, text.to_owned());
            held = Some(Held {
                holder,
                table,
                text,
            });
        }
    }
    Ok(Players {
        held,
        infos: page.items,
        is_whole,
    })
}

/// What became of a change.
pub(crate) enum Change {
    Done(Held),
    Already(Held),
    Stale,
    Refused(&'static str),
    /// No table was found. Not sure: a gateway did not answer.
    Nowhere {
        sure: bool,
    },
}

/// Changes the table of a game where it is held. It acts at once; what is told of it is for the caller,
/// and goes with the event.
pub(crate) fn change(game: &str, with: impl Fn(&mut Table) -> Outcome) -> Result<Change> {
    for _ in 0..TRIES {
        let players = find(game)?;
        let Some(mut held) = players.held else {
            let sure = players.is_whole;
            return Ok(Change::Nowhere { sure });
        };
        match with(&mut held.table) {
            Outcome::Changed => {}
            Outcome::Already => return Ok(Change::Already(held)),
            Outcome::Stale => return Ok(Change::Stale),
            Outcome::Refused(text) => return Ok(Change::Refused(text)),
        }
        let new = serde_json::to_string(&held.table)?;
        match directory::compare_and_set_json(&held.holder, TABLE, Some(&held.text), Some(&new)) {
            Ok(()) => return Ok(Change::Done(held)),
            Err(error) if is_raced(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Change::Nowhere { sure: false })
}

/// Somebody was faster, or the client has left since.
pub(crate) fn is_raced(error: &Error) -> bool {
    matches!(error.refused(), Some(Refused::Conflict | Refused::Offline))
}

/// Gives a table to a player that is there. False: to nobody.
pub(crate) fn hand_over(table: &Table) -> bool {
    table.clients().into_iter().any(|heir| gives(heir, table))
}

/// Gives a table to a client that has none.
pub(crate) fn gives(heir: Client, table: &Table) -> bool {
    match heir.compare_and_set(TABLE, None::<&Table>, Some(table)) {
        Ok(()) => heir.join(TABLES).is_ok(),
        // An earlier run of this event has done it.
        Err(error) if error.refused() == Some(&Refused::Conflict) => heir.join(TABLES).is_ok(),
        Err(error) => {
            log::info!("{heir} cannot take the table {}: {error}", table.id);
            false
        }
    }
}

/// Tells players and watchers how things are. Commits of several gateways may arrive in either order,
/// so the version says which view is newer.
pub(crate) fn publish(table: &Table) -> Result {
    let told = serde_json::to_string(&ToClient::Table(View::of(table)))?;
    gateway::to_clients(&table.clients()).send(&told)?;
    gateway::to_group(&watchers(&table.id)).send(&told)
}

/// What a player's session says beside the table.
#[derive(Serialize)]
pub(crate) struct Joined<'a> {
    pub(crate) place: &'a Place,
    /// What a router may go by.
    pub(crate) game: &'a str,
}

/// Makes a client a player, and tells it the token of its seat.
pub(crate) fn seat(client: Client, table: &Table, side: Side) -> Result {
    let game = table.id.as_str();
    let place = Place::Playing {
        game: game.to_owned(),
        side,
    };
    client.update_session(&Joined {
        place: &place,
        game,
    })?;
    client.join(&players(game))?;
    client.send_json(&ToClient::Seated {
        game,
        side,
        token: format!("{game}.{}", table.seat(side).secret),
    })
}
