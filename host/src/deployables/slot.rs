//! What is prepared for one tenant: at most one version, that is being made ready or is held.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_runtime::{Deployment, Prepared};
use tidegate_wire::Name;
use tokio_util::sync::CancellationToken;

/// How long instances that never served have to end.
const STOP: Duration = Duration::from_secs(5);

/// A version whose instances run and serve nobody.
pub(super) enum Held {
    /// The tenant's first one, with everything round it.
    First(Deployment),
    /// Beside the one that serves.
    Next(Prepared),
}

impl Held {
    fn version(&self) -> Name {
        match self {
            Self::First(deployment) => deployment.version().borrow().clone(),
            Self::Next(prepared) => prepared.version().clone(),
        }
    }

    /// Ends its instances on a task of its own.
    pub(super) fn discard(self) {
        tokio::spawn(async move {
            match self {
                Self::First(deployment) => deployment.stop(STOP).await,
                Self::Next(prepared) => prepared.discard().await,
            }
        });
    }
}

enum SlotState {
    Empty,
    Preparing(Name, CancellationToken),
    Held(Held),
}

/// The place of the one version.
pub(super) struct Slot(Mutex<SlotState>);

impl Slot {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(SlotState::Empty))
    }

    /// A version is going to be prepared; what was there is given up. The token says that this one
    /// is given up too.
    pub(super) fn begin(&self, version: &Name) -> CancellationToken {
        let given_up = CancellationToken::new();
        let begun = SlotState::Preparing(version.clone(), given_up.clone());
        give_up(std::mem::replace(&mut *self.lock(), begun));
        given_up
    }

    /// It is ready, and held from now on; false, and ended, if it was given up meanwhile.
    pub(super) fn hold(&self, held: Held, given_up: &CancellationToken) -> bool {
        let mut state = self.lock();
        if given_up.is_cancelled() {
            drop(state);
            held.discard();
            return false;
        }
        *state = SlotState::Held(held);
        true
    }

    /// It could not be made ready.
    pub(super) fn failed(&self, given_up: &CancellationToken) {
        let mut state = self.lock();
        if !given_up.is_cancelled() {
            *state = SlotState::Empty;
        }
    }

    /// Takes what is held, if it is this version.
    pub(super) fn take(&self, version: &Name) -> Option<Held> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, SlotState::Empty) {
            SlotState::Held(held) if held.version() == *version => Some(held),
            other @ (SlotState::Empty | SlotState::Preparing(..) | SlotState::Held(_)) => {
                *state = other;
                None
            }
        }
    }

    /// Gives up this version, or whichever it is.
    pub(super) fn discard(&self, version: Option<&Name>) {
        let mut state = self.lock();
        let is_it = match &*state {
            SlotState::Empty => false,
            SlotState::Preparing(own, _) => version.is_none_or(|version| own == version),
            SlotState::Held(held) => version.is_none_or(|version| held.version() == *version),
        };
        if is_it {
            let was = std::mem::replace(&mut *state, SlotState::Empty);
            drop(state);
            give_up(was);
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn give_up(state: SlotState) {
    match state {
        SlotState::Empty => {}
        SlotState::Preparing(_, given_up) => given_up.cancel(),
        SlotState::Held(held) => held.discard(),
    }
}
