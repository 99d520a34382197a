//! When workers may forget a close: not before the other gateways have what it did to them. The
//! custodian of a client whose close is committed here is released then, and an adoption answered.
//! If this gateway is lost first, the worker tells the close again or gives it to somebody else, and
//! each gateway applies it once.

use rustc_hash::FxHashSet;
use tidegate_fair::{Shares, Turns};
use tidegate_hub::lanes::WorkerKey;
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::frame::GatewayFrame;
use tidegate_wire::id::{ClientId, Incarnation};

use super::State;

/// Answers that wait at most, fewer than adoptions that make a worker pause. Each tenant has its
/// share, beyond which its oldest is given early.
const OWED_MAX: usize = 768;

/// Answers that wait, by tenant, the oldest first.
#[derive(Debug)]
pub(super) struct Releases {
    postponed: Turns<Name, Postponed>,
    shares: Shares<Name>,
    /// Tenants some of whose answers may wait no longer.
    looked_at: FxHashSet<Name>,
}

#[derive(Debug)]
struct Postponed {
    what: What,
    /// Once these gateways have acknowledged what the tenant has sent them so far, or are gone.
    until: Vec<(Incarnation, u64)>,
}

#[derive(Debug)]
enum What {
    Release(ClientId, Vec<WorkerKey>),
    Adopted(LinkSender, u64),
}

impl Releases {
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            postponed: Turns::default(),
            shares: Shares::new(OWED_MAX, tenants),
            looked_at: FxHashSet::default(),
        }
    }

    /// Something of this tenant has arrived at another gateway.
    pub(super) fn look_at(&mut self, tenant: &Name) {
        if !self.postponed.is_empty()
            && self.postponed.has(tenant)
            && !self.looked_at.contains(tenant)
        {
            self.looked_at.insert(tenant.clone());
        }
    }

    /// Gateways are gone.
    pub(super) fn look_at_all(&mut self) {
        self.looked_at.extend(self.postponed.keys().cloned());
    }
}

impl State {
    /// These workers may forget a client: now, or once what was sent for this tenant has arrived.
    pub(super) fn release(
        &mut self,
        client: ClientId,
        workers: Vec<WorkerKey>,
        once_arrived: Option<Name>,
    ) {
        let what = What::Release(client, workers);
        match once_arrived {
            Some(tenant) => self.postpone(&tenant, what),
            None => self.carry_out(&what),
        }
    }

    /// A worker's adoption for this tenant was applied here.
    pub(super) fn adopted(&mut self, tenant: &Name, link: LinkSender, sequence: u64) {
        self.postpone(tenant, What::Adopted(link, sequence));
    }

    fn postpone(&mut self, tenant: &Name, what: What) {
        let until = self.peers.streams.iter().filter_map(|(peer, it)| {
            let last = it.stream.last_unacknowledged(tenant)?;
            Some((*peer, last))
        });
        let until: Vec<_> = until.collect();
        if until.is_empty() {
            return self.carry_out(&what);
        }
        while !self.peers.releases.shares.has_room(tenant)
            && let Some(oldest) = self.peers.releases.postponed.next_of(tenant)
        {
            self.peers.releases.shares.give(tenant, 1);
            self.carry_out(&oldest.what);
        }
        self.peers.releases.shares.take(tenant, 1);
        self.peers
            .releases
            .postponed
            .push(tenant.clone(), Postponed { what, until });
    }

    /// Gives the answers that nothing holds back any more.
    pub(super) fn send_releases(&mut self) {
        if self.peers.releases.looked_at.is_empty() {
            return;
        }
        for tenant in std::mem::take(&mut self.peers.releases.looked_at) {
            while let Some(postponed) = self.peers.releases.postponed.first_of(&tenant) {
                let arrived = |(peer, pushed): &(Incarnation, u64)| {
                    let peer = self.peers.streams.get(peer);
                    peer.is_none_or(|peer| peer.stream.has_arrived(&tenant, *pushed))
                };
                if !postponed.until.iter().all(arrived) {
                    break;
                }
                if let Some(postponed) = self.peers.releases.postponed.next_of(&tenant) {
                    self.peers.releases.shares.give(&tenant, 1);
                    self.carry_out(&postponed.what);
                }
            }
        }
    }

    /// A link that has ended has nothing to forget.
    fn carry_out(&mut self, what: &What) {
        match what {
            What::Release(client, workers) => {
                for worker in workers {
                    self.workers.release(*worker, client.connection);
                }
            }
            What::Adopted(link, sequence) => {
                let sequence = *sequence;
                let _ = link.send(GatewayFrame::Adopted { sequence });
            }
        }
    }
}
