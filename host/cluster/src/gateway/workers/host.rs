//! Which machine a node is on: what is lost at once. A tag `host=NAME` says it; without one a gateway
//! is where its announced address is, and a worker where its link comes from.

use std::net::IpAddr;

use tidegate_wire::Name;
use tidegate_wire::membership::Node;

use crate::gateway::shared::Context;

/// This gateway's own.
pub(in crate::gateway) fn own(context: &Context) -> Name {
    match context.identity.node.host() {
        Some(host) => host.into(),
        None => context.settings.announced.ip().to_string().into(),
    }
}

/// A worker's, whose link comes from this address; none in one process.
pub(in crate::gateway) fn of_worker(
    worker: &Node,
    from: Option<IpAddr>,
    context: &Context,
) -> Name {
    let announced = IpAddr::V4(*context.settings.announced.ip());
    let from = from.map(|from| from.to_canonical());
    match (worker.host(), from) {
        (Some(host), _) => host.into(),
        (None, Some(from)) if from != announced && !from.is_loopback() => from.to_string().into(),
        (None, _) => own(context),
    }
}
