//! `make traps`: 200 messages that trap; prints how long the other clients of the instance wait.

use std::io::Write;

use anyhow::Result;
use tidegate_tests::traps::{self, Plan};

fn main() -> Result<()> {
    tidegate_tests::process::without_tails();
    let plan = Plan {
        traps: 200,
        others: 20,
        pin: None,
    };
    if cfg!(debug_assertions) {
        writeln!(
            std::io::stderr(),
            "these are figures of a debug build: run make traps"
        )?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(traps::run(plan))?;
    writeln!(std::io::stdout(), "{found}")?;
    Ok(())
}
