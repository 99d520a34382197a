//! The gateway's counters. Handles are made once; shards share them. What is counted for every
//! message is gathered in the shard and told once per turn.

use std::cell::Cell;
use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};
use tidegate_histogram::Histogram;
use tidegate_hub::tenants::Tenants;
use tidegate_wire::Name;
use tidegate_wire::effect::Outcome;
use tidegate_wire::event::CloseReason;

pub(in crate::gateway) struct Metrics {
    clients: Gauge,
    kept: Gauge,
    connections: Counter,
    messages_in: Counter,
    bytes_in: Counter,
    messages_out: Counter,
    replaced: Counter,
    dropped_slow: Counter,
    dropped_without_worker: Counter,
    dropped_newline: Counter,
    dropped_peer_messages: Counter,
    commits_done: Counter,
    commits_failed: Counter,
    commits_dead: Counter,
    stale: Counter,
    refused: Counter,
    /// By tenant: lanes that had to wait for a worker, and clients that were no longer read.
    waits: Vec<[Counter; 2]>,
    custody_bytes: Counter,
    unguarded: Level,
    singles: Level,
    timers: Level,
    /// By tenant: tasks that wait, and that are under way.
    tasks: Vec<[Level; 2]>,
    /// By reason, in the order of [`CLOSES`].
    closes: Vec<Counter>,
    /// By reason: clients, bytes.
    cuts: Vec<(&'static str, [Counter; 2])>,
    /// By tenant.
    times: Vec<Times>,
    gathered: Gathered,
}

/// Why a client did not get everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Cut {
    /// It did not take it within the time of an end.
    Time,
    /// Its queue was full, and the policy is to close.
    Slow,
    /// All clients together made the gateway keep too much.
    Memory,
}

impl Cut {
    pub(in crate::gateway) const ALL: [Self; 3] = [Self::Time, Self::Slow, Self::Memory];

    pub(in crate::gateway) const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Slow => "slow",
            Self::Memory => "memory",
        }
    }
}

/// How long things take for the clients of one tenant.
struct Times {
    /// From an event's arrival until it is sent to a worker.
    wait: Arc<Histogram>,
    /// From an event's arrival until it is committed.
    event: Arc<Histogram>,
    /// From the arrival of a commit until what it sends is in its clients' sockets.
    delivery: Arc<Histogram>,
    /// From a question's arrival until its answer.
    question: Arc<Histogram>,
    /// From the time for which a timer was set until it is an event.
    timer: Arc<Histogram>,
}

impl Times {
    fn new(tenant: &Name) -> Self {
        Self {
            wait: Histogram::of("tidegate_gateway_event_wait_seconds", tenant),
            event: Histogram::of("tidegate_gateway_event_seconds", tenant),
            delivery: Histogram::of("tidegate_gateway_delivery_seconds", tenant),
            question: Histogram::of("tidegate_gateway_question_seconds", tenant),
            timer: Histogram::of("tidegate_gateway_timer_lateness_seconds", tenant),
        }
    }
}

/// Why clients close, as labels.
const CLOSES: [&str; 7] = [
    "client",
    "server",
    "idle",
    "slow",
    "protocol",
    "going-away",
    "gateway-lost",
];

/// What has been counted since the last [`Metrics::tell`].
#[derive(Default)]
struct Gathered {
    messages_in: Cell<u64>,
    bytes_in: Cell<u64>,
    messages_out: Cell<u64>,
    commits_done: Cell<u64>,
}

/// A gauge of all shards, to which this one adds what it has.
struct Level {
    gauge: Gauge,
    told: Cell<usize>,
}

impl Level {
    const fn of(gauge: Gauge) -> Self {
        Self {
            gauge,
            told: Cell::new(0),
        }
    }

    fn set(&self, now: usize) {
        let before = self.told.replace(now);
        if now > before {
            self.gauge.increment((now - before) as f64);
        } else if now < before {
            self.gauge.decrement((before - now) as f64);
        }
    }
}

fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}

