//! The clients of a shard: their hubs, their connections, and what they make the shard keep.

mod memory;
mod outbound;

use std::rc::Rc;

use rustc_hash::FxHashMap;
use tidegate_hub::give_back::give_back;
use tidegate_hub::hub::Hub;
use tidegate_wire::event::CloseReason;
use tokio::time::Instant;

use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::memory::Memory;
use crate::gateway::clients::pings::Wheel;
use crate::gateway::shared::Context;
use memory::Cuts;
pub(super) use outbound::Outbound;

/// Told in close frames when the gateway ends or is lost.
pub(super) const GOING_AWAY: &str = "the gateway goes away";

/// The clients of a shard.
pub(super) struct Clients {
    /// One for each tenant.
    hubs: Vec<Hub>,
    outbound: Outbound,
    /// Those who have still to sign in.
    strangers: FxHashMap<u32, Rc<Connection>>,
    /// One for each listener.
    wheels: Vec<Wheel>,
    /// The number of the next one, and the distance between two numbers of this shard.
    next: u32,
    step: u32,
    /// What they make the shard keep.
    memory: Rc<Memory>,
    /// Since when that is too much.
    full_since: Option<Instant>,
    cuts: Cuts,
    /// How often the gateway said that it ends.
    told_to_end: usize,
    /// Nobody is read any more.
    quiet: bool,
    /// Nobody is let in any more: this life is lost or has said good-bye to its clients, whose ends
    /// have time until then.
    gone: Option<Instant>,
}

impl Clients {
    pub(super) fn new(context: &Context, index: u16, start: u32) -> Self {
        let settings = &context.settings;
        let hubs = std::iter::repeat_with(|| Hub::new(settings.hub));
        let wheels = settings.listeners.iter().map(|_| Wheel::default());
        let bytes_max = settings.clients_bytes_max / context.inboxes.len().max(1);
        Self {
            hubs: hubs.take(context.tenants.count()).collect(),
            outbound: Outbound::default(),
            strangers: FxHashMap::default(),
            wheels: wheels.collect(),
            next: (start & !context.shard_mask()) | u32::from(index),
            step: context.shard_mask() + 1,
            memory: Rc::new(Memory::new(bytes_max)),
            full_since: None,
            cuts: Cuts::default(),
            told_to_end: 0,
            quiet: false,
            gone: None,
        }
    }

    /// The next number that is not taken.
    pub(super) fn take_number(&mut self, is_taken: impl Fn(u32) -> bool) -> u32 {
        loop {
            let number = self.next;
            self.next = number.wrapping_add(self.step);
            if !is_taken(number) {
                return number;
            }
        }
    }

    /// A client is there, at the listener in this place.
    pub(super) fn insert(&mut self, connection: &Rc<Connection>, place: usize) {
        let number = connection.number;
        self.outbound.insert(connection.clone());
        if let Some(hub) = self.hub_mut(connection.tenant) {
            hub.insert(number);
        }
        if let Some(wheel) = self.wheels.get_mut(place) {
            wheel.insert(number);
        }
    }

    /// Somebody is there who has still to sign in.
    pub(super) fn insert_stranger(&mut self, connection: &Rc<Connection>) {
        self.strangers.insert(connection.number, connection.clone());
    }

    /// A stranger is gone, or one no more. Says whether it was one.
    pub(super) fn forget_stranger(&mut self, number: u32) -> bool {
        let was = self.strangers.remove(&number).is_some();
        if was {
            give_back(&mut self.strangers);
        }
        was
    }

    /// A client is gone, and its id offline.
    pub(super) fn remove(&mut self, connection: &Connection) {
        self.outbound.remove(connection.number);
        if let Some(hub) = self.hub_mut(connection.tenant) {
            hub.go_offline(connection.number);
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&Rc<Connection>> {
        self.outbound.get(number)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.outbound.connections().count()
    }

    /// What is known of a tenant's clients.
    pub(super) fn hub(&self, tenant: u16) -> Option<&Hub> {
        self.hubs.get(usize::from(tenant))
    }

    pub(super) fn hub_mut(&mut self, tenant: u16) -> Option<&mut Hub> {
        self.hubs.get_mut(usize::from(tenant))
    }

    /// What effects on a tenant's clients change, and where what they send goes.
    pub(super) fn hub_and_outbound(&mut self, tenant: u16) -> Option<(&mut Hub, &mut Outbound)> {
        let hub = self.hubs.get_mut(usize::from(tenant))?;
        Some((hub, &mut self.outbound))
    }

    /// A client is to be closed once the effects at hand are applied.
    pub(super) fn close_later(&mut self, number: u32, reason: CloseReason) {
        self.outbound.close_later(number, reason);
    }

    /// The next client that is to be closed.
    pub(super) fn next_closing(&mut self) -> Option<(Rc<Connection>, CloseReason)> {
        self.outbound.next_closing()
    }

    /// Takes the clients whose queue has something to be written.
    pub(super) fn take_dirty(&mut self) -> Vec<Rc<Connection>> {
        self.outbound.take_dirty()
    }

    /// Uses the room of the list again in which they were.
    pub(super) fn reuse(&mut self, written: Vec<Rc<Connection>>) {
        self.outbound.reuse(written);
    }

    /// The clients of a listener whose turn it is to be pinged.
    pub(super) fn turn_wheel(&mut self, listener: usize) -> Vec<u32> {
        let outbound = &self.outbound;
        let wheel = self.wheels.get_mut(listener);
        wheel.map_or_else(Vec::new, |wheel| {
            wheel.turn(|number| outbound.get(number).is_some())
        })
    }
}

/// How the gateway ends.
impl Clients {
    /// Reads nobody any more: the gateway ends.
    pub(super) fn stop_reading(&mut self) {
        self.told_to_end += 1;
        self.quiet = true;
        for connection in self.outbound.connections() {
            connection.set_paused(true);
        }
    }

    /// Says good-bye to all, and lets nobody in any more. Gives those who were there.
    pub(super) fn say_goodbye(&mut self, deadline: Instant) -> Vec<Rc<Connection>> {
        self.told_to_end += 1;
        self.gone = Some(deadline);
        self.send_strangers_away();
        self.outbound.connections().cloned().collect()
    }

    /// Reads nobody and lets nobody in any more: this life was declared lost.
    pub(super) const fn lose(&mut self, deadline: Instant) {
        self.quiet = true;
        self.gone = Some(deadline);
    }

    /// Closes all. No handler learns of it.
    pub(super) fn send_away(&mut self) {
        self.send_strangers_away();
        for connection in self.outbound.take_all() {
            connection.tell_close();
            connection.close(1001, GOING_AWAY);
        }
    }

    fn send_strangers_away(&mut self) {
        for (_, connection) in self.strangers.drain() {
            connection.close(1001, GOING_AWAY);
        }
    }

    /// How often the gateway said that it ends.
    pub(super) const fn told_to_end(&self) -> usize {
        self.told_to_end
    }

    /// Whether nobody is read any more.
    pub(super) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Until when the ends of clients have time, once nobody is let in any more.
    pub(super) const fn end(&self) -> Option<Instant> {
        self.gone
    }
}
