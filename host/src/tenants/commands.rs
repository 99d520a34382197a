//! The command components of a gateway, from the configuration to running deployments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::{CommandDeployment, CommandSettings, Limits, Runtime, watch};
use tidegate_watchdog::watched;
use tokio_util::sync::CancellationToken;

use super::LOG_BYTES_PER_SECOND;
use crate::bridge::CommandBridge;
use crate::config::{Command, Config};

/// Loads every command component, starts its deployment and watches its file. Without one there is
/// nothing to run, and no runtime is built.
///
/// # Errors
/// When a component is refused; the text names the file and what would be right.
pub async fn start(
    config: &Config,
    runtime: Option<&Runtime>,
    stop: &CancellationToken,
) -> anyhow::Result<Arc<CommandBridge>> {
    let mut deployments = BTreeMap::new();
    if config.commands.is_empty() {
        return Ok(CommandBridge::new(deployments));
    }
    let runtime = match runtime {
        Some(runtime) => runtime.clone(),
        None => super::runtime(config)?,
    };
    for command in &config.commands {
        let deployment = start_one(config, &runtime, command).await?;
        let follow = watch(
            command.file.clone(),
            command.watch.watching(),
            runtime.clone(),
            deployment.clone(),
            stop.clone(),
        );
        tokio::spawn(watched(super::watch_of(&command.file), follow));
        deployments.insert(command.tenant.clone(), deployment);
    }
    Ok(CommandBridge::new(deployments))
}

async fn start_one(
    config: &Config,
    runtime: &Runtime,
    command: &Command,
) -> anyhow::Result<CommandDeployment> {
    let loaded = runtime.load(&command.file).await?;
    let version = loaded.version().clone();
    let settings = CommandSettings {
        tenant: command.tenant.clone(),
        gateway_name: config.gateway.name.clone(),
        limits: Limits {
            cpu_ms: command.cpu_ms,
            wall_ms: command.wall_ms,
            memory_bytes: usize::try_from(command.memory_mib << 20)?,
            effects_max: command.effects_max,
            effect_bytes_max: command.effect_bytes_max,
            session_bytes_max: command.session_bytes_max,
            query_ms: command.query_ms,
            queries_max: command.queries_max,
            log_bytes_per_second: LOG_BYTES_PER_SECOND,
            // A command begins no tasks.
            task_cpu_ms: command.cpu_ms,
            task_ms: command.wall_ms,
        },
        config: command.config.clone(),
        instances_max: command.instances,
        waiting_max: command.waiting_max,
    };
    let deployment = CommandDeployment::start(runtime, loaded, settings).await?;
    tracing::info!(tenant = %command.tenant, file = %command.file.display(), %version,
        instances = command.instances, "commands run");
    Ok(deployment)
}

/// Ends every deployment: calls under way are finished. `limit` is that of the whole end of the
/// process.
pub async fn stop(bridge: &CommandBridge, limit: Duration) {
    for deployment in bridge.deployments() {
        deployment.stop(super::stop_within(limit)).await;
    }
}
