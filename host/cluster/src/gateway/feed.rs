//! The live feed: what happens to a tenant's clients, told to those who watch.
//!
//! Each shard tells a watcher what its filter wants; other gateways are asked to do the same, and
//! tell in batches over the link that this gateway has dialled. At most once, in order for each
//! shard. Bounded: a watcher that does not keep up misses changes and is told how many; it never
//! delays a commit and never ends a link. Each tenant has its share of the watchers.

mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::gauge;
use tidegate_fair::{Place, Places};
use tidegate_link::LinkSender;
use tidegate_link::membership::Members;
use tidegate_wire::Name;
use tidegate_wire::feed::{Filter, Happening};
use tidegate_wire::frame::PeerFrame;
use tidegate_wire::id::Incarnation;
use tidegate_wire::query::AskError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use super::shared::Context;
use super::shared::queue::{Queue, Stretch};
use super::shared::watcher::Watcher;
use crate::gateway::shared::inbox::Parcel;
pub(super) use remote::Remote;

/// Watchers of one gateway, and those that one other gateway may have here.
const WATCHERS_MAX: usize = 256;
/// Names in one filter: every change is compared with them on a shard's thread.
const FILTER_NAMES_MAX: usize = 100;
/// Changes that may wait for a watcher, for each shard.
const SHARD_HAPPENINGS_MAX: usize = 1024;
/// Changes that a watcher of this gateway may leave untaken besides.
const UNTAKEN_MAX: usize = 1024;
/// How long a new watcher waits for the other gateways before it is told who is missing.
const BEGIN: Duration = Duration::from_millis(200);

/// What happened, or what the watcher has to know about the feed itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A change of a client.
    Happened(Happening),
    /// So many changes were dropped because the watcher fell behind.
    Missed(u64),
    /// The gateways whose changes are not told at the moment, ordered; told first and at every
    /// change of it.
    Missing(Vec<std::net::SocketAddrV4>),
}

/// A watcher that the shards tell until this is dropped.
struct Watching {
    context: Arc<Context>,
    watcher: Arc<Watcher>,
}

impl Watching {
    fn new(context: &Arc<Context>, number: u64, tenant: Name, filter: Filter) -> Self {
        let shards = context.inboxes.len();
        let watcher = Arc::new(Watcher {
            number,
            tenant,
            filter,
            queue: Queue::new(SHARD_HAPPENINGS_MAX * shards),
            unready: AtomicUsize::new(shards),
            ready: Notify::new(),
        });
        context.all(|| Parcel::Watch(watcher.clone()));
        gauge!("tidegate_gateway_watchers").increment(1);
        Self {
            context: context.clone(),
            watcher,
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let number = self.watcher.number;
        self.watcher.queue.close();
        self.context.all(|| Parcel::Unwatch(number));
        gauge!("tidegate_gateway_watchers").decrement(1);
    }
}

/// The watchers of this gateway and the links to the others.
pub(super) struct Feed {
    context: Arc<Context>,
    next: AtomicU64,
    table: Mutex<FeedTable>,
    places: Places<Name>,
}

#[derive(Debug, Default)]
struct FeedTable {
    gateways: BTreeMap<Incarnation, SocketAddrV4>,
    links: BTreeMap<Incarnation, LinkSender>,
    watches: BTreeMap<u64, Watch>,
}

/// One watcher of this gateway.
#[derive(Debug)]
struct Watch {
    watcher: Arc<Watcher>,
    /// The other gateways that tell it.
    telling: BTreeSet<Incarnation>,
    missing: watch::Sender<Vec<SocketAddrV4>>,
    _place: Place<Name>,
}

impl Watch {
    fn frame(&self) -> PeerFrame {
        PeerFrame::Watch {
            watch: self.watcher.number,
            tenant: self.watcher.tenant.clone(),
            filter: Box::new(self.watcher.filter.clone()),
        }
    }

    fn look(&self, gateways: &BTreeMap<Incarnation, SocketAddrV4>) {
        let silent = gateways
            .iter()
            .filter(|(gateway, _)| !self.telling.contains(gateway));
        let mut missing: Vec<SocketAddrV4> = silent.map(|(_, address)| *address).collect();
        missing.sort_unstable();
        self.missing.send_if_modified(|before| {
            let changed = *before != missing;
            *before = missing;
            changed
        });
    }
}

impl Feed {
    /// Nobody watches.
    pub(super) fn new(context: Arc<Context>) -> Self {
        let tenants = context.tenants.count();
        Self {
            context,
            next: AtomicU64::new(0),
            table: Mutex::default(),
            places: Places::new(WATCHERS_MAX, tenants),
        }
    }

    /// The table is plain data: whoever panicked while holding the lock left it usable.
    fn table(&self) -> MutexGuard<'_, FeedTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The view has changed.
    pub(super) fn members(&self, members: &Members, own: Incarnation) {
        let mut table = self.table();
        table.gateways = members
            .gateways()
            .filter(|node| node.incarnation != own)
            .filter_map(|node| Some((node.incarnation, node.address?)))
            .collect();
        for watch in table.watches.values() {
            watch.look(&table.gateways);
        }
    }

