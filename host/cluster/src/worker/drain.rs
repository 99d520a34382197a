//! The end of a worker: it serves on until nobody waits for it, then closes its links.
//!
//! Guarantees: a drain gives nothing up that a gateway waits for, and takes no longer than it may.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::gateway_link::GatewayLink;
use super::{Phase, Worker, WorkerInner};

/// How long links may take to end once they are closed.
const CLOSING_MAX: Duration = Duration::from_secs(1);
/// A drain that takes longer says what it waits for.
const SILENCE: Duration = Duration::from_secs(1);

impl Worker {
    /// Asks every gateway to send no more events, serves on until all that came are committed and
    /// sent, at most for the configured time, then closes the links.
    pub async fn drain(&self) {
        let inner = &self.inner;
        inner.enter(Phase::Draining);
        let limit_ms = inner.shutdown_ms.load(Ordering::Relaxed);
        let limit = Duration::from_millis(limit_ms);
        let drained = inner.drained();
        tokio::pin!(drained);
        let is_over = timeout(limit.min(SILENCE), &mut drained).await.is_ok();
        if !is_over {
            inner.tell_what_is_left();
        }
        let rest = limit.saturating_sub(SILENCE);
        if !is_over && timeout(rest, drained).await.is_err() {
            warn!(
                limit_ms,
                closes = inner.custody_kept(),
                "the drain took too long: gateways send what is uncommitted to other workers; of \
                 gateways without a link, closes of so many clients are told by this worker no more"
            );
        }
        let homes = inner.homes();
        inner.enter(Phase::Closing);
        inner.tasks.close();
        let closed = async {
            inner.tasks.wait().await;
            for home in &homes {
                home.sender.flushed().await;
            }
        };
        if timeout(CLOSING_MAX, closed).await.is_err() {
            warn!("some links did not end in time");
        }
        info!("worker drained");
    }

    /// Has the drain take less than the settings allow: others in the process have used up a part of
    /// the time.
    pub fn limit_drain(&self, limit: Duration) {
        let limit = limit.min(self.inner.settings.shutdown);
        let shutdown = &self.inner.shutdown_ms;
        shutdown.store(millis(limit), Ordering::Relaxed);
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl WorkerInner {
    /// Waits until no gateway waits for this worker, this worker waits for no gateway, and no close may
    /// be left to it: of a gateway without a link it is not known yet whether it is lost or has named
    /// other custodians.
    async fn drained(&self) {
        self.tellers.close();
        loop {
            let mut settled = pin!(self.settled.notified());
            // From here on no word is missed.
            settled.as_mut().enable();
            let homes = self.homes();
            if self.is_settled(&homes) {
                for home in &homes {
                    home.sender.at_most_queued(0).await;
                }
                // What a link that has ended leaves behind is known once its task has ended too.
                let any_ended = homes.iter().any(|home| home.is_closed());
                if !any_ended && self.is_settled(&self.homes()) {
                    return;
                }
            }
            tokio::select! {
                () = settled => {}
                () = self.tellers.wait(), if !self.tellers.is_empty() => {}
            }
        }
    }

    fn tell_what_is_left(&self) {
        let homes = self.homes();
        info!(
            events = homes.iter().map(|home| home.uncommitted()).sum::<u32>(),
            gateways = homes.iter().filter(|home| !home.is_released()).count(),
            closes = self.custody_kept(),
            "the drain waits: for events that are handled, gateways that let this worker go, and \
             closes of gateways without a link that may be left to it"
        );
    }

    /// Whether nothing is left to be done that comes over these links or that closes have left.
    fn is_settled(&self, homes: &[Arc<GatewayLink>]) -> bool {
        self.adoptions.are_settled()
            && self.tellers.is_empty()
            && !self.keeps_custody()
            && homes.iter().all(|home| home.is_drained())
    }
}
