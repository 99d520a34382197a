//! One command: which letter, what follows it, and in which kind it came.

use serde::Serialize;
use tidegate_sdk::prelude::*;

use crate::misbehave;

/// Farewell of every close that the protocol asks for.
const FAREWELL: &str = "bye";

/// A command and its argument, borrowed from the message.
pub(crate) struct Command<'a> {
    letter: u8,
    rest: Rest<'a>,
}

/// What follows the colon, in the kind in which it came.
#[derive(Clone, Copy)]
enum Rest<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// The answer to `W:`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Whoami {
    tenant: String,
    worker: String,
    instance: u32,
    version: String,
    event_id: String,
    attempt: u32,
}

impl<'a> Command<'a> {
    /// Reads the letter and the colon.
    pub(crate) fn read(message: &'a Message) -> Result<Self> {
        let command = match message {
            Message::Text(text) => match (text.as_bytes().first(), text.get(1..2), text.get(2..)) {
                (Some(&letter), Some(":"), Some(rest)) => Some((letter, Rest::Text(rest))),
                _ => None,
            },
            Message::Binary(bytes) => match bytes.as_slice() {
                [letter, b':', rest @ ..] => Some((*letter, Rest::Binary(rest))),
                _ => None,
            },
        };
        match command {
            Some((letter, rest)) => Ok(Self { letter, rest }),
            None => Err(unknown(message.bytes())),
        }
    }

    /// Does what is asked.
    pub(crate) fn run(&self, client: Client) -> Result {
        let rest = self.rest;
        match self.letter {
            b'E' => client.send(rest),
            b'G' => rest
                .cut()
                .and_then(|(group, payload)| gateway::to_group(group).send(payload)),
            b'J' => client.join(rest.text()?),
            b'L' => client.leave(rest.text()?),
            b'B' => gateway::to_all().send(rest),
            b'U' => client.bind_uid(rest.text()?),
            b'u' => client.unbind_uid(),
            b'P' => rest
                .cut()
                .and_then(|(uid, payload)| gateway::to_uid(uid).send(payload)),
            b'C' => rest
                .cut()
                .and_then(|(to, payload)| parse(to)?.send(payload)),
            b'Y' => rest
                .cut()
                .and_then(|(topic, payload)| peers::send(topic, payload.bytes())),
            b'I' => client.send(client.as_str()),
            b'W' => client.send_json(&whoami()),
            b'F' => client.to().send_raw(rest.bytes()),
            b'R' => gateway::close_uid(rest.text()?, Some(FAREWELL.into())),
            b'K' => parse(rest.text()?)?.close_with(FAREWELL),
            b'D' => parse(rest.text()?)?.destroy(),
            b'N' => gateway::ungroup(rest.text()?),
            b'X' => misbehave::run(client, rest.text()?),
            b'S' | b'?' | b'T' | b'M' => self.session(client),
            b'O' => client.send(parse(rest.text()?)?.is_online()?.to_string()),
            b'#' => count(client, rest.text()?),
            letter => Err(unknown(&[letter, b':'])),
        }
    }

    /// The commands about sessions.
    fn session(&self, client: Client) -> Result {
        let rest = self.rest;
        if self.letter == b'?' {
            let json = session::get_json(rest.text()?)?;
            return client.send(json.as_deref().unwrap_or("null"));
        }
        let (first, more) = rest.cut()?;
        if self.letter == b'S' {
            return session::set_json(first, more.text()?);
        }
        let (key, json) = more.cut()?;
        let entries = [(key, json.text()?)];
        gateway::update_session(&parse(first)?, &entries, self.letter == b'M')
    }
}

impl<'a> Rest<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    fn text(self) -> Result<&'a str> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(bytes) => Ok(std::str::from_utf8(bytes)?),
        }
    }

    /// A name, and what follows the next colon.
    fn cut(self) -> Result<(&'a str, Self)> {
        let cut = match self {
            Self::Text(text) => text
                .split_once(':')
                .map(|(name, rest)| (name, Self::Text(rest))),
            Self::Binary(bytes) => {
                let colon = bytes.iter().position(|&byte| byte == b':');
                let (name, rest) = match colon.and_then(|at| bytes.split_at_checked(at)) {
                    Some((name, [_, rest @ ..])) => (std::str::from_utf8(name)?, rest),
                    _ => bail!("a second colon is expected"),
                };
                Some((name, Self::Binary(rest)))
            }
        };
        cut.ok_or_else(|| Error::msg("a second colon is expected"))
    }
}

impl<'a> From<Rest<'a>> for Outgoing<'a> {
    fn from(rest: Rest<'a>) -> Self {
        match rest {
            Rest::Text(text) => text.into(),
            Rest::Binary(bytes) => bytes.into(),
        }
    }
}

/// Members of a group, or all clients.
fn count(client: Client, group: &str) -> Result {
    let wanted = match group {
        "" => directory::everyone(),
        group => directory::in_group(group),
    };
    let count = wanted.count()?;
    let partial = if count.is_whole() { "" } else { "+" };
    client.send(format!("{}{partial}", count.value))
}

fn parse(client: &str) -> Result<Client> {
    Ok(client.parse()?)
}

fn whoami() -> Whoami {
    Whoami {
        tenant: worker::tenant(),
        worker: worker::name(),
        instance: worker::instance(),
        version: worker::plugin_version(),
        event_id: worker::event_id(),
        attempt: worker::attempt(),
    }
}

fn unknown(command: &[u8]) -> Error {
    let start = command.get(..20).unwrap_or(command);
    let start = String::from_utf8_lossy(start);
    Error::msg(format_args!(
        "unknown command {start:?}; the bench's README lists them"
    ))
}
