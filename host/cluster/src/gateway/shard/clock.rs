//! The shard's clock, and what is measured by it: how long its clients wait for what commits send
//! them, and how it is with each tenant.

use std::time::Duration;

use tokio::time::Instant;

use super::State;
use crate::gateway::clients::connection::now_ms;
use crate::gateway::shared::slowness::Reading;

/// Whoever waits for something later looks again then.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The shard's clock.
pub(super) struct Clock {
    began: Instant,
    /// The wall clock at that time, in milliseconds since 1970.
    began_at_ms: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            began_at_ms: now_ms(),
        }
    }
}

impl Clock {
    /// Reads the clock.
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A time of this clock.
    pub(super) fn at(&self, us: u64) -> Instant {
        let far = self.began + FAR;
        let at = self.began.checked_add(Duration::from_micros(us));
        at.map_or(far, |at| at.min(far))
    }

    /// The wall clock at a time of this clock.
    const fn wall_ms(&self, now_us: u64) -> u64 {
        self.began_at_ms.saturating_add(now_us / 1_000)
    }

    /// The wall clock may have been set; `now_us` is the time of this clock.
    fn set_wall_clock(&mut self, now_us: u64) {
        self.began_at_ms = now_ms().saturating_sub(now_us / 1_000);
    }
}

impl State {
    /// Reads the clock. Lanes count by it until the next time.
    pub(super) fn clock(&mut self) -> u64 {
        self.events.lanes_mut().tick(self.clock.now_us());
        self.tasks.tick(self.events.lanes().now_us());
        self.events.lanes().now_us()
    }

    /// The wall clock when the clock was read last, in milliseconds since 1970, without another reading.
    pub(super) const fn wall_ms(&self) -> u64 {
        self.clock.wall_ms(self.events.lanes().now_us())
    }

    /// The wall clock may have been set.
    pub(super) fn look_at_wall_clock(&mut self) {
        self.clock.set_wall_clock(self.events.lanes().now_us());
    }

    /// So many clients of a tenant have received all that the effects which came at `came_us` sent them.
    pub(super) fn delivered(&mut self, tenant: u16, came_us: u64, clients: u64) {
        let took_us = self.clock().saturating_sub(came_us);
        self.metrics.delivered(tenant, took_us, clients);
    }

    /// Writes what this turn has queued for clients, once for each.
    pub(super) fn flush_dirty(&mut self) {
        let came_us = self.events.take_effects_us();
        let dirty = self.clients.take_dirty();
        if dirty.is_empty() {
            return self.clients.reuse(dirty);
        }
        let came_us = came_us.unwrap_or_else(|| self.clock()).max(1);
        let mut buffers = Vec::new();
        for of_tenant in dirty.chunk_by(|a, b| a.tenant == b.tenant) {
            let mut written = 0;
            for connection in of_tenant {
                connection.set_late(came_us);
                connection.flush();
                let event = connection.buffer_event();
                buffers.extend(event.map(|event| (connection.number, event)));
                match connection.take_late() {
                    Some(at_us) if at_us < came_us => self.delivered(connection.tenant, at_us, 1),
                    Some(_) => written += 1,
                    None => {}
                }
            }
            if let Some(first) = of_tenant.first() {
                self.delivered(first.tenant, came_us, written);
            }
        }
        self.clients.reuse(dirty);
        for (number, event) in buffers {
            self.buffer_event(number, event);
        }
    }

    /// Says how it is with each tenant.
    pub(super) fn tell_slowness(&mut self) {
        let tenants = u16::try_from(self.context.tenants.count()).unwrap_or(u16::MAX);
        for tenant in 0..tenants {
            let reading = Reading {
                events: self.events.lanes().events_of(tenant) as u64,
                bytes: self.events.lanes().shares().used(&tenant) as u64,
                fill: self.workers.fill(tenant),
                age_us: self
                    .events
                    .lanes()
                    .oldest_age_us(tenant)
                    .unwrap_or_default(),
            };
            self.context.slowness.tell(self.index, tenant, reading);
            self.metrics.tasks(tenant, self.tasks.count(tenant));
        }
    }
}
