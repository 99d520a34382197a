//! Whether a gateway can do what it is there for, as whoever sends it clients wants to know: whether
//! a worker serves one of its tenants, and whether it takes one more client.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_hub::routing::Standing;
use tidegate_link::net::admission::Admissions;
use tidegate_wire::Name;
use tidegate_wire::event::Transport;

use super::shared::Context;

/// Whether a gateway can do its work. Clones look at the same.
#[derive(Clone)]
pub struct GatewayHealth(pub(super) Arc<Context>);

impl GatewayHealth {
    /// How many workers have a link and have said what they serve.
    #[must_use]
    pub fn workers(&self) -> usize {
        *self.0.announced.count().borrow()
    }

    /// Whether one of them serves a tenant of this gateway.
    #[must_use]
    pub fn serves_any(&self) -> bool {
        self.0.announced.serves_any()
    }

    /// The tenants of this gateway.
    pub fn tenants(&self) -> impl Iterator<Item = &Name> {
        self.0.tenants.all()
    }

    /// Whether workers that run a tenant's plugin get no events of it because of their tags alone.
    #[must_use]
    pub fn lacks_tags(&self, tenant: &Name) -> bool {
        let number = self.0.tenants.number(tenant);
        number.is_some_and(|it| self.0.announced.standing(it) == Standing::LacksTags)
    }

    /// Why no worker gets the events of a tenant of this gateway, if none does: a part of a sentence.
    #[must_use]
    pub fn unserved(&self, tenant: &Name) -> Option<String> {
        self.0.unserved(self.0.tenants.number(tenant)?)
    }

    /// Which limit keeps further clients out, if one does.
    #[must_use]
    pub fn full(&self) -> Option<String> {
        let settings = &self.0.settings;
        let mut all = 0;
        for (index, listener) in settings.listeners.iter().enumerate() {
            let count = self.0.connections.get(index);
            let count = count.map_or(0, |count| count.load(Ordering::Acquire));
            // Who has only connected goes when a client comes.
            let strangers = self.0.strangers.get(index).map_or(0, Admissions::waiting);
            let has_strangers = listener.transport == Transport::WebSocket;
            let clients = count.saturating_sub(if has_strangers { strangers } else { 0 });
            all += clients;
            if clients >= listener.connections_max {
                let (name, max) = (&listener.name, listener.connections_max);
                return Some(format!(
                    "the listener {name} has {clients} clients, and its connections-max is {max}"
                ));
            }
        }
        let max = settings.connections_max;
        (all >= max).then(|| format!("{all} clients are connected, and connections-max is {max}"))
    }
}

impl fmt::Debug for GatewayHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GatewayHealth")
            .field(&self.workers())
            .finish()
    }
}
