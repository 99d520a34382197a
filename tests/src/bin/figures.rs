//! `make figures`: measures Tidegate beside the plainest server and prints a table. The servers
//! run on core 0, the load on core 1. Progress goes to stderr, the table to stdout.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tidegate_tests::figures::{self, Plan};
use tidegate_tests::tools;

/// Set in the second start of this program, which has its limits and its core.
const PREPARED: &str = "TIDEGATE_FIGURES_PREPARED";

const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;

/// Measures Tidegate beside the plainest server.
#[derive(Debug, Parser)]
struct Arguments {
    /// One short repetition with fewer idle connections.
    #[arg(long)]
    quick: bool,
    /// Only the baseline.
    #[arg(long)]
    plain_only: bool,
    /// The `tidegate` of another build, loaded in turns with this one and compared.
    #[arg(long, value_name = "TIDEGATE", conflicts_with = "plain_only")]
    base: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let pinned = match std::env::var(PREPARED) {
        Ok(prepared) => prepared == "pinned",
        Err(_) => return prepare(),
    };
    if cfg!(debug_assertions) {
        eprintln!("these are figures of a debug build: run make figures");
    }
    let pin = pinned.then_some(SERVER_CORE);
    let mut plan = Plan::new(arguments.quick, pin, arguments.plain_only);
    if let Some(base) = arguments.base {
        let base = std::fs::canonicalize(&base).with_context(|| base.display().to_string())?;
        plan.base = Some(base.leak());
    }
    tidegate_tests::process::without_tails();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let table = runtime.block_on(figures::measure(plan, &mut |line| eprintln!("{line}")))?;
    let mut out = std::io::stdout();
    write!(out, "{table}")?;
    let compared = table.against_base();
    if !compared.is_empty() {
        writeln!(
            out,
            "base, this build, this build of base (median of the turns, and where it lies by 95 %):\n{compared}"
        )?;
    }
    writeln!(
        out,
        "64-byte payloads, medians of {} repetitions, {}",
        plan.repetitions,
        if pinned {
            "servers on core 0, load on core 1"
        } else {
            "not pinned: figures of different runs do not compare"
        }
    )?;
    Ok(())
}

/// Starts itself again with all file descriptors that are allowed and on its core. A shell does
/// it, because a process cannot do either to itself without unsafe code.
fn prepare() -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pinned = cores > LOAD_CORE && tools::has("taskset");
    if !pinned {
        eprintln!("not pinned: that needs two cores and taskset (util-linux)");
    }
    let myself = std::env::current_exe()?;
    let script = format!(
        "ulimit -n \"$(ulimit -Hn)\"; exec {} \"$@\"",
        if pinned {
            format!("taskset -c {LOAD_CORE}")
        } else {
            String::new()
        }
    );
    let error = Command::new("sh")
        .args(["-c", &script, "figures"])
        .arg(myself)
        .args(std::env::args_os().skip(1))
        .env(PREPARED, if pinned { "pinned" } else { "unpinned" })
        .exec();
    bail!(anyhow::Error::new(error).context("cannot start sh"))
}
