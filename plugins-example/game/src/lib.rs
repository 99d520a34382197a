//! Connect four for two: an opponent is found, turns have a time, a lost connection may come back to its
//! seat, others watch, and there is another round. How the state lives through the loss of instances,
//! workers and clients is in `README.md`; the protocol too. Nothing is kept in memory but the settings.

use std::time::Duration;

use serde::Deserialize;
use tidegate_sdk::prelude::*;

mod absence;
mod holder;
mod lobby;
mod place;
mod protocol;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use absence::only_seated;
use holder::{Change, TABLES};
use place::{PLACE, Place, Purpose};
use protocol::{FromClient, Listed, ToClient, View};
use rules::{COLUMNS, Side};
use table::{Outcome, Table};

/// The most games that are listed.
const LISTED_MAX: u32 = 50;

/// When something is tried again that was said while a table changed hands.
const RETRY: Duration = Duration::from_millis(100);

/// How often.
const RETRIES_MAX: u32 = 30;

/// The plugin.
pub struct Game {
    turn: Duration,
    grace: Duration,
}

/// The `config` of the plugin.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// How long a turn may take.
    turn_s: u64,
    /// How long a seat is kept for a player whose connection was lost.
    grace_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            turn_s: 30,
            grace_s: 30,
        }
    }
}

#[tidegate_sdk::handler]
impl Handler for Game {
    fn on_start(config: &Config) -> Result<Self> {
        let Settings { turn_s, grace_s } = config.parse()?;
        for (key, seconds) in [("turn-s", turn_s), ("grace-s", grace_s)] {
            if !(1..=600).contains(&seconds) {
                bail!("config.{key} is {seconds}: 1 to 600 seconds are expected");
            }
        }
        Ok(Self {
            turn: Duration::from_secs(turn_s),
            grace: Duration::from_secs(grace_s),
        })
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        match FromClient::read(&message) {
            Ok(wish) => self.act(client, wish),
            Err(text) => refuse(client, &text),
        }
    }

    fn on_close(&mut self, client: Client, _: Closed) -> Result {
        match place::own()? {
            Place::Playing { game, side } => absence::closed(client, &game, side),
            Place::Nowhere
            | Place::Waiting
            | Place::Claiming { .. }
            | Place::Claimed { .. }
            | Place::Returning { .. }
            | Place::Watching { .. } => Ok(()),
        }
    }

    fn on_timer(&mut self, client: Option<Client>, timer: Timer, payload: Vec<u8>) -> Result {
        match (client, serde_json::from_slice(&payload)?) {
            (Some(client), Purpose::Look { game }) => show(client, &game),
            (Some(client), Purpose::Retry { wish, tries }) => self.at_table(client, wish, tries),
            (Some(_), _) if !place::is_clock(&timer)? => Ok(()),
            (Some(client), Purpose::Pair) => lobby::look(client, self.turn),
            (Some(client), Purpose::Return) => absence::look(client, self.turn),
            (Some(_), Purpose::Turn { game, version }) => absence::run_out(&game, version),
            (
                None,
                Purpose::Lost {
                    client,
                    game,
                    side,
                    table,
                },
            ) => absence::lost(&timer, client, (&game, side), table, self.grace),
            (None, Purpose::Keep { table }) => absence::keeper_looks(&timer, &table),
            (
                None,
                Purpose::Expire {
                    game,
                    side,
                    drops,
                    keeper,
                },
            ) => absence::expire(&timer, &game, side, drops, keeper.as_ref()),
            // No timer of this version: of one that is to come, after a rollback.
            (Some(_) | None, _) => timer.cancel(),
        }
    }
}

impl Game {
    fn act(&self, client: Client, wish: FromClient) -> Result {
        match wish {
            FromClient::Play { name } => self.play(client, &name),
            FromClient::Return { token } => self.come_back(client, &token),
            FromClient::Leave => leave(client),
            FromClient::Games => list(client),
            FromClient::Watch { game } => watch(client, &game),
            FromClient::Hover { column } => hover(client, column),
            FromClient::Put { .. } | FromClient::Resign { .. } | FromClient::Again { .. } => {
                self.at_table(client, wish, 0)
            }
        }
    }

    /// What a player does at its table.
    fn at_table(&self, client: Client, wish: FromClient, tries: u32) -> Result {
        let Place::Playing { game, side } = place::own()? else {
            return refuse(client, "you are not at a table");
        };
        let change = holder::change(&game, |table| {
            only_seated(table, side, client, |table| match wish {
                FromClient::Put {
                    round,
                    turn,
                    column,
                } => table.put(side, round, turn, column),
                FromClient::Resign { round } => table.resign(side, round),
                FromClient::Again { round } => table.again(side, round),
                FromClient::Play { .. }
                | FromClient::Hover { .. }
                | FromClient::Return { .. }
                | FromClient::Leave
                | FromClient::Games
                | FromClient::Watch { .. } => Outcome::Stale,
            })
        })?;
        match change {
            Change::Done(held) | Change::Already(held) => {
                if held.table.is_running() {
                    lobby::start_clock(&held.table, self.turn)?;
                } else {
                    place::stop_clock()?;
                }
                holder::publish(&held.table)
            }
            Change::Refused(text) => refuse(client, text),
            Change::Stale => Ok(()),
            Change::Nowhere { .. } if tries < RETRIES_MAX => {
                // Its holder is gone in this moment: soon another one has it.
                let tries = tries + 1;
                timers::after(RETRY, Purpose::Retry { wish, tries }.bytes()?).map(drop)
            }
            Change::Nowhere { .. } => refuse(client, "nobody has the table: try again later"),
        }
    }

