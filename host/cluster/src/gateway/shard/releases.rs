//! When workers may forget a close: not before the other gateways have what it did to them. The
//! custodian of a client whose close is committed here is released then, and an adoption answered.
//! If this gateway is lost first, the worker tells the close again or gives it to somebody else, and
//! each gateway applies it once.

use std::collections::VecDeque;

use tidegate_wire::frame::Frame;
use tidegate_wire::id::{ClientId, Incarnation};

use super::State;
use crate::gateway::pending::WorkerKey;
use crate::link::LinkSender;

/// Answers that wait at most, fewer than adoptions that make a worker pause. Beyond it the oldest
/// is given early.
const OWED_MAX: usize = 768;

/// Answers that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Releases {
    owed: VecDeque<Owed>,
}

#[derive(Debug)]
struct Owed {
    what: What,
    /// Once these gateways have acknowledged their streams so far, or are gone.
    until: Vec<(Incarnation, u64)>,
}

#[derive(Debug)]
enum What {
    Release(ClientId, Vec<WorkerKey>),
    Adopted(LinkSender, u64),
}

impl State {
    /// These workers may forget a client: now, or if its close `acts`, once that has arrived.
    pub(super) fn release(&mut self, client: ClientId, workers: Vec<WorkerKey>, acts: bool) {
        let what = What::Release(client, workers);
        if acts {
            self.owe(what);
        } else {
            self.pay(&what);
        }
    }

    /// A worker's adoption was applied here.
    pub(super) fn adopted(&mut self, link: LinkSender, sequence: u64) {
        self.owe(What::Adopted(link, sequence));
    }

    fn owe(&mut self, what: What) {
        let peers = self.peers.iter();
        let until = peers.filter_map(|(peer, it)| Some((*peer, it.stream.last_unacknowledged()?)));
        let until: Vec<_> = until.collect();
        if until.is_empty() {
            return self.pay(&what);
        }
        let owed = Owed { what, until };
        self.releases.owed.push_back(owed);
        if self.releases.owed.len() > OWED_MAX
            && let Some(oldest) = self.releases.owed.pop_front()
        {
            self.pay(&oldest.what);
        }
    }

    /// Gives the answers that nothing holds back any more.
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
                self.pay(&owed.what);
            }
        }
    }

    /// A link that has ended has nothing to forget.
    fn pay(&mut self, what: &What) {
        match what {
            What::Release(client, workers) => {
                for worker in workers {
                    self.workers.release(*worker, client.connection);
                }
            }
            What::Adopted(link, sequence) => {
                let sequence = *sequence;
                let _ = link.send(Frame::Adopted { sequence });
            }
        }
    }
}
