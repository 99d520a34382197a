//! Lines are messages, `text …` and `bin …`, or tell the codec to misbehave; see `line`. A message to
//! be sent becomes a line, or misbehaves if it begins with `!`; see `encode`. It keeps the number of
//! lines of each connection.

#![allow(
    unsafe_code,
    clippy::panic,
    reason = "the export macro writes unsafe code; tests tell it to panic"
)]

use std::cell::Cell;

#[allow(missing_docs, unreachable_pub, reason = "written by a macro")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "codec",
        generate_all,
    });
}

use bindings::exports::tidegate::plugin::framing::{Connection, Decoded, Encoded, Guest, Message};
use bindings::wasi::config::store;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Lines of one call.
const MESSAGES_MAX: usize = 256;

struct Scripted;

impl Guest for Scripted {
    fn decode(connection: Connection, bytes: Vec<u8>, ended: bool) -> Result<Decoded, String> {
        CALLS.set(CALLS.get() + 1);
        let mut decoded = Decoded {
            messages: Vec::new(),
            taken: 0,
            needs: 0,
            state: None,
        };
        let before = lines_of(&connection);
        let mut lines = before;
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if decoded.messages.len() >= MESSAGES_MAX {
                // Enough for one call.
                decoded.needs = 1;
                break;
            }
            let (own, after) = rest.split_at(end);
            let own = String::from_utf8_lossy(own).into_owned();
            lines += 1;
            decoded.taken += u32::try_from(own.len() + 1).unwrap_or(u32::MAX);
            rest = &after[1..];
            line(&own, &connection, lines, &mut decoded)?;
        }
        if ended && !rest.is_empty() && decoded.needs == 0 {
            let last = String::from_utf8_lossy(rest).into_owned();
            decoded.messages.push(Message::Text(format!("last {last}")));
            decoded.taken = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        }
        if lines > before && decoded.state.is_none() {
            decoded.state = Some(lines.to_string().into_bytes());
        }
        Ok(decoded)
    }

    fn encode(connection: Connection, message: Message) -> Result<Encoded, String> {
        CALLS.set(CALLS.get() + 1);
        let bytes = match message {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(bytes) => bytes,
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (word, argument) = text.split_once(' ').unwrap_or((&text, ""));
        let number: usize = argument.parse().unwrap_or(0);
        let bytes = match word {
            "!trap" => panic!("told to trap while it encodes"),
            "!spin" => spin(),
            "!err" => return Err(argument.to_owned()),
            "!nothing" => Vec::new(),
            "!large" => vec![b'x'; number],
            "!lines" => format!("{}\n", lines_of(&connection)).into_bytes(),
            _ => [&bytes[..], b"\n"].concat(),
        };
        Ok(Encoded { bytes, state: None })
    }
}

fn lines_of(connection: &Connection) -> u32 {
    let state = String::from_utf8_lossy(&connection.state);
    state.parse().unwrap_or(0)
}

/// One line of a client.
fn line(
    line: &str,
    connection: &Connection,
    lines: u32,
    decoded: &mut Decoded,
) -> Result<(), String> {
    let (word, argument) = line.split_once(' ').unwrap_or((line, ""));
    let number: usize = argument.parse().unwrap_or(0);
    let mut tell = |text: String| decoded.messages.push(Message::Text(text));
    match word {
        "text" => tell(argument.to_owned()),
        "bin" => decoded.messages.push(Message::Binary(argument.into())),
        "peer" => tell(connection.peer.clone()),
        "lines" => tell(lines.to_string()),
        // How often this instance was called.
        "calls" => tell(CALLS.get().to_string()),
        "config" => tell(store::get(argument).ok().flatten().unwrap_or_default()),
        "silent" => {}
        "many" => (0..number).for_each(|number| tell(number.to_string())),
        "large" => tell("x".repeat(number)),
        "err" => return Err(argument.to_owned()),
        "trap" => panic!("told to trap while it decodes"),
        "exit" => std::process::exit(3),
        "spin" => spin(),
        "grow" => grow(),
        // Whoever comes next in this instance has less.
        "leak" => {
            std::mem::forget(vec![1_u8; number << 20]);
            tell("leaked".to_owned());
        }
        // Works in an instance that nobody has used up.
        "need" => tell(vec![1_u8; number << 20].len().to_string()),
        "lie" => decoded.taken = u32::MAX,
        "needs" => decoded.needs = u32::try_from(number).unwrap_or(u32::MAX),
        "state" => decoded.state = Some(vec![b'7'; number]),
        other => return Err(format!("no such line: {other}")),
    }
    Ok(())
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn grow() -> ! {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(vec![1; 1 << 20]);
        std::hint::black_box(&all);
    }
}

bindings::export!(Scripted with_types_in bindings);
