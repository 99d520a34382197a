//! Which other shards and gateways effects concern.

use std::net::SocketAddrV4;

use rustc_hash::FxHashMap;
use tidegate_wire::effect::{Effect, Scope};
use tidegate_wire::id::{ClientId, Incarnation};

use super::Peers;

/// Whom effects concern, besides this shard.
pub(in crate::gateway::shard) struct Concerned {
    /// By shard of this gateway.
    pub(in crate::gateway::shard) shards: Vec<Vec<Effect>>,
    pub(in crate::gateway::shard) peers: FxHashMap<Incarnation, Vec<Effect>>,
}

/// Whom a scope concerns, besides this shard.
struct Targets {
    shards: Vec<bool>,
    peers: Vec<Incarnation>,
}

impl Peers {
    /// Whether a scope concerns no other shard and no other gateway.
    pub(in crate::gateway::shard) fn is_only_here(&self, scope: Scope<'_>) -> bool {
        let is_own = |client: &ClientId| {
            client.gateway() == self.context.settings.announced
                && self.context.shard_of(client.connection) == usize::from(self.shard)
        };
        match scope {
            Scope::Client(client) => is_own(&client),
            Scope::Clients(clients) => clients.iter().all(is_own),
            Scope::Everywhere => self.context.inboxes.len() == 1 && self.streams.is_empty(),
            Scope::Here => true,
            // A command is run by whoever spreads the effects.
            Scope::Gateways(_) => false,
        }
    }

    /// Effects by the other shards and gateways that they concern.
    pub(in crate::gateway::shard) fn concerned(&self, effects: Vec<Effect>) -> Concerned {
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
                targets.peers.extend(self.streams.keys());
            }
            Scope::Here => {}
            Scope::Gateways(None) => targets.peers.extend(self.streams.keys()),
            Scope::Gateways(Some(gateways)) => {
                for gateway in gateways {
                    self.target_gateway(*gateway, &mut targets);
                }
            }
        }
        if let Some(own) = targets.shards.get_mut(usize::from(self.shard)) {
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
                self.unknown.increment(1);
                tracing::debug!(%gateway, "a command for a gateway that is not in the view: skipped");
            }
        }
    }
}
