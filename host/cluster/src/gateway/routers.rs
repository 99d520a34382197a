//! Routers that are components, as the gateway sees them: something that says where an event goes, never
//! on a shard's thread.

use tidegate_wire::Name;
use tidegate_wire::routing::{RouteCall, Routed, RouterPassed};

use super::commands::Boxed;

/// What runs the routers of tenants. Bounds how many run at once and how long each takes.
pub trait Routers: Send + Sync + 'static {
    /// Asks a tenant's router for one event. Never blocks the caller's thread.
    fn route(&self, tenant: &Name, call: RouteCall) -> Boxed<Routed>;

    /// Why events of a tenant do not go where its router sends them, if it fails.
    fn fault(&self, tenant: &Name) -> Option<String>;
}

/// Of a gateway without such routers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoRouters;

impl Routers for NoRouters {
    fn route(&self, _tenant: &Name, _call: RouteCall) -> Boxed<Routed> {
        Box::pin(std::future::ready(Err(RouterPassed::Overloaded)))
    }

    fn fault(&self, _tenant: &Name) -> Option<String> {
        None
    }
}
