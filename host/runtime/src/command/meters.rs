//! Counters of one tenant's command component. How calls end is counted by the gateway.

use metrics::{Counter, counter};

use crate::instance::FailureKind;

/// The counters.
pub(super) struct Meters {
    reloads_ok: Counter,
    reloads_failed: Counter,
    traps: Vec<(FailureKind, Counter)>,
}

impl Meters {
    pub(super) fn new(tenant: &str) -> Self {
        let reloads = |result: &'static str| counter!("tidegate_gateway_command_reloads_total", "tenant" => tenant.to_owned(), "result" => result);
        let traps = |kind: FailureKind| {
            let counter = counter!("tidegate_gateway_command_traps_total", "tenant" => tenant.to_owned(), "kind" => kind.name());
            (kind, counter)
        };
        Self {
            reloads_ok: reloads("ok"),
            reloads_failed: reloads("failed"),
            traps: FailureKind::ALL.into_iter().map(traps).collect(),
        }
    }

    pub(super) fn trap(&self, kind: FailureKind) {
        if let Some((_, counter)) = self.traps.iter().find(|(own, _)| *own == kind) {
            counter.increment(1);
        }
    }

    pub(super) fn reload(&self, ok: bool) {
        if ok {
            self.reloads_ok.increment(1);
        } else {
            self.reloads_failed.increment(1);
        }
    }
}
