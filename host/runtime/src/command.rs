//! One command component for one tenant: calls go in, answers and effects come out.
//!
//! Instances are made on demand, up to a bound, and used again unless they broke; calls over the
//! bound wait in a bounded queue. Guests run on the executor on which the deployment was started,
//! never on the caller's thread. A swap starts one instance of the new version first; calls under
//! way end on the version that they started with.

mod meters;
mod pool;

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::query::{Answer, AskError, CommandError, Query};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::deployment::Boxed;
use crate::engine::Runtime;
use crate::instance::{Executed, Failure};
use crate::limits::Limits;
use crate::plugin::{Plugin, PluginError};
use crate::version::{Version, Whose};

use meters::Meters;
use pool::{Pool, Taken};

/// What of a command's words of refusal is logged.
const LOGGED_BYTES_MAX: usize = 1024;

/// The tenant's part of the hub beside which a command runs.
pub trait HubAccess: Send + Sync + 'static {
    /// The announced address of this gateway.
    fn address(&self) -> SocketAddrV4;
    /// Asks the shards of this gateway and nobody else.
    fn ask(&self, query: Query) -> Boxed<Result<Answer, AskError>>;
}

/// What a deployment of commands is.
#[derive(Clone, Debug)]
pub struct CommandSettings {
    /// Whose commands.
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

impl CommandSettings {
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

/// One call.
#[derive(Clone, Debug)]
pub struct CommandCall {
    /// Which command.
    pub name: Name,
    /// Its argument.
    pub payload: Bytes,
    /// How long the caller waits, for an instance and for the answer.
    pub within: Duration,
}

/// What a call gives: its answer and the effects that it asked for.
pub type CommandResult = Result<(Bytes, Vec<Effect>), CommandError>;

/// A running command component. Clones are handles to the same.
#[derive(Clone)]
pub struct CommandDeployment {
    shared: Arc<CommandShared>,
}

struct CommandShared {
    runtime: Runtime,
    settings: CommandSettings,
    current: Mutex<Arc<Pool>>,
    version: watch::Sender<Name>,
    /// Calls that run or wait.
    places: Arc<Semaphore>,
    /// Calls that run; as many as a pool has slots.
    turns: Semaphore,
    /// One swap at a time.
    swaps: Semaphore,
    meters: Meters,
    executor: Handle,
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl std::fmt::Debug for CommandDeployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandDeployment")
            .field("tenant", &self.shared.settings.tenant)
            .field("version", &*self.shared.version.borrow())
            .finish_non_exhaustive()
    }
}

impl CommandDeployment {
    /// Starts a first instance; ready when it is there.
    ///
    /// # Errors
    /// If the plugin is no command component or does not start.
    pub async fn start(
        runtime: &Runtime,
        plugin: Plugin,
        mut settings: CommandSettings,
    ) -> Result<Self, PluginError> {
        settings.instances_max = settings.instances_max.clamp(1, u16::MAX.into());
        let memory_bytes = &mut settings.limits.memory_bytes;
        *memory_bytes = (*memory_bytes).min(runtime.memory_bytes_max());
        let pool = started(runtime, plugin, &settings).await?;
        let (version, _) = watch::channel(pool.version.plugin.version().clone());
        let places = settings.instances_max.saturating_add(settings.waiting_max);
        let shared = CommandShared {
            runtime: runtime.clone(),
            current: Mutex::new(pool),
            version,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            turns: Semaphore::new(settings.instances_max),
            swaps: Semaphore::new(1),
            meters: Meters::new(&settings.tenant),
            executor: Handle::current(),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
            settings,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Runs one command. Does not block the caller's thread; a call whose future is dropped ends.
    pub fn execute(&self, call: CommandCall, hub: Arc<dyn HubAccess>) -> Boxed<CommandResult> {
        let shared = Arc::clone(&self.shared);
        let place = match Arc::clone(&shared.places).try_acquire_owned() {
            Ok(place) => place,
            Err(refused) => {
                let error = match refused {
                    TryAcquireError::Closed => CommandError::Absent,
                    TryAcquireError::NoPermits => CommandError::Overloaded,
                };
                return Box::pin(std::future::ready(Err(error)));
            }
        };
        let (tasks, executor) = (shared.tasks.clone(), shared.executor.clone());
        let task =
            AbortOnDropHandle::new(tasks.spawn_on(shared.admitted(call, hub, place), &executor));
        Box::pin(async move {
            task.await
                .unwrap_or_else(|error| Err(CommandError::Broken(format!("not run: {error}"))))
        })
    }

    /// Replaces the version. Calls under way end on the old one.
    ///
    /// # Errors
    /// If no instance of the new version starts: the old one serves on.
    pub async fn swap(&self, plugin: Plugin) -> Result<(), PluginError> {
        let shared = &self.shared;
        let name = plugin.source().to_string();
        let turn = shared.swaps.acquire().await;
        let _turn = turn.map_err(|_closed| PluginError::Stopped { name })?;
        let started = started(&shared.runtime, plugin, &shared.settings).await;
        shared.meters.reload(started.is_ok());
        let pool = started?;
        let version = pool.version.plugin.version().clone();
        *shared
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = pool;
        shared.version.send_replace(version);
        Ok(())
    }

    /// The version that serves.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<Name> {
        self.shared.version.subscribe()
    }

    /// Takes no more calls and finishes those that run or wait; what is not done by the deadline is
    /// given up.
    pub async fn stop(&self, deadline: Duration) {
        let shared = &self.shared;
        shared.swaps.close();
        shared.places.close();
        shared.tasks.close();
        if timeout(deadline, shared.tasks.wait()).await.is_err() {
            shared.abort.cancel();
            shared.tasks.wait().await;
        }
    }
}

/// A version with its first instance: that it starts is known before it serves.
async fn started(
    runtime: &Runtime,
    plugin: Plugin,
    settings: &CommandSettings,
) -> Result<Arc<Pool>, PluginError> {
    plugin.commands()?;
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

impl CommandShared {
    /// `_place` is held until the call has ended.
    async fn admitted(
        self: Arc<Self>,
        call: CommandCall,
        hub: Arc<dyn HubAccess>,
        _place: OwnedSemaphorePermit,
    ) -> CommandResult {
        let deadline = Instant::now() + call.within;
        let run = timeout_at(deadline, self.in_turn(&call, hub, deadline));
        tokio::select! {
            result = run => result.unwrap_or(Err(CommandError::Timeout)),
            () = self.abort.cancelled() => Err(CommandError::Absent),
        }
    }

    async fn in_turn(
        &self,
        call: &CommandCall,
        hub: Arc<dyn HubAccess>,
        deadline: Instant,
    ) -> CommandResult {
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(CommandError::Absent);
        };
        let pool = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        // A turn is a slot, whatever version the others run.
        let Some(mut taken) = pool.take() else {
            return Err(CommandError::Overloaded);
        };
        let mut instance = taken.instance(&self.runtime).await.map_err(|error| {
            report(&taken, call, &error.to_string(), None);
            CommandError::Broken(error.to_string())
        })?;
        let executed = instance
            .execute(&call.name, &call.payload, hub, deadline)
            .await;
        match executed {
            Executed::Done(answer, effects) => {
                taken.keep(instance);
                Ok((answer.into(), effects))
            }
            Executed::Refused(mut text) => {
                taken.keep(instance);
                report_refusal(&taken, call, &text);
                text.truncate(text.floor_char_boundary(self.settings.limits.effect_bytes_max));
                Err(CommandError::Failed(text))
            }
            Executed::TooLarge(text) => {
                taken.keep(instance);
                report_refusal(&taken, call, &text);
                Err(CommandError::Broken(text))
            }
            Executed::Broken(failure) => {
                self.meters.trap(failure.kind);
                report(&taken, call, &failure.reason, Some(&failure));
                Err(CommandError::Broken(failure.reason))
            }
        }
    }
}

fn report_refusal(taken: &Taken, call: &CommandCall, text: &str) {
    let identity = &taken.version().identity;
    tracing::warn!(
        tenant = &*identity.tenant,
        plugin = &*identity.plugin,
        version = &*identity.version,
        instance = taken.number(),
        command = &*call.name,
        error = text
            .get(..text.floor_char_boundary(LOGGED_BYTES_MAX))
            .unwrap_or_default(),
        "the command returned an error; its effects are dropped"
    );
}

fn report(taken: &Taken, call: &CommandCall, reason: &str, failure: Option<&Failure>) {
    let identity = &taken.version().identity;
    tracing::error!(
        tenant = &*identity.tenant,
        plugin = &*identity.plugin,
        version = &*identity.version,
        instance = taken.number(),
        command = &*call.name,
        failure = failure.map_or("start", |failure| failure.kind.name()),
        reason,
        stderr = failure.map_or("", |failure| &failure.stderr),
        backtrace = failure.map_or("", |failure| &failure.backtrace),
        "the command broke; its instance is built anew"
    );
}
