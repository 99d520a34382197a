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
}

impl Version {
    pub(crate) fn new(plugin: Plugin, whose: &Whose<'_>) -> Arc<Self> {
        let identity = Identity {
            tenant: whose.tenant.clone(),
            version: plugin.version().clone(),
            plugin: plugin.name().clone(),
            node_name: whose.node_name.clone(),
            tags: whose.tags.to_vec(),
            limits: whose.limits,
            config: ConfigValues::new(whose.config),
        };
        Arc::new(Self {
            plugin,
            identity: Arc::new(identity),
        })
    }

    pub(crate) fn output(&self, number: u32) -> Arc<OutputLog> {
        Arc::new(OutputLog::new(Arc::clone(&self.identity), number))
    }
}
