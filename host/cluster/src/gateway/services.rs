//! What works for a whole gateway beside its shards.

use std::sync::Arc;

use super::commands::{Commands, Runner};
use super::feed::Feed;
use super::requests::Requests;
use super::routers::Routers;
use super::schedules::Schedules;
use super::shared::Context;

/// The services of one gateway, and what its shards share.
pub(super) struct Services {
    pub(super) context: Arc<Context>,
    pub(super) requests: Arc<Requests>,
    pub(super) commands: Runner,
    pub(super) feed: Arc<Feed>,
    pub(super) schedules: Arc<Schedules>,
    pub(super) routers: Arc<dyn Routers>,
}

impl Services {
    pub(super) fn new(
        context: Arc<Context>,
        commands: Arc<dyn Commands>,
        routers: Arc<dyn Routers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            requests: Arc::new(Requests::new(context.clone())),
            commands: Runner::new(context.clone(), commands),
            feed: Arc::new(Feed::new(context.clone())),
            schedules: Arc::new(Schedules::new(context.clone())),
            routers,
            context,
        })
    }
}
