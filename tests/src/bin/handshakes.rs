//! `make handshakes`: 2,000 handshakes a second through a handler on one core, accepted and then rejected;
//! prints how long other clients wait meanwhile, and what one costs.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use tidegate_tests::handshakes::{self, Plan};

fn main() -> Result<()> {
    tidegate_tests::process::without_tails();
    let plan = Plan {
        others: 50,
        every: Duration::from_millis(20),
        per_second: 2_000,
        time: Duration::from_secs(10),
        pin: Some(0),
    };
    if cfg!(debug_assertions) {
        writeln!(
            std::io::stderr(),
            "these are figures of a debug build: run make handshakes"
        )?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(handshakes::run(plan))?;
    writeln!(std::io::stdout(), "{found}")?;
    Ok(())
}
