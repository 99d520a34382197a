//! What clients make the shard keep, held within its limit; and what was cut at their ends, told.
//!
//! At the limit nobody reads on who has something unfinished (`gateway/clients/memory`). If that does not
//! help, clients are closed until there is room: of the tenant whose clients keep most, those that
//! keep most and longest.

use std::hash::Hash;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tidegate_fair::Turns;
use tidegate_wire::event::CloseReason;
use tokio::time::Instant;

use super::Clients;
use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::memory::{Memory, PATIENCE, give_back};
use crate::gateway::shard::State;
use crate::gateway::shared::metrics::Cut;

/// How often the log says what was cut.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What was cut and is not told yet.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    clients: u64,
    bytes: u64,
    told: Option<Instant>,
}

impl Clients {
    /// What clients make the shard keep, shared with their connections.
    pub(in crate::gateway::shard) const fn memory(&self) -> &Rc<Memory> {
        &self.memory
    }

    /// Their events that wait or are under way have so many bytes.
    pub(in crate::gateway::shard) fn set_events(&self, bytes: usize) {
        self.memory.set_events(bytes);
    }

    /// A client was closed before it had so many bytes.
    const fn add_cut(&mut self, bytes: usize) {
        self.cuts.clients += 1;
        self.cuts.bytes += bytes as u64;
    }

    /// Says what was cut since the last time.
    pub(in crate::gateway::shard) fn tell_cuts(&mut self) {
        let (clients, bytes) = (self.cuts.clients, self.cuts.bytes);
        if clients > 0 {
            tracing::warn!(
                clients,
                bytes,
                "clients were closed before they had taken or been read everything"
            );
        }
        self.cuts = Cuts {
            told: Some(Instant::now()),
            ..Cuts::default()
        };
    }

    fn are_cuts_due(&self) -> bool {
        let told = self.cuts.told;
        self.cuts.clients > 0 && told.is_none_or(|told| told.elapsed() >= TELL_EVERY)
    }

    /// Whether too much is kept, and has been for so long that clients must go.
    fn must_shed(&mut self) -> bool {
        if !self.memory.is_full() {
            self.full_since = None;
            return false;
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        let must = since.elapsed() >= PATIENCE;
        if must {
            self.full_since = None;
        }
        must
    }

    /// Lets those read on who were not read because of the limit, if there is room.
    fn feed(&self) {
        if !self.memory.is_full() {
            for number in self.memory.fed() {
                if let Some(connection) = self.get(number) {
                    connection.feed();
                }
            }
        }
    }

    /// Clients that must go until there is room: of the tenant that keeps most, those that keep most
    /// and longest.
    fn heaviest(&self) -> Vec<Rc<Connection>> {
        let keeping = self.outbound.connections().filter(|it| it.kept() > 0);
        let mut keeping: Vec<Rc<Connection>> = keeping.cloned().collect();
        keeping.sort_by_cached_key(|connection| std::cmp::Reverse(connection.burden()));
        let keeping = keeping.into_iter();
        let keeping = keeping.map(|connection| (connection.tenant, connection.kept(), connection));
        choose(keeping, self.memory.excess())
    }
}

impl State {
    /// A client was closed before it had everything.
    pub(in crate::gateway::shard) fn cut(&mut self, bytes: usize, why: Cut) {
        self.metrics.cut(bytes, why.name());
        self.clients.add_cut(bytes);
    }

    /// One look at what is kept.
    pub(in crate::gateway::shard) fn look_at_memory(&mut self) {
        if self.clients.are_cuts_due() {
            self.clients.tell_cuts();
        }
        self.clients.set_events(self.events.lanes().bytes());
        if let Some(status) = self.context.statuses.get(usize::from(self.index)) {
            let now = self.clients.memory().bytes();
            let before = status.kept.swap(now, Ordering::AcqRel);
            self.metrics.kept(before, now);
        }
        if self.clients.must_shed() {
            self.shed();
        }
        self.clients.feed();
        if self.clients.memory().look() {
            // It may take a while, and nobody waits for it.
            self.context.runtime.spawn_blocking(give_back);
        }
    }

    /// Closes clients until there is room.
    fn shed(&mut self) {
        let chosen = self.clients.heaviest();
        let closed = chosen.len();
        for connection in chosen {
            let dropped = connection.close_shedding(1013, "clients keep too much memory");
            self.cut(dropped, Cut::Memory);
            self.closed(&connection, CloseReason::Server);
        }
        tracing::warn!(
            clients = closed,
            "clients made the gateway keep too much: of the tenants that keep most, the largest \
            and oldest were closed"
        );
    }
}

/// Chooses among clients of tenants, who come with what they keep: always the next one of the
/// tenant that keeps most of what is left, until `excess` is free.
fn choose<K: Copy + Eq + Hash, C>(
    clients: impl Iterator<Item = (K, usize, C)>,
    mut excess: usize,
) -> Vec<C> {
    let mut waiting: Turns<K, (usize, C)> = Turns::default();
    let mut kept: FxHashMap<K, usize> = FxHashMap::default();
    for (tenant, bytes, client) in clients {
        *kept.entry(tenant).or_default() += bytes;
        waiting.push(tenant, (bytes, client));
    }
    let mut chosen = Vec::new();
    while excess > 0
        && let Some((tenant, most)) = kept.iter_mut().max_by_key(|(_, bytes)| **bytes)
        && let Some((bytes, client)) = waiting.next_of(tenant)
    {
        *most -= bytes;
        excess = excess.saturating_sub(bytes);
        chosen.push(client);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_too_much_is_closed_among_the_clients_of_the_tenant_that_keeps_most() {
        // In the order of what they keep and for how long.
        let clients = [
            ("modest", 50, 1),
            ("greedy", 40, 2),
            ("greedy", 40, 3),
            ("greedy", 30, 4),
            ("modest", 10, 5),
        ];
        assert_eq!(choose(clients.into_iter(), 1), [2]);
        assert_eq!(choose(clients.into_iter(), 60), [2, 3]);
        // 30 are left of the one, and 60 of the other.
        assert_eq!(choose(clients.into_iter(), 100), [2, 3, 1]);
        assert_eq!(choose(clients.into_iter(), 1_000).len(), 5);
        assert!(choose(clients.into_iter(), 0).is_empty());
    }
}
