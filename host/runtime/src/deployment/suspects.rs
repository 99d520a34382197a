//! Clients whose events broke their instance, over all seats of a deployment. Pure but for its lock.
//!
//! After its first dead letter a client's events run alone, so that the instance of others is not
//! built anew for it again; after [`DEAD_LETTERS_MAX`] its messages are set aside unheard, since its
//! gateway closes it. Who has broken nothing for [`DEAD_LETTERS_WITHIN`] is as good as any other.
//! Bounded: beyond the bound who broke longest ago is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidegate_wire::effect::{DEAD_LETTERS_MAX, DEAD_LETTERS_WITHIN};
use tidegate_wire::id::ClientId;

use super::breaker::WINDOW;

/// Clients that are remembered.
const SUSPECTS_MAX: usize = 4096;
/// So often one client can say that an instance keeps breaking: as often as one event is tried.
const BREAKS_COUNTED: u32 = 2;

/// How a client's events are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// On the instance of its seat.
    Good,
    /// Alone.
    Alone,
    /// Its messages not at all: it is being closed.
    Closing,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    breaks: u32,
    dead_letters: u8,
    last: Instant,
}

/// The table. Almost always empty, and then it is not looked at.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    count: AtomicUsize,
    table: Mutex<HashMap<ClientId, Suspect>>,
    /// When anybody broke anything last.
    last: Mutex<Option<Instant>>,
}

impl Suspects {
    /// The table is plain data: whoever panicked while holding the lock left it usable.
    fn table(&self) -> MutexGuard<'_, HashMap<ClientId, Suspect>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// A client's event broke its instance. Whether that says something about the plugin: what one
    /// client does again and again does not.
    pub(super) fn broke(&self, client: ClientId, now: Instant) -> bool {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.change(client, now, |suspect| {
            suspect.breaks = suspect.breaks.saturating_add(1);
            suspect.breaks <= BREAKS_COUNTED
        })
    }

    /// Whether anybody has broken anything in the last [`WINDOW`].
    pub(super) fn broke_of_late(&self, now: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| now.saturating_duration_since(last) <= WINDOW)
    }

    /// An event of the client was set aside.
    pub(super) fn dead_letter(&self, client: ClientId, now: Instant) {
        self.change(client, now, |suspect| {
            suspect.dead_letters = suspect.dead_letters.saturating_add(1);
        });
    }

    fn change<T>(
        &self,
        client: ClientId,
        now: Instant,
        change: impl FnOnce(&mut Suspect) -> T,
    ) -> T {
        let mut table = self.table();
        if table.len() >= SUSPECTS_MAX && !table.contains_key(&client) {
            let oldest = table.iter().min_by_key(|(_, suspect)| suspect.last);
            if let Some(oldest) = oldest.map(|(client, _)| *client) {
                table.remove(&oldest);
            }
        }
        let new = Suspect {
            breaks: 0,
            dead_letters: 0,
            last: now,
        };
        let suspect = table.entry(client).or_insert(new);
        if is_over(suspect, now) {
            *suspect = new;
        }
        suspect.last = now;
        let result = change(suspect);
        self.count.store(table.len(), Ordering::Release);
        result
    }

    /// How the client's events are run now.
    pub(super) fn treatment(&self, client: ClientId, now: Instant) -> Treatment {
        let mut table = self.table();
        let Some(suspect) = table.get(&client).copied() else {
            return Treatment::Good;
        };
        if is_over(&suspect, now) {
            table.remove(&client);
            self.count.store(table.len(), Ordering::Release);
            return Treatment::Good;
        }
        match suspect.dead_letters {
            0 => Treatment::Good,
            DEAD_LETTERS_MAX.. => Treatment::Closing,
            _ => Treatment::Alone,
        }
    }

    /// The client is gone.
    pub(super) fn forget(&self, client: ClientId) {
        if self.any() {
            let mut table = self.table();
            table.remove(&client);
            self.count.store(table.len(), Ordering::Release);
        }
    }
}

fn is_over(suspect: &Suspect, now: Instant) -> bool {
    now.saturating_duration_since(suspect.last) >= DEAD_LETTERS_WITHIN
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(connection: u32) -> ClientId {
        ClientId {
            ip: 1,
            port: 1,
            connection,
        }
    }

    #[test]
    fn a_client_is_alone_after_one_dead_letter_and_closing_after_all() {
        let (suspects, now) = (Suspects::default(), Instant::now());
        assert!(suspects.broke(client(1), now));
        assert_eq!(suspects.treatment(client(1), now), Treatment::Good);
        for count in 1..DEAD_LETTERS_MAX {
            suspects.dead_letter(client(1), now);
            assert_eq!(
                suspects.treatment(client(1), now),
                Treatment::Alone,
                "{count}"
            );
        }
        suspects.dead_letter(client(1), now);
        assert_eq!(suspects.treatment(client(1), now), Treatment::Closing);
        assert_eq!(suspects.treatment(client(2), now), Treatment::Good);
        suspects.forget(client(1));
        assert!(!suspects.any());
    }

    #[test]
    fn what_one_client_breaks_again_and_again_says_nothing_about_the_plugin() {
        let (suspects, now) = (Suspects::default(), Instant::now());
        let counted = (0..100).filter(|_| suspects.broke(client(1), now));
        assert_eq!(counted.count(), 2);
        assert!(suspects.broke(client(2), now));
    }

    #[test]
    fn who_breaks_nothing_for_long_is_good_again() {
        let (suspects, now) = (Suspects::default(), Instant::now());
        (0..DEAD_LETTERS_MAX).for_each(|_| suspects.dead_letter(client(1), now));
        let before = now + DEAD_LETTERS_WITHIN - Duration::from_millis(1);
        assert_eq!(suspects.treatment(client(1), before), Treatment::Closing);
        let after = now + DEAD_LETTERS_WITHIN;
        assert_eq!(suspects.treatment(client(1), after), Treatment::Good);
        assert!(!suspects.any());
    }

    #[test]
    fn no_more_are_remembered_than_the_bound() {
        let (suspects, start) = (Suspects::default(), Instant::now());
        let most = u32::try_from(SUSPECTS_MAX).unwrap();
        for number in 0..most + 100 {
            let now = start + Duration::from_micros(number.into());
            suspects.dead_letter(client(number), now);
        }
        assert_eq!(suspects.table().len(), SUSPECTS_MAX);
        assert_eq!(suspects.treatment(client(99), start), Treatment::Good);
        assert_eq!(suspects.treatment(client(100), start), Treatment::Alone);
    }
}
