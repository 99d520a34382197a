//! Which tenants were named in the log lately.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// How often one tenant is named.
const EVERY: Duration = Duration::from_secs(60);

/// When each tenant was named last.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Named(Mutex<FxHashMap<u16, Instant>>);

impl Named {
    /// Whether the tenant may be named again; it is then.
    pub(in crate::gateway) fn is_due(&self, tenant: u16, now: Instant) -> bool {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = named.get(&tenant);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(*last) >= EVERY);
        if is_due {
            named.insert(tenant, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_named_once_a_minute() {
        let (named, start) = (Named::default(), Instant::now());
        assert!(named.is_due(1, start) && named.is_due(2, start));
        assert!(!named.is_due(1, start + EVERY / 2));
        assert!(named.is_due(1, start + EVERY));
    }
}
