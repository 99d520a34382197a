//! Effects of closes whose gateway is lost: any live gateway may apply them.
//!
//! Each is kept until a gateway has acknowledged it and is sent again on another link if its link
//! ends first; gateways know it by its close and apply it once. A gateway that has just come may not
//! know the others yet, to which it has to pass the effects on: while there is an older one, that
//! one is waited for, some leases long. Of many only a window is under way to one gateway. What is
//! kept is bounded; beyond the bound the newest is dropped with a warning, which can happen only
//! while no gateway answers. Tenants take turns, and each has its share of every bound.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_fair::{Shares, Turns};
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::frame::WorkerFrame;
use tidegate_wire::id::{CloseId, Incarnation};
use tracing::warn;

use tidegate_link::LinkSender;
use tidegate_link::membership::Members;
use tidegate_wire::weight;

/// Adoptions that are kept at most.
const ADOPTIONS_MAX: usize = 16_384;
/// Bytes of adoptions that are kept at most.
const ADOPTION_BYTES_MAX: usize = 64 << 20;
/// From here on no more closes are told until gateways have answered.
const ADOPTIONS_BACKLOG_MAX: usize = 1024;
/// What may be under way to one gateway that it has not answered: so many, and so many bytes.
const UNDER_WAY_MAX: usize = 128;
const UNDER_WAY_BYTES_MAX: usize = 1 << 20;
/// A gateway that was in the view at so many looks knows the others.
const SETTLED_LOOKS: u32 = 2 * super::LOOKS_PER_LEASE;
/// After so many looks a gateway that has just come is better than none.
const WAIT_LOOKS: u32 = 4 * super::LOOKS_PER_LEASE;

#[derive(Debug)]
pub(super) struct Adoptions {
    state: Mutex<AdoptionsState>,
}

#[derive(Debug)]
struct AdoptionsState {
    unsent: Turns<Name, Adoption>,
    /// By the link and the sequence that each was sent with.
    sent: BTreeMap<(u64, u64), Adoption>,
    /// What is kept, sent or not.
    kept: KeptAdoptions,
    /// The number of those that are kept, against the limit from which on closes wait.
    backlog: Shares<Name>,
    tenants: usize,
    /// By the number of the link.
    links: BTreeMap<u64, Adopter>,
    /// The gateways of the view, and at how many looks each was there.
    gateways: BTreeMap<Incarnation, u32>,
    looks: u64,
}

/// Adoptions of all tenants against a limit in number and one in bytes.
#[derive(Debug)]
struct KeptAdoptions {
    max: (usize, usize),
    number: Shares<Name>,
    bytes: Shares<Name>,
}

#[derive(Debug)]
struct Adopter {
    gateway: Incarnation,
    sender: LinkSender,
    /// The last sequence used on this link.
    sequence: u64,
    /// What it has not answered.
    under_way: KeptAdoptions,
}

#[derive(Debug)]
struct Adoption {
    tenant: Name,
    effects: Vec<Effect>,
    close: CloseId,
    bytes: usize,
    /// What of the bytes counts as under way.
    counted: usize,
    /// The look before which it was added.
    since: u64,
}

impl Default for Adoptions {
    fn default() -> Self {
        let state = AdoptionsState {
            unsent: Turns::default(),
            sent: BTreeMap::new(),
            kept: KeptAdoptions::new((ADOPTIONS_MAX, ADOPTION_BYTES_MAX), 1),
            backlog: Shares::new(ADOPTIONS_BACKLOG_MAX, 1),
            tenants: 1,
            links: BTreeMap::new(),
            gateways: BTreeMap::new(),
            looks: 0,
        };
        Self {
            state: Mutex::new(state),
        }
    }
}

impl Adoptions {
    /// So many tenants share what may be kept.
    pub(super) fn share_among(&self, tenants: usize) {
        let mut state = self.state();
        if state.tenants == tenants {
            return;
        }
        state.tenants = tenants;
        state.kept.share_among(tenants);
        state.backlog.resize(ADOPTIONS_BACKLOG_MAX, tenants);
        for adopter in state.links.values_mut() {
            adopter.under_way.share_among(tenants);
        }
        state.send_unsent();
    }

    /// Keeps the effects and sends them to a live gateway, now or when there is one.
    pub(super) fn add(&self, tenant: Name, effects: Vec<Effect>, close: CloseId) {
        let mut state = self.state();
        // A close without effects is told to gateways for the second custodians only.
        if effects.is_empty() && state.links.is_empty() {
            return;
        }
        let bytes = weight::effects(&effects);
        if !state.kept.has_room(&tenant) || bytes > state.kept.bytes.room(&tenant) {
            drop(state);
            warn!(%tenant, "no gateway adopts the effects of closes: some are dropped");
            return;
        }
        state.kept.take(&tenant, bytes);
        state.backlog.take(&tenant, 1);
        let adoption = Adoption {
            tenant: tenant.clone(),
            effects,
            close,
            bytes,
            counted: 0,
            since: state.looks,
        };
        state.unsent.push(tenant, adoption);
        state.send_unsent();
    }

    /// There is a new link.
    pub(super) fn linked(&self, link: u64, gateway: Incarnation, sender: LinkSender) {
        let mut state = self.state();
        let adopter = Adopter {
            gateway,
            sender,
            sequence: 0,
            under_way: KeptAdoptions::new((UNDER_WAY_MAX, UNDER_WAY_BYTES_MAX), state.tenants),
        };
        state.links.insert(link, adopter);
        state.send_unsent();
    }

