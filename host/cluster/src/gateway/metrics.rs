//! The gateway's counters. Handles are made once; shards share them.

use metrics::{Counter, Gauge, counter, gauge};
use tidegate_wire::effect::Outcome;
use tidegate_wire::event::CloseReason;

pub(super) struct Metrics {
    clients: Gauge,
    connections: Counter,
    messages_in: Counter,
    bytes_in: Counter,
    messages_out: Counter,
    dropped_slow: Counter,
    dropped_without_worker: Counter,
    commits_done: Counter,
    commits_failed: Counter,
    commits_dead: Counter,
    stale: Counter,
    refused: Counter,
    forward_dropped: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let commits = |outcome| counter!("tidegate_gateway_commits_total", "outcome" => outcome);
        let dropped = |reason| counter!("tidegate_gateway_dropped_total", "reason" => reason);
        Self {
            clients: gauge!("tidegate_gateway_clients"),
            connections: counter!("tidegate_gateway_connections_total"),
            messages_in: counter!("tidegate_gateway_messages_in_total"),
            bytes_in: counter!("tidegate_gateway_bytes_in_total"),
            messages_out: counter!("tidegate_gateway_messages_out_total"),
            dropped_slow: dropped("slow-client"),
            dropped_without_worker: dropped("no-worker"),
            commits_done: commits("done"),
            commits_failed: commits("failed"),
            commits_dead: commits("dead-lettered"),
            stale: counter!("tidegate_gateway_stale_commits_total"),
            refused: counter!("tidegate_gateway_refused_effects_total"),
            forward_dropped: dropped("forward-full"),
        }
    }

    pub(super) fn connected(&self) {
        self.clients.increment(1);
        self.connections.increment(1);
    }

    pub(super) fn closed(&self, reason: CloseReason) {
        let reason = match reason {
            CloseReason::Client => "client",
            CloseReason::Server => "server",
            CloseReason::Idle => "idle",
            CloseReason::Slow => "slow",
            CloseReason::Protocol => "protocol",
            CloseReason::GoingAway => "going-away",
            CloseReason::GatewayLost => "gateway-lost",
        };
        self.clients.decrement(1);
        counter!("tidegate_gateway_closes_total", "reason" => reason).increment(1);
    }

    pub(super) fn message_in(&self, bytes: usize) {
        self.messages_in.increment(1);
        self.bytes_in.increment(bytes as u64);
    }

    pub(super) fn message_out(&self) {
        self.messages_out.increment(1);
    }

    pub(super) fn dropped_slow(&self, messages: u32) {
        self.dropped_slow.increment(u64::from(messages));
    }

    pub(super) fn dropped_without_worker(&self, messages: u64) {
        self.dropped_without_worker.increment(messages);
    }

    pub(super) fn committed(&self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.commits_done.increment(1),
            Outcome::Failed => self.commits_failed.increment(1),
            Outcome::DeadLettered => self.commits_dead.increment(1),
            Outcome::Returned => {}
        }
    }

    pub(super) fn stale(&self) {
        self.stale.increment(1);
    }

    pub(super) fn refused(&self) {
        self.refused.increment(1);
    }

    pub(super) fn forward_dropped(&self) {
        self.forward_dropped.increment(1);
    }
}
