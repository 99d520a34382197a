//! Tenants and their plugins, from the configuration to running deployments.

pub mod commands;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::{
    Bounds, Deployment, DeploymentSettings, Limits, Rollout, Runtime, RuntimeSettings, watch,
};
use tokio_util::sync::CancellationToken;

use crate::bridge::Bridge;
use crate::config::{Config, Plugin, Purpose};

/// How long the instances of a deployment have to finish at the end.
const STOP: Duration = Duration::from_secs(5);

/// Lines of a plugin's output beyond this are counted instead of logged.
const LOG_BYTES_PER_SECOND: usize = 64 << 10;

/// The runtime for everything that the configuration runs in this process.
///
/// # Errors
/// When the engine cannot be built.
pub fn runtime(config: &Config) -> anyhow::Result<Runtime> {
    let plugins = config.plugins.iter();
    let plugins = plugins.filter(|_| config.purpose != Purpose::Gateway);
    let plugins = plugins.map(|it| {
        let instances = instances(config, it);
        // A canary has its own beside those of two versions.
        let tried = (instances * usize::from(it.canary_percent)).div_ceil(100);
        (it.memory_mib, instances + tried)
    });
    let commands = config.commands.iter();
    let commands = commands.filter(|_| config.purpose != Purpose::Worker);
    let commands = commands.map(|it| (it.memory_mib, it.instances));
    let all: Vec<(u64, usize)> = plugins.chain(commands).collect();
    let memory_mib = all.iter().map(|(memory_mib, _)| *memory_mib).max();
    let instances: usize = all.iter().map(|(_, instances)| *instances).sum();
    let settings = RuntimeSettings {
        cache_dir: config.worker.cache_dir.folder(),
        cache_bytes_max: config.worker.cache_mib << 20,
        instances_max: u32::try_from(instances)?.max(4),
        memory_bytes_max: usize::try_from(memory_mib.unwrap_or(128) << 20)?,
        pooling: config.worker.pooling,
    };
    Ok(Runtime::new(settings)?)
}

/// Loads every plugin, starts its deployment and watches its file.
///
/// # Errors
/// When a plugin is refused; the text names the file and what would be right.
pub async fn start(
    config: &Config,
    runtime: &Runtime,
    stop: &CancellationToken,
) -> anyhow::Result<Arc<Bridge>> {
    let mut deployments = BTreeMap::new();
    for plugin in &config.plugins {
        let deployment = start_one(config, runtime, plugin).await?;
        if let Some(watching) = plugin.watch.watching() {
            let follow = watch(
                plugin.file.clone(),
                watching,
                runtime.clone(),
                deployment.clone(),
                stop.clone(),
            );
            tokio::spawn(follow);
        }
        deployments.insert(plugin.tenant.clone(), deployment);
    }
    Ok(Bridge::new(deployments))
}

async fn start_one(
    config: &Config,
    runtime: &Runtime,
    plugin: &Plugin,
) -> anyhow::Result<Deployment> {
    let loaded = runtime.load(&plugin.file).await?;
    let version = loaded.version().clone();
    let instances = instances(config, plugin);
    let settings = DeploymentSettings {
        tenant: plugin.tenant.clone(),
        worker_name: config.worker.name.clone(),
        tags: config.worker.tags.clone(),
        instances,
        limits: Limits {
            cpu_ms: plugin.cpu_ms,
            wall_ms: plugin.wall_ms,
            memory_bytes: usize::try_from(plugin.memory_mib << 20)?,
            effects_max: plugin.effects_max,
            effect_bytes_max: plugin.effect_bytes_max,
            session_bytes_max: plugin.session_bytes_max,
            query_ms: plugin.query_ms,
            queries_max: plugin.queries_max,
            log_bytes_per_second: LOG_BYTES_PER_SECOND,
        },
        config: plugin.config.clone(),
        // Gateways keep to their windows; several may be served at once.
        mailbox_events: config.worker.window_events as usize * 16,
        rollout: Rollout {
            versions_kept: plugin.versions_kept,
            state_ms: plugin.state_ms,
            state_bytes_max: plugin.state_bytes_max,
            canary_percent: plugin.canary_percent,
            canary_ms: plugin.canary_seconds * 1_000,
            bounds: Bounds {
                traps: plugin.rollback_traps,
                errors_percent: plugin.rollback_errors_percent,
                latency_ms: plugin.rollback_latency_ms,
                window_ms: plugin.rollback_seconds * 1_000,
            },
        },
    };
    let deployment = Deployment::start(runtime, loaded, settings).await?;
    tracing::info!(tenant = %plugin.tenant, file = %plugin.file.display(), %version, instances,
        "plugin runs");
    Ok(deployment)
}

/// Ends every deployment: what waits is handled, instances are told.
pub async fn stop(bridge: &Bridge) {
    for deployment in bridge.deployments() {
        deployment.stop(STOP).await;
    }
}

fn instances(config: &Config, plugin: &Plugin) -> usize {
    let wanted = if plugin.instances > 0 {
        plugin.instances
    } else {
        config.worker.instances
    };
    if wanted > 0 { wanted } else { cores() }
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
