//! What becomes of lanes whose link is over.
//!
//! They are kept in case their gateway is lost: then each client's close is told once, by this
//! worker, and the effects are adopted by another gateway. They are dropped when the gateway links
//! again, or when a register has listed it for so long that it must be alive: then it has named
//! another custodian. While no register lists it, as when all were started again, they are kept.
//! Of some clients this worker is the second custodian: the first one, on another machine, tells their
//! closes, and this worker only what that one no longer can, because it is gone from the registers too.
//! It forgets such a client once it hears that the close was told, by whomever. What
//! is kept is bounded by the clients of the gateways, and the number of gateways by [`PARTED_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use tidegate_link::membership::Members;
use tidegate_watchdog::watched;
use tidegate_wire::Name;
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::{ClientId, CloseId, EventId, Incarnation};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::WorkerInner;
use super::gateway_link::GatewayLink;
use super::lane::{Farewell, Lane};
use super::telling::{Permit, ROUNDS_MAX, TELLING_MAX, Telling};

/// A gateway that a register has listed at so many looks in a row is alive. A dead one stays listed for
/// a lease, a register that dies in silence just then is believed for a second one, and its word may be
/// on its way for a third; one look more, since the first may come at once.
const LISTED_MAX: u32 = 3 * super::LOOKS_PER_LEASE + 1;
/// Gateways whose custody is kept without a link.
const PARTED_MAX: usize = 64;
/// A first custodian that a register lists, and of which nothing was heard for so many looks, does not
/// know that it is one: the second one tells.
const DEFERRED_LOOKS_MAX: u32 = 4 * super::LOOKS_PER_LEASE;
/// Ids of events that a custodian makes: its own incarnation, and a shard that no gateway has.
const CUSTODIAN_SHARD: u16 = u16::MAX;

/// The links that live, and what is kept of those that ended.
#[derive(Debug, Default)]
pub(super) struct CustodyTable {
    live: BTreeMap<Incarnation, Arc<GatewayLink>>,
    parted: BTreeMap<Incarnation, Parted>,
    deferred: Vec<Deferred>,
}

/// Clients of a lost gateway whose first custodian is there and tells their closes.
#[derive(Debug)]
struct Deferred {
    gateway: Incarnation,
    first: Incarnation,
    /// Looks since a close of the gateway was told.
    looks: u32,
    lanes: Vec<Arc<Lane>>,
}

#[derive(Debug)]
struct Parted {
    since: Instant,
    /// How often in a row it was looked while a register listed the gateway. Looks are counted, not
    /// time, in which this worker may have been frozen.
    listed: u32,
    lanes: Vec<Arc<Lane>>,
}

impl WorkerInner {
    fn table(&self) -> MutexGuard<'_, CustodyTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a link to this gateway.
    pub(super) fn is_linked(&self, gateway: Incarnation) -> bool {
        self.table().live.contains_key(&gateway)
    }

    /// Whether the close of a client may be left to this worker although its gateway has no link.
    pub(super) fn keeps_custody(&self) -> bool {
        let table = self.table();
        !table.parted.is_empty() || !table.deferred.is_empty()
    }

    /// How many clients' closes may be left to this worker in that way.
    pub(super) fn custody_kept(&self) -> usize {
        let table = self.table();
        let parted: usize = table.parted.values().map(|it| it.lanes.len()).sum();
        let deferred: usize = table.deferred.iter().map(|it| it.lanes.len()).sum();
        parted + deferred
    }

    /// Closes of lost gateways were told, by whomever.
    pub(super) fn told_by_others(&self, closes: &[CloseId]) {
        for close in closes {
            self.told_elsewhere.is_new(&(), *close);
        }
    }

    /// The live links.
    pub(super) fn homes(&self) -> Vec<Arc<GatewayLink>> {
        self.table().live.values().cloned().collect()
    }

