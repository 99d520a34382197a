//! A plugin as one tenant runs it, and the start of a whole set of its instances.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::DeploymentSettings;
use crate::engine::Runtime;
use crate::host_api::{ConfigValues, Identity, OutputLog};
use crate::instance::Instance;
use crate::plugin::{Plugin, PluginError};

/// A plugin with what all its instances share.
pub(super) struct Version {
    pub(super) plugin: Plugin,
    pub(super) identity: Arc<Identity>,
}

impl Version {
    pub(super) fn new(plugin: Plugin, settings: &DeploymentSettings) -> Arc<Self> {
        let identity = Identity {
            tenant: settings.tenant.clone(),
            version: plugin.version().clone(),
            plugin: plugin.name().clone(),
            worker_name: settings.worker_name.clone(),
            tags: settings.tags.clone(),
            limits: settings.limits,
            config: ConfigValues::new(&settings.config),
        };
        Arc::new(Self {
            plugin,
            identity: Arc::new(identity),
        })
    }

    pub(super) fn output(&self, number: u32) -> Arc<OutputLog> {
        Arc::new(OutputLog::new(Arc::clone(&self.identity), number))
    }
}

/// An instance with the log of its output.
pub(super) struct Started {
    pub(super) instance: Instance,
    pub(super) output: Arc<OutputLog>,
}

/// All or none, side by side.
pub(super) async fn start_instances(
    runtime: &Runtime,
    version: &Arc<Version>,
    count: usize,
) -> Result<Vec<Started>, PluginError> {
    let mut starting = JoinSet::new();
    for index in 0..count {
        let (runtime, version) = (runtime.clone(), Arc::clone(version));
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        starting.spawn(async move {
            let output = version.output(number);
            let plugin = &version.plugin;
            let start = Instance::start(&runtime, plugin, &version.identity, number, &output);
            start
                .await
                .map(|instance| (index, Started { instance, output }))
        });
    }
    let mut started = Vec::with_capacity(count);
    while let Some(result) = starting.join_next().await {
        let result = result.map_err(|error| PluginError::StartFailed {
            name: version.plugin.source().to_string(),
            reason: error.to_string(),
        })?;
        started.push(result?);
    }
    started.sort_by_key(|(index, _)| *index);
    Ok(started.into_iter().map(|(_, started)| started).collect())
}
