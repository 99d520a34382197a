//! Tenants that wait for their share, of a worker or of what may wait here: said in the log, each at
//! most once a minute for the whole gateway.

use std::time::Duration;

use tidegate_hub::lanes::Oldest;

use super::State;

/// Who waits less is not worth a line.
const LONG: Duration = Duration::from_secs(1);
impl State {
    /// Names the tenants that have waited long.
    pub(super) fn name_waiting(&mut self) {
        let now = tokio::time::Instant::now().into_std();
        let (tenants, named) = (&self.context.tenants, &self.context.waiting_named);
        for (tenant, lanes, worker) in self.workers.long_waiting(now, LONG) {
            if let Some(name) = tenants.name(tenant)
                && named.is_due(tenant, now)
            {
                tracing::warn!(tenant = %name, %worker, clients = lanes,
                    "a tenant's events wait: its handlers are slower than its clients send, and its \
                     share of the worker's window is used up; others have theirs");
            }
        }
        for tenant in self.events.held_tenants() {
            if let Some(name) = tenants.name(tenant)
                && named.is_due(tenant, now)
            {
                tracing::warn!(tenant = %name, bytes = self.events.lanes().shares().used(&tenant),
                    "clients of a tenant are not read: its share of pending-bytes-max is used up; \
                     others have theirs");
            }
        }
    }
}

impl State {
    /// Names the tenants whose oldest event is late, and says why.
    pub(super) fn name_late(&mut self) {
        let bound = self.context.settings.late_event;
        if bound.is_zero() {
            return;
        }
        let now = tokio::time::Instant::now().into_std();
        let tenants = u16::try_from(self.context.tenants.count()).unwrap_or(u16::MAX);
        for tenant in 0..tenants {
            let age_us = self
                .events
                .lanes()
                .oldest_age_us(tenant)
                .unwrap_or_default();
            if u128::from(age_us) >= bound.as_micros()
                && self.context.late_named.is_due(tenant, now)
                && let Some(oldest) = self.events.lanes().oldest(tenant)
            {
                self.name_oldest(tenant, &oldest);
            }
        }
    }

    fn name_oldest(&self, tenant: u16, oldest: &Oldest) {
        let Some(name) = self.context.tenants.name(tenant) else {
            return;
        };
        // What it did for the longer part of its time.
        let under_way_us = oldest.under_way.map_or(0, |(_, since_us)| since_us);
        let unserved = self.context.unserved(tenant);
        let (reason, why) = if under_way_us * 2 >= oldest.age_us {
            ("slow-handler", "a worker has it: its handler is slow")
        } else if !self.workers.serves(tenant) {
            let why = unserved.as_deref();
            ("no-worker", why.unwrap_or("no worker serves the tenant"))
        } else {
            (
                "window",
                "more comes than handlers do: the share of a worker's window is used up",
            )
        };
        let worker = oldest
            .under_way
            .and_then(|(key, _)| self.workers.incarnation(key));
        tracing::warn!(tenant = %name, reason, why,
            age_ms = oldest.age_us / 1_000, under_way_ms = under_way_us / 1_000,
            events = self.events.lanes().events_of(tenant), bytes = self.events.lanes().shares().used(&tenant),
            kind = oldest.kind.name(), client = %self.client_id(oldest.connection),
            worker = worker.map(tracing::field::display),
            "a tenant's oldest event is late");
    }
}
