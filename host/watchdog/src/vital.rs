//! Tasks that others depend on: they beat while they are polled, and must not end by themselves.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::pulse::name_of;
use crate::{Pulse, fatal};

/// How often a task that has nothing to do shows that it would.
const BEAT: Duration = Duration::from_secs(1);

thread_local! {
    /// The id of the pulse whose task is being polled, for the words of a panic; 0 for none.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

pin_project! {
    /// See [`watched`].
    #[derive(Debug)]
    pub struct Watched<F> {
        #[pin]
        inner: F,
        beat: Interval,
        alarm: Option<Arc<Alarm>>,
        pulse: Pulse,
    }
}

/// Wakes the task when its timer has run out. Until then the timer need not be asked, which would cost
/// at each poll.
#[derive(Debug)]
struct Alarm {
    rings: AtomicBool,
    task: Waker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rings.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// The same future with a pulse: it is stuck when its task is not polled, or does not return from a
/// poll. That it waits for something that never comes is not seen: loops that must go on by
/// themselves keep a [`Pulse`] of their own.
pub fn watched<F: Future>(name: impl Into<String>, inner: F) -> Watched<F> {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Watched {
        inner,
        beat,
        alarm: None,
        pulse: Pulse::new(name),
    }
}

/// A watched task that must not end before `stop`: that is the end of the process.
pub async fn vital<F: Future>(
    name: impl Into<String>,
    stop: CancellationToken,
    inner: F,
) -> F::Output {
    let name = name.into();
    let inner = pin!(watched(name.as_str(), inner));
    let output = inner.await;
    if !stop.is_cancelled() {
        fatal(&format!("{name} has ended by itself"));
    }
    output
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _owner = Owner::enter(this.pulse);
        this.pulse.beat();
        // Before the task, so that the timer is set whatever that does.
        let set = this.alarm.as_ref().is_some_and(|alarm| {
            alarm.task.will_wake(context.waker()) && !alarm.rings.load(Ordering::Acquire)
        });
        if !set {
            let alarm = this.alarm.insert(Arc::new(Alarm {
                rings: AtomicBool::new(false),
                task: context.waker().clone(),
            }));
            let waker = Waker::from(alarm.clone());
            while this
                .beat
                .poll_tick(&mut Context::from_waker(&waker))
                .is_ready()
            {}
        }
        this.inner.poll(context)
    }
}

struct Owner {
    before: usize,
}

impl Owner {
    fn enter(pulse: &Pulse) -> Self {
        Self {
            before: CURRENT.replace(pulse.id()),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// Whose task is being polled on this thread.
pub(crate) fn current() -> Option<String> {
    name_of(CURRENT.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stuck;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_waits_beats_and_gives_its_answer() {
        let waits = watched("waits", async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(current().as_deref(), Some("waits"));
            7
        });
        assert_eq!(waits.await, 7);
        assert_eq!(current(), None);
        assert!(!stuck(Duration::ZERO).iter().any(|it| it.name == "waits"));
    }
}
