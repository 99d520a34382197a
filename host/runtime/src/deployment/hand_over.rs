//! An instance gives its clients, and if both versions want it its memory, to its successor.
//!
//! It stands between two events of one seat, so it has bounds; whatever goes wrong costs the memory
//! and nothing else.

use std::sync::Arc;

use super::meters::Meters;
use super::settings::Rollout;
use crate::host_api::Identity;
use crate::instance::{Instance, StateFailure};

/// What is left of both: the old one, if it can still say goodbye; the new one, unless it must be
/// started again to be empty.
type HandedOver = (Option<Instance>, Option<Instance>);

/// Who hands over to whom.
pub(super) struct Parties<'a> {
    pub(super) old: &'a Arc<Identity>,
    pub(super) new: &'a Arc<Identity>,
    pub(super) seat: u32,
    pub(super) rollout: &'a Rollout,
    pub(super) meters: &'a Meters,
}

impl Parties<'_> {
    /// Hands the memory over, if both have the export.
    pub(super) async fn hand_over(&self, mut old: Instance, mut new: Instance) -> HandedOver {
        if !old.has_state() || !new.has_state() {
            return (Some(old), Some(new));
        }
        let within = self.rollout.state_within();
        let saved = old.save(within, self.rollout.state_bytes_max).await;
        let saved = match saved {
            Ok(saved) => saved,
            Err(failure) => {
                self.report("save-failed", &failure);
                return (failure.is_sound().then_some(old), Some(new));
            }
        };
        match new.restore(&self.old.version, &saved, within).await {
            Ok(()) => {
                self.meters.state("ok");
                (Some(old), Some(new))
            }
            Err(failure) => {
                self.report("restore-failed", &failure);
                // Half of it may be restored.
                (Some(old), None)
            }
        }
    }

    fn report(&self, result: &'static str, failure: &StateFailure) {
        self.meters.state(result);
        tracing::warn!(
            tenant = &*self.new.tenant,
            old = &*self.old.version,
            new = &*self.new.version,
            instance = self.seat,
            result,
            reason = %failure,
            "an instance of the new version starts empty: its predecessor's memory was not handed on"
        );
    }
}
