//! `make chaos`: the long form of the chaos test, ten minutes with two thousand clients unless
//! `TIDEGATE_CHAOS_SECONDS`, `TIDEGATE_CHAOS_CLIENTS` or `TIDEGATE_SEED` say otherwise.

use std::io::Write;

use anyhow::Result;
use tidegate_tests::chaos::{self, Plan};

const SECONDS: u64 = 10 * 60;
const CLIENTS: u64 = 2000;
const RATE: u64 = 4000;

fn main() -> Result<()> {
    tidegate_tests::process::without_tails();
    let plan = Plan::from_environment(SECONDS, CLIENTS, RATE)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(chaos::run(plan, &mut |line| {
        let _ = writeln!(std::io::stderr(), "{line}");
    }))
}
