//! Watches over a new version in its first time: rolls it back when it crosses a bound, promotes a
//! canary when its time is over.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::Shared;
use super::tally::Tally;

/// The version that is watched now. Dropped, it is not watched any more.
pub(super) struct Trial {
    pub(super) tally: Arc<Tally>,
    _watch: AbortOnDropHandle<()>,
}

/// What a trial without a violation ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// All clients follow.
    Promote,
    /// Nothing more is counted.
    Trust,
}

impl Shared {
    /// Watches over a version, and no more over the one before it; without `within` until told.
    pub(super) fn watch_over(
        self: &Arc<Self>,
        tally: &Arc<Tally>,
        within: Option<Duration>,
        then: Then,
    ) {
        let watch = tokio::spawn(watch(Arc::downgrade(self), Arc::clone(tally), within, then));
        *self.trial() = Some(Trial {
            tally: Arc::clone(tally),
            _watch: AbortOnDropHandle::new(watch),
        });
    }

    /// Whether this is still the version that is watched.
    pub(super) fn is_on_trial(&self, tally: &Arc<Tally>) -> bool {
        let trial = self.trial();
        trial
            .as_ref()
            .is_some_and(|trial| Arc::ptr_eq(&trial.tally, tally))
    }
}

/// Holds nothing of the deployment while it waits. What it decides is done by a task of its own,
/// since its own ends with the trial.
async fn watch(shared: Weak<Shared>, tally: Arc<Tally>, within: Option<Duration>, then: Then) {
    let over = async {
        match within {
            Some(within) => tokio::time::sleep(within).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        violation = tally.violated() => {
            if let Some(shared) = shared.upgrade() {
                tokio::spawn(shared.condemn(tally, violation));
            }
        }
        () = over => match (then, shared.upgrade()) {
            (Then::Promote, Some(shared)) => {
                tokio::spawn(async move {
                    // A failure is told where it happens.
                    let _ = shared.promote(Some(tally)).await;
                });
            }
            (Then::Trust, Some(shared)) => {
                tally.close();
                tracing::debug!(
                    tenant = &*shared.settings.tenant,
                    "the new version's first time is over: it stays"
                );
            }
            (Then::Trust | Then::Promote, None) => tally.close(),
        },
    }
}
