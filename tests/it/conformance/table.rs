//! Runs rows, each at most once in a process, and prints what was checked.

use std::fmt::Write as _;
use std::future::Future;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tidegate_tests::Outcome;

use super::ROWS;
use super::fixture::{self, Size};
use super::trial::{Side, Trial};

/// How long one row may take on one side of one cluster.
const PATIENCE: Duration = Duration::from_secs(40);

/// The columns of the table.
const CELLS: [(Side, Size, &str); 4] = [
    (Side::Inside, Size::One, "inside, one gateway"),
    (Side::Outside, Size::One, "outside, one gateway"),
    (Side::Inside, Size::Three, "inside, three gateways"),
    (Side::Outside, Size::Three, "outside, three gateways"),
];

type Run = for<'a> fn(&'a mut Trial) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// One row: what it is, how it is checked, and what came of it.
pub(crate) struct Row {
    name: &'static str,
    capability: &'static str,
    run: Run,
    cells: OnceLock<Vec<Cell>>,
}

/// How many checks held, or the first that did not.
type Cell = Result<u32, String>;

impl Row {
    pub(crate) const fn new(name: &'static str, capability: &'static str, run: Run) -> Self {
        Self {
            name,
            capability,
            run,
            cells: OnceLock::new(),
        }
    }

    /// Its tenant: `row-07` for `row_07`.
    pub(crate) fn tenant(&self) -> String {
        self.name.replace('_', "-")
    }

    fn cells(&self) -> &[Cell] {
        self.cells
            .get_or_init(|| CELLS.iter().map(|&cell| self.cell(cell)).collect())
    }

    async fn checked(&self, side: Side, size: Size) -> Result<u32> {
        let checked = tokio::time::timeout(PATIENCE, async {
            let mut trial = Trial::begin(size, side, self.tenant()).await?;
            (self.run)(&mut trial).await?;
            ensure!(trial.checks > 0, "nothing was checked");
            Ok(trial.checks)
        });
        checked
            .await
            .unwrap_or_else(|_| Err(anyhow!("not done within {PATIENCE:?}")))
    }

    fn cell(&self, (side, size, place): (Side, Size, &str)) -> Cell {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(self.checked(side, size))
        }));
        // What it panicked with stands above, in the output of the test.
        let ran = ran.unwrap_or_else(|_| Err(anyhow!("it panicked")));
        ran.map_err(|error| format!("{}, {place}: {error:#}", self.name))
    }
}

/// What came of one row; runs it if nobody has.
pub(crate) fn outcome(name: &str) -> Outcome {
    let row = ROWS
        .iter()
        .find(|row| row.name == name)
        .with_context(|| format!("{name} is not in the table"))?;
    judge(row)
}

fn judge(row: &Row) -> Outcome {
    let failures: Vec<_> = row
        .cells()
        .iter()
        .filter_map(|cell| cell.as_ref().err())
        .map(String::as_str)
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Runs what has not run yet, prints the table and ends the clusters.
pub(crate) fn print_and_judge() -> Outcome {
    let mut lines = String::new();
    writeln!(
        lines,
        "{:<45}{:>10}{:>10}{:>10}{:>10}",
        "conformance, checks by row", "inside 1", "outside 1", "inside 3", "outside 3"
    )?;
    let mut failed = Vec::new();
    for (at, row) in ROWS.iter().enumerate() {
        let expected = format!("row_{:02}", at + 1);
        if row.name != expected {
            failed.push(format!("{expected} is absent, {} is there", row.name));
        }
        write!(lines, "{:<8}{:<37}", row.name, row.capability)?;
        for cell in row.cells() {
            match cell {
                Ok(checks) => write!(lines, "{checks:>10}")?,
                Err(_) => write!(lines, "{:>10}", "FAILED")?,
            }
        }
        writeln!(lines)?;
        failed.extend(judge(row).err().map(|error| error.to_string()));
    }
    // Not eprintln: libtest would keep it to itself.
    std::io::stderr().write_all(lines.as_bytes())?;
    fixture::end();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
