//! How much of each tenant waits, for how long, and how full its windows are: each shard says it for
//! itself now and then, the gauges show what that is for the whole gateway.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Gauge, gauge};

use tidegate_hub::tenants::Tenants;

/// What one shard says of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Reading {
    /// Events that wait or are under way, and their bytes.
    pub(in crate::gateway) events: u64,
    pub(in crate::gateway) bytes: u64,
    /// How much of its fullest window is used, in millionths.
    pub(in crate::gateway) fill: u64,
    /// The age of its oldest event, in microseconds.
    pub(in crate::gateway) age_us: u64,
}

#[derive(Debug, Default)]
struct ShardBacklog {
    events: AtomicU64,
    bytes: AtomicU64,
    fill: AtomicU64,
    age_us: AtomicU64,
}

/// One tenant, over all shards.
struct OfTenant {
    slots: Vec<ShardBacklog>,
    events: Gauge,
    bytes: Gauge,
    fill: Gauge,
    age: Gauge,
}

/// All tenants of a gateway.
pub(in crate::gateway) struct Slowness(Vec<OfTenant>);

impl Slowness {
    pub(in crate::gateway) fn new(tenants: &Tenants, shards: usize) -> Self {
        let of_tenant = |tenant: &tidegate_wire::Name| {
            let of = |name: &'static str| gauge!(name, "tenant" => tenant.to_string());
            OfTenant {
                slots: (0..shards).map(|_| ShardBacklog::default()).collect(),
                events: of("tidegate_gateway_pending_events"),
                bytes: of("tidegate_gateway_pending_bytes"),
                fill: of("tidegate_gateway_window_fill_ratio"),
                age: of("tidegate_gateway_oldest_event_age_seconds"),
            }
        };
        let all = Self(tenants.all().map(of_tenant).collect());
        all.0.iter().for_each(OfTenant::show);
        all
    }

    /// A shard says how it is with a tenant.
    pub(in crate::gateway) fn tell(&self, shard: u16, tenant: u16, reading: Reading) {
        let Some(of) = self.0.get(usize::from(tenant)) else {
            return;
        };
        if let Some(slot) = of.slots.get(usize::from(shard)) {
            slot.events.store(reading.events, Ordering::Relaxed);
            slot.bytes.store(reading.bytes, Ordering::Relaxed);
            slot.fill.store(reading.fill, Ordering::Relaxed);
            slot.age_us.store(reading.age_us, Ordering::Relaxed);
        }
        of.show();
    }
}

impl OfTenant {
    fn show(&self) {
        let all = |of: fn(&ShardBacklog) -> &AtomicU64| {
            let slots = self.slots.iter();
            slots.map(move |slot| of(slot).load(Ordering::Relaxed))
        };
        let largest = |of| all(of).max().unwrap_or_default() as f64 / 1e6;
        self.events.set(all(|it| &it.events).sum::<u64>() as f64);
        self.bytes.set(all(|it| &it.bytes).sum::<u64>() as f64);
        self.fill.set(largest(|it| &it.fill));
        self.age.set(largest(|it| &it.age_us));
    }
}

impl fmt::Debug for Slowness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slowness").field(&self.0.len()).finish()
    }
}
