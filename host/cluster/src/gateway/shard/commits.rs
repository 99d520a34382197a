//! What commits bring: effects for this shard, for other shards and for other gateways; and what
//! becomes of lanes when workers come and go.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustc_hash::FxHashMap;
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Outcome, Scope};
use tidegate_wire::event::CloseReason;
use tidegate_wire::frame::Frame;
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::{ClientId, CloseId, Incarnation};

use super::State;
use super::outlet::Deliveries;
use crate::gateway::apply::apply;
use crate::gateway::commands;
use crate::gateway::inbox::Parcel;
use crate::gateway::peers::Life;
use crate::gateway::pending::WorkerKey;
use crate::gateway::workers::WorkerLink;
use crate::membership::Members;

impl State {
    /// One event has ended at a worker.
    pub(super) fn commit(&mut self, worker: WorkerKey, commit: Commit) {
        let number = commit.client.connection;
        if commit.outcome == Outcome::Returned {
            return self.returned(worker, &commit);
        }
        let committed = self
            .lanes
            .commit(number, worker, commit.event.sequence, commit.attempt);
        let Ok(committed) = committed else {
            return self.metrics.stale();
        };
        self.metrics.committed(commit.outcome);
        let author = (!committed.is_request()).then_some((number, worker));
        self.swaps.forget(commit.event.sequence);
        let acts = !commit.effects.is_empty();
        match commit.outcome {
            Outcome::Done => {
                if let Some(tenant) = self.lanes.tenant(number) {
                    if committed.is_close() {
                        self.own_close(tenant, commit.effects, commit.client);
                    } else {
                        self.effects(tenant, commit.effects, author);
                    }
                }
            }
            // Without its connect a handler does not know the client.
            Outcome::DeadLettered if committed.kind == "connect" => {
                if let Some(connection) = self.connections.get(&number) {
                    connection.close(1011);
                    self.closing.push((number, CloseReason::Server));
                }
            }
            Outcome::DeadLettered | Outcome::Failed | Outcome::Returned => {}
        }
        if committed.is_close() {
            self.forget(number, worker, acts);
        }
        if committed.is_request() {
            self.request_ended(number, commit.outcome, commit.reply);
        }
        if self.lanes.must_retell(number) {
            self.custody.push(number);
        }
        if committed.kind == "connect" && self.workers.is_draining(worker) {
            self.hand_over(worker, vec![number]);
        }
        self.workers.returned(worker, 1, committed.bytes);
        self.unhold(number);
        self.pump(number);
        self.pump_waiting(worker);
    }

    /// A worker's window may have room: lanes that wait for it get their turn.
    fn pump_waiting(&mut self, worker: WorkerKey) {
        while let Some(next) = self.workers.next_waiting(worker) {
            self.lanes.set_queued(next, false);
            self.pump(next);
        }
    }

    /// The client's close is committed: its number is free, and the workers that know it may forget
    /// it. One that closed it keeps the effects until it knows that they arrived.
    fn forget(&mut self, number: u32, closer: WorkerKey, acts: bool) {
        let client = self.client_id(number);
        let mut workers = self.lanes.remove(number);
        workers.retain(|worker| *worker != closer || acts);
        self.release(client, workers, acts);
    }

    /// A worker gave an event back, and with it those of its lane behind it. They are sent again
    /// at the next turn of the clock, not at once, so that a worker that gives everything back
    /// does not spin.
    fn returned(&mut self, worker: WorkerKey, commit: &Commit) {
        let number = commit.client.connection;
        let (sequence, attempt) = (commit.event.sequence, commit.attempt);
        let custodian = self.lanes.custodian(number);
        let Some((events, bytes)) = self.lanes.returned(number, worker, sequence, attempt) else {
            return self.metrics.stale();
        };
        if custodian != self.lanes.custodian(number) {
            // It may have taken itself for the custodian before its handlers gave the connect back.
            self.release(commit.client, vec![worker], false);
        }
        self.workers.returned(worker, events, bytes);
        if self.lanes.is_idle(number) && self.lanes.set_queued(number, true) {
            self.unrouted.push_back(number);
        }
        // Its lane may go elsewhere, and no commit would tell the others.
        self.pump_waiting(worker);
    }

    /// Applies effects here and passes on what concerns others.
    pub(super) fn effects(
        &mut self,
        tenant: u16,
        effects: Vec<Effect>,
        author: Option<(u32, WorkerKey)>,
    ) {
        self.apply(tenant, &effects, author);
        // Most commits concern this shard alone.
        if effects
            .iter()
            .all(|effect| self.is_only_here(effect.scope()))
        {
            return;
        }
        let Some(name) = self.tenant_name(tenant).cloned() else {
            return;
        };
        self.pass_on(&name, effects, None);
    }

