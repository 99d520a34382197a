//! Signs of life: each owner says that it turns, anybody asks who does not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fault;

/// A pulse that is not expected to beat.
const RESTS: u64 = u64::MAX;

/// Milliseconds that the watchdog has counted.
static NOW: AtomicU64 = AtomicU64::new(0);
/// When it last did so: milliseconds since [`STARTED`], and zero before the first time.
static LOOKED: AtomicU64 = AtomicU64::new(0);
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
static PULSES: Mutex<Vec<Arc<PulseState>>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct PulseState {
    name: String,
    /// By the watchdog's clock; in the future if the owner has said that it takes longer.
    last: AtomicU64,
}

/// Says for one thread or task that it turns. Until it is dropped it must beat, or rest.
#[derive(Debug)]
pub struct Pulse {
    shared: Arc<PulseState>,
}

/// Somebody who does not turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Who.
    pub name: String,
    /// For how long.
    pub since: Duration,
}

fn pulses() -> MutexGuard<'static, Vec<Arc<PulseState>>> {
    PULSES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pulse {
    /// Begins to watch. `name` is for people, like `shard 3`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let shared = Arc::new(PulseState {
            name: name.into(),
            last: AtomicU64::new(NOW.load(Ordering::Relaxed)),
        });
        pulses().push(shared.clone());
        Self { shared }
    }

    /// It turns. Costs a read and a write of one word each.
    pub fn beat(&self) {
        self.allow(Duration::ZERO);
    }

    /// It turns, and the next time may be so much later than usual.
    pub fn allow(&self, more: Duration) {
        fault::at(&self.shared.name);
        let more = u64::try_from(more.as_millis()).unwrap_or(RESTS);
        let until = NOW.load(Ordering::Relaxed).saturating_add(more);
        self.shared.last.store(until, Ordering::Relaxed);
    }

    /// It waits for something that may never come: nothing is expected until it beats again.
    pub fn rest(&self) {
        fault::at(&self.shared.name);
        self.shared.last.store(RESTS, Ordering::Relaxed);
    }

    /// Tells it from all others that live.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    /// Who it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        pulses().retain(|it| !Arc::ptr_eq(it, &self.shared));
    }
}

/// Who has this id, if nobody changes the list at the moment: asked during a panic.
pub(crate) fn name_of(id: usize) -> Option<String> {
    let pulses = PULSES.try_lock().ok()?;
    let of_id = |it: &&Arc<PulseState>| Arc::as_ptr(it).addr() == id;
    pulses.iter().find(of_id).map(|it| it.name.clone())
}

/// Those who have not turned for longer than `bound`, the longest first.
#[must_use]
pub fn stuck(bound: Duration) -> Vec<Stuck> {
    let now = NOW.load(Ordering::Relaxed);
    let late = |it: &Arc<PulseState>| {
        let since = now.saturating_sub(it.last.load(Ordering::Relaxed));
        let since = Duration::from_millis(since);
        let name = it.name.clone();
        (since > bound).then_some(Stuck { name, since })
    };
    let mut found: Vec<Stuck> = pulses().iter().filter_map(late).collect();
    found.sort_by_key(|it| std::cmp::Reverse(it.since));
    found
}

/// Whether the watchdog itself has looked within `bound`. It has no clock but the machine's for that:
/// right after a freeze of the whole process the answer may be no for a moment.
pub(crate) fn is_alive(bound: Duration) -> bool {
    let looked = Duration::from_millis(LOOKED.load(Ordering::Relaxed));
    looked.is_zero() || STARTED.elapsed().saturating_sub(looked) <= bound
}

/// The watchdog has looked again.
pub(crate) fn advance(by: Duration) {
    let millis = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
    NOW.fetch_add(millis(by), Ordering::Relaxed);
    LOOKED.store(millis(STARTED.elapsed()).max(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(1_000);

    fn is_stuck(pulse: &Pulse) -> bool {
        stuck(BOUND).iter().any(|it| it.name == pulse.name())
    }

    #[test]
    fn whoever_does_not_beat_within_the_bound_is_named() {
        let (quiet, lively) = (Pulse::new("quiet"), Pulse::new("lively"));
        let (slow, resting) = (Pulse::new("slow"), Pulse::new("resting"));
        slow.allow(Duration::from_secs(60));
        resting.rest();
        for _ in 0..12 {
            lively.beat();
            advance(Duration::from_millis(100));
        }
        assert!(is_stuck(&quiet));
        assert!(!is_stuck(&lively) && !is_stuck(&slow) && !is_stuck(&resting));
        quiet.beat();
        assert!(!is_stuck(&quiet));
        advance(Duration::from_secs(62));
        assert!(is_stuck(&slow) && !is_stuck(&resting));
        drop(slow);
        assert!(!stuck(BOUND).iter().any(|it| it.name == "slow"));
    }
}
