//! What clients may say and what they are told, as in `README.md`.

use serde::{Deserialize, Serialize};
use tidegate_sdk::Message;

/// The longest name of a room, in characters.
const ROOM_CHARS_MAX: usize = 32;

/// The longest text, in characters. Ten of them must fit into a session.
const TEXT_CHARS_MAX: usize = 500;

/// The longest question.
const QUESTION_CHARS_MAX: usize = 200;

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum FromClient {
    Join { room: String },
    Say { text: String },
    Typing,
    Ask { text: String },
    Stop,
    Leave,
}

/// What a client is told.
#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "kebab-case"
)]
pub(crate) enum ToClient<'a> {
    Welcome {
        uid: &'a str,
        name: &'a str,
        /// Seconds since 1970; the connection is closed then.
        until: u64,
    },
    Joined {
        room: &'a str,
    },
    Left,
    /// What those who are here have said, and who they are.
    History {
        room: &'a str,
        lines: Vec<Line>,
        here: Vec<Who>,
        /// There may be more.
        partial: bool,
    },
    Came(Who),
    Went(Who),
    Said(&'a Line),
    Typing(Who),
    /// A piece of the bot's answer.
    Piece {
        answer: &'a str,
        number: u32,
        text: &'a str,
    },
    /// The answer is whole.
    Answered {
        answer: &'a str,
    },
    /// The answer ends here.
    Stopped {
        answer: &'a str,
        why: &'a str,
    },
    Slow {
        wait_ms: u64,
    },
    Refused {
        text: &'a str,
    },
}

/// What somebody has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The same wherever the line is seen.
    pub(crate) id: String,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Who it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Who {
    pub(crate) uid: String,
    pub(crate) name: String,
}

impl FromClient {
    /// Reads and checks a message. The error is for the person who sent it.
    pub(crate) fn read(message: &Message) -> Result<Self, String> {
        let wish = message.json::<Self>();
        let wish = wish.map_err(|error| format!("not a message of this chat: {error}"))?;
        match &wish {
            Self::Join { room } => check_room(room)?,
            Self::Say { text } => check_text("text", text, TEXT_CHARS_MAX)?,
            Self::Ask { text } => check_text("question", text, QUESTION_CHARS_MAX)?,
            Self::Typing | Self::Stop | Self::Leave => {}
        }
        Ok(wish)
    }

    /// How many messages it counts for.
    pub(crate) const fn cost(&self) -> u32 {
        match self {
            Self::Join { .. } | Self::Ask { .. } => 3,
            Self::Say { .. } | Self::Typing | Self::Stop | Self::Leave => 1,
        }
    }
}

fn check_room(room: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let chars = room.chars().take(ROOM_CHARS_MAX + 1).count();
    if (1..=ROOM_CHARS_MAX).contains(&chars) && room.chars().all(fits) {
        return Ok(());
    }
    Err(format!(
        "a room has 1 to {ROOM_CHARS_MAX} letters, digits, `-`, `_` or `.`"
    ))
}

fn check_text(what: &str, text: &str, chars_max: usize) -> Result<(), String> {
    if text.chars().take(chars_max + 1).count() <= chars_max && !text.trim().is_empty() {
        return Ok(());
    }
    Err(format!("a {what} has 1 to {chars_max} characters"))
}
