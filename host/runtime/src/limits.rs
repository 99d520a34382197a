//! How much an event and an instance may use: CPU, wall time, memory, effects, session, output.
//!
//! The numbers stand in [`Limits`]; the counters that are charged while a guest runs stand beside
//! them. Nothing here knows wasm beyond wasmtime's limiter trait.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// One tick of the engine's clock: the grain of CPU limits, and the longest that a guest keeps a
/// thread before others get their turn.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Elements that all tables of an instance may have together; the pool is sized by it too.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// The most that is kept of a call's time for what it does after an answer.
const ANSWER_MARGIN_MAX: Duration = Duration::from_millis(100);

/// Limits of one deployment; each holds per event or per instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of one event (or of on-start, on-stop), in milliseconds.
    pub cpu_ms: u64,
    /// Time on the clock of one event, waiting included, in milliseconds.
    pub wall_ms: u64,
    /// CPU time of one task, in milliseconds.
    pub task_cpu_ms: u64,
    /// Time on the clock of one task, in milliseconds.
    pub task_ms: u64,
    /// Memory of one instance, in bytes.
    pub memory_bytes: usize,
    /// Effects of one event.
    pub effects_max: usize,
    /// Bytes of all effects of one event.
    pub effect_bytes_max: usize,
    /// Bytes of one client's session, keys and values.
    pub session_bytes_max: usize,
    /// Time on the clock of one question of `directory` or `hub`, in milliseconds. Never more than
    /// what is left of `wall_ms`: the handler sees a time-out and goes on.
    pub query_ms: u64,
    /// Questions of one event.
    pub queries_max: usize,
    /// Output of one instance (stdout, stderr, `wasi:logging`) that is logged per second, in bytes.
    pub log_bytes_per_second: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_ms: 500,
            wall_ms: 5_000,
            task_cpu_ms: 10_000,
            task_ms: 300_000,
            memory_bytes: 128 << 20,
            effects_max: 10_000,
            effect_bytes_max: 8 << 20,
            session_bytes_max: 64 << 10,
            query_ms: 1_000,
            queries_max: 1_000,
            log_bytes_per_second: 64 << 10,
        }
    }
}

impl Limits {
    /// Those of an instance that runs a task.
    pub(crate) const fn of_task(self) -> Self {
        Self {
            cpu_ms: self.task_cpu_ms,
            wall_ms: self.task_ms,
            ..self
        }
    }

    /// Time on the clock of one call.
    pub(crate) const fn wall(&self) -> Duration {
        Duration::from_millis(self.wall_ms)
    }

    /// Time on the clock of one question.
    pub(crate) const fn query(&self) -> Duration {
        Duration::from_millis(self.query_ms)
    }

    /// The last part of a call's time on the clock: no question waits into it, so that a handler
    /// whose question was not answered can still end well.
    pub(crate) fn answer_margin(&self) -> Duration {
        (self.wall() / 10).min(ANSWER_MARGIN_MAX)
    }

    /// Bytes that one call of a host function may make the host copy out of the guest.
    pub(crate) fn hostcall_bytes(&self) -> usize {
        self.effect_bytes_max.saturating_mul(2).max(8 << 20)
    }
}

/// CPU of the call under way, counted in ticks of the engine's clock.
#[derive(Debug)]
pub(crate) struct CpuBudget {
    per_call: u32,
    left: u32,
    /// Time that the guest waited for the host and that no tick was taken off for yet.
    waited: Duration,
}

impl CpuBudget {
    /// A budget of this many milliseconds a call; at least one whole tick.
    pub(crate) fn new(cpu_ms: u64) -> Self {
        let tick_ms = u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX).max(1);
        // One more: the tick in which a call starts is rarely a whole one.
        let ticks = cpu_ms.div_ceil(tick_ms).saturating_add(1);
        let per_call = u32::try_from(ticks).unwrap_or(u32::MAX);
        Self {
            per_call,
            left: per_call,
            waited: Duration::ZERO,
        }
    }

    /// A new call starts.
    pub(crate) fn refill(&mut self) {
        self.left = self.per_call;
        self.waited = Duration::ZERO;
    }

    /// The guest waited so long for the host. However many ticks that were, it is told one of them
    /// when it goes on; short waits add up to one, as their share of all ticks does.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited = (self.waited + time.min(TICK)).min(TICK * 2);
    }

    /// Charges one tick, unless it passed while the guest waited; false if the budget is used up.
    pub(crate) fn charge(&mut self) -> bool {
        if let Some(left) = self.waited.checked_sub(TICK) {
            self.waited = left;
            return true;
        }
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// Whether the last call used its whole budget.
    pub(crate) const fn is_used_up(&self) -> bool {
        self.left == 0
    }
}

/// Counts the memory and the tables of one instance against its limits, and remembers a refusal so
/// that the report of the trap that follows can name it.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    bytes_max: usize,
    bytes: usize,
    elements: usize,
    refused: bool,
}

impl MemoryBudget {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            elements: 0,
            refused: false,
        }
    }

    /// A new call starts: what was refused before it and survived is forgotten.
    pub(crate) fn forget_refusal(&mut self) {
        self.refused = false;
    }

    /// The limit, if it has been hit in this call.
    pub(crate) const fn limit_reached(&self) -> Option<usize> {
        if self.refused {
            Some(self.bytes_max)
        } else {
            None
        }
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Over its own declared maximum the guest fails by itself; that is not our limit.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let after = self.bytes.saturating_add(desired.saturating_sub(current));
        if after > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.bytes = after;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let after = self
            .elements
            .saturating_add(desired.saturating_sub(current));
        if after > TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        self.elements = after;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_over_all_memories_and_a_refusal_is_remembered() {
        let mut budget = MemoryBudget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(budget.memory_growing(0, 40, None).unwrap());
        assert_eq!(budget.limit_reached(), None);
        assert!(!budget.memory_growing(40, 41, None).unwrap());
        assert_eq!(budget.limit_reached(), Some(100));
    }

    #[test]
    fn a_cpu_budget_is_used_up_after_its_ticks_and_full_again_for_the_next_call() {
        let mut budget = CpuBudget::new(10);
        assert!(budget.charge());
        assert!(budget.charge());
        assert!(!budget.charge());
        assert!(budget.is_used_up());
        budget.refill();
        assert!(budget.charge());
    }

    #[test]
    fn a_tick_that_passed_while_the_guest_waited_is_free() {
        let mut budget = CpuBudget::new(10);
        for _ in 0..1_000 {
            budget.waited(Duration::from_secs(1));
            assert!(budget.charge());
        }
        budget.waited(TICK / 2);
        assert!(budget.charge(), "half a wait is not free");
        budget.waited(TICK / 2);
        assert!(budget.charge(), "two halves are");
        assert!(budget.charge());
        assert!(!budget.charge());
    }
}
