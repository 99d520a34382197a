//! Which worker serves a client. Pure: candidates and randomness come in, an index goes out.

use rand::Rng;
use rand::RngExt;
use tidegate_wire::Name;
use tidegate_wire::id::Incarnation;
use tidegate_wire::sketch::stable_hash;

use crate::hub::Client;

/// How the events of one tenant find their workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// How a worker is chosen, where no key says which.
    pub router: Router,
    /// What of a client says which worker its events go to, with a router that binds.
    pub key: Option<RoutingKey>,
    /// Only workers that have all of these tags get its events.
    pub worker_tags: Vec<Name>,
    /// The session keys that a component is told which chooses the worker of each event, if there is one.
    pub component: Option<Vec<Name>>,
}

/// What a worker is to a tenant; the later, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It does not run what the tenant has.
    RunsNothing,
    /// It does, but lacks one of the tags.
    LacksTags,
    /// It may get its events.
    Serves,
}

impl Routing {
    /// Whether a client stays with its worker, so that many of its events may be under way there.
    #[must_use]
    pub const fn binds(&self) -> bool {
        self.component.is_none() && self.router.binds()
    }

    /// What a worker with these tags is to the tenant.
    #[must_use]
    pub fn standing(&self, runs: bool, tags: &[Name]) -> Standing {
        match runs {
            false => Standing::RunsNothing,
            true if self.worker_tags.iter().all(|tag| tags.contains(tag)) => Standing::Serves,
            true => Standing::LacksTags,
        }
    }
}

/// What of a client says which worker its events go to: those with the same have the same worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutingKey {
    /// Its uid.
    Uid,
    /// The JSON text under this key of its session.
    Session(Name),
}

impl RoutingKey {
    /// What a client has there, as a number that is the same on every node; none if it has nothing.
    #[must_use]
    pub fn of(&self, client: &Client) -> Option<u64> {
        let value = match self {
            Self::Uid => client.uid().map(|uid| &**uid),
            Self::Session(key) => client.session()?.get(key),
        };
        value.map(|value| stable_hash(value.as_bytes()))
    }
}

/// The worker of all who have this under their key: the one whose hash with it is the highest. So
/// whoever knows the same workers chooses the same, a worker that goes moves only who was there, and
/// one that comes moves only who is there from then on. Lives of a worker are different workers.
pub fn choose_by_key<T>(key: u64, workers: impl Iterator<Item = (Incarnation, T)>) -> Option<T> {
    let weight = |worker: Incarnation| stable_hash(&(key ^ worker.0).to_le_bytes());
    let best = workers.max_by_key(|(worker, _)| (weight(*worker), *worker));
    best.map(|(_, it)| it)
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use tidegate_wire::effect::SessionChange;

    use super::*;
    use crate::hub::{Hub, HubLimits};

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

    #[test]
    fn a_key_is_what_a_client_has_now_and_nothing_while_it_has_nothing() {
        let mut hub = Hub::new(HubLimits::default());
        let keys = [RoutingKey::Uid, RoutingKey::Session("room".into())];
        let of = |hub: &Hub| keys.each_ref().map(|key| key.of(hub.client(1).unwrap()));
        hub.insert(1);
        assert_eq!(of(&hub), [None, None]);
        hub.bind_uid(1, &"anna".into()).unwrap();
        let (key, value) = ("room".into(), "7".to_owned());
        let set = SessionChange::Set { key, value };
        hub.change_session(1, &set).unwrap();
        let is = [b"anna" as &[u8], b"7"].map(|it| Some(stable_hash(it)));
        assert_eq!(of(&hub), is);
        hub.go_offline(1);
        assert_eq!(of(&hub), is, "its close goes where its events went");
        hub.unbind_uid(1).unwrap();
        hub.change_session(1, &SessionChange::Clear).unwrap();
        assert_eq!(of(&hub), [None, None]);
    }

    #[test]
    fn only_a_worker_with_all_tags_serves() {
        let names = |names: &[&str]| names.iter().copied().map(Name::from).collect::<Vec<_>>();
        let wants = |tags: &[&str]| Routing {
            worker_tags: names(tags),
            ..Routing::default()
        };
        for (wanted, has, standing) in [
            (&[] as &[&str], &[] as &[&str], Standing::Serves),
            (&[], &["gpu"], Standing::Serves),
            (&["gpu"], &[], Standing::LacksTags),
            (&["gpu"], &["gpu=2", "GPU"], Standing::LacksTags),
            (&["gpu", "eu"], &["gpu"], Standing::LacksTags),
            (&["gpu", "eu"], &["host=a", "eu", "gpu"], Standing::Serves),
        ] {
            let routing = wants(wanted);
            assert_eq!(
                routing.standing(true, &names(has)),
                standing,
                "{wanted:?}, {has:?}"
            );
            let idle = routing.standing(false, &names(has));
            assert_eq!(idle, Standing::RunsNothing);
        }
        assert!(Standing::Serves > Standing::LacksTags);
        assert!(Standing::LacksTags > Standing::RunsNothing);
    }

    fn by_key(key: u64, workers: &BTreeSet<u64>) -> Option<u64> {
        choose_by_key(key, workers.iter().map(|it| (Incarnation(*it), *it)))
    }

    fn some_keys() -> impl Iterator<Item = u64> {
        (0..2_000).map(|number| stable_hash(format!("user-{number}").as_bytes()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A worker that goes moves only the clients that it had, and one that comes only those that it
        /// gets; in which order they are known does not matter.
        #[test]
        fn under_a_key_only_clients_of_a_worker_that_goes_or_comes_move(
            mut workers in proptest::collection::btree_set(any::<u64>(), 1..12), other: u64
        ) {
            workers.remove(&other);
            let mut more = workers.clone();
            more.insert(other);
            for key in some_keys() {
                let backwards = more.iter().rev().map(|it| (Incarnation(*it), *it));
                let with = by_key(key, &more);
                prop_assert_eq!(choose_by_key(key, backwards), with);
                if with != Some(other) {
                    prop_assert_eq!(by_key(key, &workers), with);
                }
            }
        }

        /// No worker has less than half of its share of the clients, or more than half again.
        #[test]
        fn clients_spread_evenly_under_a_key(
            workers in proptest::collection::btree_set(any::<u64>(), 1..9)
        ) {
            let share = some_keys().count() / workers.len();
            for worker in &workers {
                let count = some_keys().filter(|key| by_key(*key, &workers) == Some(*worker)).count();
                prop_assert!((share / 2..=share * 3 / 2).contains(&count), "{count} of {share}");
            }
        }
    }
}
