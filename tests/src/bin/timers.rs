//! `make timers`: 100,000 timers that wait, and 5,000 that run out a second; prints what they cost and how
//! late they are.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use tidegate_tests::timers::{self, Plan};

fn main() -> Result<()> {
    tidegate_tests::process::without_tails();
    let plan = Plan {
        waiting: 100_000,
        per_second: 5_000,
        time: Duration::from_secs(20),
    };
    if cfg!(debug_assertions) {
        writeln!(
            std::io::stderr(),
            "these are figures of a debug build: run make timers"
        )?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(timers::run(plan))?;
    writeln!(std::io::stdout(), "{found}")?;
    timers::check(&found)
}
