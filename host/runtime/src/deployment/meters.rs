//! Counters and times of one deployment, registered once so that an event only adds to them.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tidegate_histogram::Histogram;
use tidegate_wire::effect::Outcome;

use crate::instance::FailureKind;

/// The counters.
pub(super) struct Meters {
    done: Counter,
    failed: Counter,
    dead_lettered: Counter,
    returned: Counter,
    dead_letters: Counter,
    rescued: Counter,
    heard: Counter,
    heard_badly: Counter,
    dropped_peer_messages: Counter,
    reloads_ok: Counter,
    reloads_failed: Counter,
    rollbacks: Vec<(&'static str, Counter)>,
    canary: Gauge,
    states: Vec<(&'static str, Counter)>,
    traps: Vec<(FailureKind, Counter)>,
    wait: Arc<Histogram>,
    run: Arc<Histogram>,
}

/// How memory was handed on, as a label.
const STATES: [&str; 3] = ["ok", "save-failed", "restore-failed"];

/// Why versions are rolled back, as a label.
const ROLLBACKS: [&str; 4] = ["manual", "traps", "errors", "latency"];

impl Meters {
    pub(super) fn new(tenant: &str) -> Self {
        let events = |outcome: &'static str| counter!("tidegate_worker_events_total", "tenant" => tenant.to_owned(), "outcome" => outcome);
        let peers = |outcome: &'static str| counter!("tidegate_worker_peer_messages_total", "tenant" => tenant.to_owned(), "outcome" => outcome);
        let reloads = |result: &'static str| counter!("tidegate_worker_reloads_total", "tenant" => tenant.to_owned(), "result" => result);
        let rollbacks = |reason: &'static str| {
            let counter = counter!("tidegate_worker_rollbacks_total", "tenant" => tenant.to_owned(), "reason" => reason);
            (reason, counter)
        };
        let states = |result: &'static str| {
            let counter = counter!("tidegate_worker_state_handovers_total", "tenant" => tenant.to_owned(), "result" => result);
            (result, counter)
        };
        let traps = |kind: FailureKind| {
            let counter = counter!("tidegate_worker_traps_total", "tenant" => tenant.to_owned(), "kind" => kind.name());
            (kind, counter)
        };
        Self {
            done: events("done"),
            failed: events("failed"),
            dead_lettered: events("dead-lettered"),
            returned: events("returned"),
            dead_letters: counter!("tidegate_worker_dead_letters_total", "tenant" => tenant.to_owned()),
            rescued: counter!("tidegate_worker_rescued_total", "tenant" => tenant.to_owned()),
            heard: peers("done"),
            heard_badly: peers("failed"),
            dropped_peer_messages: peers("dropped"),
            reloads_ok: reloads("ok"),
            reloads_failed: reloads("failed"),
            rollbacks: ROLLBACKS.into_iter().map(rollbacks).collect(),
            canary: gauge!("tidegate_worker_canary", "tenant" => tenant.to_owned()),
            states: STATES.into_iter().map(states).collect(),
            traps: FailureKind::ALL.into_iter().map(traps).collect(),
            wait: Histogram::of("tidegate_worker_event_wait_seconds", tenant),
            run: Histogram::of("tidegate_worker_event_seconds", tenant),
        }
    }

    pub(super) fn outcome(&self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.done.increment(1),
            Outcome::Failed => self.failed.increment(1),
            Outcome::DeadLettered => {
                self.dead_lettered.increment(1);
                self.dead_letters.increment(1);
            }
            Outcome::Returned => self.returned.increment(1),
        }
    }

    /// An event waited so long for its handler.
    pub(super) fn waited(&self, time: Duration) {
        self.wait.record(time);
    }

    /// A handler ran for so long, whatever came of it.
    pub(super) fn ran(&self, time: Duration) {
        self.run.record(time);
    }

    pub(super) fn trap(&self, kind: FailureKind) {
        if let Some((_, counter)) = self.traps.iter().find(|(own, _)| *own == kind) {
            counter.increment(1);
        }
    }

    /// The version before ran what the one on trial could not.
    pub(super) fn rescued(&self) {
        self.rescued.increment(1);
    }

    /// An instance was told what another one says, and refused it or broke.
    pub(super) fn heard(&self, failed: bool) {
        let counter = if failed {
            &self.heard_badly
        } else {
            &self.heard
        };
        counter.increment(1);
    }

    /// Too much waited for an instance.
    pub(super) fn dropped_peer_message(&self) {
        self.dropped_peer_messages.increment(1);
    }

    pub(super) fn canary(&self, is_tried: bool) {
        self.canary.set(f64::from(u8::from(is_tried)));
    }

    pub(super) fn state(&self, result: &str) {
        if let Some((_, counter)) = self.states.iter().find(|(own, _)| *own == result) {
            counter.increment(1);
        }
    }

    pub(super) fn rollback(&self, reason: &str) {
        if let Some((_, counter)) = self.rollbacks.iter().find(|(own, _)| *own == reason) {
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
