//! Effects of closes whose gateway is lost: any live gateway may apply them.
//!
//! Each is kept until a gateway has acknowledged it and is sent again on another link if its link
//! ends first; gateways know it by its close and apply it once. A gateway that has just come may not
//! know the others yet, to which it has to pass the effects on: while there is an older one, that
//! one is waited for, some leases long. Of many only a window is under way to one gateway. What is kept is bounded; beyond the bound the newest is
//! dropped with a warning, which can happen only while no gateway answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::frame::Frame;
use tidegate_wire::id::{CloseId, Incarnation};
use tracing::warn;

use crate::link::{LinkSender, weight};
use crate::membership::Members;

/// Adoptions that are kept at most.
const ADOPTIONS_MAX: usize = 16_384;
/// Bytes of adoptions that are kept at most.
const ADOPTION_BYTES_MAX: u64 = 64 << 20;
/// From here on no more closes are told until gateways have answered.
const ADOPTIONS_CROWDED: usize = 1024;
/// What may be under way to one gateway that it has not answered: so many, and so many bytes.
const UNDER_WAY_MAX: usize = 128;
const UNDER_WAY_BYTES_MAX: u64 = 1 << 20;
/// A gateway that was in the view at so many looks knows the others.
const SETTLED_LOOKS: u32 = 2 * super::LOOKS_PER_LEASE;
/// After so many looks a gateway that has just come is better than none.
const WAIT_LOOKS: u32 = 4 * super::LOOKS_PER_LEASE;

#[derive(Debug, Default)]
pub(super) struct Adoptions {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    waiting: VecDeque<Adoption>,
    bytes: u64,
    /// By the number of the link.
    links: BTreeMap<u64, Way>,
    /// The gateways of the view, and at how many looks each was there.
    gateways: BTreeMap<Incarnation, u32>,
}

#[derive(Debug)]
struct Way {
    gateway: Incarnation,
    sender: LinkSender,
    /// The last sequence used on this link.
    sequence: u64,
    /// What it has not answered.
    under_way: usize,
    under_way_bytes: u64,
}

#[derive(Debug)]
struct Adoption {
    tenant: Name,
    effects: Vec<Effect>,
    close: CloseId,
    bytes: u64,
    /// The link and the sequence it was sent with.
    sent: Option<(u64, u64)>,
    /// Looks since it was added.
    waited: u32,
}

impl Adoptions {
    /// Keeps the effects and sends them to a live gateway, now or when there is one.
    pub(super) fn add(&self, tenant: Name, effects: Vec<Effect>, close: CloseId) {
        let mut book = self.book();
        // A close without effects is told to gateways for the second custodians only.
        if effects.is_empty() && book.links.is_empty() {
            return;
        }
        let bytes = weight::effects(&effects) as u64;
        if book.waiting.len() >= ADOPTIONS_MAX || book.bytes + bytes > ADOPTION_BYTES_MAX {
            drop(book);
            warn!(%tenant, "no gateway adopts the effects of closes: some are dropped");
            return;
        }
        book.bytes += bytes;
        book.waiting.push_back(Adoption {
            tenant,
            effects,
            close,
            bytes,
            sent: None,
            waited: 0,
        });
        book.send_unsent();
    }

    /// There is a new link.
    pub(super) fn linked(&self, link: u64, gateway: Incarnation, sender: LinkSender) {
        let mut book = self.book();
        let way = Way {
            gateway,
            sender,
            sequence: 0,
            under_way: 0,
            under_way_bytes: 0,
        };
        book.links.insert(link, way);
        book.send_unsent();
    }

    /// Learns which gateways there are. `looked` is true once a look.
    pub(super) fn follow(&self, members: &Members, looked: bool) {
        let mut book = self.book();
        let Book {
            gateways, waiting, ..
        } = &mut *book;
        gateways.retain(|gateway, _| members.nodes.contains_key(gateway));
        for node in members.gateways() {
            let looks = gateways.entry(node.incarnation).or_default();
            *looks = looks.saturating_add(looked.into());
        }
        for adoption in waiting.iter_mut() {
            adoption.waited = adoption.waited.saturating_add(looked.into());
        }
        book.send_unsent();
    }

    /// A link has ended: what it did not acknowledge goes elsewhere.
    pub(super) fn parted(&self, link: u64) {
        let mut book = self.book();
        book.links.remove(&link);
        for adoption in &mut book.waiting {
            if adoption.sent.is_some_and(|(on, _)| on == link) {
                adoption.sent = None;
            }
        }
        book.send_unsent();
    }

    /// The gateway has taken one.
    pub(super) fn taken(&self, link: u64, sequence: u64) {
        let mut book = self.book();
        let found = book
            .waiting
            .iter()
            .position(|adoption| adoption.sent == Some((link, sequence)));
        if let Some(adoption) = found.and_then(|index| book.waiting.remove(index)) {
            book.bytes -= adoption.bytes;
            if let Some(way) = book.links.get_mut(&link) {
                way.under_way -= 1;
                way.under_way_bytes -= adoption.bytes;
            }
            book.send_unsent();
        }
    }

    /// Whether nothing waits for a gateway, or there is none.
    pub(super) fn are_settled(&self) -> bool {
        let book = self.book();
        book.waiting.is_empty() || (book.links.is_empty() && book.gateways.is_empty())
    }

    /// Whether gateways should be given time to answer. Never without any: then the closes matter
    /// more than their effects, which nobody is there to see.
    pub(super) fn is_crowded(&self) -> bool {
        let book = self.book();
        book.waiting.len() >= ADOPTIONS_CROWDED && !book.links.is_empty()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn send_unsent(&mut self) {
        let Self {
            waiting,
            links,
            gateways,
            ..
        } = self;
        if links.is_empty() {
            return;
        }
        let is_settled = |looks: &u32| *looks >= SETTLED_LOOKS;
        if !links.values().any(Way::has_room) {
            return;
        }
        let any_settled = gateways.values().any(is_settled);
        let unsent = waiting.iter_mut().filter(|it| it.sent.is_none());
        for adoption in unsent {
            let anybody = !any_settled || adoption.waited >= WAIT_LOOKS;
            adoption.sent = links.iter_mut().find_map(|(link, way)| {
                let able = anybody || gateways.get(&way.gateway).is_some_and(is_settled);
                let able = able && way.has_room();
                let sequence = able.then(|| way.send(adoption)).flatten()?;
                Some((*link, sequence))
            });
            // The others wait for an answer.
            if adoption.sent.is_none() {
                return;
            }
        }
    }
}

impl Way {
    const fn has_room(&self) -> bool {
        self.under_way < UNDER_WAY_MAX && self.under_way_bytes < UNDER_WAY_BYTES_MAX
    }

    /// The sequence it was sent with; none if the link has ended.
    fn send(&mut self, adoption: &Adoption) -> Option<u64> {
        let sequence = self.sequence + 1;
        let frame = Frame::Adopt {
            sequence,
            tenant: adoption.tenant.clone(),
            effects: adoption.effects.clone(),
            close: adoption.close,
        };
        self.sender.send(frame).ok()?;
        self.sequence = sequence;
        self.under_way += 1;
        self.under_way_bytes += adoption.bytes;
        Some(sequence)
    }
}
