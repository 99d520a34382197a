//! Closes whose effects have been applied here.
//!
//! A close may be told more than once: by a custodian that lost its link and by the one that was
//! named after it, or by the home just before it was lost. Each gateway applies the effects of a
//! close the first time that they reach it. What is remembered is bounded, and each tenant has its
//! share; the tenant's oldest is forgotten first: what tells a close twice does so within a few
//! leases.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashSet;
use tidegate_fair::{Shares, Turns};
use tidegate_wire::id::CloseId;

/// How many are remembered.
const CLOSES_MAX: usize = 1 << 17;

/// A bounded set of closes, by what shares it.
#[derive(Debug)]
pub struct Closes<K> {
    state: Mutex<KnownCloses<K>>,
}

#[derive(Debug)]
struct KnownCloses<K> {
    known: FxHashSet<CloseId>,
    oldest_first: Turns<K, CloseId>,
    shares: Shares<K>,
}

impl<K: Clone + Eq + Hash> Closes<K> {
    /// Nothing is known; so many tenants share what may be remembered.
    pub fn new(tenants: usize) -> Self {
        Self {
            state: Mutex::new(KnownCloses {
                known: FxHashSet::default(),
                oldest_first: Turns::default(),
                shares: Shares::new(CLOSES_MAX, tenants),
            }),
        }
    }

    /// Whether this close is known.
    pub fn contains(&self, close: CloseId) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.contains(&close)
    }

    /// Whether this close of a client of this tenant is new. It is known from then on.
    pub fn is_new(&self, tenant: &K, close: CloseId) -> bool {
        // Plain data: whoever panicked while holding the lock left it usable.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.known.insert(close) {
            return false;
        }
        while !state.shares.has_room(tenant) && state.forget_oldest(tenant) {}
        state.shares.take(tenant, 1);
        state.oldest_first.push(tenant.clone(), close);
        true
    }
}

impl<K: Clone + Eq + Hash> KnownCloses<K> {
    /// The oldest of this tenant, or of another one if it has none.
    fn forget_oldest(&mut self, tenant: &K) -> bool {
        let own = self.oldest_first.next_of(tenant);
        let oldest = own.map(|close| (tenant.clone(), close));
        let oldest = oldest.or_else(|| self.oldest_first.next(|_, _| true));
        let Some((tenant, close)) = oldest else {
            return false;
        };
        self.shares.give(&tenant, 1);
        self.known.remove(&close);
        true
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::id::{ClientId, Incarnation};

    use super::*;

    fn close(connection: u32) -> CloseId {
        CloseId {
            home: Incarnation(1),
            client: ClientId {
                ip: 1,
                port: 1,
                connection,
            },
        }
    }

    #[test]
    fn a_close_is_new_once_and_the_oldest_is_forgotten_first() {
        let closes = Closes::new(1);
        for connection in 0..=CLOSES_MAX as u32 {
            assert!(closes.is_new(&(), close(connection)));
            assert!(!closes.is_new(&(), close(connection)));
        }
        assert!(!closes.is_new(&(), close(1)), "known");
        assert!(closes.is_new(&(), close(0)), "forgotten");
    }

    #[test]
    fn a_tenant_with_many_closes_forgets_its_own() {
        let closes = Closes::new(2);
        assert!(closes.is_new(&"other", close(0)));
        for connection in 1..=2 * CLOSES_MAX as u32 {
            assert!(closes.is_new(&"greedy", close(connection)));
        }
        assert!(closes.contains(close(0)), "known");
        assert!(!closes.contains(close(1)), "forgotten");
        assert!(closes.state.lock().unwrap().known.len() <= CLOSES_MAX);
    }
}
