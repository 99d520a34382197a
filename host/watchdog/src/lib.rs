//! Told or dead, never silent: no thread or task that others depend on dies or hangs unseen.
//!
//! A panic anywhere ends the process, unless it happened inside [`tolerate`], which is for the work
//! of one client or caller. A [`Pulse`] says that its owner still turns; whose pulse stands still is
//! named by [`stuck`], and after a longer time the process ends. How the process ends is decided by
//! whoever calls [`install`]; without it nothing here does anything, so libraries and their tests can
//! use it freely.
//!
//! The state is global, as the panic hook is. Time is counted in turns of the watchdog's own thread:
//! a process that was frozen as a whole has lost no time, and nobody in it is taken for stuck.

mod fault;
mod pulse;
mod tolerate;
mod vital;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

pub use fault::at as fault;
use pulse::is_alive;
pub use pulse::{Pulse, Stuck, stuck};
pub use tolerate::{Panicked, Tolerated, set_soundness, tolerate, tolerate_here, tolerate_sync};
pub use vital::{Watched, vital, watched};

/// How often the watchdog looks.
const LOOK: Duration = Duration::from_millis(100);

/// What is done when somebody has died. Both are called on the thread where it happened, during its
/// panic: they must not wait.
#[derive(Clone, Copy, Debug)]
pub struct Handlers {
    /// The process cannot go on, for this reason; further lines are the way to it.
    pub fatal: fn(reason: &str),
    /// The work of one client or caller panicked and has ended.
    pub tolerated: fn(what: &str),
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();
/// Whoever has not turned for so long makes this process unhealthy.
static STUCK: OnceLock<Duration> = OnceLock::new();

/// Takes over what happens at a panic, once per process.
pub fn install(handlers: Handlers) {
    if HANDLERS.set(handlers).is_ok() {
        std::panic::set_hook(Box::new(panicked));
    }
}

/// Starts the watchdog's thread. Whoever does not turn for `stuck` is told by [`health`], whoever does
/// not for `end` ends the process; none: nobody does.
///
/// # Errors
/// When there is no thread to be had.
pub fn start(stuck_after: Duration, end: Option<Duration>) -> std::io::Result<()> {
    let _ = STUCK.set(stuck_after);
    let watch = move || {
        let pulse = Pulse::new("the watchdog");
        loop {
            #[allow(
                clippy::disallowed_methods,
                reason = "a thread of its own whose only work is to look now and then"
            )]
            std::thread::sleep(LOOK);
            pulse::advance(LOOK);
            pulse.beat();
            if let Some(end) = end
                && let Some(stuck) = stuck(end).first()
            {
                fatal(&format!(
                    "{} has not turned for {} s",
                    stuck.name,
                    stuck.since.as_secs()
                ));
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("watchdog".to_owned());
    thread.spawn(watch).map(drop)
}

/// Whether everybody turns on whom all depend. Always, where no watchdog was started.
///
/// # Errors
/// Those who do not, one a line.
pub fn health() -> Result<(), String> {
    let Some(bound) = STUCK.get() else {
        return Ok(());
    };
    let mut wrong = String::new();
    for it in stuck(*bound) {
        wrong.push_str(&format!(
            "{} has not turned for {} s\n",
            it.name,
            it.since.as_secs()
        ));
    }
    if !is_alive(*bound) {
        wrong.push_str("the watchdog does not turn\n");
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Somebody whom everybody depends on is gone: the process ends.
pub fn fatal(reason: &str) {
    if let Some(handlers) = HANDLERS.get() {
        (handlers.fatal)(reason);
    }
}

fn panicked(info: &PanicHookInfo<'_>) {
    let Some(handlers) = HANDLERS.get() else {
        return;
    };
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let message = tolerate::message_of(info.payload());
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let owner = vital::current()
        .map(|it| format!("{it}, "))
        .unwrap_or_default();
    let mut text = format!("panic in {owner}thread {thread}, at {place}: {message}");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        // Line by line behind the reason.
        text.push_str(&format!("\n{backtrace}"));
    }
    if tolerate::is_tolerable() {
        (handlers.tolerated)(&text);
    } else {
        (handlers.fatal)(&text);
    }
}