impl Metrics {
    pub(in crate::gateway) fn new(tenants: &Tenants) -> Self {
        let commits = |outcome| counter!("tidegate_gateway_commits_total", "outcome" => outcome);
        let waits = |tenant: &Name| {
            let waits = |cause: &'static str| counter!("tidegate_gateway_tenant_waits_total", "tenant" => tenant.to_string(), "for" => cause);
            [waits("worker"), waits("bytes")]
        };
        let tasks = |tenant: &Name| {
            let tasks = |state: &'static str| gauge!("tidegate_gateway_tasks", "tenant" => tenant.to_string(), "state" => state);
            [Level::of(tasks("waiting")), Level::of(tasks("under-way"))]
        };
        let cuts = |cut: Cut| {
            let reason = cut.name();
            let clients = counter!("tidegate_gateway_cut_clients_total", "reason" => reason);
            let bytes = counter!("tidegate_gateway_cut_bytes_total", "reason" => reason);
            (reason, [clients, bytes])
        };
        let dropped = |reason| counter!("tidegate_gateway_dropped_total", "reason" => reason);
        Self {
            clients: gauge!("tidegate_gateway_clients"),
            kept: gauge!("tidegate_gateway_kept_bytes"),
            connections: counter!("tidegate_gateway_connections_total"),
            messages_in: counter!("tidegate_gateway_messages_in_total"),
            bytes_in: counter!("tidegate_gateway_bytes_in_total"),
            messages_out: counter!("tidegate_gateway_messages_out_total"),
            replaced: counter!("tidegate_gateway_replaced_messages_total"),
            dropped_slow: dropped("slow-client"),
            dropped_without_worker: dropped("no-worker"),
            dropped_newline: dropped("newline"),
            dropped_peer_messages: dropped("peer-message"),
            commits_done: commits("done"),
            commits_failed: commits("failed"),
            commits_dead: commits("dead-lettered"),
            stale: counter!("tidegate_gateway_stale_commits_total"),
            refused: counter!("tidegate_gateway_refused_effects_total"),
            waits: tenants.all().map(waits).collect(),
            custody_bytes: counter!("tidegate_gateway_custody_bytes_total"),
            unguarded: Level::of(gauge!("tidegate_gateway_unguarded_clients")),
            singles: Level::of(gauge!("tidegate_gateway_single_custodian_clients")),
            timers: Level::of(gauge!("tidegate_gateway_timers")),
            tasks: tenants.all().map(tasks).collect(),
            closes: CLOSES
                .iter()
                .map(|reason| counter!("tidegate_gateway_closes_total", "reason" => *reason))
                .collect(),
            cuts: Cut::ALL.into_iter().map(cuts).collect(),
            times: tenants.all().map(Times::new).collect(),
            gathered: Gathered::default(),
        }
    }

    pub(in crate::gateway) fn connected(&self) {
        self.clients.increment(1);
        self.connections.increment(1);
    }

    pub(in crate::gateway) fn closed(&self, reason: CloseReason) {
        let place = match reason {
            CloseReason::Client => 0,
            CloseReason::Server => 1,
            CloseReason::Idle => 2,
            CloseReason::Slow => 3,
            CloseReason::Protocol => 4,
            CloseReason::GoingAway => 5,
            CloseReason::GatewayLost => 6,
        };
        self.clients.decrement(1);
        if let Some(counter) = self.closes.get(place) {
            counter.increment(1);
        }
    }

    pub(in crate::gateway) fn message_in(&self, bytes: usize) {
        add(&self.gathered.messages_in, 1);
        add(&self.gathered.bytes_in, bytes as u64);
    }

    pub(in crate::gateway) fn message_out(&self) {
        add(&self.gathered.messages_out, 1);
    }

    /// A message took the place of one that waited under the same key.
    pub(in crate::gateway) fn replaced(&self) {
        self.replaced.increment(1);
    }

    pub(in crate::gateway) fn dropped_slow(&self, messages: u32) {
        self.dropped_slow.increment(u64::from(messages));
    }

    pub(in crate::gateway) fn dropped_without_worker(&self, messages: u64) {
        self.dropped_without_worker.increment(messages);
    }

    /// A message with a newline was not sent to a client that is sent lines.
    pub(in crate::gateway) fn refused_newline(&self) {
        self.dropped_newline.increment(1);
    }

    /// Too much waited on the links to so many workers for a message to their instances.
    pub(in crate::gateway) fn dropped_peer_messages(&self, workers: u64) {
        self.dropped_peer_messages.increment(workers);
    }