    /// There is a link to another gateway, until what is returned is dropped.
    pub(super) fn linked(&self, gateway: Incarnation, sender: LinkSender) -> Linked<'_> {
        let mut table = self.table();
        for watch in table.watches.values() {
            // A link that has ended is followed by another one.
            let _ = sender.send(watch.frame());
        }
        table.links.insert(gateway, sender);
        Linked {
            feed: self,
            gateway,
        }
    }

    /// Another gateway tells; the first time, only that it does.
    pub(super) fn told(
        &self,
        gateway: Incarnation,
        watch: u64,
        happenings: Vec<Happening>,
        missed: u64,
    ) {
        let mut table = self.table();
        let FeedTable {
            gateways, watches, ..
        } = &mut *table;
        // It may have crossed the end of the watch.
        if let Some(watch) = watches.get_mut(&watch) {
            if watch.telling.insert(gateway) {
                watch.look(gateways);
            }
            watch.watcher.queue.push_all(Stretch { missed, happenings });
        }
    }

    fn unlinked(&self, gateway: Incarnation) {
        let mut table = self.table();
        let FeedTable {
            gateways,
            links,
            watches,
        } = &mut *table;
        links.remove(&gateway);
        for watch in watches.values_mut() {
            if watch.telling.remove(&gateway) {
                watch.look(gateways);
            }
        }
    }

    fn unwatch(&self, number: u64) {
        let mut table = self.table();
        table.watches.remove(&number);
        for link in table.links.values() {
            // With the link, its watches end.
            let _ = link.send(PeerFrame::Unwatch { watch: number });
        }
    }
}

/// A link to another gateway, as long as it lives.
pub(super) struct Linked<'a> {
    feed: &'a Feed,
    gateway: Incarnation,
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        self.feed.unlinked(self.gateway);
    }
}

/// Watches a tenant's clients, cluster-wide, until the receiver is dropped.
pub(super) fn watch(
    feed: &Arc<Feed>,
    tenant: &Name,
    filter: Filter,
) -> Result<mpsc::Receiver<Told>, AskError> {
    let context = &feed.context;
    if context.ended.is_cancelled() {
        return Err(AskError::Gone);
    }
    let names = filter.groups.len() + filter.uids.len();
    if names > FILTER_NAMES_MAX {
        return Err(AskError::Invalid(format!(
            "a filter of {names} names: at most {FILTER_NAMES_MAX} groups and uids are allowed"
        )));
    }
    let Some(place) = feed.places.take(tenant) else {
        return Err(AskError::Overloaded(format!(
            "the tenant has its share of the {WATCHERS_MAX} watchers that may be on this gateway: end one \
             or ask another gateway"
        )));
    };
    let mut table = feed.table();
    let watching = Watching::new(context, feed.number(), tenant.clone(), filter);
    let watch = Watch {
        watcher: watching.watcher.clone(),
        telling: BTreeSet::new(),
        missing: watch::Sender::default(),
        _place: place,
    };
    watch.look(&table.gateways);
    for link in table.links.values() {
        // The next link is told again.
        let _ = link.send(watch.frame());
    }
    let missing = watch.missing.subscribe();
    table.watches.insert(watching.watcher.number, watch);
    drop(table);
    let (tell, told) = mpsc::channel(UNTAKEN_MAX);
    context
        .runtime
        .spawn(serve(feed.clone(), watching, missing, tell));
    Ok(told)
}

/// Brings one watcher of this gateway what it is told, until it is gone.
async fn serve(
    feed: Arc<Feed>,
    watching: Watching,
    missing: watch::Receiver<Vec<SocketAddrV4>>,
    tell: mpsc::Sender<Told>,
) {
    tokio::select! {
        _ = bring(&watching.watcher, missing, &tell) => {}
        () = tell.closed() => {}
        () = feed.context.ended.cancelled() => {}
    }
    feed.unwatch(watching.watcher.number);
}

/// Ends with an error when the watcher is gone.
async fn bring(
    watcher: &Watcher,
    mut missing: watch::Receiver<Vec<SocketAddrV4>>,
    tell: &mpsc::Sender<Told>,
) -> Result<(), mpsc::error::SendError<Told>> {
    watcher.ready.notified().await;
    // Gateways that do not answer by then are named.
    let _ = timeout(BEGIN, missing.wait_for(Vec::is_empty)).await;
    let first = missing.borrow_and_update().clone();
    tell.send(Told::Missing(first)).await?;
    loop {
        tokio::select! {
            biased;
            Ok(()) = missing.changed() => {
                let missing = missing.borrow_and_update().clone();
                tell.send(Told::Missing(missing)).await?;
            }
            filled = watcher.queue.filled() => {
                if !filled {
                    return Ok(());
                }
                for Stretch { missed, happenings } in watcher.queue.take() {
                    if missed > 0 {
                        tell.send(Told::Missed(missed)).await?;
                    }
                    for happening in happenings {
                        tell.send(Told::Happened(happening)).await?;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
