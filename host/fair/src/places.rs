//! A limit in number that threads share: whoever has a place frees it by dropping it.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::shares::Shares;

/// The places of all tenants. Clones are the same places.
#[derive(Debug)]
pub struct Places<K> {
    shares: Arc<Mutex<Shares<K>>>,
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self {
            shares: Arc::clone(&self.shares),
        }
    }
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// So many places, shared by so many tenants.
    #[must_use]
    pub fn new(whole: usize, tenants: usize) -> Self {
        Self {
            shares: Arc::new(Mutex::new(Shares::new(whole, tenants))),
        }
    }

    /// One place for this tenant, unless it has its share.
    #[must_use]
    pub fn take(&self, tenant: &K) -> Option<Place<K>> {
        self.take_many(tenant, 1)
    }

    /// So much at once. What is larger than the tenant's room is taken by who has nothing.
    #[must_use]
    pub fn take_many(&self, tenant: &K, amount: usize) -> Option<Place<K>> {
        let mut shares = lock(&self.shares);
        let room = shares.room(tenant);
        if room == 0 || (amount > room && shares.used(tenant) > 0) {
            return None;
        }
        shares.take(tenant, amount);
        drop(shares);
        Some(Place {
            shares: Arc::clone(&self.shares),
            tenant: tenant.clone(),
            amount,
        })
    }

    /// How much is taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        lock(&self.shares).total()
    }
}

/// A place; dropping it frees it.
#[derive(Debug)]
pub struct Place<K: Eq + Hash + Clone> {
    shares: Arc<Mutex<Shares<K>>>,
    tenant: K,
    amount: usize,
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        lock(&self.shares).give(&self.tenant, self.amount);
    }
}

/// The counts are plain data: whoever panicked while holding the lock left them usable.
fn lock<K>(shares: &Mutex<Shares<K>>) -> MutexGuard<'_, Shares<K>> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let places = Places::new(4, 1);
        let held: Vec<_> = (0..5).map(|_| places.take(&"a")).collect();
        assert_eq!(held.iter().flatten().count(), 4);
        drop(held);
        assert_eq!(places.taken(), 0);
        assert!(places.take(&"a").is_some());
    }

    #[test]
    fn what_is_larger_than_all_is_taken_alone() {
        let places = Places::new(4, 1);
        let large = places.take_many(&"a", 100);
        assert!(large.is_some() && places.take(&"a").is_none());
        drop(large);
        assert_eq!(places.taken(), 0);
    }
}
