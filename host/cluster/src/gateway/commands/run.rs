//! Commands under way: off the shards' threads, bounded; each tenant has its share.
//!
//! A command has its place until it ends, also when nobody waits for it any more. What it asked for
//! by its deadline is applied like the effects of any commit; after it, nothing of it happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::counter;
use tidegate_fair::Places;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::payload::Payload;
use tidegate_wire::query::{CommandError, CommandOutcome};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::local::Local;
use super::{Boxed, CommandCall, Commands};
use crate::gateway::shared::Context;
use crate::gateway::shared::gather::shard_of_tenant;
use crate::gateway::shared::inbox::Parcel;

/// Commands of one gateway that may be under way.
const COMMANDS_MAX: usize = 256;
/// How long a command may run that nobody waits for.
const EFFECT_WITHIN: Duration = Duration::from_secs(10);
/// How long any command may run.
const WITHIN_MAX: Duration = Duration::from_secs(60);

/// What runs the commands of a gateway.
pub(in crate::gateway) struct Runner {
    context: Arc<Context>,
    commands: Arc<dyn Commands>,
    places: Places<Name>,
}

impl Runner {
    pub(in crate::gateway) fn new(context: Arc<Context>, commands: Arc<dyn Commands>) -> Self {
        let tenants = context.tenants.count();
        Self {
            context,
            commands,
            // Tenants without listeners may have commands too: they count as one.
            places: Places::new(COMMANDS_MAX, tenants + 1),
        }
    }

    /// Runs a command at this gateway, on a task of the gateway's runtime. To be awaited where there
    /// are timers; the command goes on if the future is dropped.
    pub(in crate::gateway) fn run(
        &self,
        tenant: &Name,
        name: Name,
        payload: Bytes,
        within: Duration,
    ) -> Boxed<CommandOutcome> {
        let Some(place) = self.places.take(tenant) else {
            told(&Err(CommandError::Overloaded));
            return Box::pin(std::future::ready(Err(CommandError::Overloaded)));
        };
        let call = CommandCall {
            tenant: tenant.clone(),
            name,
            payload,
            within: within.min(WITHIN_MAX),
        };
        let deadline = Instant::now() + call.within;
        let (tell, outcome) = oneshot::channel();
        let running = execute(self.context.clone(), self.commands.clone(), call, deadline);
        self.context.runtime.spawn(async move {
            let outcome = running.await;
            drop(place);
            told(&outcome);
            // Nobody may be waiting.
            let _ = tell.send(outcome);
        });
        Box::pin(async move {
            match timeout_at(deadline, outcome).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(CommandError::Broken("the command's task ended".to_owned())),
                Err(_) => Err(CommandError::Timeout),
            }
        })
    }

    /// Starts the commands among these effects; nobody waits for them.
    pub(in crate::gateway) fn start(&self, tenant: &Name, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Command { name, payload, .. } = effect {
                // It runs whether its future is awaited or not.
                drop(self.run(tenant, name, payload.into_bytes(), EFFECT_WITHIN));
            }
        }
    }

    /// Commands under way.
    #[cfg(test)]
    pub(in crate::gateway) fn under_way(&self) -> usize {
        self.places.taken()
    }
}

async fn execute(
    context: Arc<Context>,
    commands: Arc<dyn Commands>,
    call: CommandCall,
    deadline: Instant,
) -> CommandOutcome {
    let (tenant, name) = (call.tenant.clone(), call.name.clone());
    let hub = Box::new(Local {
        context: context.clone(),
        tenant: tenant.clone(),
    });
    let (answer, effects) = commands.execute(call, hub).await?;
    if Instant::now() >= deadline {
        return Err(CommandError::Timeout);
    }
    adopt(&context, tenant, &name, effects).await;
    Ok(Payload::new(answer))
}

/// Applies what a command asked for, like the effects of a commit.
async fn adopt(context: &Context, tenant: Name, name: &str, mut effects: Vec<Effect>) {
    let all = effects.len();
    // Commands that start commands on every gateway would multiply for ever.
    effects.retain(|effect| !matches!(effect, Effect::Command { .. }));
    if effects.len() < all {
        tracing::warn!(%tenant, command = name, dropped = all - effects.len(),
            "a command asked for commands: only handlers and the Client API start them");
    }
    if effects.is_empty() {
        return;
    }
    if let Some(inbox) = context.inboxes.get(shard_of_tenant(context, &tenant)) {
        inbox.room().await;
        inbox.push(Parcel::Adopt { tenant, effects });
    }
}

fn told(outcome: &CommandOutcome) {
    let name = match outcome {
        Ok(_) => "done",
        Err(CommandError::Absent) => "absent",
        Err(CommandError::Failed(_)) => "failed",
        Err(CommandError::Broken(_)) => "broken",
        Err(CommandError::Overloaded) => "overloaded",
        Err(CommandError::Timeout) => "timeout",
    };
    counter!("tidegate_gateway_commands_total", "outcome" => name).increment(1);
}

#[cfg(test)]
mod tests;
