//! Watches over a new version in its first time: rolls it back when it crosses a bound, promotes a
//! canary when its time is over.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tidegate_wire::Name;
use tokio_util::task::AbortOnDropHandle;

use super::DeploymentShared;
use super::probation::Probation;
use crate::version::Version;

/// The versions that are watched now.
#[derive(Default)]
pub(super) struct Trials {
    /// The one that serves.
    serving: Option<Trial>,
    /// The one that some clients try.
    canary: Option<Trial>,
}

/// A version that is watched. Dropped, it is not watched any more.
struct Trial {
    probation: Arc<Probation>,
    _watch: AbortOnDropHandle<()>,
}

impl Trials {
    fn both(&self) -> impl Iterator<Item = &Trial> {
        self.serving.iter().chain(&self.canary)
    }
}

/// What a trial without a violation ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// All clients follow.
    Promote,
    /// Nothing more is counted.
    Trust,
}

/// How often it is looked whether clients are back with the version before.
const LOOK: Duration = Duration::from_secs(1);

impl DeploymentShared {
    /// A version on trial, with what is the one before it from now on.
    pub(super) fn probation(&self, version: &Name) -> Arc<Probation> {
        // One that is on trial itself rescues nobody: what stands before it does so for the next one too.
        let before = self.serving_trial().and_then(|it| it.before.clone());
        let before = before.or_else(|| {
            let before = self.versions().before_next();
            before.map(|plugin| Version::new(plugin, &self.settings.whose()))
        });
        Probation::new(version, self.settings.rollout.bounds, before)
    }

    /// Watches over the version that serves, and no more over the one before it.
    pub(super) fn watch_serving(self: &Arc<Self>, probation: Option<(Arc<Probation>, Duration)>) {
        let trial = probation.map(|(it, within)| self.watch_over(it, Some(within), Then::Trust));
        self.trials().serving = trial;
    }

    /// Watches over the version that some clients try, without `within` until told.
    pub(super) fn watch_canary(
        self: &Arc<Self>,
        probation: &Arc<Probation>,
        within: Option<Duration>,
    ) {
        let trial = self.watch_over(Arc::clone(probation), within, Then::Promote);
        self.trials().canary = Some(trial);
    }

    /// None is tried any more.
    pub(super) fn end_watch_of_canary(&self) {
        self.trials().canary = None;
    }

    fn watch_over(
        self: &Arc<Self>,
        probation: Arc<Probation>,
        within: Option<Duration>,
        then: Then,
    ) -> Trial {
        let watching = watch(Arc::downgrade(self), Arc::clone(&probation), within, then);
        Trial {
            probation,
            _watch: AbortOnDropHandle::new(tokio::spawn(watching)),
        }
    }

    /// Whether this version is still watched.
    pub(super) fn is_on_trial(&self, probation: &Arc<Probation>) -> bool {
        let trials = self.trials();
        let mut both = trials.both();
        both.any(|trial| Arc::ptr_eq(&trial.probation, probation))
    }

    /// How the version does that some clients try.
    pub(super) fn canary_trial(&self) -> Option<Arc<Probation>> {
        let trials = self.trials();
        let canary = trials.canary.as_ref().map(|it| &it.probation);
        canary.filter(|it| !it.is_over()).cloned()
    }

    /// Whether that is the one that some clients try.
    pub(super) fn is_canary(&self, probation: &Arc<Probation>) -> bool {
        let trials = self.trials();
        let canary = trials.canary.as_ref();
        canary.is_some_and(|trial| Arc::ptr_eq(&trial.probation, probation))
    }

    /// How the version that serves does, while it is on trial.
    fn serving_trial(&self) -> Option<Arc<Probation>> {
        let trials = self.trials();
        let serving = trials.serving.as_ref().map(|it| &it.probation);
        serving.filter(|it| !it.is_over()).cloned()
    }

    /// Whether any version is watched.
    pub(super) fn has_trial(&self) -> bool {
        self.trials().both().any(|trial| !trial.probation.is_over())
    }
}

/// Holds nothing of the deployment while it waits. What it decides is done by a task of its own,
/// since its own ends with the trial.
async fn watch(
    shared: Weak<DeploymentShared>,
    probation: Arc<Probation>,
    within: Option<Duration>,
    then: Then,
) {
    let violation = tokio::select! {
        violation = probation.tally.violated() => Some(violation),
        () = time_over(&probation, within) => probation.tally.violation_at_end(),
    };
    let Some(shared) = shared.upgrade() else {
        return probation.tally.close();
    };
    match (violation, then) {
        (Some(violation), _) => {
            tokio::spawn(shared.condemn(probation, violation));
        }
        (None, Then::Promote) => {
            tokio::spawn(async move {
                // A failure is told where it happens.
                let _ = shared.promote(Some(probation)).await;
            });
        }
        (None, Then::Trust) => {
            probation.tally.close();
            tracing::debug!(
                tenant = &*shared.settings.tenant,
                "the new version's first time is over: it stays"
            );
        }
    }
}

/// While clients are back with the version before, a trial goes on, at most for as long again.
async fn time_over(probation: &Probation, within: Option<Duration>) {
    let Some(within) = within else {
        return std::future::pending().await;
    };
    tokio::time::sleep(within).await;
    let longer = async {
        while probation.moved.is_anyone_back() {
            tokio::time::sleep(LOOK).await;
        }
    };
    // As long again is enough.
    let _ = tokio::time::timeout(within, longer).await;
}
