//! A component at a gateway that is called: by commands, or by events that want a worker.
//!
//! Instances are made on demand, up to a bound, and used again unless they broke; calls over the
//! bound wait in a bounded queue. Guests run on the executor on which this was started, never on the
//! caller's thread. A swap starts one instance of the new version first; calls under way end on the
//! version that they started with.

mod pool;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_wire::Name;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::deployment::Boxed;
use crate::engine::Runtime;
use crate::host_api::{Identity, OutputLog};
use crate::limits::Limits;
use crate::plugin::{Plugin, PluginError};
use crate::version::{Version, Whose};

use pool::Pool;
pub(crate) use pool::Taken;

/// What a component is that is called at a gateway.
#[derive(Clone, Debug)]
pub struct OnDemandSettings {
    /// Whose it is.
    pub tenant: Name,
    /// This gateway's name in its configuration.
    pub gateway_name: Name,
    /// Per call and per instance.
    pub limits: Limits,
    /// The component's own configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Instances, and so calls that run at once; at least one.
    pub instances_max: usize,
    /// Calls that wait for an instance at most. Over it they are refused.
    pub waiting_max: usize,
}

impl OnDemandSettings {
    fn whose(&self) -> Whose<'_> {
        Whose {
            tenant: &self.tenant,
            node_name: &self.gateway_name,
            tags: &[],
            limits: self.limits,
            config: &self.config,
        }
    }
}

/// An instance that is called.
pub(crate) trait Called: Sized + Send + 'static {
    /// That the component is one of these.
    fn expect(plugin: &Plugin) -> Result<(), PluginError>;

    /// Makes one.
    fn start(
        runtime: &Runtime,
        plugin: &Plugin,
        identity: &Arc<Identity>,
        number: u32,
        output: &Arc<OutputLog>,
    ) -> impl Future<Output = Result<Self, PluginError>> + Send;
}

/// Why a call did not run to its end.
#[derive(Debug)]
pub(crate) enum NotRun {
    /// No calls are taken any more.
    Ended,
    /// Too many wait.
    Overloaded,
    /// Its time was over.
    Late,
    /// Its task is lost.
    Lost(String),
}

/// A running component.
pub(crate) struct OnDemand<I> {
    runtime: Runtime,
    settings: OnDemandSettings,
    current: Mutex<Arc<Pool<I>>>,
    version: watch::Sender<Name>,
    /// Calls that run or wait.
    places: Arc<Semaphore>,
    /// Calls that run; as many as a pool has slots.
    turns: Semaphore,
    /// One swap at a time.
    swaps: Semaphore,
    executor: Handle,
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl<I: Called> OnDemand<I> {
    /// Starts a first instance; ready when it is there.
    pub(crate) async fn start(
        runtime: &Runtime,
        plugin: Plugin,
        mut settings: OnDemandSettings,
    ) -> Result<Arc<Self>, PluginError> {
        settings.instances_max = settings.instances_max.clamp(1, u16::MAX.into());
        let memory_bytes = &mut settings.limits.memory_bytes;
        *memory_bytes = (*memory_bytes).min(runtime.memory_bytes_max());
        let pool = started(runtime, plugin, &settings).await?;
        let (version, _) = watch::channel(pool.version().plugin.version().clone());
        let places = settings.instances_max.saturating_add(settings.waiting_max);
        Ok(Arc::new(Self {
            runtime: runtime.clone(),
            current: Mutex::new(pool),
            version,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            turns: Semaphore::new(settings.instances_max),
            swaps: Semaphore::new(1),
            executor: Handle::current(),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
            settings,
        }))
    }

    pub(crate) const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) const fn settings(&self) -> &OnDemandSettings {
        &self.settings
    }

    /// Runs one call, which ends no later than this. Does not block the caller's thread; a call whose
    /// future is dropped ends.
    pub(crate) fn call<T, F>(
        self: &Arc<Self>,
        within: Duration,
        run: impl FnOnce(Taken<I>, Instant) -> F + Send + 'static,
    ) -> Boxed<Result<T, NotRun>>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(refused) => {
                let why = match refused {
                    TryAcquireError::Closed => NotRun::Ended,
                    TryAcquireError::NoPermits => NotRun::Overloaded,
                };
                return Box::pin(std::future::ready(Err(why)));
            }
        };
        let admitted = Arc::clone(self).admitted(within, run, place);
        let task = AbortOnDropHandle::new(self.tasks.spawn_on(admitted, &self.executor));
        Box::pin(async move {
            task.await
                .unwrap_or_else(|error| Err(NotRun::Lost(format!("not run: {error}"))))
        })
    }

    /// `_place` is held until the call has ended.
    async fn admitted<T, F>(
        self: Arc<Self>,
        within: Duration,
        run: impl FnOnce(Taken<I>, Instant) -> F,
        _place: OwnedSemaphorePermit,
    ) -> Result<T, NotRun>
    where
        F: Future<Output = T>,
    {
        let deadline = Instant::now() + within;
        let in_turn = async {
            let Ok(_turn) = self.turns.acquire().await else {
                return Err(NotRun::Ended);
            };
            let pool = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
            // A turn is a slot, whatever version the others run.
            let taken = pool.take().ok_or(NotRun::Overloaded)?;
            Ok(run(taken, deadline).await)
        };
        tokio::select! {
            result = timeout_at(deadline, in_turn) => result.unwrap_or(Err(NotRun::Late)),
            () = self.abort.cancelled() => Err(NotRun::Ended),
        }
    }

    /// Replaces the version. Calls under way end on the old one.
    pub(crate) async fn swap(&self, plugin: Plugin) -> Result<(), PluginError> {
        let name = plugin.source().to_string();
        let turn = self.swaps.acquire().await;
        let _turn = turn.map_err(|_closed| PluginError::Stopped { name })?;
        let pool = started(&self.runtime, plugin, &self.settings).await?;
        let version = pool.version().plugin.version().clone();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = pool;
        self.version.send_replace(version);
        Ok(())
    }

    pub(crate) fn version(&self) -> watch::Receiver<Name> {
        self.version.subscribe()
    }

    /// Takes no more calls and finishes those that run or wait; what is not done by the deadline is
    /// given up.
    pub(crate) async fn stop(&self, deadline: Duration) {
        self.swaps.close();
        self.places.close();
        self.tasks.close();
        if timeout(deadline, self.tasks.wait()).await.is_err() {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }
}

/// A version with its first instance: that it starts is known before it serves.
async fn started<I: Called>(
    runtime: &Runtime,
    plugin: Plugin,
    settings: &OnDemandSettings,
) -> Result<Arc<Pool<I>>, PluginError> {
    I::expect(&plugin)?;
    let pool = Pool::new(
        Version::new(plugin, &settings.whose()),
        settings.instances_max,
    );
    if let Some(mut taken) = pool.take() {
        let instance = taken.instance(runtime).await?;
        taken.keep(instance);
    }
    Ok(pool)
}
