//! What a deployment is told: who it is, how it runs, how it goes from one version to the next.

use std::time::Duration;

use tidegate_wire::Name;

use super::prepared::Tried;
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
    /// Instances that run tasks at a time, at least one.
    pub task_instances: usize,
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
    /// Of a hundred clients so many try a new version first; with none it serves all at once.
    pub canary_percent: u8,
    /// How long they try it before all others follow, in milliseconds; 0: until
    /// [`Deployment::promote`](super::Deployment::promote).
    pub canary_ms: u64,
    /// What a new version must not cross, while it is tried and after.
    pub bounds: Bounds,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            versions_kept: 5,
            state_ms: 1_000,
            state_bytes_max: 16 << 20,
            canary_percent: 0,
            canary_ms: 60_000,
            bounds: Bounds::NONE,
        }
    }
}

impl Rollout {
    /// Who tries a version that comes without being told otherwise.
    pub(super) fn tried(&self) -> Option<Tried> {
        (self.canary_percent > 0).then(|| Tried {
            percent: self.canary_percent,
            clients: Vec::new(),
            within: (self.canary_ms > 0).then(|| Duration::from_millis(self.canary_ms)),
        })
    }

    pub(super) const fn state_within(&self) -> Duration {
        Duration::from_millis(self.state_ms)
    }
}

/// Beyond these a new version is rolled back. A bound of 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// So often its instances broke, all together.
    pub traps: u64,
    /// So many of a hundred events failed: the handler returned an error, or broke twice.
    pub errors_percent: u8,
    /// More than one event in a hundred took longer, in milliseconds; time in the mailbox is not
    /// counted.
    pub latency_ms: u64,
    /// How long the bounds hold after a version serves all clients, in milliseconds.
    pub window_ms: u64,
}

impl Bounds {
    /// None at all.
    pub const NONE: Self = Self {
        traps: 0,
        errors_percent: 0,
        latency_ms: 0,
        window_ms: 0,
    };
}
