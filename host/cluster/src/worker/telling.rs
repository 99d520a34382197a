//! Closes of a lost gateway's clients that this worker tells: which is told next, and how many run
//! at a time.
//!
//! Tenants take turns, and each has its share of those that run, so that one whose handlers are
//! slow waits alone. A close that the handlers give back is told again a few times, with growing
//! pauses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_fair::{Shares, Turns};
use tidegate_wire::Name;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Closes of a lost gateway that run at a time: handlers serve live clients meanwhile.
pub(super) const TELLING_MAX: usize = 128;
/// A close that the handlers give back is told again this many times, with growing pauses.
pub(super) const ROUNDS_MAX: u32 = 8;
/// The first pause.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// What is told of clients `L`.
#[derive(Debug)]
pub(super) struct Telling<L> {
    waiting: Turns<Name, Untold<L>>,
    shares: Shares<Name>,
    running: FxHashMap<u64, Untold<L>>,
    /// Those that the handlers gave back, by the time and the number of their next turn.
    paused: BTreeMap<(Instant, u64), Untold<L>>,
    ended: Arc<Ended>,
    last: u64,
    given_up: usize,
}

#[derive(Debug)]
struct Untold<L> {
    tenant: Name,
    client: L,
    /// How often it was given back.
    rounds: u32,
}

/// Closes that do not run any more.
#[derive(Debug, Default)]
struct Ended {
    numbers: Mutex<Vec<u64>>,
    any: Notify,
}

impl Ended {
    fn numbers(&self) -> MutexGuard<'_, Vec<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.numbers())
    }
}

/// Held while a close runs.
#[derive(Debug)]
pub(super) struct Permit {
    number: u64,
    ended: Arc<Ended>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.ended.numbers().push(self.number);
        self.ended.any.notify_one();
    }
}

impl<L: Clone> Telling<L> {
    /// Clients with their tenants.
    pub(super) fn new(clients: impl IntoIterator<Item = (Name, L)>) -> Self {
        let mut waiting = Turns::default();
        let mut tenants = FxHashSet::default();
        for (tenant, client) in clients {
            if !tenants.contains(&tenant) {
                tenants.insert(tenant.clone());
            }
            let untold = Untold {
                tenant: tenant.clone(),
                client,
                rounds: 0,
            };
            waiting.push(tenant, untold);
        }
        Self {
            waiting,
            shares: Shares::new(TELLING_MAX, tenants.len()),
            running: FxHashMap::default(),
            paused: BTreeMap::new(),
            ended: Arc::default(),
            last: 0,
            given_up: 0,
        }
    }

