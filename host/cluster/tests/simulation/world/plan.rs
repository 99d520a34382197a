//! What a run looks like and what can go wrong in it, as the seed says.

use rand::RngExt;
use rand::rngs::SmallRng;
use tidegate_cluster::gateway::router::Router;

/// What can go wrong in a run, and how the run looks otherwise.
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
}

impl Plan {
    pub(super) fn draw(rng: &mut SmallRng) -> Self {
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
        }
    }
}
