//! The events of a shard's clients, until they are committed.

mod choices;
mod requests;

use std::collections::BTreeSet;

use tidegate_hub::lanes::{Lanes, WorkerKey};
use tidegate_hub::strikes::Strikes;
use tidegate_hub::unrouted::Unrouted;
use tidegate_wire::event::EventKind;
use tokio::time::Instant;

use crate::gateway::shared::Context;
pub(super) use choices::Choice;
use choices::Choices;
use requests::Requests;

/// A tenant that nobody served is to be served for so long before its lanes choose their workers.
const SETTLE_US: u64 = 300_000;

/// Events that wait or are under way.
pub(super) struct Events {
    lanes: Lanes,
    /// Lanes whose tenant nobody serves.
    unrouted: Unrouted,
    /// Since when each tenant is served, on the clock of the lanes.
    served_us: Vec<Option<u64>>,
    /// Lanes that ended while they waited for a worker, and may still stand in a queue.
    gone_while_queued: usize,
    requests: Requests,
    choices: Choices,
    /// Clients whose socket is not read because too much of their tenant waits.
    held: BTreeSet<(u16, u32)>,
    strikes: Strikes,
    /// When the first effects of this turn came, on the clock of the lanes.
    effects_us: Option<u64>,
}

impl Events {
    pub(super) fn new(context: &Context) -> Self {
        let settings = &context.settings;
        let bytes_max = settings.pending_bytes_max / usize::from(settings.shards);
        Self {
            lanes: Lanes::new(bytes_max, context.tenants.count()),
            unrouted: Unrouted::default(),
            served_us: vec![None; context.tenants.count()],
            gone_while_queued: 0,
            requests: Requests::default(),
            choices: Choices::default(),
            held: BTreeSet::new(),
            strikes: Strikes::default(),
            effects_us: None,
        }
    }

    /// The lanes, which keep their own rules.
    pub(super) const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    pub(super) const fn lanes_mut(&mut self) -> &mut Lanes {
        &mut self.lanes
    }

    /// Opens a lane with its first event.
    pub(super) fn open(&mut self, number: u32, tenant: u16, first: EventKind) {
        let arrival = match &first {
            EventKind::Connect { arrival, .. } => Some(arrival.clone()),
            EventKind::Message(_)
            | EventKind::Close(_)
            | EventKind::Request { .. }
            | EventKind::Timer { .. }
            | EventKind::BufferFull { .. }
            | EventKind::BufferDrain
            | EventKind::Handshake { .. }
            | EventKind::Http { .. }
            | EventKind::Task { .. }
            | EventKind::TaskFinished { .. } => None,
        };
        self.lanes.open(number, tenant, arrival);
        self.lanes.push(number, first);
    }

    /// The last event of a lane is committed. Gives the workers that know its client.
    pub(super) fn remove(&mut self, number: u32) -> Vec<WorkerKey> {
        self.strikes.forget(number);
        self.choices.forget(number);
        self.lanes.remove(number)
    }

    /// Takes a lane off whose event nobody is to run any more.
    pub(super) fn take_off_lane(&mut self, number: u32) {
        self.choices.forget(number);
        self.lanes.remove(number);
        self.gone_while_queued += 1;
    }

    /// Forgets all lanes: this life was declared lost.
    pub(super) fn forget_all(&mut self) {
        self.lanes = Lanes::default();
        self.choices = Choices::default();
    }

    /// An event of a client broke its handler. Says whether it was one too many.
    pub(super) fn dead_letter(&mut self, number: u32) -> bool {
        self.strikes.dead_letter(number, Instant::now().into_std())
    }

    /// Effects come in this turn.
    pub(super) fn effects_come(&mut self) {
        self.effects_us.get_or_insert(self.lanes.now_us());
    }

    /// When the first effects of this turn came, if any did.
    pub(super) const fn take_effects_us(&mut self) -> Option<u64> {
        self.effects_us.take()
    }
}

/// Lanes whose tenant nobody serves.
impl Events {
    /// A lane waits until somebody serves its tenant, unless it waits already.
    pub(super) fn wait_for_route(&mut self, tenant: u16, number: u32) {
        if self.lanes.set_queued(number, true) {
            self.unrouted.push(tenant, number);
        }
    }

    /// Takes those whose tenant is served now. With `settles` not before that has been so for a moment:
    /// the first of several workers to come would get all that have waited.
    pub(super) fn take_routable(
        &mut self,
        settles: bool,
        serves: impl Fn(u16) -> bool,
    ) -> Vec<u32> {
        let now_us = self.lanes.now_us();
        for (tenant, since) in (0..).zip(&mut self.served_us) {
            match serves(tenant) {
                true => _ = since.get_or_insert(now_us),
                false => *since = None,
            }
        }
        let wait_us = if settles { SETTLE_US } else { 0 };
        let served = &self.served_us;
        self.unrouted.take_served(|tenant| {
            let since = served.get(usize::from(tenant)).copied().flatten();
            since.is_some_and(|since| now_us - since >= wait_us)
        })
    }

    /// Lanes that are gone leave the queue here; says whether they are to leave those of workers, in
    /// which so many lanes wait. Not before they are half of all that wait: so a request that is
    /// taken off costs no look at all of them.
    pub(super) fn sweep(&mut self, waiting_for_workers: usize) -> bool {
        let queued = self.unrouted.count() + waiting_for_workers;
        if self.gone_while_queued == 0 || self.gone_while_queued * 2 < queued {
            return false;
        }
        self.gone_while_queued = 0;
        let lanes = &self.lanes;
        self.unrouted.retain(|number| lanes.contains(number));
        true
    }
}

/// Clients that are not read because too much of their tenant waits.
impl Events {
    /// Holds a client if its tenant has no room. Says whether it does.
    pub(super) fn hold(&mut self, tenant: u16, number: u32) -> bool {
        let is_full = !self.lanes.shares().has_room(&tenant);
        if is_full {
            self.held.insert((tenant, number));
        }
        is_full
    }

    /// A client is gone, and not held any more.
    pub(super) fn let_go(&mut self, tenant: u16, number: u32) {
        self.held.remove(&(tenant, number));
    }

    /// Takes those of a tenant, if it has plenty of room again.
    pub(super) fn take_held(&mut self, tenant: u16) -> Vec<u32> {
        if self.held.is_empty() || !self.lanes.shares().has_plenty(&tenant) {
            return Vec::new();
        }
        let all = (tenant, u32::MIN)..=(tenant, u32::MAX);
        let held = self.held.extract_if(all, |_| true);
        held.map(|(_, number)| number).collect()
    }

    /// The tenants of whom somebody is held.
    pub(super) fn held_tenants(&self) -> impl Iterator<Item = u16> {
        let first = self.held.first().map(|(tenant, _)| *tenant);
        std::iter::successors(first, |tenant| {
            let next = (tenant.checked_add(1)?, u32::MIN);
            self.held.range(next..).next().map(|(tenant, _)| *tenant)
        })
    }

    /// How many are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}
