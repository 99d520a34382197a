//! The other gateways: the streams of effects to them, which come and go with the view, and what
//! waits until they have acknowledged something.

mod concerned;
mod early;
mod peer_stream;
mod releases;

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::sync::Arc;

use metrics::{Counter, counter};
use rustc_hash::FxHashMap;
use tidegate_hub::directory::{Reach, owner, reach};
use tidegate_link::LinkSender;
use tidegate_link::membership::Members;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::frame::PeerFrame;
use tidegate_wire::id::{ClientId, CloseId, Incarnation};
use tidegate_wire::membership::Role;
use tidegate_wire::query::Query;

use crate::gateway::shared::Context;
use crate::gateway::shared::gather::fits;
use crate::gateway::shared::inbox::AdoptClose;
use crate::gateway::shared::life::Life;
pub(super) use concerned::Concerned;
use early::Early;
use peer_stream::PeerStream;
pub(super) use releases::Release;
use releases::Releases;

/// The other gateways.
pub(super) struct Peers {
    context: Arc<Context>,
    /// The shard whose peers they are.
    shard: u16,
    streams: FxHashMap<Incarnation, PeerStream>,
    /// Announced address → incarnation.
    addresses: FxHashMap<SocketAddrV4, Incarnation>,
    view: Arc<Members>,
    releases: Releases,
    /// Closes of gateways that are alive, as far as is known here.
    early: Early,
    dropped: Counter,
    unknown: Counter,
}

/// Whom a question is for.
pub(super) struct Reached {
    /// This gateway.
    pub(super) own: bool,
    /// Other gateways, in order.
    pub(super) peers: Vec<(SocketAddrV4, Incarnation)>,
}

impl Peers {
    pub(super) fn new(context: Arc<Context>, shard: u16) -> Self {
        let dropped = |reason| counter!("tidegate_gateway_dropped_total", "reason" => reason);
        Self {
            shard,
            streams: FxHashMap::default(),
            addresses: FxHashMap::default(),
            view: Arc::default(),
            releases: Releases::new(context.tenants.count()),
            early: Early::new(context.tenants.count()),
            dropped: dropped("forward-full"),
            unknown: dropped("unknown-gateway"),
            context,
        }
    }

    /// Whether this life of a node was declared lost.
    pub(super) fn is_lost(&self, incarnation: Incarnation) -> bool {
        self.view.is_lost(incarnation)
    }

