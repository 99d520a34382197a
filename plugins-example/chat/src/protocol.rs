//! What clients may say and what they are told, as in `README.md`. Whatever is read here has been
//! checked.

use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_sdk::{Client, Message};

/// The longest nickname or room, in characters.
const NAME_CHARS_MAX: usize = 32;

/// The longest text, in characters.
const TEXT_CHARS_MAX: usize = 2000;

/// Digits of a client id that number the connection; the others are its gateway's address, which
/// is nobody's business.
const TAG_DIGITS: usize = 8;

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum FromClient {
    Enter { nick: String, room: String },
    Say { text: String },
    Tell { to: String, text: String },
    Who,
    Typing,
    Leave,
}

/// What a client is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ToClient<'a> {
    Entered {
        #[serde(flatten)]
        who: Who<'a>,
        room: &'a str,
    },
    Left,
    Said {
        #[serde(flatten)]
        who: Who<'a>,
        room: &'a str,
        text: &'a str,
    },
    Told {
        #[serde(flatten)]
        who: Who<'a>,
        to: &'a str,
        text: &'a str,
    },
    Joined {
        #[serde(flatten)]
        who: Who<'a>,
        room: &'a str,
    },
    Parted {
        #[serde(flatten)]
        who: Who<'a>,
        room: &'a str,
    },
    Renamed {
        #[serde(flatten)]
        who: Who<'a>,
        room: &'a str,
        was: &'a str,
    },
    Members {
        room: &'a str,
        members: Vec<Who<'a>>,
        /// How many there are; the list may be shorter.
        count: u64,
        /// A gateway did not answer, so there may be more.
        partial: bool,
    },
    Typing {
        #[serde(flatten)]
        who: Who<'a>,
        room: &'a str,
    },
    Refused {
        text: &'a str,
    },
}

/// Who it is about. The tag tells two clients of one nickname apart.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Who<'a> {
    nick: &'a str,
    tag: &'a str,
}

impl<'a> Who<'a> {
    pub(crate) fn new(client: &'a Client, nick: &'a str) -> Self {
        let id = client.as_str();
        let tag = id.get(id.len().saturating_sub(TAG_DIGITS)..).unwrap_or(id);
        Self { nick, tag }
    }
}

/// The name of a room.
#[derive(PartialEq, Eq)]
pub(crate) struct Room(pub(crate) String);

impl Room {
    /// Its group.
    pub(crate) fn group(&self) -> String {
        format!("room:{}", self.0)
    }
}

/// Why a client's message is refused; the text is for the person who sent it.
#[derive(Debug)]
pub(crate) enum Refusal {
    Malformed(String),
    Name(&'static str),
    Text,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "not a message of this chat: {why}"),
            Self::Name(what) => write!(
                f,
                "a {what} has 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_` or `.`"
            ),
            Self::Text => write!(f, "a text has 1 to {TEXT_CHARS_MAX} characters"),
        }
    }
}

impl FromClient {
    /// Reads and checks a message.
    pub(crate) fn read(message: &Message) -> Result<Self, Refusal> {
        let wish = message.json::<Self>();
        let wish = wish.map_err(|error| Refusal::Malformed(error.to_string()))?;
        match &wish {
            Self::Enter { nick, room } => {
                check_name("nickname", nick)?;
                check_name("room", room)?;
            }
            Self::Say { text } => check_text(text)?,
            Self::Tell { to, text } => {
                check_name("nickname", to)?;
                check_text(text)?;
            }
            Self::Who | Self::Typing | Self::Leave => {}
        }
        Ok(wish)
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), Refusal> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let chars = name.chars().take(NAME_CHARS_MAX + 1).count();
    if (1..=NAME_CHARS_MAX).contains(&chars) && name.chars().all(fits) {
        Ok(())
    } else {
        Err(Refusal::Name(what))
    }
}

fn check_text(text: &str) -> Result<(), Refusal> {
    let chars = text.chars().take(TEXT_CHARS_MAX + 1).count();
    if chars <= TEXT_CHARS_MAX && !text.trim().is_empty() {
        Ok(())
    } else {
        Err(Refusal::Text)
    }
}
