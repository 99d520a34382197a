//! `make deploys`: 20 bad deploys in a row under two thousand messages a second, with a file of the
//! workers' own and without; prints the longest wait of any client.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use tidegate_tests::deploys::{self, Plan};

fn main() -> Result<()> {
    tidegate_tests::process::without_tails();
    if cfg!(debug_assertions) {
        writeln!(
            std::io::stderr(),
            "these are figures of a debug build: run make deploys"
        )?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for file in [true, false] {
        let found = runtime.block_on(deploys::run(Plan {
            deploys: 20,
            first: 0,
            percent: 10,
            clients: 100,
            every: Duration::from_millis(50),
            normal: Duration::from_secs(5),
            file,
        }))?;
        let whose = if file {
            "with a file"
        } else {
            "without a file"
        };
        writeln!(std::io::stdout(), "{whose}:\n{found}")?;
    }
    Ok(())
}
