//! Effects beyond this shard: which other shards and gateways they concern, and the streams to those
//! gateways, which come and go with the view.

use std::net::SocketAddrV4;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tidegate_fair::Shares;
use tidegate_link::membership::Members;
use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, Scope};
use tidegate_wire::id::{ClientId, CloseId, Incarnation};

use super::releases::Releases;
use super::{PeerStream, State};
use crate::gateway::shared::Context;
use crate::gateway::shared::inbox::{AdoptClose, Parcel};
use crate::gateway::shared::life::Life;

/// Closes that wait until this gateway learns that their home is lost. A worker that learnt it
/// earlier has no more than a window of them under way; what is beyond is refused.
const EARLY_MAX: usize = 1024;

/// Closes whose home is not known to be lost; each tenant has its share.
#[derive(Debug)]
pub(super) struct Early {
    adoptions: Vec<AdoptClose>,
    shares: Shares<Name>,
}

impl Early {
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            adoptions: Vec::new(),
            shares: Shares::new(EARLY_MAX, tenants),
        }
    }

    fn add(&mut self, adoption: AdoptClose) -> Result<(), AdoptClose> {
        let shares = &mut self.shares;
        self.adoptions.retain(|it| {
            let is_open = !it.link.is_closed();
            if !is_open {
                shares.give(&it.tenant, 1);
            }
            is_open
        });
        if !shares.has_room(&adoption.tenant) {
            return Err(adoption);
        }
        shares.take(&adoption.tenant, 1);
        self.adoptions.push(adoption);
        Ok(())
    }

    fn take(&mut self) -> Vec<AdoptClose> {
        for adoption in &self.adoptions {
            self.shares.give(&adoption.tenant, 1);
        }
        std::mem::take(&mut self.adoptions)
    }
}

/// The other gateways.
pub(super) struct Peers {
    pub(super) streams: FxHashMap<Incarnation, PeerStream>,
    /// Announced address → incarnation.
    pub(super) addresses: FxHashMap<SocketAddrV4, Incarnation>,
    pub(super) view: Arc<Members>,
    pub(super) releases: Releases,
    /// Closes of gateways that are alive, as far as is known here.
    pub(super) early: Early,
}

impl Peers {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            streams: FxHashMap::default(),
            addresses: FxHashMap::default(),
            view: Arc::default(),
            releases: Releases::new(context.tenants.count()),
            early: Early::new(context.tenants.count()),
        }
    }
}

impl State {
    /// Effects of a close. Every gateway applies those of one close at most once,
    /// also when several custodians tell it, or the home did before it was lost.
    pub(super) fn adopt(&mut self, tenant: &Name, effects: Vec<Effect>, close: CloseId) {
        if self.context.closes.is_new(tenant, close) {
            if let Some(index) = self.tenant_index(tenant) {
                self.apply(index, &effects, None);
            }
            self.pass_on(tenant, effects, Some(close));
        } else {
            // Known here is not known everywhere.
            for (peer, effects) in self.concerned(effects).peers {
                self.forward(peer, tenant, effects, Some(close));
            }
        }
    }

    /// Effects of a close whose home is lost, as a worker says. One that is alive, as far as is known
    /// here, tells its closes itself: they wait until it is gone.
    pub(super) fn adopt_lost(&mut self, adoption: AdoptClose) {
        if !self.peers.view.is_listed(adoption.close.home) {
            self.adopt(&adoption.tenant, adoption.effects, adoption.close);
            if self.context.settings.second_custodian {
                self.custody.told.push(adoption.close);
            }
            return self.adopted(&adoption.tenant, adoption.link, adoption.sequence);
        }
        if let Err(adoption) = self.peers.early.add(adoption) {
            tracing::warn!(home = %adoption.close.home, tenant = %adoption.tenant,
                "workers give away closes of a gateway that is alive: refused");
        }
    }

