//! One command component for one tenant: calls go in, answers and effects come out.
//!
//! Its instances are those of [`on_demand`](crate::on_demand).

mod meters;

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::query::{Answer, AskError, CommandError, Query};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::deployment::Boxed;
use crate::engine::Runtime;
use crate::instance::{CommandInstance, Executed, Failure};
use crate::on_demand::{NotRun, OnDemand, OnDemandSettings, Taken};
use crate::plugin::{Plugin, PluginError};

use meters::Meters;

/// What of a command's words of refusal is logged.
const LOGGED_BYTES_MAX: usize = 1024;

/// The tenant's part of the hub beside which a command runs.
pub trait HubAccess: Send + Sync + 'static {
    /// The announced address of this gateway.
    fn address(&self) -> SocketAddrV4;
    /// Asks the shards of this gateway and nobody else.
    fn ask(&self, query: Query) -> Boxed<Result<Answer, AskError>>;
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
    component: Arc<OnDemand<CommandInstance>>,
    meters: Arc<Meters>,
}

impl std::fmt::Debug for CommandDeployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandDeployment")
            .field("tenant", &self.component.settings().tenant)
            .field("version", &*self.component.version().borrow())
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
        settings: OnDemandSettings,
    ) -> Result<Self, PluginError> {
        let meters = Arc::new(Meters::new(&settings.tenant));
        let component = OnDemand::start(runtime, plugin, settings).await?;
        Ok(Self { component, meters })
    }

    /// Runs one command. Does not block the caller's thread; a call whose future is dropped ends.
    pub fn execute(&self, call: CommandCall, hub: Arc<dyn HubAccess>) -> Boxed<CommandResult> {
        let (component, meters) = (Arc::clone(&self.component), Arc::clone(&self.meters));
        let within = call.within;
        let called = self
            .component
            .call(within, move |taken, deadline| async move {
                run(&component, &meters, taken, &call, hub, deadline).await
            });
        Box::pin(async move {
            called.await.unwrap_or_else(|not_run| {
                Err(match not_run {
                    NotRun::Ended => CommandError::Absent,
                    NotRun::Overloaded => CommandError::Overloaded,
                    NotRun::Late => CommandError::Timeout,
                    NotRun::Lost(why) => CommandError::Broken(why),
                })
            })
        })
    }

    /// Replaces the version. Calls under way end on the old one.
    ///
    /// # Errors
    /// If no instance of the new version starts: the old one serves on.
    pub async fn swap(&self, plugin: Plugin) -> Result<(), PluginError> {
        let swapped = self.component.swap(plugin).await;
        self.meters.reload(swapped.is_ok());
        swapped
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

async fn run(
    component: &OnDemand<CommandInstance>,
    meters: &Meters,
    mut taken: Taken<CommandInstance>,
    call: &CommandCall,
    hub: Arc<dyn HubAccess>,
    deadline: Instant,
) -> CommandResult {
    let instance = taken.instance(component.runtime()).await;
    let mut instance = instance.map_err(|error| {
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
            let bytes_max = component.settings().limits.effect_bytes_max;
            text.truncate(text.floor_char_boundary(bytes_max));
            Err(CommandError::Failed(text))
        }
        Executed::TooLarge(text) => {
            taken.keep(instance);
            report_refusal(&taken, call, &text);
            Err(CommandError::Broken(text))
        }
        Executed::Broken(failure) => {
            meters.trap(failure.kind);
            report(&taken, call, &failure.reason, Some(&failure));
            Err(CommandError::Broken(failure.reason))
        }
    }
}

fn report_refusal(taken: &Taken<CommandInstance>, call: &CommandCall, text: &str) {
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

fn report(
    taken: &Taken<CommandInstance>,
    call: &CommandCall,
    reason: &str,
    failure: Option<&Failure>,
) {
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
