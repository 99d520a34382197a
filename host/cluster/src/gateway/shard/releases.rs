//! Who may forget a client once its close is committed: its custodian, but not before the other
//! gateways have what the close did to them. If this gateway is lost first, the custodian tells the
//! close again, and each gateway applies it once.

use std::collections::VecDeque;

use tidegate_wire::frame::Frame;
use tidegate_wire::id::{ClientId, Incarnation};

use super::State;
use crate::gateway::pending::WorkerKey;

/// Releases that wait at most. Beyond it the oldest custodian forgets early.
const OWED_MAX: usize = 16_384;

/// Releases that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Releases {
    owed: VecDeque<Owed>,
}

#[derive(Debug)]
struct Owed {
    client: ClientId,
    workers: Vec<WorkerKey>,
    /// Once these gateways have acknowledged their streams so far, or are gone.
    until: Vec<(Incarnation, u64)>,
}

impl State {
    /// These workers may forget a client: now, or if its close `acts`, once that has arrived.
    pub(super) fn release(&mut self, client: ClientId, workers: Vec<WorkerKey>, acts: bool) {
        let peers = self.peers.iter().filter(|_| acts);
        let until = peers.filter_map(|(peer, it)| Some((*peer, it.stream.last_unacknowledged()?)));
        let owed = Owed {
            client,
            workers,
            until: until.collect(),
        };
        if owed.until.is_empty() {
            return self.send_release(&owed);
        }
        self.releases.owed.push_back(owed);
        if self.releases.owed.len() > OWED_MAX
            && let Some(oldest) = self.releases.owed.pop_front()
        {
            self.send_release(&oldest);
        }
    }

    /// Sends the releases that nothing holds back any more.
    pub(super) fn send_releases(&mut self) {
        while let Some(owed) = self.releases.owed.front() {
            let arrived = |(peer, sequence): &(Incarnation, u64)| {
                let peer = self.peers.get(peer);
                peer.is_none_or(|peer| peer.stream.has_arrived(*sequence))
            };
            if !owed.until.iter().all(arrived) {
                return;
            }
            if let Some(owed) = self.releases.owed.pop_front() {
                self.send_release(&owed);
            }
        }
    }

    fn send_release(&self, owed: &Owed) {
        for worker in owed.workers.iter().filter_map(|it| self.workers.get(*it)) {
            // A link that has ended has nothing to forget.
            let _ = worker.link.sender.send(Frame::Release(vec![owed.client]));
        }
    }
}