    /// Brings effects to everybody whom they concern but the clients of this shard: other shards,
    /// other gateways, and the commands of this one.
    pub(super) fn pass_on(&mut self, tenant: &Name, effects: Vec<Effect>, close: Option<CloseId>) {
        let commands = self.own_commands(&effects);
        self.distribute(tenant, effects, close);
        // What was asked for before a command is there before it.
        self.services.commands.start(tenant, commands);
    }

    fn own_commands(&self, effects: &[Effect]) -> Vec<Effect> {
        let own = self.context.settings.announced;
        let is_own = |effect: &&Effect| {
            matches!(effect.scope(), Scope::Gateways(gateways)
                if gateways.is_none_or(|gateways| gateways.contains(&own)))
        };
        effects.iter().filter(is_own).cloned().collect()
    }

    /// Whether a scope concerns no other shard and no other gateway.
    pub(super) fn is_only_here(&self, scope: Scope<'_>) -> bool {
        let is_own = |client: &ClientId| {
            client.gateway() == self.context.settings.announced
                && self.context.shard_of(client.connection) == usize::from(self.index)
        };
        match scope {
            Scope::Client(client) => is_own(&client),
            Scope::Clients(clients) => clients.iter().all(is_own),
            Scope::Everywhere => self.context.inboxes.len() == 1 && self.peers.streams.is_empty(),
            // A command is run by whoever spreads the effects.
            Scope::Gateways(_) => false,
        }
    }

    /// Sends effects to the other shards and gateways that they concern, in order.
    fn distribute(&mut self, tenant: &Name, effects: Vec<Effect>, close: Option<CloseId>) {
        let Concerned { shards, peers } = self.concerned(effects);
        for (shard, effects) in shards.into_iter().enumerate() {
            if let Some(inbox) = self
                .context
                .inboxes
                .get(shard)
                .filter(|_| !effects.is_empty())
            {
                let effects = Arc::new(effects);
                inbox.push(Parcel::Effects {
                    tenant: tenant.clone(),
                    effects,
                });
            }
        }
        for (peer, effects) in peers {
            self.forward(peer, tenant, effects, close);
        }
    }

    /// Effects by the other shards and gateways that they concern.
    fn concerned(&self, effects: Vec<Effect>) -> Concerned {
        let mut shards: Vec<Vec<Effect>> = vec![Vec::new(); self.context.inboxes.len()];
        let mut peers: FxHashMap<Incarnation, Vec<Effect>> = FxHashMap::default();
        for effect in effects {
            let targets = self.targets(effect.scope());
            for (shard, concerned) in targets.shards.iter().enumerate() {
                if let Some(list) = shards.get_mut(shard).filter(|_| *concerned) {
                    list.push(effect.clone());
                }
            }
            for peer in targets.peers {
                peers.entry(peer).or_default().push(effect.clone());
            }
        }
        Concerned { shards, peers }
    }

    /// The other shards and gateways that a scope concerns.
    fn targets(&self, scope: Scope<'_>) -> Targets {
        let mut targets = Targets {
            shards: vec![false; self.context.inboxes.len()],
            peers: Vec::new(),
        };
        match scope {
            Scope::Client(client) => self.target(client, &mut targets),
            Scope::Clients(clients) => {
                for client in clients {
                    self.target(*client, &mut targets);
                }
            }
            Scope::Everywhere => {
                targets.shards.fill(true);
                targets.peers.extend(self.peers.streams.keys());
            }
            Scope::Gateways(None) => targets.peers.extend(self.peers.streams.keys()),
            Scope::Gateways(Some(gateways)) => {
                for gateway in gateways {
                    self.target_gateway(*gateway, &mut targets);
                }
            }
        }
        if let Some(own) = targets.shards.get_mut(usize::from(self.index)) {
            *own = false;
        }
        targets
    }

    /// A client of a gateway that nobody knows is offline.
    fn target(&self, client: ClientId, targets: &mut Targets) {
        if client.gateway() == self.context.settings.announced {
            let shard = self.context.shard_of(client.connection);
            if let Some(shard) = targets.shards.get_mut(shard) {
                *shard = true;
            }
        } else if let Some(peer) = self.peers.addresses.get(&client.gateway())
            && !targets.peers.contains(peer)
        {
            targets.peers.push(*peer);
        }
    }

