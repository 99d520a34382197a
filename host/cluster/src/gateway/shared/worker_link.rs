//! A worker's link, as all shards know it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tidegate_hub::lanes::WorkerKey;
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::frame::Announcement;
use tidegate_wire::id::Incarnation;

/// A worker's link, shared by the shards.
#[derive(Debug)]
pub(in crate::gateway) struct WorkerLink {
    pub(in crate::gateway) key: WorkerKey,
    pub(in crate::gateway) worker: Incarnation,
    /// Its name and tags in its configuration.
    pub(in crate::gateway) name: Name,
    pub(in crate::gateway) tags: Vec<Name>,
    /// The machine that it is on.
    pub(in crate::gateway) host: Name,
    pub(in crate::gateway) sender: LinkSender,
    pub(in crate::gateway) announcement: Announcement,
    /// The place in it of each tenant of this gateway whose events the worker may get.
    pub(in crate::gateway) places: Vec<Option<u16>>,
    /// Shards that have not yet counted themselves off in a drain.
    pub(in crate::gateway) undrained: Arc<AtomicUsize>,
    /// Shards that may have clients whom only an earlier link of this worker was entrusted with.
    pub(in crate::gateway) unrecognised: Arc<AtomicUsize>,
}
