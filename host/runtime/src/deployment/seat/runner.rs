//! One version at a seat: its instance, and when the next one may be built.

use std::sync::Arc;
use std::time::Instant;

use crate::deployment::breaker::Breaker;
use crate::deployment::starting::Started;
use crate::engine::Runtime;
use crate::host_api::OutputLog;
use crate::instance::Instance;
use crate::plugin::PluginError;
use crate::version::Version;

/// Which version of a seat runs an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that serves there.
    Own,
    /// The one before it, while that is on trial.
    Before,
}

/// A version and its instance at one seat.
pub(super) struct Runner {
    pub(super) version: Arc<Version>,
    pub(super) instance: Option<Instance>,
    output: Arc<OutputLog>,
    breaker: Breaker,
    /// The next instance is not built before.
    pause: Option<Instant>,
}

impl Runner {
    pub(super) fn new(version: Arc<Version>, number: u32, started: Option<Started>) -> Self {
        let (instance, output) = match started {
            Some(started) => (Some(started.instance), started.output),
            None => (None, version.output(number)),
        };
        Self {
            version,
            instance,
            output,
            breaker: Breaker::default(),
            pause: None,
        }
    }

    /// Until when nothing can run here; it may be over.
    pub(super) fn paused(&self) -> Option<Instant> {
        self.pause.filter(|_| self.instance.is_none())
    }

    /// Builds an instance.
    pub(super) async fn build(
        &mut self,
        runtime: &Runtime,
        number: u32,
    ) -> Result<(), PluginError> {
        let (plugin, identity) = (&self.version.plugin, &self.version.identity);
        let started = Instance::start(runtime, plugin, identity, number, &self.output);
        self.instance = Some(started.await?);
        self.pause = None;
        Ok(())
    }

    /// Its instance broke, or could not be built: the next one may have to wait.
    pub(super) fn failed(&mut self, now: Instant) {
        self.pause = Some(now + self.breaker.failed(now));
    }

    /// Whether it broke so often of late that who comes anew must run alone.
    pub(super) fn guards(&self) -> bool {
        self.breaker.guards()
    }
}
