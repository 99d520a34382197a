//! The promises under violence; see the harness's `chaos` for what is checked. `TIDEGATE_SEED` and
//! `TIDEGATE_CHAOS_SECONDS` replay a schedule; `make chaos` is the long form.

use std::io::Write;

use tidegate_tests::Outcome;
use tidegate_tests::chaos::{self, Plan};

/// How long things go wrong.
const SECONDS: u64 = 30;
const CLIENTS: u64 = 600;
/// Messages a second, of all clients.
const RATE: u64 = 1000;

#[tokio::test]
async fn nothing_is_lost_repeated_or_reordered_under_violence() -> Outcome {
    let plan = Plan::from_environment(SECONDS, CLIENTS, RATE)?;
    chaos::run(plan, &mut |line| {
        // Not println: the seed is to be seen also when the test passes.
        let _ = writeln!(std::io::stderr(), "{line}");
    })
    .await
}
