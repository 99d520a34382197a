//! What a run looks like and what can go wrong in it, as the seed says.

use rand::RngExt;
use rand::rngs::SmallRng;
use tidegate_hub::routing::{Router, Routing, RoutingKey};

use super::Kind;
use crate::process::Bounds;
use crate::{handlers, holdings};

/// What can go wrong in a run, and how the run looks otherwise.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) registers: usize,
    pub(crate) workers: usize,
    pub(crate) gateways: usize,
    pub(crate) routing: Routing,
    pub(crate) returns: u32,
    pub(crate) chaos_ms: u64,
    /// Of a thousand steps so many begin with a fault.
    pub(crate) faults: u32,
    pub(crate) kills_gateways: bool,
    pub(crate) kills_workers: bool,
    pub(crate) kills_registers: bool,
    pub(crate) freezes: bool,
    pub(crate) partitions: bool,
    pub(crate) more: More,
    pub(crate) bulk: Bulk,
    /// Of a hundred lines that ask for nothing else so many set a timer.
    pub(crate) timers: u32,
    /// Of a hundred plain lines so many ask for a task.
    pub(crate) tasks: u32,
}

/// How much of this simulation a seed draws from: each part was added later than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    First,
    More,
    Bulk,
    Timers,
    Tasks,
    Keys,
}

/// What was added later, drawn apart, so that a seed without it gives the run that it always gave.
#[derive(Debug)]
pub(crate) struct More {
    pub(crate) bounds: Bounds,
    /// Events that a client may have under way.
    pub(crate) under_way: usize,
    /// Of a thousand steps so many begin with one of the following.
    pub(crate) faults: u32,
    /// Workers and gateways leave in peace.
    pub(crate) drains: bool,
    pub(crate) stops_gateways: bool,
    /// Machines are suspended: their clocks miss time.
    pub(crate) suspends: bool,
    /// Workers no longer serve the tenant, and serve it again.
    pub(crate) withdraws: bool,
    /// One register is cut off from some nodes.
    pub(crate) parts_registers: bool,
    /// Handlers return errors and trap until the event is a dead letter.
    pub(crate) fails: bool,
    pub(crate) swaps: bool,
}

impl More {
    const NOTHING: Self = Self {
        bounds: Bounds {
            window_events: 64,
            window_bytes: 1 << 20,
            link_queue_bytes_max: 1 << 20,
            hold_bytes_max: 64 << 10,
            pending_bytes_max: 64 << 20,
        },
        under_way: 12,
        faults: 0,
        drains: false,
        stops_gateways: false,
        suspends: false,
        withdraws: false,
        parts_registers: false,
        fails: false,
        swaps: false,
    };

    fn draw(rng: &mut SmallRng) -> Self {
        if rng.random_bool(0.2) {
            return Self::NOTHING;
        }
        let mut bounds = Self::NOTHING.bounds;
        let tight = rng.random_bool(0.3);
        if tight {
            bounds.hold_bytes_max = rng.random_range(20..200);
        }
        if rng.random_bool(0.2) {
            bounds.pending_bytes_max = rng.random_range(100..1_000);
        }
        if rng.random_bool(0.3) {
            bounds.window_events = rng.random_range(1..8);
        }
        Self {
            bounds,
            under_way: if tight { 60 } else { 12 },
            faults: rng.random_range(5..50),
            drains: rng.random_bool(0.4),
            stops_gateways: rng.random_bool(0.2),
            suspends: rng.random_bool(0.3),
            withdraws: rng.random_bool(0.2),
            parts_registers: rng.random_bool(0.4),
            fails: rng.random_bool(0.5),
            swaps: rng.random_bool(0.5),
        }
    }
}

/// So many of the largest values fit in the queue of a link: fewer than there are clients.
const LARGEST_THAT_WAIT: usize = 24;
const LINK_QUEUE_BYTES_MIN: usize = 64 << 10;

/// What was added last: large sessions, many groups with long names, links that pause, and machines
/// that are lost whole.
#[derive(Debug)]
pub(crate) struct Bulk {
    /// A client's large value has at most so many bytes; 0: there is none.
    pub(crate) value_bytes_max: usize,
    /// Groups of one client.
    pub(crate) groups_max: u64,
    /// Clients at each gateway from the start, besides those who come anyway.
    pub(crate) people: usize,
    /// Of a hundred steps a client speaks in so many.
    pub(crate) talks: u32,
    /// Of a hundred lines so many change what is kept.
    pub(crate) changes: u32,
    /// Machines that gateways and workers share in turns; 0: each has one of its own and names none.
    pub(crate) places: usize,
    /// Of a thousand steps so many begin with one of the following.
    pub(crate) faults: u32,
    /// Connections on which nothing passes for a while.
    pub(crate) pauses: bool,
    /// A machine is lost with all that runs on it.
    pub(crate) kills_machines: bool,
    /// Whole machines are all that is lost, one at a time, with all custodians named: no close may be
    /// lost with them.
    pub(crate) machines_alone: bool,
    /// Clients set keys in each other's sessions, and dissolve groups.
    pub(crate) meddles: bool,
}

