//! Takes desired states into the store, and tries again what the disk did not take.
//!
//! Guarantees: what could not be written is tried again until it is kept or a higher state is; the
//! reason is there for as long as that lasts. A register goes by what is kept alone, a worker by the
//! newest state.

use tidegate_link::net::Backoff;
use tidegate_wire::deploy::Desired;
use tokio::time::Instant;

use super::{DeploySettings, Store, StoreError};

/// What does not work is tried again at most this many times less often than a lost link.
const RETRY_FACTOR: u32 = 10;

/// Waits before something that did not work is tried again.
pub(super) fn retries(settings: &DeploySettings, seed: u64) -> Backoff {
    let max = settings.reconnect_max * RETRY_FACTOR;
    Backoff::new(settings.reconnect_min, max, seed)
}

/// The way of desired states into a store.
#[derive(Debug)]
pub(super) struct Keeping {
    store: Store,
    retries: Backoff,
    unkept: Option<Unkept>,
    /// Whether the node goes by what the disk does not take.
    holds: bool,
}

#[derive(Debug)]
struct Unkept {
    desired: Desired,
    reason: String,
    again: Instant,
}

impl Keeping {
    pub(super) fn new(store: Store, settings: &DeploySettings, seed: u64) -> Self {
        Self {
            store,
            retries: retries(settings, seed),
            unkept: None,
            holds: false,
        }
    }

    /// For a node that decides nothing: it goes by the newest state though its disk does not take it.
    /// Else a version that was taken back would serve on there.
    pub(super) fn holding(self) -> Self {
        Self {
            holds: true,
            ..self
        }
    }

    /// Takes a state, or one that is still to be kept if that is higher. Whether the store has a new
    /// one then.
    pub(super) async fn adopt(&mut self, desired: Desired) -> bool {
        if self.unkept.is_none() && !desired.beats(&self.store.desired()) {
            return false;
        }
        let unkept = self.unkept.take().map(|it| it.desired);
        let failed = unkept.is_some();
        let desired = match unkept {
            Some(unkept) if !desired.beats(&unkept) => unkept,
            Some(_) | None => desired,
        };
        match self.store.adopt(desired.clone()).await {
            Ok(new) => {
                if failed {
                    tracing::info!("the desired state can be kept again");
                    self.retries.reset();
                }
                new
            }
            Err(error) => {
                let held = self.holds && self.store.hold(desired.clone());
                self.failed(desired, &error);
                held
            }
        }
    }

    fn failed(&mut self, desired: Desired, error: &StoreError) {
        let wait = self.retries.next();
        tracing::error!(
            %error, generation = desired.generation, again_ms = wait.as_millis() as u64,
            followed = self.holds, "a desired state could not be kept"
        );
        self.unkept = Some(Unkept {
            desired,
            reason: error.to_string(),
            again: Instant::now() + wait,
        });
    }

    /// When something is to be tried again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.unkept.as_ref().map(|it| it.again)
    }

    /// Tries again what is due. Whether the store has a new state then.
    pub(super) async fn in_time(&mut self) -> bool {
        let due = self.deadline().is_some_and(|at| at <= Instant::now());
        match self.unkept.as_ref().filter(|_| due) {
            Some(unkept) => {
                let desired = unkept.desired.clone();
                self.adopt(desired).await
            }
            None => false,
        }
    }

    /// Why the newest state is not kept.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.unkept.as_ref().map(|it| it.reason.as_str())
    }
}