    /// Learns which gateways there are. `looked` is true if the timer of the looks caused this call.
    pub(super) fn follow(&self, members: &Members, looked: bool) {
        let mut state = self.state();
        let gateways = &mut state.gateways;
        gateways.retain(|gateway, _| members.nodes.contains_key(gateway));
        for node in members.gateways() {
            let looks = gateways.entry(node.incarnation).or_default();
            *looks = looks.saturating_add(looked.into());
        }
        state.looks += u64::from(looked);
        state.send_unsent();
    }

    /// A link has ended: what it did not acknowledge goes elsewhere.
    pub(super) fn parted(&self, link: u64) {
        let mut state = self.state();
        state.links.remove(&link);
        let sent = state
            .sent
            .extract_if((link, 0)..=(link, u64::MAX), |_, _| true);
        let sent: Vec<_> = sent.map(|(_, adoption)| adoption).collect();
        for adoption in sent.into_iter().rev() {
            state.unsent.push_front(adoption.tenant.clone(), adoption);
        }
        state.send_unsent();
    }

    /// The gateway has taken one.
    pub(super) fn taken(&self, link: u64, sequence: u64) {
        let mut state = self.state();
        if let Some(adoption) = state.sent.remove(&(link, sequence)) {
            let tenant = &adoption.tenant;
            state.kept.give(tenant, adoption.bytes);
            state.backlog.give(tenant, 1);
            if let Some(adopter) = state.links.get_mut(&link) {
                adopter.under_way.give(tenant, adoption.counted);
            }
            state.send_unsent();
        }
    }

    /// Whether nothing waits for a gateway, or there is none.
    pub(super) fn are_settled(&self) -> bool {
        let state = self.state();
        state.kept.number.total() == 0 || (state.links.is_empty() && state.gateways.is_empty())
    }

    /// Whether gateways should be given time to answer before this tenant has more for them. False
    /// without a link to any: closes are told all the same then, and nobody is there to see their effects.
    pub(super) fn is_backlogged(&self, tenant: &Name) -> bool {
        let state = self.state();
        !state.backlog.has_room(tenant) && !state.links.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, AdoptionsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdoptionsState {
    /// Sends what may go now: tenants take turns.
    fn send_unsent(&mut self) {
        let Self {
            unsent,
            sent,
            links,
            gateways,
            looks,
            ..
        } = self;
        let is_settled = |looks: &u32| *looks >= SETTLED_LOOKS;
        let any_settled = gateways.values().any(is_settled);
        let able = |adopter: &Adopter, adoption: &Adoption| {
            let anybody = !any_settled || *looks >= adoption.since + u64::from(WAIT_LOOKS);
            (anybody || gateways.get(&adopter.gateway).is_some_and(is_settled))
                && adopter.under_way.has_room(&adoption.tenant)
        };
        while links.values().any(Adopter::has_room) {
            let next =
                unsent.next(|_, adoption| links.values().any(|adopter| able(adopter, adoption)));
            let Some((tenant, mut adoption)) = next else {
                return;
            };
            let number = links.iter_mut().find_map(|(link, adopter)| {
                let sequence = able(adopter, &adoption).then(|| adopter.send(&mut adoption));
                Some((*link, sequence.flatten()?))
            });
            // All links that it could take have ended, and their tasks do not know yet.
            let Some(number) = number else {
                return unsent.push_front(tenant, adoption);
            };
            sent.insert(number, adoption);
        }
    }
}

impl KeptAdoptions {
    fn new(max: (usize, usize), tenants: usize) -> Self {
        Self {
            max,
            number: Shares::new(max.0, tenants),
            bytes: Shares::new(max.1, tenants),
        }
    }

    fn share_among(&mut self, tenants: usize) {
        self.number.resize(self.max.0, tenants);
        self.bytes.resize(self.max.1, tenants);
    }

    fn has_room(&self, tenant: &Name) -> bool {
        self.number.has_room(tenant) && self.bytes.has_room(tenant)
    }

    fn take(&mut self, tenant: &Name, bytes: usize) {
        self.number.take(tenant, 1);
        self.bytes.take(tenant, bytes);
    }

    fn give(&mut self, tenant: &Name, bytes: usize) {
        self.number.give(tenant, 1);
        self.bytes.give(tenant, bytes);
    }
}

impl Adopter {
    /// Whether any tenant may have room.
    fn has_room(&self) -> bool {
        let KeptAdoptions { max, number, bytes } = &self.under_way;
        number.total() < max.0 && bytes.total() < max.1
    }

    /// The sequence it was sent with; none if the link has ended.
    fn send(&mut self, adoption: &mut Adoption) -> Option<u64> {
        let sequence = self.sequence + 1;
        let frame = WorkerFrame::Adopt {
            sequence,
            tenant: adoption.tenant.clone(),
            effects: adoption.effects.clone(),
            close: adoption.close,
        };
        self.sender.send(frame).ok()?;
        self.sequence = sequence;
        // One that is larger than its tenant's room is sent all the same, and takes that.
        let room = self.under_way.bytes.room(&adoption.tenant);
        adoption.counted = adoption.bytes.min(room);
        self.under_way.take(&adoption.tenant, adoption.counted);
        Some(sequence)
    }
}
