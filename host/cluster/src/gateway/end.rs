//! The end of a gateway: handlers finish, clients are told, their closes are committed.
//!
//! Guarantees: it takes no longer than the settings say, and the log tells what it waits for and what
//! was cut.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::Gateway;
use super::shared::Status;
use super::shared::inbox::Parcel;

/// So long before the end of a gateway the ends of its clients are over, so that what was cut can be
/// counted and told.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// An end that takes longer says what it waits for.
const SILENCE: Duration = Duration::from_secs(1);

impl Gateway {
    pub(super) async fn end(&self) {
        let context = self.context();
        let limit = context.settings.shutdown;
        let deadline = Instant::now() + limit;
        let half = Instant::now() + limit / 2;
        context.ending.store(true, Ordering::Release);
        self.services.schedules.end();
        context.all(|| Parcel::Quiesce);
        self.until(half, 1, |status| status.events.load(Ordering::Acquire) == 0)
            .await;
        context.all(|| Parcel::GoAway(deadline - LAST_WORDS.min(limit / 2)));
        // What the last events did must have reached the other gateways, which take nothing more
        // from this one once it has left.
        self.until(deadline, 2, |status| {
            status.lanes.load(Ordering::Acquire) == 0
                && status.tasks.load(Ordering::Acquire) == 0
                && status.forwards.load(Ordering::Acquire) == 0
                && status.sockets.load(Ordering::Acquire) == 0
        })
        .await;
        let tasks = self.sum(|status| &status.tasks);
        if tasks > 0 {
            tracing::warn!(tasks, "the end came before these tasks were done");
        }
        let left = self.sum(|status| &status.lanes);
        if left > 0 {
            tracing::warn!(
                clients = left,
                "the end came before these closes were committed"
            );
        }
    }

    /// Waits until all shards have done what they were told `told` times and are as far as `done` says,
    /// at most until then.
    async fn until(&self, deadline: Instant, told: usize, done: impl Fn(&Status) -> bool) {
        let context = self.context();
        let is_done = |status: &Status| status.told.load(Ordering::Acquire) >= told && done(status);
        let all = async {
            while !context.statuses.iter().all(is_done) {
                context.nearer_the_end.notified().await;
            }
        };
        tokio::pin!(all);
        tokio::select! {
            () = &mut all => return,
            () = sleep_until(deadline.min(Instant::now() + SILENCE)) => self.tell_what_is_left(),
        }
        // What is not done by then is told below.
        let _ = timeout_at(deadline, all).await;
    }

    fn tell_what_is_left(&self) {
        tracing::info!(
            connections = self.sum(|status| &status.sockets),
            events = self.sum(|status| &status.events),
            closes = self.sum(|status| &status.lanes),
            tasks = self.sum(|status| &status.tasks),
            gateways = self.sum(|status| &status.forwards),
            "the end waits: for clients that read what they were sent, events that are handled, \
             closes that are committed, tasks that are done, gateways that take what was forwarded"
        );
    }

    fn sum(&self, count: impl Fn(&Status) -> &AtomicUsize) -> usize {
        let all = self.context().statuses.iter();
        all.map(|status| count(status).load(Ordering::Acquire))
            .sum()
    }
}
