//! One router component for one tenant: events go in, workers come out.
//!
//! Its instances are those of [`on_demand`](crate::on_demand). Whoever asks is answered within the limit
//! on the clock, waiting for an instance included; a router that fails again and again is left alone for
//! a while, so that the events that it would hold up do not wait for it.

mod pause;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_wire::Name;
use tidegate_wire::routing::{RouteCall, Routed, RouterPassed};
use tokio::sync::watch;

use crate::deployment::Boxed;
use crate::engine::Runtime;
use crate::instance::{Failure, RouterInstance};
use crate::on_demand::{NotRun, OnDemand, OnDemandSettings, Taken};
use crate::plugin::{Plugin, PluginError};

use pause::Pause;

/// A running router component. Clones are handles to the same.
#[derive(Clone)]
pub struct RouterDeployment {
    component: Arc<OnDemand<RouterInstance>>,
    pause: Arc<Mutex<Pause>>,
}

impl std::fmt::Debug for RouterDeployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterDeployment")
            .field("tenant", &self.component.settings().tenant)
            .field("version", &*self.component.version().borrow())
            .finish_non_exhaustive()
    }
}

impl RouterDeployment {
    /// Starts a first instance; ready when it is there.
    ///
    /// # Errors
    /// If the plugin is no router or does not start.
    pub async fn start(
        runtime: &Runtime,
        plugin: Plugin,
        settings: OnDemandSettings,
    ) -> Result<Self, PluginError> {
        Ok(Self {
            component: OnDemand::start(runtime, plugin, settings).await?,
            pause: Arc::default(),
        })
    }

    /// Asks for one event. Does not block the caller's thread.
    pub fn route(&self, call: RouteCall) -> Boxed<Routed> {
        if self.pause().is_on(Instant::now()) {
            return Box::pin(std::future::ready(Err(RouterPassed::Paused)));
        }
        let own = self.clone();
        let within = self.component.settings().limits.wall();
        let routing = self
            .component
            .call(within, move |taken, deadline| async move {
                own.run(taken, &call, deadline).await
            });
        let own = self.clone();
        Box::pin(async move {
            routing.await.unwrap_or_else(|not_run| match not_run {
                NotRun::Ended | NotRun::Overloaded => Err(RouterPassed::Overloaded),
                NotRun::Late => {
                    let wall_ms = within.as_millis();
                    own.failed(&format!("time limit of {wall_ms} ms reached"), None);
                    Err(RouterPassed::Failed)
                }
                NotRun::Lost(why) => {
                    own.failed(&why, None);
                    Err(RouterPassed::Failed)
                }
            })
        })
    }

    async fn run(
        &self,
        mut taken: Taken<RouterInstance>,
        call: &RouteCall,
        deadline: tokio::time::Instant,
    ) -> Routed {
        let instance = taken.instance(self.component.runtime()).await;
        let mut instance = instance.map_err(|error| {
            self.failed(&error.to_string(), None);
            RouterPassed::Failed
        })?;
        let chosen = instance.route(call, deadline).await.map_err(|failure| {
            self.failed(&failure.reason, Some(&failure));
            RouterPassed::Failed
        })?;
        taken.keep(instance);
        let chosen = chosen.map(|index| usize::try_from(index).unwrap_or(usize::MAX));
        let count = call.candidates.len();
        if let Some(index) = chosen.filter(|index| *index >= count) {
            let why = format!("it has chosen number {index} of {count} workers, which begin at 0");
            self.failed(&why, None);
            return Err(RouterPassed::Failed);
        }
        self.pause().answered();
        Ok(chosen)
    }

    /// Held for a look, never across an await.
    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, why: &str, failure: Option<&Failure>) {
        if !self.pause().failed(why, Instant::now()) {
            return;
        }
        tracing::error!(
            tenant = &*self.component.settings().tenant,
            version = &**self.component.version().borrow(),
            failure = failure.map_or("answer", |failure| failure.kind.name()),
            reason = why,
            stderr = failure.map_or("", |failure| &failure.stderr),
            backtrace = failure.map_or("", |failure| &failure.backtrace),
            "the router failed: the event goes where `bind` sends it"
        );
    }

    /// Why events do not go where the component sends them, if its last call has failed.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.pause().fault().map(str::to_owned)
    }

    /// Replaces the version. Calls under way end on the old one.
    ///
    /// # Errors
    /// If no instance of the new version starts: the old one serves on.
    pub async fn swap(&self, plugin: Plugin) -> Result<(), PluginError> {
        self.component.swap(plugin).await?;
        *self.pause() = Pause::default();
        Ok(())
    }

    /// The version that serves.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<Name> {
        self.component.version()
    }

    /// Takes no more calls and finishes those that run or wait; what is not done by the deadline is
    /// given up.
    pub async fn stop(&self, deadline: Duration) {
        self.component.stop(deadline).await;
    }
}
