//! `make bulk`: a hundred thousand clients with sessions of 1 KiB on one gateway, and one of two
//! workers killed; then what a second custodian costs. `TIDEGATE_BULK_CLIENTS` and
//! `TIDEGATE_BULK_SESSION_BYTES` say otherwise. Where the machine does not allow a process so many
//! sockets, the clients are pipes into a gateway in this process, and it is done once more with as many
//! sockets as there may be.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use tidegate_tests::bulk::{self, By, Plan};
use tracing_subscriber::filter::LevelFilter;

const CLIENTS: usize = 100_000;
const SESSION_BYTES: usize = 1 << 10;
/// How long live traffic is measured before a worker is killed.
const BEFORE: Duration = Duration::from_secs(10);
/// Fewer clients with sockets than that say nothing.
const SOCKETS_MIN: usize = 1_000;
/// Clients of the second part.
const COST_CLIENTS: usize = 10_000;

fn main() -> Result<()> {
    tidegate_tests::process::without_tails();
    // A gateway in this process has no other log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(LevelFilter::WARN)
        .init();
    if cfg!(debug_assertions) {
        say("these are figures of a debug build: run make bulk".to_owned());
    }
    let clients = number("TIDEGATE_BULK_CLIENTS", CLIENTS)?;
    let session_bytes = number("TIDEGATE_BULK_SESSION_BYTES", SESSION_BYTES)?;
    let sockets = bulk::sockets_max()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for (by, clients) in runs(clients, sockets) {
        let plan = Plan {
            by,
            clients,
            session_bytes,
            before: BEFORE,
        };
        let loss = runtime.block_on(bulk::loss(plan, &mut say))?;
        writeln!(std::io::stdout(), "{loss}")?;
    }
    let clients = clients.min(COST_CLIENTS);
    let plan = Plan {
        by: by(clients, sockets),
        clients,
        session_bytes,
        before: BEFORE,
    };
    let cost = runtime.block_on(bulk::cost(plan, &mut say))?;
    write!(std::io::stdout(), "{cost}")?;
    Ok(())
}

/// All clients, and if not all of them may have sockets, also as many as may.
fn runs(clients: usize, sockets: usize) -> Vec<(By, usize)> {
    let by = by(clients, sockets);
    let mut runs = vec![(by, clients)];
    if by == By::Pipes {
        let files = bulk::files_for(clients);
        say(format!(
            "this machine allows a process {sockets} clients with sockets: {clients} clients are pipes; \
             with `ulimit -Hn {files}` they would have sockets"
        ));
        if sockets >= SOCKETS_MIN {
            runs.push((By::Sockets, sockets));
        }
    }
    runs
}

const fn by(clients: usize, sockets: usize) -> By {
    if clients <= sockets {
        By::Sockets
    } else {
        By::Pipes
    }
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