    /// A link has begun. What was kept of an earlier one to the same gateway stays until the gateway
    /// is known to have learnt of this one: see [`Self::recognised`].
    pub(super) fn link_up(&self, home: &Arc<GatewayLink>) {
        let earlier = {
            let mut table = self.table();
            let earlier = table.live.insert(home.gateway, home.clone());
            self.count_links(&table);
            earlier
        };
        if let Some(earlier) = earlier {
            earlier.sender.close();
        }
        let sender = home.sender.clone();
        self.adoptions.linked(home.link, home.gateway, sender);
    }

    /// Of each client of the gateway another custodian knows, or this one over the new link.
    pub(super) fn recognised(&self, gateway: Incarnation) {
        let parted = self.table().parted.remove(&gateway);
        drop(parted);
        self.settled.notify_one();
    }

    /// A link has ended. Its lanes are kept, unless a newer link replaced it.
    pub(super) fn link_down(&self, home: &GatewayLink, lanes: Vec<Arc<Lane>>) {
        home.end();
        {
            let mut table = self.table();
            if table
                .live
                .get(&home.gateway)
                .is_some_and(|live| live.link == home.link)
            {
                table.live.remove(&home.gateway);
                self.count_links(&table);
                table.keep(home.gateway, lanes);
            }
        }
        self.adoptions.parted(home.link);
        self.parted.notify_one();
        self.settled.notify_one();
    }

    /// Compares what is kept with the view: starts to tell the closes of lost gateways, drops what
    /// is no longer needed. `looked` is true if the timer of the looks caused this call, false if a
    /// change of the view did.
    pub(super) fn review(self: &Arc<Self>, members: &Members, looked: bool) {
        self.adoptions.follow(members, looked);
        let (lost_links, due) = {
            let mut table = self.table();
            table.parted.retain(|gateway, parted| {
                if !members.is_listed(*gateway) {
                    parted.listed = 0;
                } else if looked {
                    parted.listed += 1;
                }
                parted.listed < LISTED_MAX || members.is_lost(*gateway)
            });
            let is_lost = |gateway: &Incarnation| members.is_lost(*gateway);
            let links: Vec<_> = table
                .live
                .iter()
                .filter(|(gateway, _)| is_lost(gateway))
                .map(|(_, home)| home.clone())
                .collect();
            let CustodyTable {
                live,
                parted,
                deferred,
            } = &mut *table;
            let lost = parted.extract_if(.., |gateway, _| {
                is_lost(gateway) && !live.contains_key(gateway)
            });
            let mut due = Vec::new();
            for (gateway, parted) in lost {
                due.push((gateway, defer(deferred, gateway, parted.lanes)));
            }
            self.look_at_deferred(deferred, members, looked);
            let gone = |it: &mut Deferred| {
                !members.nodes.contains_key(&it.first) || it.looks >= DEFERRED_LOOKS_MAX
            };
            let gone = deferred.extract_if(.., gone);
            due.extend(gone.map(|it| (it.gateway, it.lanes)));
            (links, due)
        };
        for home in lost_links {
            // Its lanes come here once its task has ended.
            home.sender.refuse(Refusal::Lost);
        }
        for (gateway, lanes) in due {
            if !lanes.is_empty() {
                let tell = tell(self.clone(), gateway, lanes);
                self.tellers
                    .spawn(watched("the teller of lost closes", tell));
            }
        }
        self.settled.notify_one();
    }

    /// Drops the clients whose closes others have told. While more of them are told, the first custodian
    /// is at work, and the looks are counted anew. If it tells nothing for long, it does not know the
    /// client: the gateway was lost when the client had just been given to it. What is told twice is
    /// applied once.
    fn look_at_deferred(&self, deferred: &mut Vec<Deferred>, members: &Members, looked: bool) {
        if !looked {
            return;
        }
        for it in deferred.iter_mut() {
            let before = it.lanes.len();
            it.lanes
                .retain(|lane| !self.told_elsewhere.contains(lane.close_id()));
            if it.lanes.len() < before {
                it.looks = 0;
            }
            it.looks += u32::from(members.is_listed(it.first));
        }
        deferred.retain(|it| !it.lanes.is_empty());
    }

