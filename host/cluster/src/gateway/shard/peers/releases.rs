//! When workers may forget a close: not before the other gateways have what it did to them. The
//! custodian of a client whose close is committed here is released then, and an adoption answered.
//! If this gateway is lost first, the worker tells the close again or gives it to somebody else, and
//! each gateway applies it once.

use rustc_hash::FxHashSet;
use tidegate_fair::{Shares, Turns};
use tidegate_hub::lanes::WorkerKey;
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::id::{ClientId, Incarnation};

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
    release: Release,
    /// Once these gateways have acknowledged what the tenant has sent them so far, or are gone.
    until: Vec<(Incarnation, u64)>,
}

/// What workers are told of a close that they may forget.
#[derive(Debug)]
pub(in crate::gateway::shard) enum Release {
    /// These workers may forget a client.
    Custodians(ClientId, Vec<WorkerKey>),
    /// The adoption of this number, which came over this link, is done.
    Adoption(LinkSender, u64),
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

    /// Keeps a release until these gateways have acknowledged so much. Gives those that must go
    /// early for it.
    pub(super) fn postpone(
        &mut self,
        tenant: &Name,
        release: Release,
        until: Vec<(Incarnation, u64)>,
    ) -> Vec<Release> {
        let mut early = Vec::new();
        while !self.shares.has_room(tenant)
            && let Some(oldest) = self.postponed.next_of(tenant)
        {
            self.shares.give(tenant, 1);
            early.push(oldest.release);
        }
        self.shares.take(tenant, 1);
        let postponed = Postponed { release, until };
        self.postponed.push(tenant.clone(), postponed);
        early
    }

    /// Takes those that nothing holds back any more. `has_arrived` says whether a gateway has
    /// acknowledged what the tenant has sent it up to this number, or is gone.
    pub(super) fn take_due(
        &mut self,
        has_arrived: impl Fn(&Name, Incarnation, u64) -> bool,
    ) -> Vec<Release> {
        let mut due = Vec::new();
        if self.looked_at.is_empty() {
            return due;
        }
        for tenant in std::mem::take(&mut self.looked_at) {
            while let Some(postponed) = self.postponed.first_of(&tenant) {
                let arrived = |(peer, pushed): &_| has_arrived(&tenant, *peer, *pushed);
                if !postponed.until.iter().all(arrived) {
                    break;
                }
                if let Some(postponed) = self.postponed.next_of(&tenant) {
                    self.shares.give(&tenant, 1);
                    due.push(postponed.release);
                }
            }
        }
        due
    }
}
