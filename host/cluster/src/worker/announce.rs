//! What a worker tells a gateway about itself: the tenants that it serves, and how busy it is. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_wire::Name;
use tidegate_wire::frame::{Load, Serving};

/// The version of a tenant that keeps its place but is served no longer.
const WITHDRAWN: &str = "";

/// How many clients more or less are always worth telling at once.
const CLIENTS_STEP: u32 = 256;
/// How many queued bytes more or less are always worth telling at once.
const QUEUED_STEP: u64 = 1 << 20;

/// The announced tenants of one link: a tenant keeps its place for the life of the link.
#[derive(Debug, Default)]
pub(super) struct Places {
    announced: Vec<Serving>,
    by_tenant: HashMap<Name, usize>,
}

impl Places {
    /// Takes over what is served now: known tenants in their places, new ones at the end. One that
    /// is gone keeps its place with an empty version; one that no index can name is not offered. True if
    /// anything is new.
    pub(super) fn update(&mut self, serving: &[Serving]) -> bool {
        let withdrawn = Name::from(WITHDRAWN);
        let mut versions = vec![(&withdrawn, false); self.announced.len()];
        let mut more = Vec::new();
        for now in serving {
            let place = self.by_tenant.get(&now.tenant);
            match place.and_then(|place| versions.get_mut(*place)) {
                Some(version) => *version = (&now.version, now.http),
                None => more.push(now.clone()),
            }
        }
        let mut changed = false;
        for (place, (version, http)) in self.announced.iter_mut().zip(versions) {
            if place.version != *version || place.http != http {
                place.version = version.clone();
                place.http = http;
                changed = true;
            }
        }
        for new in more {
            let room = self.announced.len() <= usize::from(u16::MAX);
            if room && !self.by_tenant.contains_key(&new.tenant) {
                self.by_tenant
                    .insert(new.tenant.clone(), self.announced.len());
                self.announced.push(new);
                changed = true;
            }
        }
        changed
    }

    /// Gives places to tenants that were served before the link began.
    pub(super) fn remember(&mut self, served: impl IntoIterator<Item = Name>) {
        for tenant in served {
            let known = self.announced.iter().any(|place| place.tenant == tenant);
            if !known && self.announced.len() <= usize::from(u16::MAX) {
                let version = WITHDRAWN.into();
                self.announced.push(Serving {
                    tenant,
                    version,
                    http: false,
                });
            }
        }
    }

    /// What stands at an index, unless it was withdrawn.
    pub(super) fn get(&self, place: u16) -> Option<&Serving> {
        self.announced
            .get(usize::from(place))
            .filter(|serving| &*serving.version != WITHDRAWN)
    }

    /// The tenant at an index, whether it is still served or not.
    pub(super) fn tenant(&self, place: u16) -> Option<&Serving> {
        self.announced.get(usize::from(place))
    }

    /// All places, in order.
    pub(super) fn all(&self) -> Vec<Serving> {
        self.announced.clone()
    }
}

/// Decides when a load is worth a frame: after each interval, and at once when it changes much.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Load>,
    since: Duration,
}

impl Pace {
    /// `passed` is the time since the last call.
    pub(super) fn is_due(&mut self, load: Load, passed: Duration, interval: Duration) -> bool {
        self.since += passed;
        let due = self.since >= interval || self.last.is_none_or(|last| changed_much(last, load));
        if due {
            self.last = Some(load);
            self.since = Duration::ZERO;
        }
        due
    }
}

fn changed_much(last: Load, now: Load) -> bool {
    now.clients.abs_diff(last.clients) >= CLIENTS_STEP.max(last.clients / 4)
        || now.queued_bytes.abs_diff(last.queued_bytes) >= QUEUED_STEP.max(last.queued_bytes / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(tenant: &str, version: &str) -> Serving {
        Serving {
            tenant: tenant.into(),
            version: version.into(),
            http: false,
        }
    }

    #[test]
    fn a_tenant_keeps_its_place_and_new_ones_come_last() {
        let mut places = Places::default();
        assert!(places.update(&[serving("a", "1"), serving("b", "1")]));
        assert!(!places.update(&[serving("b", "1"), serving("a", "1")]));
        assert!(places.update(&[serving("c", "1"), serving("b", "2")]));
        let expected = [serving("a", ""), serving("b", "2"), serving("c", "1")];
        assert_eq!(places.all(), expected);
        assert_eq!(places.get(0), None);
        assert_eq!(places.tenant(0).map(|place| &*place.tenant), Some("a"));
        assert_eq!(places.get(2), Some(&serving("c", "1")));
        assert_eq!(places.get(3), None);
    }

    #[test]
    fn a_tenant_that_was_served_before_the_link_has_a_place_without_a_version() {
        let mut places = Places::default();
        places.update(&[serving("a", "1")]);
        places.remember(["a".into(), "b".into()]);
        assert_eq!(places.all(), [serving("a", "1"), serving("b", "")]);
    }

    #[test]
    fn load_is_told_at_intervals_and_when_it_jumps() {
        let (second, load) = (Duration::from_secs(1), |clients| Load {
            clients,
            queued_bytes: 0,
        });
        let mut pace = Pace::default();
        assert!(pace.is_due(load(0), Duration::ZERO, second));
        assert!(!pace.is_due(load(10), second / 2, second));
        assert!(pace.is_due(load(10), second / 2, second));
        assert!(pace.is_due(load(10 + CLIENTS_STEP), Duration::ZERO, second));
    }
}
