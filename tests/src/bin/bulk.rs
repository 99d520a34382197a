//! `make bulk`: a hundred thousand clients with sessions of 1 KiB on one gateway, and one of two
//! workers killed; then what a second custodian costs. `TIDEGATE_BULK_CLIENTS` and
//! `TIDEGATE_BULK_SESSION_BYTES` say otherwise. Where the machine allows fewer clients it is done with those,
//! and once more with sessions so much larger that as many bytes are in custody.

use std::io::Write;

use anyhow::{Context, Result};
use tidegate_tests::bulk::{self, Plan};

const CLIENTS: usize = 100_000;
const SESSION_BYTES: usize = 1 << 10;
/// Within what a session may hold by default.
const SESSION_BYTES_MAX: usize = 60 << 10;
/// Clients of the second part.
const COST_CLIENTS: usize = 10_000;

fn main() -> Result<()> {
    tidegate_tests::process::without_tails();
    if cfg!(debug_assertions) {
        say("these are figures of a debug build: run make bulk".to_owned());
    }
    let wanted = number("TIDEGATE_BULK_CLIENTS", CLIENTS)?;
    let (clients, fewer) = bulk::clients_max(wanted)?;
    let session_bytes = number("TIDEGATE_BULK_SESSION_BYTES", SESSION_BYTES)?;
    let mut sizes = vec![session_bytes];
    if let Some(fewer) = fewer {
        say(fewer);
        sizes.push((session_bytes * wanted / clients).min(SESSION_BYTES_MAX));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for session_bytes in sizes {
        let plan = Plan {
            clients,
            session_bytes,
        };
        let loss = runtime.block_on(bulk::loss(plan, &mut say))?;
        writeln!(std::io::stdout(), "{loss}")?;
    }
    let plan = Plan {
        clients: clients.min(COST_CLIENTS),
        session_bytes,
    };
    let cost = runtime.block_on(bulk::cost(plan, &mut say))?;
    write!(std::io::stdout(), "{cost}")?;
    Ok(())
}

fn number(name: &str, otherwise: usize) -> Result<usize> {
    let Ok(text) = std::env::var(name) else {
        return Ok(otherwise);
    };
    let number = text.parse();
    number.with_context(|| format!("{name} is {text:?}, a whole number is right"))
}

fn say(line: String) {
    // Progress that nobody reads is no reason to stop.
    let _ = writeln!(std::io::stderr(), "bulk: {line}");
}
