//! How an order ends, and what is written down of it.

use tidegate_wire::Name;
use tidegate_wire::deploy::{DeployError, Progress, reason};
use tidegate_wire::id::Incarnation;

use super::task::CoordinatorTask;
use super::under_way::Stage;
use crate::change::Change;
use crate::plan::Cause;

impl CoordinatorTask {
    /// A version was taken back everywhere while the order that brought it was being finished.
    pub(super) fn order_taken_back(&mut self, tenant: &Name, version: &Name, why: &str) {
        let Some((work, peer, number)) = self.working() else {
            return;
        };
        let decided = !work.plan.is_undecided() && work.version == *version;
        if decided
            && self
                .under_way
                .as_ref()
                .is_some_and(|under_way| under_way.tenant == *tenant)
        {
            let reason = DeployError::TakenBack {
                version: version.clone(),
                reason: why.to_owned(),
            };
            self.progress(peer, number, Progress::Failed { reason });
            self.under_way = None;
        }
    }

    pub(super) async fn done(&mut self, workers: u32) {
        let Some(under_way) = &self.under_way else {
            return;
        };
        let Stage::Working(work) = &under_way.stage else {
            return;
        };
        let tenant = &under_way.tenant;
        if workers == 0
            && work.change.is_none()
            && let Some(error) = self.why_nowhere(tenant, work)
        {
            return self.fail(error).await;
        }
        let done = Progress::Done {
            generation: work.generation,
            version: work.version.clone(),
            workers,
            trial: self.is_on_trial(tenant),
        };
        self.end(done).await;
    }

    pub(super) async fn fail_for(&mut self, cause: Cause) {
        let seconds = self.settings.prepare_max.as_secs();
        let Some((work, ..)) = self.working() else {
            return;
        };
        let name = |worker: Incarnation| -> Name {
            let name = work.names.get(&worker).cloned();
            name.unwrap_or_else(|| worker.to_string().into())
        };
        let error = match cause {
            Cause::Refused(worker, reason) => DeployError::Refused {
                worker: name(worker),
                reason,
            },
            Cause::Lost(worker) => DeployError::WorkerLost {
                worker: name(worker),
            },
            Cause::TooSlow(worker) => DeployError::TooSlow {
                worker: name(worker),
                seconds,
            },
            Cause::NotWritten(text) => DeployError::Disk(reason(text)),
        };
        let candidate = work.candidate.as_ref().map(|(it, _)| it.clone());
        let written = !matches!(error, DeployError::Disk(_));
        if let Some(candidate) = candidate.filter(|_| written)
            && let Some(tenant) = self
                .under_way
                .as_ref()
                .map(|under_way| under_way.tenant.clone())
        {
            let failed = Change::Failed(candidate, error.to_string());
            // The command is told anyhow; the history lacks it.
            let _ = self.decide(&tenant, failed).await;
        }
        self.fail(error).await;
    }

    pub(super) async fn fail(&mut self, reason: DeployError) {
        self.end(Progress::Failed { reason }).await;
    }

    pub(super) async fn end(&mut self, last: Progress) {
        let Some(under_way) = self.under_way.take() else {
            return;
        };
        let (tenant, by) = (&under_way.tenant, under_way.asked.by());
        self.intent_is_over(tenant).await;
        if let Progress::Failed { reason } = &last {
            tracing::warn!(%tenant, %by, %reason, "an order was not carried out");
        } else {
            tracing::info!(%tenant, %by, "an order was carried out");
        }
        self.progress(under_way.peer, under_way.number, last);
        // With its pin: what never served is not kept.
        drop(under_way);
        self.store.tidy().await;
    }

    /// The coordinator ends: who waits is told.
    pub(super) fn stop_order(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            let reason = DeployError::Stopping;
            self.progress(
                under_way.peer,
                under_way.number,
                Progress::Failed { reason },
            );
        }
    }
}
