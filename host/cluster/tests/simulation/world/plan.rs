//! What a run looks like and what can go wrong in it, as the seed says.

use rand::RngExt;
use rand::rngs::SmallRng;
use tidegate_cluster::gateway::router::Router;

use crate::process::Bounds;

/// What can go wrong in a run, and how the run looks otherwise.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) registers: usize,
    pub(crate) workers: usize,
    pub(crate) gateways: usize,
    pub(crate) router: Router,
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

impl Plan {
    pub(super) fn draw(rng: &mut SmallRng, more: Option<&mut SmallRng>) -> Self {
        let router = match rng.random_range(0..4) {
            0 => Router::Rand,
            1 => Router::BindRandom,
            _ => Router::Bind,
        };
        Self {
            registers: rng.random_range(1..=2),
            workers: rng.random_range(1..=3),
            gateways: rng.random_range(1..=3),
            router,
            returns: if rng.random_bool(0.3) { 3 } else { 0 },
            chaos_ms: rng.random_range(500..2_000),
            faults: rng.random_range(10..80),
            kills_gateways: rng.random_bool(0.4),
            kills_workers: rng.random_bool(0.6),
            kills_registers: rng.random_bool(0.4),
            freezes: rng.random_bool(0.5),
            partitions: rng.random_bool(0.5),
            more: more.map_or(More::NOTHING, More::draw),
        }
    }
}
