//! Which worker serves a client. Pure: candidates and randomness come in, an index goes out.

use rand::Rng;
use rand::RngExt;
use tidegate_wire::Name;

/// How the events of one tenant find their workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// How a worker is chosen.
    pub router: Router,
}

/// The routing of each tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routings {
    /// Of those that are not named.
    pub others: Routing,
    /// Of those that are.
    pub named: Vec<(Name, Routing)>,
}

impl Routings {
    /// One for every tenant.
    #[must_use]
    pub const fn all(others: Routing) -> Self {
        let named = Vec::new();
        Self { others, named }
    }

    /// That of a tenant.
    #[must_use]
    pub fn of(&self, tenant: &str) -> &Routing {
        let mut named = self.named.iter();
        let found = named.find(|(name, _)| **name == *tenant);
        found.map_or(&self.others, |(_, routing)| routing)
    }
}

/// How the worker of a client's events is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Router {
    /// A client stays with its worker; the better of two by load is taken for a new one.
    #[default]
    Bind,
    /// A client stays with its worker; any is taken for a new one.
    BindRandom,
    /// Any worker for each event, one event of a client at a time.
    Rand,
}

impl Router {
    /// Whether a client stays with its worker.
    #[must_use]
    pub const fn binds(self) -> bool {
        match self {
            Self::Bind | Self::BindRandom => true,
            Self::Rand => false,
        }
    }
}

/// How busy a worker is, as far as this shard knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Clients by its last report, and what this shard gave it since.
    pub clients: u64,
    /// Payload bytes that wait there by its last report.
    pub queued_bytes: u64,
}

/// An index into `candidates`, or none if there are none.
pub fn choose(router: Router, candidates: &[Candidate], rng: &mut impl Rng) -> Option<usize> {
    let count = candidates.len();
    match (router, count) {
        (_, 0) => None,
        (_, 1) => Some(0),
        (Router::Rand | Router::BindRandom, _) => Some(rng.random_range(0..count)),
        (Router::Bind, _) => {
            let first = rng.random_range(0..count);
            let second = (first + rng.random_range(1..count)) % count;
            let busy = |index: usize| {
                let candidate = candidates.get(index)?;
                Some((candidate.clients, candidate.queued_bytes))
            };
            Some(if busy(second) < busy(first) {
                second
            } else {
                first
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn candidate(clients: u64) -> Candidate {
        Candidate {
            clients,
            queued_bytes: 0,
        }
    }

    #[test]
    fn the_better_of_two_is_taken() {
        let mut rng = StdRng::seed_from_u64(1);
        let two = [candidate(10), candidate(3)];
        for _ in 0..100 {
            assert_eq!(choose(Router::Bind, &two, &mut rng), Some(1));
        }
    }

    #[test]
    fn clients_spread_evenly_under_bind() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut workers = [candidate(0); 5];
        for _ in 0..10_000 {
            let index = choose(Router::Bind, &workers, &mut rng).unwrap();
            workers[index].clients += 1;
        }
        let most = workers.iter().map(|worker| worker.clients).max().unwrap();
        let least = workers.iter().map(|worker| worker.clients).min().unwrap();
        assert!(most - least < 20, "{workers:?}");
    }

    #[test]
    fn rand_reaches_every_worker_and_nobody_is_chosen_from_nothing() {
        let mut rng = StdRng::seed_from_u64(3);
        let workers = [candidate(0); 4];
        let mut seen = [false; 4];
        for _ in 0..200 {
            seen[choose(Router::Rand, &workers, &mut rng).unwrap()] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(choose(Router::Rand, &[], &mut rng), None);
    }
}
