//! Command components of gateways.

use std::net::SocketAddrV4;

use tidegate_wire::query::{Answer, AskError, Query};

use crate::deployment::Boxed;

/// The tenant's part of the hub beside which a command runs.
pub trait HubAccess: Send + Sync + 'static {
    /// The announced address of this gateway.
    fn address(&self) -> SocketAddrV4;
    /// Asks the shards of this gateway and nobody else.
    fn ask(&self, query: Query) -> Boxed<Result<Answer, AskError>>;
}
