//! Why a call broke, in words for the log: the limit that was reached or the trap, the wasm
//! backtrace, and the last that the guest wrote to stderr.

use std::fmt;

use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::host_api::HostState;

/// What ended a call, as a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// A trap of its own: a panic, an out-of-bounds access, too deep a recursion.
    Trap,
    /// The CPU budget.
    Cpu,
    /// The limit on the clock.
    Wall,
    /// The memory limit, which the guest did not survive.
    Memory,
    /// It called exit.
    Exit,
}

impl FailureKind {
    pub(crate) const ALL: [Self; 5] = [Self::Trap, Self::Cpu, Self::Wall, Self::Memory, Self::Exit];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::Memory => "memory",
            Self::Exit => "exit",
        }
    }
}

/// Why a call broke.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
    pub(crate) backtrace: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.stderr.is_empty() {
            write!(f, "; it wrote: {}", self.stderr)?;
        }
        Ok(())
    }
}

/// The call returned an error of the engine.
pub(super) fn of_error(store: &mut Store<HostState>, error: &wasmtime::Error) -> Box<Failure> {
    let state = store.data();
    let limits = &state.identity.limits;
    let trap = error.downcast_ref::<Trap>();
    let (kind, reason) = if trap == Some(&Trap::Interrupt) && state.cpu.is_used_up() {
        let reason = format!("CPU limit of {} ms reached", limits.cpu_ms);
        (FailureKind::Cpu, reason)
    } else if let Some(bytes) = state.memory.limit_reached() {
        let reason = format!("memory limit of {bytes} bytes reached ({})", cause(error));
        (FailureKind::Memory, reason)
    } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
        let reason = format!("the plugin called exit({})", exit.0);
        (FailureKind::Exit, reason)
    } else {
        (FailureKind::Trap, cause(error))
    };
    let backtrace = error
        .downcast_ref::<WasmBacktrace>()
        .map(ToString::to_string)
        .unwrap_or_default();
    Box::new(Failure {
        kind,
        reason,
        backtrace,
        stderr: state.output.take_stderr_tail(),
    })
}

/// The call was given up; where it stood is not known.
pub(super) fn of_timeout(store: &Store<HostState>) -> Box<Failure> {
    let state = store.data();
    let wall_ms = state.identity.limits.wall_ms;
    Box::new(Failure {
        kind: FailureKind::Wall,
        reason: format!("time limit of {wall_ms} ms reached"),
        backtrace: String::new(),
        stderr: state.output.take_stderr_tail(),
    })
}

/// The innermost reason, without the backtrace that wasmtime puts round it.
fn cause(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    }
}
