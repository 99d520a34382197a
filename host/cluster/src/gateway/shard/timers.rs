//! Timers that live at this shard: commits set and end them, and they become events when they run out. A
//! client's joins its other events; any other one has a lane of its own, as a request has.

use std::rc::Rc;

use tidegate_hub::timers::{self, RunOut, Setting};
use tidegate_link::deadline;
use tidegate_wire::event::EventKind;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::Answer;
use tidegate_wire::timer::TimerId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Shard, State};
use crate::gateway::shared::Context;
use crate::gateway::shared::metrics::Metrics;

/// So many become events in one turn of the shard.
const RUN_OUT_MAX: usize = 256;

/// The timers of a shard.
pub(super) struct Timers {
    all: timers::Timers,
    /// Rings when one runs out earlier than all before.
    earlier: Rc<Notify>,
    /// The gateway ends: no timer is left, and none is set.
    ended: bool,
}

impl Timers {
    pub(super) fn new(context: &Context) -> Self {
        let settings = &context.settings;
        let bytes_max = settings.timer_bytes_max / usize::from(settings.shards);
        Self {
            all: timers::Timers::new(bytes_max, context.tenants.count()),
            earlier: Rc::default(),
            ended: false,
        }
    }

    /// Sets a timer, or counts it as refused.
    pub(super) fn set(&mut self, timer: TimerId, setting: Setting, now_us: u64, metrics: &Metrics) {
        if self.ended {
            return;
        }
        let before = self.all.next_us();
        if let Err(why) = self.all.set(timer, setting, now_us) {
            metrics.refused();
            tracing::debug!(%timer, ?why, "a timer was refused by a limit");
        }
        if self.all.next_us() != before {
            self.earlier.notify_one();
        }
    }

    pub(super) fn cancel(&mut self, tenant: u16, timer: &TimerId) {
        self.all.cancel(tenant, timer);
    }

    /// A client is gone, and its timers with it.
    pub(super) fn end_client(&mut self, tenant: u16, client: ClientId) {
        self.all.end_client(tenant, client);
    }

    /// An event of this timer is committed: it may have the next one.
    pub(super) fn committed(&mut self, tenant: u16, timer: &TimerId) {
        self.all.committed(tenant, timer);
    }

    /// The gateway ends.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.all.clear();
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }
}

impl State {
    /// This shard's part of an answer. Without a listener here the tenant has no timers here.
    pub(super) fn timers_of(
        &mut self,
        tenant: Option<u16>,
        of: Option<ClientId>,
        after: Option<&TimerId>,
        limit: u32,
    ) -> Answer {
        let now_us = self.clock();
        let page = |tenant| self.timers.all.page(tenant, of, after, limit, now_us);
        let (page, more) = tenant.map(page).unwrap_or_default();
        Answer::Timers { page, more }
    }

    /// Timers that have run out become events. Says whether there may be more of them.
    fn run_out_timers(&mut self) -> bool {
        let now_us = self.clock();
        for _ in 0..RUN_OUT_MAX {
            let Some(run_out) = self.timers.all.run_out(now_us) else {
                self.finish_turn();
                return false;
            };
            self.timer_event(run_out);
        }
        self.finish_turn();
        true
    }

    fn timer_event(&mut self, run_out: RunOut) {
        let RunOut {
            timer,
            tenant,
            payload,
            late_us,
        } = run_out;
        self.metrics.timer_late(tenant, late_us);
        let own = timer.client.map(|client| client.connection);
        let timer = Box::new(timer);
        let kind = EventKind::Timer { timer, payload };
        let number = match own {
            Some(number) => {
                self.events.lanes_mut().push(number, kind);
                number
            }
            None => {
                let number = self.take_number();
                self.events.open(number, tenant, kind);
                number
            }
        };
        self.pump(number);
    }
}

/// Waits for the timers of a shard, for as long as it lives.
pub(super) async fn run(shard: Rc<Shard>) {
    let earlier = shard.state.borrow().timers.earlier.clone();
    loop {
        let next = shard.next_timer();
        tokio::select! {
            biased;
            () = earlier.notified() => {}
            () = deadline::reached(next) => {
                while shard.state.borrow_mut().run_out_timers() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl Shard {
    /// When the next timer runs out.
    fn next_timer(&self) -> Option<Instant> {
        let state = self.state.borrow();
        Some(state.clock.at(state.timers.all.next_us()?))
    }
}
