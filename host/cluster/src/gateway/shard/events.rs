//! The events of a shard's clients, until they are committed.

use std::collections::BTreeSet;

use tidegate_hub::lanes::Lanes;
use tidegate_hub::strikes::Strikes;
use tidegate_hub::unrouted::Unrouted;

use super::requests::Requests;
use crate::gateway::shared::Context;

/// Events that wait or are under way.
pub(super) struct Events {
    pub(super) lanes: Lanes,
    /// Lanes whose tenant nobody serves.
    pub(super) unrouted: Unrouted,
    /// Lanes that ended while they waited for a worker, and may still stand in a queue.
    pub(super) gone_while_queued: usize,
    pub(super) requests: Requests,
    /// Clients whose socket is not read because too much of their tenant waits.
    pub(super) unread: BTreeSet<(u16, u32)>,
    pub(super) strikes: Strikes,
    /// When the first effects of this turn came, on the clock of the lanes.
    pub(super) effects_us: Option<u64>,
}

impl Events {
    pub(super) fn new(context: &Context) -> Self {
        let settings = &context.settings;
        let bytes_max = settings.pending_bytes_max / usize::from(settings.shards);
        Self {
            lanes: Lanes::new(bytes_max, context.tenants.count()),
            unrouted: Unrouted::default(),
            gone_while_queued: 0,
            requests: Requests::default(),
            unread: BTreeSet::new(),
            strikes: Strikes::default(),
            effects_us: None,
        }
    }
}