    /// Gateways that have not acknowledged everything. Nobody takes anything from a lost life.
    pub(super) fn unsettled(&self) -> usize {
        if self.context.lost.is_cancelled() {
            return 0;
        }
        let streams = self.streams.values();
        streams.filter(|peer| !peer.is_settled()).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// The announced addresses of all gateways, this one too, in order.
    pub(super) fn gateways(&self) -> Vec<SocketAddrV4> {
        let mut all: Vec<_> = self.addresses.keys().copied().collect();
        all.push(self.context.settings.announced);
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Streams.
impl Peers {
    fn window(&self) -> usize {
        let queue = self.context.settings.link.queue_bytes_max;
        tidegate_hub::streams::window(self.context.inboxes.len(), queue)
    }

    pub(super) fn forward(
        &mut self,
        incarnation: Incarnation,
        tenant: &Name,
        effects: Vec<Effect>,
        close: Option<CloseId>,
    ) {
        let window = self.window();
        let Some(peer) = self.streams.get_mut(&incarnation) else {
            return;
        };
        if let Err(dropped) = peer.push(tenant, effects, close, window) {
            self.dropped.increment(1);
            if dropped.is_first {
                let bytes_max = self.context.settings.forward_bytes_max;
                tracing::warn!(gateway = %incarnation, %tenant, bytes_max,
                    "a gateway does not acknowledge: effects for it are dropped, beyond the \
                    tenant's share");
            }
        }
    }

    /// There is a link to another gateway.
    pub(super) fn up(&mut self, incarnation: Incarnation, link: LinkSender, life: Arc<Life>) {
        let window = self.window();
        if let Some(peer) = self.streams.get_mut(&incarnation) {
            peer.up(link, life, window);
        }
    }

    pub(super) fn down(&mut self, incarnation: Incarnation) {
        if let Some(peer) = self.streams.get_mut(&incarnation) {
            peer.down();
        }
    }

    pub(super) fn acknowledged(&mut self, incarnation: Incarnation, sequence: u64) {
        let window = self.window();
        if let Some(peer) = self.streams.get_mut(&incarnation) {
            let releases = &mut self.releases;
            peer.acknowledge(sequence, |tenant| releases.look_at(tenant), window);
        }
    }

    /// Whether more than one worker is known.
    pub(in crate::gateway::shard) fn has_several_workers(&self) -> bool {
        let nodes = self.view.nodes.values();
        nodes
            .filter(|node| node.role == Role::Worker)
            .nth(1)
            .is_some()
    }

    /// The view has changed: streams to gateways that are gone end. Says which these are.
    pub(super) fn set_view(&mut self, members: Arc<Members>) -> Vec<Incarnation> {
        let own = self.context.incarnation();
        let others: Vec<(Incarnation, SocketAddrV4)> = members
            .gateways()
            .filter(|node| node.incarnation != own)
            .filter_map(|node| Some((node.incarnation, node.address?)))
            .collect();
        let is_gone = |incarnation: &Incarnation, _: &mut PeerStream| {
            others.iter().all(|(live, _)| live != incarnation)
        };
        let gone = self.streams.extract_if(is_gone);
        let gone = gone.map(|(incarnation, _)| incarnation).collect();
        self.addresses.clear();
        for (incarnation, address) in others {
            self.addresses.insert(address, incarnation);
            self.streams
                .entry(incarnation)
                .or_insert_with(|| PeerStream::new(&self.context, self.shard));
        }
        self.view = members;
        self.releases.look_at_all();
        gone
    }
}

/// Questions.
impl Peers {
    /// The gateways that can matter to a question.
    pub(super) fn reached(&self, query: &Query) -> Reached {
        let own = self.context.settings.announced;
        let pick = |wanted: &dyn Fn(SocketAddrV4) -> bool| {
            let others = self
                .addresses
                .iter()
                .map(|(address, node)| (*address, *node));
            let mut peers: Vec<_> = others.filter(|(address, _)| wanted(*address)).collect();
            peers.sort_unstable_by_key(|(address, _)| *address);
            let own = wanted(own);
            Reached { own, peers }
        };
        match reach(query) {
            Reach::Nobody => pick(&|_| false),
            Reach::Homes(clients) => {
                let homes: HashSet<SocketAddrV4> =
                    clients.into_iter().map(ClientId::gateway).collect();
                pick(&|address| homes.contains(&address))
            }
            Reach::From(after) => pick(&|address| ClientId::new(address, u32::MAX) > after),
            Reach::Everywhere | Reach::EveryGateway => pick(&|_| true),
            Reach::Gateways(gateways) => pick(&|address| gateways.contains(&address)),
            Reach::Owner(key) => {
                let all = self.addresses.keys().copied().chain([own]);
                let owner = owner(&key, all);
                pick(&|address| Some(address) == owner)
            }
        }
    }

    /// Asks a gateway. Says whether it can be expected to answer.
    pub(super) fn ask(
        &self,
        peer: Incarnation,
        tenant: &Name,
        question: impl FnOnce() -> PeerFrame,
    ) -> bool {
        let peer = self.streams.get(&peer);
        peer.and_then(PeerStream::link_for_questions)
            .filter(|link| fits(&self.context, link, tenant, ()).is_ok())
            .is_some_and(|link| link.send_for(tenant, question()).is_ok())
    }

    /// A gateway has not answered by a deadline.
    pub(super) fn missed_deadline(&mut self, peer: Incarnation) {
        if let Some(peer) = self.streams.get_mut(&peer) {
            peer.missed_deadline();
        }
    }
}

/// Closes that workers tell or may forget.
impl Peers {
    /// Keeps the close of a gateway that is alive, as far as is known here, until it is gone. Gives
    /// one back whose home is gone.
    pub(super) fn keep_early(&mut self, adoption: AdoptClose) -> Option<AdoptClose> {
        if !self.view.is_listed(adoption.close.home) {
            return Some(adoption);
        }
        if let Err(adoption) = self.early.add(adoption) {
            tracing::warn!(home = %adoption.close.home, tenant = %adoption.tenant,
                "workers give away closes of a gateway that is alive: refused");
        }
        None
    }

    /// Closes that were kept: some of their homes may be gone.
    pub(super) fn take_early(&mut self) -> Vec<AdoptClose> {
        self.early.take()
    }

    /// Keeps a release until what was sent for this tenant has arrived. Gives those that wait for
    /// nothing, which may be the same one.
    pub(super) fn postpone(&mut self, tenant: &Name, release: Release) -> Vec<Release> {
        let until = self.streams.iter().filter_map(|(peer, stream)| {
            let last = stream.last_unacknowledged(tenant)?;
            Some((*peer, last))
        });
        let until: Vec<_> = until.collect();
        if until.is_empty() {
            return vec![release];
        }
        self.releases.postpone(tenant, release, until)
    }

    /// Releases that nothing holds back any more.
    pub(super) fn take_releases(&mut self) -> Vec<Release> {
        let streams = &self.streams;
        self.releases.take_due(|tenant, peer, pushed| {
            let peer = streams.get(&peer);
            peer.is_none_or(|peer| peer.has_arrived(tenant, pushed))
        })
    }
}