    /// Called under the table's lock, so that the last value is the right one.
    fn count_links(&self, table: &CustodyTable) {
        self.links.send_replace(table.live.len());
        self.meters.links.set(table.live.len() as f64);
    }
}

impl CustodyTable {
    fn keep(&mut self, gateway: Incarnation, mut lanes: Vec<Arc<Lane>>) {
        lanes.retain(|lane| !lane.is_settled());
        // These lanes are of an earlier link, which ended before all shards of the gateway knew of it.
        // Of a client that came over both links, the later lane is newer.
        if let Some(earlier) = self.parted.remove(&gateway) {
            let newer: BTreeSet<ClientId> = lanes.iter().map(|lane| lane.client()).collect();
            let earlier = earlier.lanes.into_iter();
            lanes.extend(
                earlier.filter(|lane| !lane.is_settled() && !newer.contains(&lane.client())),
            );
        }
        if lanes.is_empty() {
            return;
        }
        let parted = Parted {
            since: Instant::now(),
            listed: 0,
            lanes,
        };
        self.parted.insert(gateway, parted);
        if self.parted.len() > PARTED_MAX {
            let oldest = self.parted.iter().min_by_key(|(_, parted)| parted.since);
            if let Some(gateway) = oldest.map(|(gateway, _)| *gateway) {
                warn!(%gateway, "custody for too many gateways without a link: the oldest is dropped");
                self.parted.remove(&gateway);
            }
        }
    }
}

/// Sets apart the clients of a lost gateway whose first custodian is another worker; gives the rest.
fn defer(
    deferred: &mut Vec<Deferred>,
    gateway: Incarnation,
    lanes: Vec<Arc<Lane>>,
) -> Vec<Arc<Lane>> {
    let mut due = Vec::new();
    let mut by_first: BTreeMap<Incarnation, Vec<Arc<Lane>>> = BTreeMap::new();
    for lane in lanes {
        match lane.first_custodian() {
            Some(first) => by_first.entry(first).or_default().push(lane),
            None => due.push(lane),
        }
    }
    let all = by_first.into_iter().map(|(first, lanes)| Deferred {
        gateway,
        first,
        looks: 0,
        lanes,
    });
    deferred.extend(all);
    due
}

/// Tells the closes of a lost gateway's clients.
async fn tell(inner: Arc<WorkerInner>, gateway: Incarnation, lanes: Vec<Arc<Lane>>) {
    info!(%gateway, clients = lanes.len(), "gateway lost: telling the closes of its clients");
    let lanes = lanes.into_iter().map(|lane| (lane.tenant().clone(), lane));
    let mut telling = Telling::new(lanes);
    let able = |tenant: &Name| !inner.adoptions.is_backlogged(tenant);
    while !telling.is_over() {
        let mut begun = 0;
        while begun < TELLING_MAX
            && let Some((lane, permit)) = telling.next(able)
        {
            tell_one(&inner, &lane, permit);
            begun += 1;
        }
        if begun < TELLING_MAX {
            telling.wait().await;
        } else {
            // Those whose closes others have told end at once.
            tokio::task::yield_now().await;
        }
        telling.look(Instant::now(), |lane| lane.is_settled());
    }
    let clients = telling.given_up();
    if clients > 0 {
        error!(%gateway, clients, "closes of a lost gateway's clients were given back by the handlers {ROUNDS_MAX} times: not told");
    }
}

fn tell_one(inner: &WorkerInner, lane: &Arc<Lane>, permit: Permit) {
    if inner.told_elsewhere.contains(lane.close_id()) {
        lane.release();
        return;
    }
    let event = EventId {
        gateway: inner.identity.node.incarnation,
        shard: CUSTODIAN_SHARD,
        sequence: inner.told.fetch_add(1, Ordering::Relaxed),
    };
    match lane.lose(event, permit) {
        Farewell::Settled => {}
        Farewell::Adopt(effects) => lane.adopt(effects),
        Farewell::Tell(delivery) => {
            inner
                .handlers
                .dispatch(lane.tenant(), delivery, lane.clone());
        }
    }
}
