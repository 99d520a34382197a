//! Idempotency keys that this shard remembers. Pure; bounded in number, of which each tenant has its
//! share, and in time: beyond either the tenant's oldest is forgotten, and a request that comes again
//! after that is applied again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use tidegate_fair::Shares;
use tidegate_wire::Name;
use tidegate_wire::query::Once;

/// How many keys one gateway remembers, over its shards.
pub const KEYS_MAX: usize = 65_536;
/// How long a key is remembered.
pub const KEPT: Duration = Duration::from_secs(600);

/// The keys of one tenant in the order in which they came, with the hashes of their requests.
#[derive(Debug, Default)]
struct Own {
    requests: HashMap<[u8; 32], [u8; 32]>,
    order: VecDeque<(Instant, [u8; 32])>,
}

impl Own {
    fn forget_oldest(&mut self) -> bool {
        let oldest = self.order.pop_front();
        oldest.is_some_and(|(_, key)| self.requests.remove(&key).is_some())
    }

    fn is_oldest_over(&self, now: Instant) -> bool {
        let oldest = self.order.front();
        oldest.is_some_and(|(since, _)| now.saturating_duration_since(*since) >= KEPT)
    }
}

/// The keys.
#[derive(Debug)]
pub struct Keys {
    tenants: BTreeMap<Name, Own>,
    shares: Shares<Name>,
    /// The tenant whose keys were looked at last for those whose time is over.
    looked_at: Option<Name>,
}

impl Keys {
    /// No keys, and room for so many, shared by so many tenants.
    #[must_use]
    pub fn new(keys_max: usize, tenants: usize) -> Self {
        Self {
            tenants: BTreeMap::new(),
            shares: Shares::new(keys_max.max(1), tenants),
            looked_at: None,
        }
    }

    /// Remembers a key with the hash of its request, and says whether it was known.
    pub fn see(&mut self, tenant: &Name, key: [u8; 32], request: [u8; 32], now: Instant) -> Once {
        self.forget_over(tenant, now);
        self.look_at_next(now);
        let own = self.tenants.entry(tenant.clone()).or_default();
        match own.requests.get(&key) {
            Some(known) if *known == request => return Once::Again,
            Some(_) => return Once::Reused,
            None => {}
        }
        while !self.shares.has_room(tenant) && own.forget_oldest() {
            self.shares.give(tenant, 1);
        }
        own.requests.insert(key, request);
        own.order.push_back((now, key));
        self.shares.take(tenant, 1);
        Once::First
    }

    /// One more tenant at each call, so that what is over goes although its tenant does not call.
    fn look_at_next(&mut self, now: Instant) {
        let after = self.looked_at.take();
        let mut rest = match &after {
            Some(after) => self.tenants.range::<Name, _>((Excluded(after), Unbounded)),
            None => self.tenants.range::<Name, _>(..),
        };
        if let Some(next) = rest.next().map(|(name, _)| name.clone()) {
            self.forget_over(&next, now);
            self.looked_at = Some(next);
        }
    }

    fn forget_over(&mut self, tenant: &Name, now: Instant) {
        let Some(own) = self.tenants.get_mut(tenant) else {
            return;
        };
        while own.is_oldest_over(now) && own.forget_oldest() {
            self.shares.give(tenant, 1);
        }
        if own.order.is_empty() {
            self.tenants.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_with_its_request_only() {
        let mut keys = Keys::new(10, 1);
        let (now, tenant) = (Instant::now(), Name::from("t"));
        assert_eq!(keys.see(&tenant, [1; 32], [1; 32], now), Once::First);
        assert_eq!(keys.see(&tenant, [1; 32], [1; 32], now), Once::Again);
        assert_eq!(keys.see(&tenant, [1; 32], [2; 32], now), Once::Reused);
        assert_eq!(keys.see(&"u".into(), [1; 32], [2; 32], now), Once::First);
    }

    #[test]
    fn the_oldest_keys_are_forgotten_beyond_the_number_and_the_time() {
        let mut keys = Keys::new(3, 1);
        let (start, tenant) = (Instant::now(), Name::from("t"));
        for key in 0..100 {
            assert_eq!(keys.see(&tenant, [key; 32], [0; 32], start), Once::First);
            assert!(keys.shares.total() <= 3 && keys.tenants[&tenant].order.len() <= 3);
        }
        assert_eq!(keys.see(&tenant, [98; 32], [0; 32], start), Once::Again);
        let later = start + KEPT;
        assert_eq!(keys.see(&tenant, [98; 32], [0; 32], later), Once::First);
        assert_eq!(keys.shares.total(), 1);
    }

    #[test]
    fn a_tenant_with_many_keys_forgets_its_own() {
        let mut keys = Keys::new(100, 2);
        let (start, [greedy, other]) = (Instant::now(), ["g", "o"].map(Name::from));
        assert_eq!(keys.see(&other, [1; 32], [1; 32], start), Once::First);
        for key in 0..=255 {
            keys.see(&greedy, [key; 32], [0; 32], start);
        }
        assert_eq!(keys.see(&other, [1; 32], [1; 32], start), Once::Again);
        assert_eq!(keys.see(&greedy, [255; 32], [0; 32], start), Once::Again);
        assert_eq!(keys.see(&greedy, [0; 32], [0; 32], start), Once::First);
        // Whoever calls, what is over goes.
        let later = start + KEPT;
        for _ in 0..3 {
            keys.see(&other, [2; 32], [2; 32], later);
        }
        assert_eq!((keys.shares.total(), keys.tenants.len()), (1, 1));
    }
}
