//! What clients may say and what they are told, as in `README.md`.

use serde::{Deserialize, Serialize};
use tidegate_sdk::Message;

use crate::rules::Side;
use crate::table::{End, Table};

/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 32;

/// What a client says.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum FromClient {
    Play { name: String },
    Put { round: u32, turn: usize, column: u8 },
    Hover { column: u8 },
    Resign { round: u32 },
    Again { round: u32 },
    Return { token: String },
    Leave,
    Games,
    Watch { game: String },
}

/// What a client is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ToClient<'a> {
    Waiting,
    Seated {
        game: &'a str,
        side: Side,
        /// To be kept, and given back after the connection was lost.
        token: String,
    },
    Table(View<'a>),
    Hover {
        side: Side,
        column: u8,
    },
    Games {
        games: Vec<Listed>,
        /// A gateway did not answer, so there may be more.
        partial: bool,
    },
    Left,
    Refused {
        text: &'a str,
    },
}

/// A table as everybody may see it.
#[derive(Serialize)]
pub(crate) struct View<'a> {
    game: &'a str,
    /// Of two views of a game the one with the higher version is newer, whichever came last.
    version: u64,
    round: u32,
    /// The columns of the round, a digit each; the colours take turns, from `first`.
    moves: String,
    first: Side,
    /// Whose turn it is.
    mover: Option<Side>,
    end: Option<End>,
    red: Player<'a>,
    yellow: Player<'a>,
}

#[derive(Serialize)]
struct Player<'a> {
    name: &'a str,
    here: bool,
    wins: u32,
    again: bool,
}

/// A game that may be watched.
#[derive(Serialize)]
pub(crate) struct Listed {
    pub(crate) game: String,
    pub(crate) red: String,
    pub(crate) yellow: String,
    pub(crate) moves: usize,
    pub(crate) over: bool,
    pub(crate) watchers: u64,
}

impl<'a> View<'a> {
    pub(crate) fn of(table: &'a Table) -> Self {
        let player = |side| {
            let seat = table.seat(side);
            Player {
                name: &seat.name,
                here: seat.client.is_some(),
                wins: seat.wins,
                again: seat.again,
            }
        };
        Self {
            game: &table.id,
            version: table.version,
            round: table.round,
            moves: table.moves.iter().map(ToString::to_string).collect(),
            first: table.first,
            mover: table.mover(),
            end: table.end,
            red: player(Side::Red),
            yellow: player(Side::Yellow),
        }
    }
}

impl FromClient {
    /// Reads and checks a message. The error is for the person who sent it.
    pub(crate) fn read(message: &Message) -> Result<Self, String> {
        let wish = message.json::<Self>();
        let wish = wish.map_err(|error| format!("not a message of this game: {error}"))?;
        if let Self::Play { name } = &wish
            && !is_name(name)
        {
            return Err(format!(
                "a name has 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_` or `.`"
            ));
        }
        if let Self::Watch { game } = &wish
            && !is_id(game)
        {
            return Err("there is no such game".to_owned());
        }
        Ok(wish)
    }
}

/// The game and the secret of a token.
pub(crate) fn read_token(token: &str) -> Option<(&str, &str)> {
    token.split_once('.').filter(|(game, _)| is_id(game))
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let chars = name.chars().take(NAME_CHARS_MAX + 1).count();
    (1..=NAME_CHARS_MAX).contains(&chars) && name.chars().all(fits)
}

/// Games are numbered by chance, in 16 hex digits.
fn is_id(game: &str) -> bool {
    game.len() == 16 && game.bytes().all(|it| it.is_ascii_hexdigit())
}
