//! What workers are to be told of the clients in their custody.

use std::collections::BTreeSet;

use tidegate_hub::custody_updates::{CustodyUpdates, Part, Parts};
use tidegate_hub::lanes::WorkerKey;
use tidegate_wire::frame::{Custody, GatewayFrame};
use tidegate_wire::id::ClientId;

use super::Workers;

impl Workers {
    /// What this worker is to be told of a client, if it is there.
    pub(in crate::gateway) fn mark(&mut self, key: WorkerKey, connection: u32, part: Part<'_>) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.updates.mark(connection, part);
            self.untold.insert(key);
        }
    }

    /// The events of a client that something to be told waited for are committed.
    pub(in crate::gateway) fn resume(&mut self, key: WorkerKey, connection: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.updates.resume(connection);
            self.untold.insert(key);
        }
    }

    /// A worker that is there is to forget a client.
    pub(in crate::gateway) fn release(&mut self, key: WorkerKey, connection: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.updates.release(connection);
            self.untold.insert(key);
        }
    }

    /// A worker learns all of a client by itself.
    pub(in crate::gateway) fn knows(&mut self, key: WorkerKey, connection: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.updates.told_apart(connection);
        }
    }

    /// A client is gone that a worker has forgotten by itself.
    pub(in crate::gateway) fn forget(&mut self, key: WorkerKey, connection: u32) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.updates.forget(connection);
        }
    }

    /// Those that may have something to be told; each must be looked at.
    pub(in crate::gateway) fn take_untold(&mut self) -> BTreeSet<WorkerKey> {
        std::mem::take(&mut self.untold)
    }

    /// One of them has more to be told, or may have.
    pub(in crate::gateway) fn has_untold(&mut self, key: WorkerKey) {
        self.untold.insert(key);
    }

    /// What a worker that is there is told and confirms.
    pub(in crate::gateway) fn custody_updates(
        &mut self,
        key: WorkerKey,
    ) -> Option<&mut CustodyUpdates> {
        Some(&mut self.workers.get_mut(&key)?.updates)
    }

    /// Takes what a worker is to be told of a client, to tell it with an event.
    pub(in crate::gateway) fn take_parts(
        &mut self,
        key: WorkerKey,
        connection: u32,
    ) -> Option<Parts> {
        self.custody_updates(key)?.take_parts(connection)
    }

    /// A worker is told all of a client just before an event of it, and these parts again once the
    /// client's events are committed.
    pub(in crate::gateway) fn entrust(
        &mut self,
        key: WorkerKey,
        connection: u32,
        custody: Custody,
        again: Option<Parts>,
    ) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        worker.updates.told_apart(connection);
        if let Some(again) = again {
            worker.updates.postpone(connection, again);
        }
        // If the link has ended, another custodian is named when its loss arrives.
        let frame = GatewayFrame::Custody(vec![custody]);
        let _ = worker.link.sender.send(frame);
    }

    /// A worker that is to forget a client does so before it gets another event of it.
    pub(in crate::gateway) fn release_first(&mut self, key: WorkerKey, client: ClientId) {
        if let Some(worker) = self.workers.get_mut(&key)
            && worker.updates.take_release(client.connection)
        {
            // If the link has ended, its loss is on the way.
            let _ = worker.link.sender.send(GatewayFrame::Release(vec![client]));
        }
    }

    /// Tells a worker what it is to be told by this shard, and asks it to confirm that if somebody
    /// waits for it.
    pub(in crate::gateway) fn tell(
        &mut self,
        key: WorkerKey,
        frames: impl Iterator<Item = GatewayFrame>,
        shard: u16,
    ) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        let sender = &worker.link.sender;
        // If the link has ended, other custodians are named when its loss arrives.
        for frame in frames {
            let _ = sender.send(frame);
        }
        if let Some(number) = worker.updates.ask() {
            let _ = sender.send(GatewayFrame::Confirm { shard, number });
        }
    }

    /// A worker has taken all that it was told up to this batch. Gives the clients who waited for that.
    pub(in crate::gateway) fn confirmed(&mut self, key: WorkerKey, batch: u64) -> Vec<u32> {
        let Some(worker) = self.workers.get_mut(&key) else {
            return Vec::new();
        };
        self.untold.insert(key);
        worker.updates.confirmed(batch)
    }
}
