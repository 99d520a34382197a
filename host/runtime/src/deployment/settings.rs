//! What a deployment is told: who it is, how it runs, how it goes from one version to the next.

use std::time::Duration;

use tidegate_wire::Name;

use crate::limits::Limits;
use crate::version::Whose;

/// What a deployment is.
#[derive(Clone, Debug)]
pub struct DeploymentSettings {
    /// Whose plugin.
    pub tenant: Name,
    /// This worker's name in its configuration.
    pub worker_name: Name,
    /// This worker's tags.
    pub tags: Vec<Name>,
    /// Instances, at least one.
    pub instances: usize,
    /// Per event and per instance.
    pub limits: Limits,
    /// The plugin's own configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Events that wait for one instance at most. Over it they are given back.
    pub mailbox_events: usize,
    /// How versions change.
    pub rollout: Rollout,
}

impl DeploymentSettings {
    pub(super) fn whose(&self) -> Whose<'_> {
        Whose {
            tenant: &self.tenant,
            node_name: &self.worker_name,
            tags: &self.tags,
            limits: self.limits,
            config: &self.config,
        }
    }
}

/// How a deployment goes from one version to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Versions that stay compiled, the one that serves among them; at least one.
    pub versions_kept: usize,
    /// How long `save` and `restore` may take, each, in milliseconds.
    pub state_ms: u64,
    /// Bytes that `save` may give.
    pub state_bytes_max: usize,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            versions_kept: 5,
            state_ms: 1_000,
            state_bytes_max: 16 << 20,
        }
    }
}

impl Rollout {
    pub(super) const fn state_within(&self) -> Duration {
        Duration::from_millis(self.state_ms)
    }
}
