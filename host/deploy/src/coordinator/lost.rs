//! An order that was lost with an earlier life of this register: what became of it stands in the
//! history in the end, as it does for any other.

use tidegate_wire::Name;
use tokio::time::Instant;

use super::task::CoordinatorTask;
use crate::change::{Candidate, Change};
use crate::store::Intent;

/// What the history says of it.
const LOST: &str =
    "the register ended while workers prepared: it was not decided, and nothing has changed";

impl CoordinatorTask {
    /// Writes down which order is being carried out. Without a disk that takes it the order goes on:
    /// its decision could not be written either.
    pub(super) async fn intend(&self, tenant: &Name, candidate: &Candidate) {
        let intent = Intent {
            tenant: tenant.clone(),
            version: candidate.version.clone(),
            source: candidate.source.clone(),
            bytes: candidate.bytes,
            by: candidate.by.clone(),
            generation: self.store.desired().generation,
        };
        if let Err(error) = self.store.intend(Some(intent)).await {
            tracing::warn!(%error, "an order could not be noted");
        }
    }

    /// What became of the tenant's order is known.
    pub(super) async fn intent_is_over(&self, tenant: &Name) {
        let own = self.store.intent().filter(|it| it.tenant == *tenant);
        if own.is_some()
            && let Err(error) = self.store.intend(None).await
        {
            tracing::warn!(%error, "an order that is over stays noted");
        }
    }

    /// When the order of an earlier life is to be looked at: once those that may know what became of
    /// it have had time to come back.
    pub(super) fn lost_deadline(&self) -> Option<Instant> {
        self.lost.as_ref().and(self.opens)
    }

    pub(super) async fn lost_in_time(&mut self) {
        if !self.has_settled() {
            return;
        }
        let Some(lost) = self.lost.take() else {
            return;
        };
        let desired = self.store.desired();
        let releases = desired.tenants.get(&lost.tenant);
        let decided = releases.into_iter().flat_map(|it| &it.releases);
        let mut decided = decided.filter(|it| it.generation > lost.generation);
        if decided.any(|it| it.version == lost.version) {
            return self.intent_is_over(&lost.tenant).await;
        }
        tracing::warn!(tenant = %lost.tenant, version = %lost.version, by = %lost.by,
            "an order was lost with the register");
        let candidate = Candidate {
            version: lost.version,
            source: lost.source,
            bytes: lost.bytes,
            by: lost.by,
            canary: None,
        };
        // What cannot be written is logged, and tried again by the next life.
        let _ = self
            .decide(&lost.tenant, Change::Failed(candidate, LOST.to_owned()))
            .await;
    }
}
