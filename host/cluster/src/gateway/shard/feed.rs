//! What happens to this shard's clients, told to those who watch. Costs one look at an empty list
//! when nobody does.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rustc_hash::FxHashMap;
use tidegate_hub::effects::Changed;
use tidegate_hub::hub::{Client, Hub};
use tidegate_wire::Name;
use tidegate_wire::event::{CloseReason, Peer};
use tidegate_wire::feed::{Change, Happening};
use tidegate_wire::id::ClientId;

use super::State;
use crate::gateway::shared::watcher::Watcher;

/// The watchers of one shard, by the number of their tenant: who watches others costs a tenant
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_tenant: FxHashMap<u16, Vec<Arc<Watcher>>>,
}

impl Watchers {
    pub(super) fn watch(&self, tenant: u16) -> bool {
        self.by_tenant.contains_key(&tenant)
    }

    fn insert(&mut self, tenant: u16, watcher: Arc<Watcher>) {
        self.by_tenant.entry(tenant).or_default().push(watcher);
    }

    fn remove(&mut self, number: u64) {
        self.by_tenant.retain(|_, watchers| {
            watchers.retain(|watcher| watcher.number != number);
            !watchers.is_empty()
        });
    }

    fn len(&self) -> usize {
        self.by_tenant.values().map(Vec::len).sum()
    }

    fn tell(&self, tenant: u16, client: ClientId, uid: Option<Name>, what: Change) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let happening = Happening {
            at_ms: now.map_or(0, |now| now.as_millis() as u64),
            client,
            uid,
            what,
        };
        for watcher in self.by_tenant.get(&tenant).into_iter().flatten() {
            if watcher.filter.wants(&happening) {
                watcher.queue.push(happening.clone());
            }
        }
    }

    /// Tells what effects changed of a client that is online.
    pub(super) fn changed(
        &self,
        tenant: u16,
        gateway: SocketAddrV4,
        hub: &Hub,
        connection: u32,
        what: Changed<'_>,
    ) {
        let client = ClientId::new(gateway, connection);
        let uid = || hub.client(connection).and_then(Client::uid).cloned();
        match what {
            Changed::Joined(group) => {
                self.tell(tenant, client, uid(), Change::Joined(group.clone()))
            }
            Changed::Left(group) => self.tell(tenant, client, uid(), Change::Left(group.clone())),
            Changed::Uid { before } => {
                if let Some(old) = before {
                    self.tell(tenant, client, Some(old.clone()), Change::Unbound(old));
                }
                if let Some(new) = uid() {
                    self.tell(tenant, client, Some(new.clone()), Change::Bound(new));
                }
            }
            Changed::Session(_) => {}
        }
    }
}

impl State {
    /// Somebody watches a tenant, perhaps one that has no clients here.
    pub(super) fn watch(&mut self, watcher: Arc<Watcher>) {
        if let Some(tenant) = self.tenant_index(&watcher.tenant) {
            self.watchers.insert(tenant, watcher.clone());
        }
        watcher.shard_ready();
        self.count_watchers();
    }

    pub(super) fn unwatch(&mut self, number: u64) {
        self.watchers.remove(number);
        self.count_watchers();
    }

    fn count_watchers(&self) {
        if let Some(status) = self.context.statuses.get(usize::from(self.index)) {
            status
                .watchers
                .store(self.watchers.len(), Ordering::Release);
        }
    }

    pub(super) fn tell_connected(&self, number: u32, tenant: u16, peer: &Peer) {
        if self.watchers.watch(tenant) {
            let what = Change::Connected(Box::new(peer.clone()));
            self.watchers
                .tell(tenant, self.client_id(number), None, what);
        }
    }

    /// To be told before the client leaves the hub.
    pub(super) fn tell_closed(&self, number: u32, tenant: u16, reason: CloseReason) {
        if !self.watchers.watch(tenant) {
            return;
        }
        let hub = self.clients.hub(tenant);
        let client = hub.and_then(|hub| hub.client(number));
        let uid = client.and_then(Client::uid).cloned();
        let groups = client.map(|client| client.groups().to_vec());
        let what = Change::Closed(reason, groups.unwrap_or_default());
        self.watchers
            .tell(tenant, self.client_id(number), uid, what);
    }
}
