//! Effects beyond this shard: brought to the other shards and gateways that they concern; and closes
//! of lost gateways, which workers tell.

use std::sync::Arc;

use tidegate_hub::lanes::WorkerKey;
use tidegate_link::membership::Members;
use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, Scope};
use tidegate_wire::frame::GatewayFrame;
use tidegate_wire::id::{ClientId, CloseId, Incarnation};

use super::State;
use super::peers::{Concerned, Release};
use crate::gateway::shared::inbox::{AdoptClose, Parcel};

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
            for (peer, effects) in self.peers.concerned(effects).peers {
                self.peers.forward(peer, tenant, effects, Some(close));
            }
        }
    }

    /// Effects of a close whose home is lost, as a worker says. One that is alive, as far as is known
    /// here, tells its closes itself: they wait until it is gone.
    pub(super) fn adopt_lost(&mut self, adoption: AdoptClose) {
        let Some(adoption) = self.peers.keep_early(adoption) else {
            return;
        };
        self.adopt(&adoption.tenant, adoption.effects, adoption.close);
        if self.context.settings.second_custodian {
            self.custody.close_told(adoption.close);
        }
        let adopted = Release::Adoption(adoption.link, adoption.sequence);
        self.postpone(&adoption.tenant, adopted);
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

    /// Sends effects to the other shards and gateways that they concern, in order.
    fn distribute(&mut self, tenant: &Name, effects: Vec<Effect>, close: Option<CloseId>) {
        let Concerned { shards, peers } = self.peers.concerned(effects);
        for (effects, inbox) in shards.into_iter().zip(&self.context.inboxes) {
            if !effects.is_empty() {
                inbox.push(Parcel::Effects {
                    tenant: tenant.clone(),
                    effects: Arc::new(effects),
                });
            }
        }
        for (peer, effects) in peers {
            self.peers.forward(peer, tenant, effects, close);
        }
    }

    pub(super) fn peer_ack(&mut self, incarnation: Incarnation, sequence: u64) {
        self.peers.acknowledged(incarnation, sequence);
        self.send_releases();
    }

    /// A gateway's link has ended: it answers nothing that it was asked over it.
    pub(super) fn peer_down(&mut self, peer: Incarnation) {
        self.peers.down(peer);
        self.questions.rounds().peer_down(peer);
    }

    /// The view has changed.
    pub(super) fn members(&mut self, members: Arc<Members>) {
        for gone in self.peers.set_view(members) {
            self.questions.rounds().peer_down(gone);
        }
        for adoption in self.peers.take_early() {
            self.adopt_lost(adoption);
        }
        self.send_releases();
    }

    /// These workers may forget a client: now, or once what was sent for this tenant has arrived.
    pub(super) fn release(
        &mut self,
        client: ClientId,
        workers: Vec<WorkerKey>,
        once_arrived: Option<Name>,
    ) {
        let release = Release::Custodians(client, workers);
        match once_arrived {
            Some(tenant) => self.postpone(&tenant, release),
            None => self.carry_out(release),
        }
    }

    fn postpone(&mut self, tenant: &Name, release: Release) {
        for release in self.peers.postpone(tenant, release) {
            self.carry_out(release);
        }
    }

    fn send_releases(&mut self) {
        for release in self.peers.take_releases() {
            self.carry_out(release);
        }
    }

    fn carry_out(&mut self, release: Release) {
        match release {
            Release::Custodians(client, workers) => {
                for worker in workers {
                    self.workers.release(worker, client.connection);
                }
            }
            Release::Adoption(link, sequence) => {
                // A link that has ended has nothing to forget.
                let _ = link.send(GatewayFrame::Adopted { sequence });
            }
        }
    }
}