    /// Effects of a close whose home is here: a custodian may have told it already, if this life was
    /// declared lost and does not know yet.
    fn own_close(&mut self, tenant: u16, effects: Vec<Effect>, client: ClientId) {
        let home = self.context.incarnation();
        let close = CloseId { home, client };
        if !effects.is_empty()
            && let Some(name) = self.tenant_name(tenant).cloned()
        {
            self.adopt(&name, effects, close);
        }
    }

    /// Effects of a close. Every gateway applies those of one close at most once,
    /// also when several custodians tell it, or the home did before it was lost.
    pub(super) fn adopt(&mut self, tenant: &Name, effects: Vec<Effect>, close: CloseId) {
        if self.context.closes.is_new(close) {
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

    /// Brings effects to everybody whom they concern but the clients of this shard: other shards,
    /// other gateways, and the commands of this one.
    pub(super) fn pass_on(&mut self, tenant: &Name, effects: Vec<Effect>, close: Option<CloseId>) {
        let commands = self.own_commands(&effects);
        self.distribute(tenant, effects, close);
        // What was asked for before a command is there before it.
        commands::start(&self.context, tenant, commands);
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
    fn is_only_here(&self, scope: Scope<'_>) -> bool {
        let is_own = |client: &ClientId| {
            client.gateway() == self.context.settings.announced
                && self.context.shard_of(client.connection) == usize::from(self.index)
        };
        match scope {
            Scope::Client(client) => is_own(&client),
            Scope::Clients(clients) => clients.iter().all(is_own),
            Scope::Everywhere => self.context.inboxes.len() == 1 && self.peers.is_empty(),
            // A command is run by whoever spreads the effects.
            Scope::Gateways(_) => false,
        }
    }

    /// Applies effects to the clients of this shard.
    pub(super) fn apply(
        &mut self,
        tenant: u16,
        effects: &[Effect],
        author: Option<(u32, WorkerKey)>,
    ) {
        let Some(hub) = self.hubs.get_mut(usize::from(tenant)) else {
            return;
        };
        let gateway = self.context.settings.announced;
        let mut deliveries = Deliveries {
            connections: &self.connections,
            lanes: &mut self.lanes,
            dirty: &mut self.dirty,
            closing: &mut self.closing,
            custody: &mut self.custody,
            metrics: &self.metrics,
            watchers: &self.watchers,
            watched: self.watchers.watch(tenant),
            tenant,
            gateway,
            author,
        };
        for effect in effects {
            apply(hub, gateway, effect, &mut deliveries);
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
                targets.peers.extend(self.peers.keys());
            }
            Scope::Gateways(None) => targets.peers.extend(self.peers.keys()),
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
        } else if let Some(peer) = self.addresses.get(&client.gateway())
            && !targets.peers.contains(peer)
        {
            targets.peers.push(*peer);
        }
    }

    fn target_gateway(&self, gateway: SocketAddrV4, targets: &mut Targets) {
        if gateway == self.context.settings.announced {
            return;
        }
        match self.addresses.get(&gateway) {
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
        let Some(peer) = self.peers.get_mut(&incarnation) else {
            return;
        };
        let max = self.context.settings.forward_bytes_max;
        match peer
            .stream
            .push(self.index, tenant.clone(), effects, close, max)
        {
            Ok(forward) => {
                peer.full = false;
                if let Some(link) = &peer.link {
                    // On a link that has ended it is sent again by the next one.
                    let _ = link.send(Frame::Forward(forward));
                }
            }
            Err(crate::gateway::forward::Full) => {
                self.metrics.forward_dropped();
                if !std::mem::replace(&mut peer.full, true) {
                    tracing::warn!(gateway = %incarnation, bytes_max = max,
                        "a gateway does not acknowledge: effects for it are dropped");
                }
            }
        }
    }

    /// There is a link to another gateway: what it has not acknowledged is sent again.
    pub(super) fn peer_up(
        &mut self,
        incarnation: Incarnation,
        sender: crate::link::LinkSender,
        life: Arc<Life>,
    ) {
        let Some(peer) = self.peers.get_mut(&incarnation) else {
            return;
        };
        for forward in peer.stream.unacknowledged() {
            // If this link ends too, the next one starts over.
            let _ = sender.send(Frame::Forward(forward.clone()));
        }
        peer.link = Some(sender);
        peer.life = Some(life);
    }

    pub(super) fn peer_ack(&mut self, incarnation: Incarnation, sequence: u64) {
        if let Some(peer) = self.peers.get_mut(&incarnation) {
            peer.stream.acknowledge(sequence);
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
            .keys()
            .filter(|incarnation| others.iter().all(|(live, _)| live != *incarnation))
            .copied()
            .collect();
        for incarnation in gone {
            self.peer_down(incarnation);
            self.peers.remove(&incarnation);
        }
        self.addresses.clear();
        for (incarnation, address) in others {
            self.addresses.insert(address, incarnation);
            self.peers.entry(incarnation).or_default();
        }
        self.view = members;
        self.send_releases();
    }

    /// A worker is there, or serves other tenants than before.
    pub(super) fn worker_up(&mut self, link: Arc<WorkerLink>) {
        if self.context.lost.is_cancelled() {
            // What it has in custody is for it to tell: nothing here may look as if it were not.
            return link.sender.refuse(Refusal::Lost);
        }
        let key = link.key;
        // A worker has one link to a gateway: what is under way on an earlier one, whose end is not
        // known here yet, never comes back.
        let others = self.workers.others_of(&link);
        if others.iter().any(|other| other.key > key) {
            return link.sender.close();
        }
        self.workers
            .insert(link.clone(), self.context.inboxes.len());
        for earlier in others {
            earlier.sender.close();
            self.worker_lost(earlier.key);
        }
        self.route_unrouted();
        self.entrust_all(key);
        for leaving in self.workers.draining() {
            self.hand_over_all(leaving);
        }
        self.recognise(&link);
    }

    /// Lets a worker drop what an earlier link entrusted to it, once every shard has a custodian for
    /// each of its clients. A worker that links while it does not serve their tenant is entrusted with
    /// nobody: then it goes on keeping them.
    fn recognise(&mut self, link: &WorkerLink) {
        let is_orphan =
            |number: u32| self.lanes.custodian(number).is_none() && self.lanes.is_known(number);
        if self.lanes.connections().any(is_orphan) || !self.workers.becomes_known(link.key) {
            return;
        }
        if link.unaware.fetch_sub(1, Ordering::AcqRel) == 1 {
            // On a link that has ended nothing was entrusted.
            let _ = link.sender.send(Frame::Recognised);
        }
    }

    /// Lanes that had nowhere to go look again.
    pub(super) fn route_unrouted(&mut self) {
        for number in std::mem::take(&mut self.unrouted) {
            self.lanes.set_queued(number, false);
            self.pump(number);
        }
    }

    /// Clients without a custodian get this worker.
    fn entrust_all(&mut self, key: WorkerKey) {
        let orphans: Vec<u32> = self
            .lanes
            .connections()
            .filter(|number| self.lanes.custodian(*number).is_none())
            .collect();
        for number in orphans {
            let Some(tenant) = self.lanes.tenant(number) else {
                continue;
            };
            let serves = self.tenant_name(tenant).is_some_and(|name| {
                self.workers
                    .get(key)
                    .is_some_and(|worker| worker.place(name).is_some())
            });
            if serves && self.lanes.is_known(number) && self.lanes.entrust(number, key) {
                self.tell_custody(number, key);
            }
        }
    }

    /// A worker is leaving: its idle lanes may move, and its clients get other custodians.
    pub(super) fn worker_draining(&mut self, key: WorkerKey) {
        self.workers.set_draining(key);
        self.hand_over_all(key);
        self.workers.tell_drained(key);
    }

    /// A worker is lost: its lanes' events are sent again, and its clients get new custodians.
    pub(super) fn worker_lost(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.remove(key) else {
            return;
        };
        for number in worker.waiting {
            self.lanes.set_queued(number, false);
        }
        let all: Vec<u32> = self.lanes.connections().collect();
        for number in &all {
            self.lanes.take_back(*number, key, true);
        }
        for number in all {
            self.pump(number);
            self.name_custodian(number);
        }
        self.end_handovers(key);
    }

    fn name_custodian(&mut self, number: u32) {
        if self.lanes.custodian(number).is_some() || !self.lanes.is_known(number) {
            return;
        }
        if let Some(worker) = self.choose_custodian(number)
            && self.lanes.entrust(number, worker)
        {
            self.custody.push(number);
        }
    }

    /// Who could be a client's custodian: who serves it, or anybody who stays.
    pub(super) fn choose_custodian(&mut self, number: u32) -> Option<WorkerKey> {
        let tenant = self.lanes.tenant(number)?;
        let name = self.context.tenants.get(usize::from(tenant))?;
        let router = self.context.settings.router;
        let serving = self.lanes.worker(number);
        let serving = serving.filter(|it| router.binds() && !self.workers.is_leaving(*it, name));
        let choose = || self.workers.choose(name, router, &mut self.rng);
        serving.or_else(choose)
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