    fn play(&self, client: Client, name: &str) -> Result {
        match place::own()? {
            Place::Playing { game, side } => {
                let players = holder::find(&game)?;
                if players.held.is_some_and(|held| held.table.end.is_none()) {
                    return refuse(client, "you are at a table: end that game first");
                }
                absence::leave(client, &game, side)?;
            }
            Place::Watching { game } => client.leave(&holder::watchers(&game))?,
            Place::Nowhere => {}
            Place::Waiting | Place::Claiming { .. } | Place::Claimed { .. } => {
                return refuse(client, "you wait for an opponent already");
            }
            Place::Returning { .. } => return refuse(client, "your table is being looked for"),
        }
        lobby::enter(client, name)?;
        client.send_json(&ToClient::Waiting)
    }

    fn come_back(&self, client: Client, token: &str) -> Result {
        let Some((game, secret)) = protocol::read_token(token) else {
            return refuse(client, "this is no token of this game");
        };
        match place::own()? {
            Place::Nowhere => {}
            Place::Watching { game } => client.leave(&holder::watchers(&game))?,
            Place::Waiting
            | Place::Claiming { .. }
            | Place::Claimed { .. }
            | Place::Playing { .. }
            | Place::Returning { .. } => return refuse(client, "leave first where you are"),
        }
        if absence::come_back(client, game, secret, self.turn)? {
            return Ok(());
        }
        absence::wait_for_table(client, game, secret)?;
        client.send_json(&ToClient::Waiting)
    }
}

fn refuse(client: Client, text: &str) -> Result {
    client.send_json(&ToClient::Refused { text })
}

fn leave(client: Client) -> Result {
    match place::own()? {
        Place::Waiting | Place::Claiming { .. } | Place::Claimed { .. } => {
            if !lobby::leave(client)? {
                return refuse(client, "your game is about to begin");
            }
        }
        Place::Playing { game, side } => absence::leave(client, &game, side)?,
        Place::Watching { game } => {
            client.leave(&holder::watchers(&game))?;
            session::remove(PLACE)?;
        }
        Place::Returning { game, .. } => {
            client.leave(&holder::players(&game))?;
            session::remove(PLACE)?;
            place::stop_clock()?;
        }
        Place::Nowhere => {}
    }
    client.send_json(&ToClient::Left)
}

/// Where a player's pointer is: of these only the newest is worth something.
fn hover(client: Client, column: u8) -> Result {
    let Place::Playing { game, side } = place::own()? else {
        return Ok(());
    };
    if column >= COLUMNS {
        return refuse(client, "there is no such column");
    }
    let (players, watchers) = (holder::players(&game), holder::watchers(&game));
    let groups = [players.as_str(), watchers.as_str()];
    let others = gateway::to_groups(&groups).except(&client);
    let key = match side {
        Side::Red => "hover-red",
        Side::Yellow => "hover-yellow",
    };
    others
        .latest(key)
        .send_json(&ToClient::Hover { side, column })
}

/// The games that may be watched: those who hold a table are a group.
fn list(client: Client) -> Result {
    let holders = directory::in_group(TABLES).infos(Fields::SESSION);
    let page = holders.limit(LISTED_MAX).page()?;
    let of = |info: &ClientInfo| info.session_key::<Table>(holder::TABLE).ok().flatten();
    let tables: Vec<Table> = page.items.iter().filter_map(of).collect();
    let groups: Vec<String> = tables
        .iter()
        .map(|table| holder::watchers(&table.id))
        .collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let watchers = directory::client_counts_of_groups(&groups)?;
    let partial = !(page.is_whole() && watchers.is_whole());
    let games = tables.into_iter().zip(watchers.value);
    let games = games.map(|(table, watchers)| Listed {
        game: table.id,
        red: table.red.name,
        yellow: table.yellow.name,
        moves: table.moves.len(),
        over: table.end.is_some(),
        watchers,
    });
    client.send_json(&ToClient::Games {
        games: games.collect(),
        partial,
    })
}

/// The table is shown in an event of its own: by then the client is in the group, so that no change
/// between is missed.
fn watch(client: Client, game: &str) -> Result {
    match place::own()? {
        Place::Nowhere => {}
        Place::Watching { game } => client.leave(&holder::watchers(&game))?,
        Place::Waiting
        | Place::Claiming { .. }
        | Place::Claimed { .. }
        | Place::Playing { .. }
        | Place::Returning { .. } => return refuse(client, "leave first where you are"),
    }
    let game = game.to_owned();
    session::set("game", &game)?;
    session::set(PLACE, &Place::Watching { game: game.clone() })?;
    client.join(&holder::watchers(&game))?;
    timers::after(Duration::ZERO, Purpose::Look { game }.bytes()?).map(drop)
}

fn show(client: Client, game: &str) -> Result {
    match holder::find(game)?.held {
        Some(held) => client.send_json(&ToClient::Table(View::of(&held.table))),
        None => refuse(client, "there is no such game"),
    }
}