    /// Whether nothing is left to be told.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.paused.is_empty()
    }

    /// How many were given back by the handlers each time that they were told.
    pub(super) const fn given_up(&self) -> usize {
        self.given_up
    }

    /// The next client whose close may be told, of a tenant that is `able` to have one told.
    pub(super) fn next(&mut self, able: impl Fn(&Name) -> bool) -> Option<(L, Permit)> {
        let shares = &self.shares;
        let next = self
            .waiting
            .next(|tenant, _| shares.has_room(tenant) && able(tenant));
        let (tenant, untold) = next?;
        self.shares.take(&tenant, 1);
        self.last += 1;
        let (number, client) = (self.last, untold.client.clone());
        self.running.insert(number, untold);
        let ended = self.ended.clone();
        Some((client, Permit { number, ended }))
    }

    /// Learns which have ended. One that is not settled is told again after a pause.
    pub(super) fn look(&mut self, now: Instant, is_settled: impl Fn(&L) -> bool) {
        for number in self.ended.take() {
            let Some(mut untold) = self.running.remove(&number) else {
                continue;
            };
            self.shares.give(&untold.tenant, 1);
            if is_settled(&untold.client) {
                continue;
            }
            untold.rounds += 1;
            if untold.rounds == ROUNDS_MAX {
                self.given_up += 1;
                continue;
            }
            let due = now + PAUSE * 2_u32.pow(untold.rounds - 1);
            self.paused.insert((due, number), untold);
        }
        while let Some(first) = self.paused.first_entry()
            && first.key().0 <= now
        {
            let untold = first.remove();
            self.waiting.push(untold.tenant.clone(), untold);
        }
    }

    /// Waits until a close has ended or the next pause is over. If clients wait whose tenants are not
    /// able, waits for one pause, so that the caller looks at them again.
    pub(super) async fn wait(&self) {
        let due = self.paused.first_key_value().map(|((due, _), _)| *due);
        let soon = (!self.waiting.is_empty()).then(|| Instant::now() + PAUSE);
        let any = self.ended.any.notified();
        match due.into_iter().chain(soon).min() {
            Some(due) => timeout_at(due, any).await.unwrap_or(()),
            None => any.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn clients(tenants: &[(&str, u32)]) -> Vec<(Name, u32)> {
        let mut all = Vec::new();
        for (tenant, clients) in tenants {
            all.extend((0..*clients).map(|client| (Name::from(*tenant), client)));
        }
        all
    }

    fn count(running: &[(Name, Permit)], tenant: &str) -> usize {
        running.iter().filter(|(it, _)| &**it == tenant).count()
    }

    #[test]
    fn the_closes_of_a_tenant_whose_handlers_are_slow_wait_alone() {
        let all = clients(&[("slow", 1_000), ("quick", 1_000)]);
        let all = all.into_iter().map(|it| (it.0.clone(), it));
        let (mut telling, now) = (Telling::new(all), Instant::now());
        let (mut running, mut told) = (Vec::new(), 0);
        while told < 1_000 {
            let before = told;
            while let Some(((tenant, _), permit)) = telling.next(|_| true) {
                running.push((tenant, permit));
                assert!(running.len() <= TELLING_MAX);
            }
            told += count(&running, "quick");
            running.retain(|(tenant, _)| &**tenant == "slow");
            assert!(
                told > before,
                "{told} of the other tenant's closes are told"
            );
            telling.look(now, |_| true);
        }
        assert!(count(&running, "slow") > 0 && !telling.is_over());
    }

    #[test]
    fn what_the_handlers_give_back_is_told_again_some_times_and_holds_up_nobody() {
        let all = clients(&[("broken", 1), ("sound", 2)]);
        let all = all.into_iter().map(|it| (it.0.clone(), it));
        let (mut telling, mut now) = (Telling::new(all), Instant::now());
        let told = RefCell::new(FxHashMap::<Name, u32>::default());
        let tell = |telling: &mut Telling<(Name, u32)>| {
            while let Some(((tenant, _), _permit)) = telling.next(|_| true) {
                *told.borrow_mut().entry(tenant).or_default() += 1;
            }
        };
        for _ in 0..ROUNDS_MAX {
            tell(&mut telling);
            telling.look(now, |(tenant, _)| &**tenant == "sound");
            assert_eq!(told.borrow().get("sound"), Some(&2));
            now += PAUSE * 2_u32.pow(ROUNDS_MAX);
            telling.look(now, |_| false);
        }
        assert_eq!(told.borrow().get("broken"), Some(&ROUNDS_MAX));
        assert!(telling.is_over() && telling.given_up() == 1);
    }

    #[test]
    fn who_is_not_able_is_passed_over() {
        let all = clients(&[("crowded", 5), ("free", 2)]);
        let all = all.into_iter().map(|it| (it.0.clone(), it));
        let mut telling = Telling::new(all);
        let next = |telling: &mut Telling<(Name, u32)>| {
            let (client, _permit) = telling.next(|tenant| &**tenant != "crowded")?;
            Some(client.0)
        };
        assert_eq!(next(&mut telling).as_deref(), Some("free"));
        assert_eq!(next(&mut telling).as_deref(), Some("free"));
        assert_eq!(next(&mut telling), None);
    }
}
