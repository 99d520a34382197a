//! What a link's task has to do besides frames. One future waits for all of it and is kept between
//! batches, so that a batch of frames costs a poll of it and nothing is registered anew.

use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::frame::Serving;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Phase, WorkerInner};

/// Load is looked at this many times an interval.
const LOOKS_PER_INTERVAL: u32 = 4;
/// The shortest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// One thing to do.
#[derive(Debug)]
pub(super) enum Chore {
    /// The worker begins to drain or to close.
    Phase(Phase),
    /// Other tenants or versions are served.
    Serving(Arc<Vec<Serving>>),
    /// So much time has passed.
    Look(Duration),
}

/// Where things to do come from.
#[derive(Debug)]
pub(super) struct Chores {
    phase: watch::Receiver<Phase>,
    serving: watch::Receiver<Arc<Vec<Serving>>>,
    /// The handlers are gone, what is served will not change any more.
    serving_ended: bool,
    look: Interval,
}

impl Chores {
    /// The first tell the phase and what is served: both may have changed since the link began.
    pub(super) fn new(inner: &WorkerInner) -> Self {
        let mut phase = inner.phase.subscribe();
        phase.mark_changed();
        let mut serving = inner.handlers.serving();
        serving.mark_changed();
        let step = inner.settings.load_interval / LOOKS_PER_INTERVAL;
        let mut look = interval(step.max(LOOK_MIN));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            phase,
            serving,
            serving_ended: false,
            look,
        }
    }
}

/// Waits for the next thing to do.
pub(super) async fn next_chore(mut chores: Chores) -> (Chores, Chore) {
    loop {
        tokio::select! {
            biased;
            Ok(()) = chores.phase.changed() => {
                let phase = *chores.phase.borrow_and_update();
                return (chores, Chore::Phase(phase));
            }
            changed = chores.serving.changed(), if !chores.serving_ended => match changed {
                Ok(()) => {
                    let serving = chores.serving.borrow_and_update().clone();
                    return (chores, Chore::Serving(serving));
                }
                Err(_) => chores.serving_ended = true,
            },
            _ = chores.look.tick() => {
                let passed = chores.look.period();
                return (chores, Chore::Look(passed));
            }
        }
    }
}
