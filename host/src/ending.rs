//! The end of the process: asked for from outside, or because somebody on whom all depend has died.
//!
//! Either way it is orderly as far as that goes, and takes no longer than it may: whatever is not
//! over by then is cut. The exit code says which end it was.

use std::io::Write;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use tidegate_watchdog::{self as watchdog, Handlers};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Purpose};
use crate::telemetry::{self, Logging};

/// It failed while it ran.
pub const FAILED: u8 = 1;
/// A thread or task that others depend on has died or hangs: `EX_SOFTWARE` of sysexits.h.
pub const DIED: u8 = 70;

/// After so much more than its time whatever has not ended is cut.
const MARGIN: Duration = Duration::from_secs(2);
/// The last part of the end's time is for parting: the last frames of links, leases, handlers that are
/// told, threads.
const PARTING_SHARE: u32 = 10;
const PARTING_MAX: Duration = Duration::from_secs(1);
/// What each step of parting has, also where all time is used up.
const STEP_MIN: Duration = Duration::from_millis(200);
const BACKTRACE_LINES_MAX: usize = 200;
/// So long may the last lines of the log take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

static ENDING: OnceLock<Ending> = OnceLock::new();
static DEAD: AtomicBool = AtomicBool::new(false);

struct Ending {
    stop: CancellationToken,
    within: Duration,
    logging: Logging,
    begun: OnceLock<Instant>,
}

/// From now on a death ends the process through `stop`.
pub fn prepare(config: &Config, stop: CancellationToken, logging: Logging) {
    let within = limit(config);
    let _ = ENDING.set(Ending {
        stop,
        within,
        logging,
        begun: OnceLock::new(),
    });
    watchdog::install(Handlers { fatal, tolerated });
}

/// How long the end of a process may take, all of it together.
#[must_use]
pub fn limit(config: &Config) -> Duration {
    Duration::from_millis(match config.purpose {
        Purpose::Worker => config.worker.shutdown_ms,
        Purpose::Serve | Purpose::Gateway | Purpose::Register | Purpose::Check => {
            config.gateway.shutdown_ms
        }
    })
}

/// The part of the time of an end in which what is under way may be finished.
#[must_use]
pub fn for_work(limit: Duration) -> Duration {
    limit - (limit / PARTING_SHARE).min(PARTING_MAX)
}

/// What a step of parting may take, of which the process needs `most` at most.
#[must_use]
pub fn for_step(limit: Duration, most: Duration) -> Duration {
    left_of(limit).min(most).max(STEP_MIN)
}

/// What is left for the process's threads, once everything else has ended.
#[must_use]
pub fn for_threads() -> Duration {
    let limit = ENDING.get().map_or(Duration::ZERO, |ending| ending.within);
    for_step(limit, PARTING_MAX)
}

/// Begins the end, once; the process is gone before its time is over. True the first time.
pub fn begin() -> bool {
    let Some(ending) = ENDING.get() else {
        return false;
    };
    if ending.begun.set(Instant::now()).is_err() {
        return false;
    }
    // A thread of its own: whoever else could wake the others may be the one who is dead.
    let cut = std::thread::Builder::new().name("ending".to_owned());
    let cut = cut.spawn(move || {
        ending.stop.cancel();
        let deadline = Instant::now() + ending.within + MARGIN;
        // A parked thread may wake for no reason.
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        tracing::error!(
            limit_ms = u64::try_from(ending.within.as_millis()).unwrap_or(u64::MAX),
            "something did not end in time: it is cut"
        );
        leave(FAILED);
    });
    if cut.is_err() {
        ending.stop.cancel();
    }
    true
}

/// What is left of `limit` since the end has begun; all of it before that.
#[must_use]
pub fn left_of(limit: Duration) -> Duration {
    let begun = ENDING.get().and_then(|ending| ending.begun.get());
    begun.map_or(limit, |begun| limit.saturating_sub(begun.elapsed()))
}

/// Ends the process now.
pub fn leave(code: u8) -> ! {
    flush();
    std::process::exit(i32::from(code_of(code)));
}

/// The exit code after everything has ended, when it would be `code` without a death.
#[must_use]
pub fn code(code: u8) -> ExitCode {
    flush();
    ExitCode::from(code_of(code))
}

fn flush() {
    if let Some(ending) = ENDING.get() {
        let _ = ending.logging.writer.flush(LAST_LINES);
    }
}

fn code_of(code: u8) -> u8 {
    if DEAD.load(Ordering::Acquire) {
        DIED
    } else {
        code
    }
}

/// Called on the thread that has died, during its panic.
fn fatal(reason: &str) {
    let again = DEAD.swap(true, Ordering::AcqRel);
    let mut lines = reason.lines();
    let reason = lines.next().unwrap_or_default();
    tracing::error!(target: telemetry::OWN, reason, "the process cannot go on and ends");
    tell_way(lines);
    if !again {
        say_without_a_log(reason);
        begin();
    }
}

/// If it is the log's own thread that has died, nobody would read the reason.
fn say_without_a_log(reason: &str) {
    let own = std::thread::current().name() == Some("log");
    let ending = ENDING.get();
    if own || ending.is_none_or(|ending| ending.logging.writer.is_dead()) {
        let text = format!("error: the process cannot go on and ends: {reason}");
        write_to_standard_error(text);
    }
}

/// Tells a person at a terminal, behind what was logged, why the process ends. Waits no longer than
/// for the log's last lines: standard error may take nothing, for ever.
pub fn say(text: &str) {
    flush();
    let written = write_to_standard_error(text.to_owned());
    // Whether it was written or not, there is nothing else to be done.
    let _ = written.recv_timeout(LAST_LINES);
}

fn write_to_standard_error(text: String) -> Receiver<()> {
    let (written, told) = sync_channel(1);
    let write = move || {
        let _ = writeln!(std::io::stderr(), "{text}");
        let _ = written.try_send(());
    };
    // Without a thread the receiver is told at once that nobody will write.
    let _ = std::thread::Builder::new().spawn(write);
    told
}

fn tolerated(what: &str) {
    metrics::counter!("tidegate_panics_total").increment(1);
    let mut lines = what.lines();
    let what = lines.next().unwrap_or_default();
    tracing::error!(
        what,
        "the work of one client or caller panicked; it alone ends"
    );
}

/// A backtrace, if one was asked for.
fn tell_way<'a>(lines: impl Iterator<Item = &'a str>) {
    for line in lines.take(BACKTRACE_LINES_MAX) {
        tracing::error!(target: telemetry::OWN, "{line}");
    }
}
