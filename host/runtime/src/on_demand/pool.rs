//! The instances of one version of a component that is called: made when a call needs one, kept for the
//! next call unless they broke, never more than there are slots.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::Runtime;
use crate::host_api::OutputLog;
use crate::plugin::PluginError;
use crate::version::Version;

use super::Called;

/// One version with its instances.
pub(super) struct Pool<I> {
    version: Arc<Version>,
    /// Those that are free; who has an instance stands at the end.
    slots: Mutex<Vec<Slot<I>>>,
}

/// A place for one instance. Its output, with the limit of it, outlives the instance.
struct Slot<I> {
    number: u32,
    output: Arc<OutputLog>,
    instance: Option<I>,
}

impl<I> Pool<I> {
    pub(super) fn new(version: Arc<Version>, slots: usize) -> Arc<Self> {
        let slot = |number: usize| {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            Slot {
                number,
                output: version.output(number),
                instance: None,
            }
        };
        let slots = (0..slots).rev().map(slot).collect();
        Arc::new(Self {
            version,
            slots: Mutex::new(slots),
        })
    }

    /// Whose instances they are.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// A free slot; None if all are in use.
    pub(super) fn take(self: &Arc<Self>) -> Option<Taken<I>> {
        let slot = self
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()?;
        Some(Taken {
            pool: Arc::clone(self),
            slot: Some(slot),
        })
    }

    fn give_back(&self, slot: Slot<I>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.instance.is_some() {
            slots.push(slot);
        } else {
            slots.insert(0, slot);
        }
    }
}

/// A slot in use. Dropped it goes back, without the instance if that was not given back to it.
pub(crate) struct Taken<I> {
    pool: Arc<Pool<I>>,
    slot: Option<Slot<I>>,
}

impl<I: Called> Taken<I> {
    /// Its instance, made now if there is none. Whoever gives it up half-way drops it.
    pub(crate) async fn instance(&mut self, runtime: &Runtime) -> Result<I, PluginError> {
        let Version {
            plugin, identity, ..
        } = &*self.pool.version;
        let Some(slot) = &mut self.slot else {
            return Err(PluginError::Stopped {
                name: plugin.source().to_string(),
            });
        };
        if let Some(instance) = slot.instance.take() {
            return Ok(instance);
        }
        I::start(runtime, plugin, identity, slot.number, &slot.output).await
    }

    /// Keeps a healthy instance for the next call.
    pub(crate) fn keep(&mut self, instance: I) {
        if let Some(slot) = &mut self.slot {
            slot.instance = Some(instance);
        }
    }

    pub(crate) fn version(&self) -> &Version {
        &self.pool.version
    }

    /// The number of its instance, for the log.
    pub(crate) fn number(&self) -> u32 {
        self.slot.as_ref().map_or(0, |slot| slot.number)
    }
}

impl<I> Drop for Taken<I> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.pool.give_back(slot);
        }
    }
}
