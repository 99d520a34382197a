//! A plugin as one tenant runs it: what all instances of one version share.

use std::sync::Arc;

use tidegate_wire::Name;

use crate::host_api::{ConfigValues, Identity, OutputLog};
use crate::limits::Limits;
use crate::plugin::Plugin;

/// Whose plugin it is, and how it is run; the same for all versions of a deployment.
pub(crate) struct Whose<'a> {
    pub(crate) tenant: &'a Name,
    /// The name of the worker or gateway in its configuration.
    pub(crate) node_name: &'a Name,
    pub(crate) tags: &'a [Name],
    pub(crate) limits: Limits,
    pub(crate) config: &'a serde_json::Map<String, serde_json::Value>,
}

/// A plugin with what all its instances share.
pub(crate) struct Version {
    pub(crate) plugin: Plugin,
    pub(crate) identity: Arc<Identity>,
    /// The same for instances that run tasks, which have limits of their own.
    pub(crate) of_tasks: Arc<Identity>,
}

impl Version {
    pub(crate) fn new(plugin: Plugin, whose: &Whose<'_>) -> Arc<Self> {
        let identity = |limits: Limits| Identity {
            tenant: whose.tenant.clone(),
            version: plugin.version().clone(),
            plugin: plugin.name().clone(),
            node_name: whose.node_name.clone(),
            tags: whose.tags.to_vec(),
            limits,
            config: ConfigValues::new(whose.config),
        };
        Arc::new(Self {
            identity: Arc::new(identity(whose.limits)),
            of_tasks: Arc::new(identity(whose.limits.of_task())),
            plugin,
        })
    }

    /// For instances that run tasks.
    pub(crate) fn output_of_tasks(&self) -> Arc<OutputLog> {
        Arc::new(OutputLog::new(Arc::clone(&self.of_tasks), u32::MAX))
    }

    pub(crate) fn output(&self, number: u32) -> Arc<OutputLog> {
        Arc::new(OutputLog::new(Arc::clone(&self.identity), number))
    }
}