    fn target_gateway(&self, gateway: SocketAddrV4, targets: &mut Targets) {
        if gateway == self.context.settings.announced {
            return;
        }
        match self.peers.addresses.get(&gateway) {
            Some(peer) if targets.peers.contains(peer) => {}
            Some(peer) => targets.peers.push(*peer),
            None => {
                self.metrics.unknown_gateway();
                tracing::debug!(%gateway, "a command for a gateway that is not in the view: skipped");
            }
        }
    }

    fn forward(
        &mut self,
        incarnation: Incarnation,
        tenant: &Name,
        effects: Vec<Effect>,
        close: Option<CloseId>,
    ) {
        let window = self.forward_window();
        let Some(peer) = self.peers.streams.get_mut(&incarnation) else {
            return;
        };
        match peer.stream.push(tenant, effects, close) {
            Ok(()) => {
                if !peer.full.is_empty() {
                    peer.full.remove(tenant);
                }
                peer.send(window);
            }
            Err(tidegate_hub::streams::Full) => {
                self.metrics.forward_dropped();
                if peer.full.insert(tenant.clone()) {
                    let bytes_max = self.context.settings.forward_bytes_max;
                    tracing::warn!(gateway = %incarnation, %tenant, bytes_max,
                        "a gateway does not acknowledge: effects for it are dropped, beyond the \
                        tenant's share");
                }
            }
        }
    }

    /// There is a link to another gateway: what it has not acknowledged is sent again.
    pub(super) fn peer_up(
        &mut self,
        incarnation: Incarnation,
        sender: tidegate_link::LinkSender,
        life: Arc<Life>,
    ) {
        let window = self.forward_window();
        let Some(peer) = self.peers.streams.get_mut(&incarnation) else {
            return;
        };
        peer.stream.restart();
        peer.link = Some(sender);
        peer.life = Some(life);
        peer.send(window);
    }

    fn forward_window(&self) -> usize {
        let queue = self.context.settings.link.queue_bytes_max;
        tidegate_hub::streams::window(self.context.inboxes.len(), queue)
    }

    pub(super) fn peer_ack(&mut self, incarnation: Incarnation, sequence: u64) {
        let window = self.forward_window();
        if let Some(peer) = self.peers.streams.get_mut(&incarnation) {
            let releases = &mut self.peers.releases;
            peer.stream
                .acknowledge(sequence, |tenant| releases.look_at(tenant));
            peer.send(window);
        }
        self.send_releases();
    }

    /// The view has changed: streams to gateways that are gone end.
    pub(super) fn members(&mut self, members: Arc<Members>) {
        let own = self.context.incarnation();
        let others: Vec<(Incarnation, SocketAddrV4)> = members
            .gateways()
            .filter(|node| node.incarnation != own)
            .filter_map(|node| Some((node.incarnation, node.address?)))
            .collect();
        let gone: Vec<Incarnation> = self
            .peers
            .streams
            .keys()
            .filter(|incarnation| others.iter().all(|(live, _)| live != *incarnation))
            .copied()
            .collect();
        for incarnation in gone {
            self.peer_down(incarnation);
            self.peers.streams.remove(&incarnation);
        }
        self.peers.addresses.clear();
        for (incarnation, address) in others {
            self.peers.addresses.insert(address, incarnation);
            self.peers
                .streams
                .entry(incarnation)
                .or_insert_with(|| PeerStream::new(&self.context, self.index));
        }
        self.peers.view = members;
        for adoption in self.peers.early.take() {
            self.adopt_lost(adoption);
        }
        self.peers.releases.look_at_all();
        self.send_releases();
    }
}

/// What concerns whom, besides this shard.
struct Concerned {
    shards: Vec<Vec<Effect>>,
    peers: FxHashMap<Incarnation, Vec<Effect>>,
}

/// Whom a scope concerns, besides this shard.
struct Targets {
    shards: Vec<bool>,
    peers: Vec<Incarnation>,
}
