//! Tenants and their plugins, from the configuration to the settings of deployments.

pub mod codecs;
pub mod commands;

use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_deploy::Desired;
use tidegate_runtime::{
    Bounds, Deployment, DeploymentSettings, Limits, PluginKind, Rollout, Runtime, RuntimeSettings,
    watch,
};
use tidegate_watchdog::watched;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bridge::Bridge;
use crate::config::{Config, Plugin, Purpose};
use crate::ending;

/// How long the instances of a deployment have to finish at the end.
const STOP: Duration = Duration::from_secs(5);

/// How long an instance that is cut may take to end.
const CUT: Duration = Duration::from_millis(200);

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
        // A canary, of any share of the clients, has its own beside those of two versions; while a
        // version is on trial the one before it has as many.
        (it.memory_mib, instances * 3 + it.task_instances)
    });
    let commands = config.commands.iter();
    let commands = commands.filter(|_| config.purpose != Purpose::Worker);
    let commands = commands.map(|it| (it.memory_mib, it.instances));
    let codecs = codecs::needed(config);
    let codecs = codecs.map(|(it, _)| (it.memory_mib, it.instances));
    let routers = config.routers.iter();
    let routers = routers.map(|it| (it.memory_mib, it.instances));
    let of_gateways = codecs.chain(routers);
    let of_gateways = of_gateways.filter(|_| config.purpose != Purpose::Worker);
    let all: Vec<(u64, usize)> = plugins.chain(commands).chain(of_gateways).collect();
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

/// Looks at the plugins, command components and codecs that this process is going to run, without compiling
/// them: what cannot be one is refused before any port is bound.
///
/// # Errors
/// When a file is refused; the text names it and says what would be right.
pub async fn look_at_files(config: &Config, desired: &Desired) -> anyhow::Result<()> {
    let plugins = config.plugins.iter();
    let plugins = plugins.filter(|_| config.purpose != Purpose::Gateway);
    // What the cluster names is run instead of the file.
    let plugins = plugins.filter(|it| desired.current(&it.tenant).is_none());
    let plugins = plugins.filter_map(|it| Some((it.file.as_ref()?, PluginKind::Handler)));
    let commands = config.commands.iter();
    let commands = commands.filter(|_| config.purpose != Purpose::Worker);
    let commands = commands.map(|it| (&it.file, PluginKind::Command));
    let codecs = config.codecs.iter();
    let codecs = codecs.map(|it| (&it.file, PluginKind::Codec));
    let routers = config.routers.iter();
    let routers = routers.map(|it| (&it.file, PluginKind::Router));
    let of_gateways = codecs.chain(routers);
    let of_gateways = of_gateways.filter(|_| config.purpose != Purpose::Worker);
    for (file, kind) in plugins.chain(commands).chain(of_gateways) {
        tidegate_runtime::look_at(file, kind).await?;
    }
    Ok(())
}

/// Takes each new version of the plugin's file until `stop`.
pub fn follow(plugin: &Plugin, runtime: &Runtime, deployment: Deployment, stop: CancellationToken) {
    if let Some(file) = &plugin.file {
        let (name, watching) = (watch_of(file), plugin.watch.watching());
        let follow = watch(file.clone(), watching, runtime.clone(), deployment, stop);
        tokio::spawn(watched(name, follow));
    }
}

fn watch_of(file: &Path) -> String {
    format!("the watch of {}", file.display())
}

/// How the plugin of a tenant runs at this worker, whichever version it is.
///
/// # Errors
/// When a number does not fit this machine.
pub fn settings(config: &Config, plugin: &Plugin) -> anyhow::Result<DeploymentSettings> {
    Ok(DeploymentSettings {
        tenant: plugin.tenant.clone(),
        worker_name: config.worker.name.clone(),
        tags: config.worker.tags.clone(),
        instances: instances(config, plugin),
        task_instances: plugin.task_instances,
        limits: Limits {
            cpu_ms: plugin.cpu_ms,
            wall_ms: plugin.wall_ms,
            task_cpu_ms: plugin.task_cpu_ms,
            task_ms: plugin.task_ms,
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
    })
}

/// How long instances may take at the end of the process, of which `limit` is the whole.
fn stop_within(limit: Duration) -> Duration {
    ending::for_step(limit, STOP)
}

/// Ends every deployment: what waits is handled, instances are told. `limit` is that of the whole
/// end of the process.
pub async fn stop(bridge: &Bridge, limit: Duration) {
    let within = stop_within(limit);
    let mut stopping = JoinSet::new();
    for (tenant, deployment) in bridge.deployments() {
        stopping.spawn(async move {
            let waiting = deployment.queued_events();
            let begun = Instant::now();
            // A guest whose on-stop does not end has time of its own, but the process has not.
            let stopped = timeout(within + CUT, deployment.stop(within)).await;
            if stopped.is_err() || begun.elapsed() >= within {
                tracing::warn!(tenant = %tenant, events = waiting,
                    "handlers had not ended in time: they are cut");
            }
        });
    }
    while stopping.join_next().await.is_some() {}
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
