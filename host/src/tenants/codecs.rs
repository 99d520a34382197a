//! The codecs of a gateway's listeners, from the configuration to running deployments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::gateway::codecs::ListenerCodec;
use tidegate_cluster::gateway::settings::GatewaySettings;
use tidegate_runtime::{CodecDeployment, CodecSettings, Limits, Runtime, watch};
use tidegate_watchdog::watched;
use tidegate_wire::Name;
use tokio_util::sync::CancellationToken;

use super::LOG_BYTES_PER_SECOND;
use crate::bridge::CodecBridge;
use crate::config::{Codec, Config};

/// The codecs that run, by their names and the tenants of the listeners that name them.
#[derive(Debug, Default)]
pub struct Codecs(BTreeMap<(Name, Name), CodecDeployment>);

/// Which codecs listeners name, each with the tenants of those.
pub(super) fn needed(config: &Config) -> impl Iterator<Item = (&Codec, Name)> {
    let named = config.listeners.iter();
    let named = named.filter_map(|it| Some((it.codec.clone()?, it.tenant.clone())));
    let named: BTreeSet<(Name, Name)> = named.collect();
    named.into_iter().filter_map(|(name, tenant)| {
        let codec = config.codecs.iter().find(|it| it.name == name)?;
        Some((codec, tenant))
    })
}

/// Loads every codec that a listener names, starts its deployment for each tenant and watches its
/// file. Without one there is nothing to run, and no runtime is built.
///
/// # Errors
/// When a component is refused; the text names the file and what would be right.
pub async fn start(
    config: &Config,
    runtime: Option<&Runtime>,
    stop: &CancellationToken,
) -> anyhow::Result<Codecs> {
    let mut deployments = BTreeMap::new();
    if needed(config).next().is_none() {
        return Ok(Codecs(deployments));
    }
    let runtime = match runtime {
        Some(runtime) => runtime.clone(),
        None => super::runtime(config)?,
    };
    for (codec, tenant) in needed(config) {
        let deployment = start_one(config, &runtime, codec, &tenant).await?;
        let follow = watch(
            codec.file.clone(),
            codec.watch.watching(),
            runtime.clone(),
            deployment.clone(),
            stop.clone(),
        );
        tokio::spawn(watched(super::watch_of(&codec.file), follow));
        deployments.insert((codec.name.clone(), tenant), deployment);
    }
    Ok(Codecs(deployments))
}

async fn start_one(
    config: &Config,
    runtime: &Runtime,
    codec: &Codec,
    tenant: &Name,
) -> anyhow::Result<CodecDeployment> {
    let loaded = runtime.load(&codec.file).await?;
    let version = loaded.version().clone();
    let settings = CodecSettings {
        name: codec.name.clone(),
        tenant: tenant.clone(),
        gateway_name: config.gateway.name.clone(),
        limits: Limits {
            cpu_ms: codec.cpu_ms,
            wall_ms: codec.wall_ms,
            memory_bytes: usize::try_from(codec.memory_mib << 20)?,
            effects_max: codec.messages_max,
            effect_bytes_max: codec.output_bytes_max,
            log_bytes_per_second: LOG_BYTES_PER_SECOND,
            // It has no sessions, asks nothing and begins no tasks.
            ..Limits::default()
        },
        config: codec.config.clone(),
        instances: codec.instances,
        waiting_max: codec.waiting_max,
        state_bytes_max: codec.state_bytes_max,
    };
    let deployment = CodecDeployment::start(runtime, loaded, settings).await?;
    tracing::info!(codec = %codec.name, %tenant, file = %codec.file.display(), %version,
        instances = codec.instances, "a codec runs");
    Ok(deployment)
}

impl Codecs {
    /// Gives listeners the codecs that they name. `settings` are those of this configuration.
    #[must_use]
    pub fn settle(&self, config: &Config, mut settings: GatewaySettings) -> GatewaySettings {
        let listeners = settings.listeners.iter_mut().zip(&config.listeners);
        for (listener, it) in listeners {
            let Some(name) = &it.codec else { continue };
            let deployment = self.0.get(&(name.clone(), it.tenant.clone()));
            listener.codec = deployment.map(|deployment| ListenerCodec {
                name: name.clone(),
                codec: Arc::new(CodecBridge(deployment.clone())),
            });
        }
        settings
    }

    /// Ends every deployment: what waits is done. `limit` is that of the whole end of the process.
    pub async fn stop(&self, limit: Duration) {
        for deployment in self.0.values() {
            deployment.stop(super::stop_within(limit)).await;
        }
    }
}
