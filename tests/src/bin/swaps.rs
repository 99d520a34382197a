//! `make swaps`: a hundred swaps under twenty thousand messages a second; prints the longest pause
//! of any client beside the normal one.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use tidegate_tests::swaps::{self, Plan};

const CLIENTS: u32 = 200;

fn main() -> Result<()> {
    tidegate_tests::process::without_tails();
    let plan = Plan {
        swaps: 100,
        clients: CLIENTS,
        every: Duration::from_millis(10),
        normal: Duration::from_secs(10),
        fresh: true,
        pin: None,
    };
    if cfg!(debug_assertions) {
        writeln!(
            std::io::stderr(),
            "these are figures of a debug build: run make swaps"
        )?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(swaps::run(plan))?;
    writeln!(std::io::stdout(), "{found}")?;
    Ok(())
}
