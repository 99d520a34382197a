//! The command components and routers of a gateway, from the configuration to running deployments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::{
    CommandDeployment, Limits, OnDemandSettings, RouterDeployment, Runtime, watch,
};
use tidegate_watchdog::watched;
use tokio_util::sync::CancellationToken;

use super::LOG_BYTES_PER_SECOND;
use crate::bridge::GatewayBridge;
use crate::config::{Command, Config, RouterComponent};

/// Loads every command component and router, starts its deployment and watches its file. Without any
/// there is nothing to run, and no runtime is built.
///
/// # Errors
/// When a component is refused; the text names the file and what would be right.
pub async fn start(
    config: &Config,
    runtime: Option<&Runtime>,
    stop: &CancellationToken,
) -> anyhow::Result<Arc<GatewayBridge>> {
    let (mut commands, mut routers) = (BTreeMap::new(), BTreeMap::new());
    if config.commands.is_empty() && config.routers.is_empty() {
        return Ok(GatewayBridge::new(commands, routers));
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
        commands.insert(command.tenant.clone(), deployment);
    }
    for router in &config.routers {
        let deployment = start_router(config, &runtime, router).await?;
        let follow = watch(
            router.file.clone(),
            router.watch.watching(),
            runtime.clone(),
            deployment.clone(),
            stop.clone(),
        );
        tokio::spawn(watched(super::watch_of(&router.file), follow));
        routers.insert(router.tenant.clone(), deployment);
    }
    Ok(GatewayBridge::new(commands, routers))
}

async fn start_one(
    config: &Config,
    runtime: &Runtime,
    command: &Command,
) -> anyhow::Result<CommandDeployment> {
    let loaded = runtime.load(&command.file).await?;
    let version = loaded.version().clone();
    let settings = OnDemandSettings {
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

async fn start_router(
    config: &Config,
    runtime: &Runtime,
    router: &RouterComponent,
) -> anyhow::Result<RouterDeployment> {
    let loaded = runtime.load(&router.file).await?;
    let version = loaded.version().clone();
    let settings = OnDemandSettings {
        tenant: router.tenant.clone(),
        gateway_name: config.gateway.name.clone(),
        limits: Limits {
            cpu_ms: router.cpu_ms,
            wall_ms: router.wall_ms,
            memory_bytes: usize::try_from(router.memory_mib << 20)?,
            log_bytes_per_second: LOG_BYTES_PER_SECOND,
            // It does nothing and asks nobody.
            ..Limits::default()
        },
        config: router.config.clone(),
        instances_max: router.instances,
        waiting_max: router.waiting_max,
    };
    let deployment = RouterDeployment::start(runtime, loaded, settings).await?;
    tracing::info!(tenant = %router.tenant, file = %router.file.display(), %version,
        instances = router.instances, "a router chooses workers");
    Ok(deployment)
}

/// Ends every deployment: calls under way are finished. `limit` is that of the whole end of the
/// process.
pub async fn stop(bridge: &GatewayBridge, limit: Duration) {
    for deployment in bridge.commands() {
        deployment.stop(super::stop_within(limit)).await;
    }
    for deployment in bridge.routers() {
        deployment.stop(super::stop_within(limit)).await;
    }
}
