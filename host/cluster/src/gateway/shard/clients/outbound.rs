//! The connections of a shard's clients, and which of them have something to be written or are to be
//! closed.

use std::rc::Rc;

use rustc_hash::FxHashMap;
use tidegate_hub::give_back::give_back;
use tidegate_hub::outbound::{Outgoing, Queued};
use tidegate_wire::event::{CloseFrame, CloseReason};

use crate::gateway::clients::connection::Connection;
use crate::gateway::shared::metrics::{Cut, Metrics};

/// Where what is sent to clients goes.
#[derive(Default)]
pub(in crate::gateway::shard) struct Outbound {
    connections: FxHashMap<u32, Rc<Connection>>,
    /// Those that are to be closed once the effects at hand are applied.
    closing: Vec<(u32, CloseReason)>,
    /// Those whose queue has something to be written.
    dirty: Vec<Rc<Connection>>,
}

impl Outbound {
    /// Queues a message for a client.
    pub(in crate::gateway::shard) fn send(
        &mut self,
        number: u32,
        message: &Outgoing<'_>,
        metrics: &Metrics,
    ) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        match connection.send(message) {
            None => return metrics.refused_newline(),
            Some(Queued::Waits) => {}
            Some(Queued::Replaced) => return metrics.replaced(),
            Some(Queued::DroppedNew) => return metrics.dropped_slow(1),
            Some(Queued::DroppedOld { messages }) => metrics.dropped_slow(messages),
            Some(Queued::Full) => {
                self.closing.push((number, CloseReason::Slow));
                metrics.cut(connection.destroy(), Cut::Slow.name());
                return;
            }
        }
        metrics.message_out();
        if connection.mark_dirty() {
            self.dirty.push(connection.clone());
        }
    }

    /// Closes a client behind what waits for it, and behind a last message; a WebSocket with this frame.
    pub(in crate::gateway::shard) fn close(
        &mut self,
        number: u32,
        farewell: Option<&Outgoing<'_>>,
        frame: Option<&CloseFrame>,
        metrics: &Metrics,
    ) {
        if let Some(connection) = self.connections.get(&number) {
            match farewell.map(|farewell| connection.farewell(farewell)) {
                Some(Some(())) => metrics.message_out(),
                Some(None) => metrics.refused_newline(),
                None => {}
            }
            let (code, reason) = frame.map_or((1000, ""), |it| (it.code, it.reason.as_str()));
            connection.close(code, reason);
            self.closing.push((number, CloseReason::Server));
        }
    }

    /// Closes a client at once.
    pub(in crate::gateway::shard) fn destroy(&mut self, number: u32) {
        if let Some(connection) = self.connections.get(&number) {
            connection.destroy();
            self.closing.push((number, CloseReason::Server));
        }
    }

    pub(in crate::gateway::shard) fn get(&self, number: u32) -> Option<&Rc<Connection>> {
        self.connections.get(&number)
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.connections.values()
    }

    pub(super) fn insert(&mut self, connection: Rc<Connection>) {
        self.connections.insert(connection.number, connection);
    }

    pub(super) fn remove(&mut self, number: u32) {
        self.connections.remove(&number);
        give_back(&mut self.connections);
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Rc<Connection>> {
        self.connections.drain().map(|(_, connection)| connection)
    }

    pub(super) fn close_later(&mut self, number: u32, reason: CloseReason) {
        self.closing.push((number, reason));
    }

    pub(super) fn next_closing(&mut self) -> Option<(Rc<Connection>, CloseReason)> {
        while let Some((number, reason)) = self.closing.pop() {
            if let Some(connection) = self.connections.get(&number) {
                return Some((connection.clone(), reason));
            }
        }
        None
    }

    pub(super) fn take_dirty(&mut self) -> Vec<Rc<Connection>> {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn reuse(&mut self, mut written: Vec<Rc<Connection>>) {
        written.clear();
        self.dirty = written;
    }
}
