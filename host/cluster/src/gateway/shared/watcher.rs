//! A watcher of the feed, as the shards see it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_wire::Name;
use tidegate_wire::feed::Filter;
use tokio::sync::Notify;

use super::queue::Queue;

/// One watcher.
#[derive(Debug)]
pub(in crate::gateway) struct Watcher {
    /// This gateway's number of it.
    pub(in crate::gateway) number: u64,
    pub(in crate::gateway) tenant: Name,
    pub(in crate::gateway) filter: Filter,
    pub(in crate::gateway) queue: Queue,
    /// Shards that do not tell it yet.
    pub(in crate::gateway) unready: AtomicUsize,
    pub(in crate::gateway) ready: Notify,
}

impl Watcher {
    /// A shard tells it from now on.
    pub(in crate::gateway) fn shard_ready(&self) {
        if self.unready.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ready.notify_one();
        }
    }
}