    /// What clients make a shard keep was so much and is now so much.
    pub(in crate::gateway) fn kept(&self, before: usize, now: usize) {
        if before != now {
            self.kept.increment(now as f64 - before as f64);
        }
    }

    /// A client was closed before it had everything.
    pub(in crate::gateway) fn cut(&self, bytes: usize, why: &'static str) {
        if let Some((_, [cut, lost])) = self.cuts.iter().find(|(reason, _)| *reason == why) {
            cut.increment(1);
            lost.increment(bytes as u64);
        }
    }

    pub(in crate::gateway) fn committed(&self, outcome: Outcome) {
        match outcome {
            Outcome::Done => add(&self.gathered.commits_done, 1),
            Outcome::Failed => self.commits_failed.increment(1),
            Outcome::DeadLettered => self.commits_dead.increment(1),
            Outcome::Returned => {}
        }
    }

    /// An event of this tenant waited so long for a worker.
    pub(in crate::gateway) fn waited(&self, tenant: u16, us: u64) {
        if let Some(times) = self.times.get(usize::from(tenant)) {
            times.wait.record_us(us, 1);
        }
    }

    /// An event of this tenant was committed so long after it had come.
    pub(in crate::gateway) fn took(&self, tenant: u16, us: u64) {
        if let Some(times) = self.times.get(usize::from(tenant)) {
            times.event.record_us(us, 1);
        }
    }

    /// So many clients of this tenant got what commits sent them, so long after those had come.
    pub(in crate::gateway) fn delivered(&self, tenant: u16, us: u64, clients: u64) {
        if let Some(times) = self.times.get(usize::from(tenant)) {
            times.delivery.record_us(us, clients);
        }
    }

    /// A timer of this tenant became an event so long after its time.
    pub(in crate::gateway) fn timer_late(&self, tenant: u16, us: u64) {
        if let Some(times) = self.times.get(usize::from(tenant)) {
            times.timer.record_us(us, 1);
        }
    }

    /// So many timers wait at this shard.
    pub(in crate::gateway) fn timers(&self, count: usize) {
        self.timers.set(count);
    }

    /// So many tasks of this tenant wait at this shard, and are under way.
    pub(in crate::gateway) fn tasks(&self, tenant: u16, counts: [usize; 2]) {
        if let Some(levels) = self.tasks.get(usize::from(tenant)) {
            levels
                .iter()
                .zip(counts)
                .for_each(|(level, count)| level.set(count));
        }
    }

    /// How long questions of this tenant take.
    pub(in crate::gateway) fn questions(&self, tenant: u16) -> Option<Arc<Histogram>> {
        let times = self.times.get(usize::from(tenant))?;
        Some(Arc::clone(&times.question))
    }

    /// Tells what was gathered.
    pub(in crate::gateway) fn tell(&self) {
        let gathered = &self.gathered;
        for (counter, count) in [
            (&self.messages_in, &gathered.messages_in),
            (&self.bytes_in, &gathered.bytes_in),
            (&self.messages_out, &gathered.messages_out),
            (&self.commits_done, &gathered.commits_done),
        ] {
            match count.take() {
                0 => {}
                more => counter.increment(more),
            }
        }
    }

    /// A lane of this tenant waits for room in a worker's window.
    pub(in crate::gateway) fn waits(&self, tenant: u16) {
        if let Some([worker, _]) = self.waits.get(usize::from(tenant)) {
            worker.increment(1);
        }
    }

    /// A client of this tenant is not read: too much of the tenant waits.
    pub(in crate::gateway) fn held(&self, tenant: u16) {
        if let Some([_, bytes]) = self.waits.get(usize::from(tenant)) {
            bytes.increment(1);
        }
    }

    pub(in crate::gateway) fn stale(&self) {
        self.stale.increment(1);
    }

    pub(in crate::gateway) fn refused(&self) {
        self.refused.increment(1);
    }

    /// A custodian was told so much of a client.
    pub(in crate::gateway) fn custody_told(&self, bytes: usize) {
        self.custody_bytes.increment(bytes as u64);
    }

    /// Of so many clients of this shard a custodian is not known to know them; so many have one only.
    pub(in crate::gateway) fn guarded(&self, unguarded: usize, singles: usize) {
        self.unguarded.set(unguarded);
        self.singles.set(singles);
    }
}
