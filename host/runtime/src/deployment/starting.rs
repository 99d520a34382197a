//! The start of a whole set of instances.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::engine::Runtime;
use crate::host_api::OutputLog;
use crate::instance::Instance;
use crate::plugin::PluginError;
use crate::version::Version;

/// An instance with the log of its output.
pub(super) struct Started {
    pub(super) instance: Instance,
    pub(super) output: Arc<OutputLog>,
}

/// All or none, side by side; their numbers begin at `first`.
pub(super) async fn start_instances(
    runtime: &Runtime,
    version: &Arc<Version>,
    first: usize,
    count: usize,
) -> Result<Vec<Started>, PluginError> {
    let mut starting = JoinSet::new();
    for index in 0..count {
        let (runtime, version) = (runtime.clone(), Arc::clone(version));
        let number = u32::try_from(first.saturating_add(index)).unwrap_or(u32::MAX);
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