impl Bulk {
    const NOTHING: Self = Self {
        value_bytes_max: 0,
        groups_max: 0,
        people: 0,
        talks: 25,
        changes: 0,
        places: 0,
        faults: 0,
        pauses: false,
        kills_machines: false,
        machines_alone: false,
        meddles: false,
    };

    /// Draws what is kept, and bounds of links that it would not fit in all at once.
    fn draw(rng: &mut SmallRng, bounds: &mut Bounds) -> Self {
        let mut bulk = Self {
            faults: rng.random_range(5..40),
            pauses: rng.random_bool(0.4),
            kills_machines: rng.random_bool(0.3),
            places: rng.random_range(0..=3),
            ..Self::NOTHING
        };
        bulk.machines_alone = bulk.kills_machines && bulk.places > 1 && rng.random_bool(0.5);
        match rng.random_range(0..10) {
            // Small, but kept and changed all the same.
            0..3 => {
                bulk.value_bytes_max = 200;
                bulk.groups_max = 20;
            }
            3 => {
                bulk.value_bytes_max = rng.random_range(2 << 10..60 << 10);
                bulk.groups_max = rng.random_range(0..=20);
                bulk.people = rng.random_range(15..40);
                bulk.talks = 8;
                let queue = (LARGEST_THAT_WAIT * bulk.value_bytes_max).max(LINK_QUEUE_BYTES_MIN);
                bounds.link_queue_bytes_max = queue;
                // As by default: what is under way has room in the queue.
                bounds.window_bytes = queue as u64 / 2;
            }
            _ => return bulk,
        }
        bulk.changes = rng.random_range(2..20);
        bulk.meddles = rng.random_bool(0.5);
        bulk
    }
}

/// What says which worker a client has: nothing, what stays as it is once the client is known, what
/// changes now and then, or what changes with each event.
fn routing_key(rng: &mut SmallRng) -> Option<RoutingKey> {
    match rng.random_range(0..10) {
        0..6 => None,
        6..8 => Some(RoutingKey::Uid),
        8 => Some(RoutingKey::Session(holdings::VALUE.into())),
        _ => Some(RoutingKey::Session(handlers::COUNT.into())),
    }
}

impl Plan {
    /// On which machine the next process of a kind runs, if machines are shared; `taken` counts
    /// workers and gateways. Registers are apart, so that somebody can tell what was lost.
    pub(super) fn place(&self, kind: Kind, taken: &mut [usize; 2]) -> Option<usize> {
        let taken = match kind {
            Kind::Register => return None,
            Kind::Worker => &mut taken[0],
            Kind::Gateway => &mut taken[1],
        };
        *taken += 1;
        (*taken - 1).checked_rem(self.bulk.places)
    }

    /// Draws from one generator for each part; a part without one stays out.
    pub(super) fn draw(
        rng: &mut SmallRng,
        more: Option<&mut SmallRng>,
        bulk: Option<&mut SmallRng>,
        timers: Option<&mut SmallRng>,
        tasks: Option<&mut SmallRng>,
        keys: Option<&mut SmallRng>,
    ) -> Self {
        let mut more = more.map_or(More::NOTHING, More::draw);
        let bulk = bulk.map_or(Bulk::NOTHING, |rng| Bulk::draw(rng, &mut more.bounds));
        let router = match rng.random_range(0..4) {
            0 => Router::Rand,
            1 => Router::BindRandom,
            _ => Router::Bind,
        };
        let key = keys.and_then(routing_key);
        let router = if key.is_some() && !router.binds() {
            Router::Bind
        } else {
            router
        };
        let plan = Self {
            registers: rng.random_range(1..=2),
            workers: rng.random_range(1..=3),
            gateways: rng.random_range(1..=3),
            routing: Routing {
                router,
                key,
                ..Routing::default()
            },
            returns: if rng.random_bool(0.3) { 3 } else { 0 },
            chaos_ms: rng.random_range(500..2_000),
            faults: rng.random_range(10..80),
            kills_gateways: rng.random_bool(0.4),
            kills_workers: rng.random_bool(0.6),
            kills_registers: rng.random_bool(0.4),
            freezes: rng.random_bool(0.5),
            partitions: rng.random_bool(0.5),
            more,
            bulk,
            timers: timers.map_or(0, |rng| [0, 0, 10, 50, 100][rng.random_range(0..5)]),
            tasks: tasks.map_or(0, |rng| [0, 0, 10, 50, 100][rng.random_range(0..5)]),
        };
        if plan.bulk.machines_alone {
            plan.without_other_losses()
        } else {
            plan
        }
    }

    /// Nothing is lost but whole machines, of which there are two at least.
    fn without_other_losses(self) -> Self {
        Self {
            workers: self.workers.max(2),
            gateways: self.gateways.max(2),
            chaos_ms: 2 * self.chaos_ms,
            kills_gateways: false,
            kills_workers: false,
            kills_registers: false,
            freezes: false,
            partitions: false,
            more: More {
                drains: false,
                stops_gateways: false,
                suspends: false,
                withdraws: false,
                parts_registers: false,
                ..self.more
            },
            ..self
        }
    }
}
