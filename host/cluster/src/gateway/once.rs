//! Idempotency keys that this shard remembers. Pure; bounded in number and in time: beyond either
//! the oldest is forgotten, and a request that comes again after that is applied again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tidegate_wire::Name;
use tidegate_wire::query::Once;

/// How many keys one gateway remembers, over its shards.
pub const KEYS_MAX: usize = 65_536;
/// How long a key is remembered.
pub const KEPT: Duration = Duration::from_secs(600);

/// Whose key.
type Key = (Name, [u8; 32]);

/// The keys.
#[derive(Debug)]
pub struct Keys {
    requests: HashMap<Key, [u8; 32]>,
    order: VecDeque<(Instant, Key)>,
    keys_max: usize,
}

impl Keys {
    /// No keys, and room for so many.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self {
            requests: HashMap::new(),
            order: VecDeque::new(),
            keys_max: keys_max.max(1),
        }
    }

    /// Remembers a key with the hash of its request, and says whether it was known.
    pub fn see(&mut self, tenant: &Name, key: [u8; 32], request: [u8; 32], now: Instant) -> Once {
        while let Some((since, _)) = self.order.front() {
            let old = now.saturating_duration_since(*since) >= KEPT;
            if !old && self.order.len() < self.keys_max {
                break;
            }
            if let Some((_, key)) = self.order.pop_front() {
                self.requests.remove(&key);
            }
        }
        let key = (tenant.clone(), key);
        match self.requests.get(&key) {
            Some(known) if *known == request => Once::Again,
            Some(_) => Once::Reused,
            None => {
                self.requests.insert(key.clone(), request);
                self.order.push_back((now, key));
                Once::First
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_with_its_request_only() {
        let mut keys = Keys::new(10);
        let (now, tenant) = (Instant::now(), Name::from("t"));
        assert_eq!(keys.see(&tenant, [1; 32], [1; 32], now), Once::First);
        assert_eq!(keys.see(&tenant, [1; 32], [1; 32], now), Once::Again);
        assert_eq!(keys.see(&tenant, [1; 32], [2; 32], now), Once::Reused);
        assert_eq!(keys.see(&"u".into(), [1; 32], [2; 32], now), Once::First);
    }

    #[test]
    fn the_oldest_keys_are_forgotten_beyond_the_number_and_the_time() {
        let mut keys = Keys::new(3);
        let (start, tenant) = (Instant::now(), Name::from("t"));
        for key in 0..100 {
            assert_eq!(keys.see(&tenant, [key; 32], [0; 32], start), Once::First);
            assert!(keys.requests.len() <= 3 && keys.order.len() <= 3);
        }
        assert_eq!(keys.see(&tenant, [98; 32], [0; 32], start), Once::Again);
        let later = start + KEPT;
        assert_eq!(keys.see(&tenant, [98; 32], [0; 32], later), Once::First);
        assert_eq!(keys.requests.len(), 1);
    }
}
