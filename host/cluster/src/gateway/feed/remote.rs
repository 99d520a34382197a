//! Watchers of another gateway, told over the link that it has dialled. They end with it.
//!
//! A batch is queued only while little waits on the link; meanwhile changes wait in the watcher's
//! own bounded queue, so that a watcher never costs the link its life.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_fair::{Place, Places};
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::feed::Filter;
use tidegate_wire::frame::PeerFrame;

use super::{Feed, WATCHERS_MAX, Watching};
use crate::gateway::shared::queue::Stretch;
use crate::gateway::shared::watcher::Watcher;

/// What may wait on the link before batches wait themselves.
const LINK_BYTES_MAX: usize = 1 << 20;

/// The watchers at the other end of one link.
pub(in crate::gateway) struct Remote {
    feed: Arc<Feed>,
    sender: LinkSender,
    watches: BTreeMap<u64, (Watching, Place<Name>)>,
    places: Places<Name>,
}

impl Remote {
    pub(in crate::gateway) fn new(feed: &Arc<Feed>, sender: &LinkSender) -> Self {
        Self {
            feed: feed.clone(),
            sender: sender.clone(),
            watches: BTreeMap::new(),
            places: Places::new(WATCHERS_MAX, feed.context.tenants.count()),
        }
    }

    /// From now on a watcher of the other gateway is told.
    pub(in crate::gateway) fn watch(&mut self, watch: u64, tenant: Name, filter: Filter) {
        let Some(place) = self.places.take(&tenant) else {
            // It is never told that it is, and lists this gateway as missing.
            return tracing::warn!(
                watchers_max = WATCHERS_MAX,
                %tenant,
                "a gateway has too many watchers of a tenant: one is not told what happens here"
            );
        };
        let number = self.feed.number();
        let watching = Watching::new(&self.feed.context, number, tenant, filter);
        let telling = tell(watch, watching.watcher.clone(), self.sender.clone());
        self.feed.context.runtime.spawn(telling);
        self.watches.insert(watch, (watching, place));
    }

    /// A watcher of the other gateway is told nothing more.
    pub(in crate::gateway) fn unwatch(&mut self, watch: u64) {
        self.watches.remove(&watch);
    }
}

/// Sends what a watcher's queue gets until that or the link ends.
async fn tell(watch: u64, watcher: Arc<Watcher>, sender: LinkSender) {
    tokio::select! {
        () = watcher.ready.notified() => {}
        () = sender.closed() => return,
    }
    // The first batch says that the watch has begun.
    let mut stretches = vec![Stretch::default()];
    loop {
        for Stretch { missed, happenings } in stretches {
            let told = PeerFrame::Happened {
                watch,
                happenings,
                missed,
            };
            if sender.send(told).is_err() {
                return;
            }
        }
        if !watcher.queue.filled().await {
            return;
        }
        sender.at_most_queued(LINK_BYTES_MAX).await;
        stretches = watcher.queue.take();
    }
}
