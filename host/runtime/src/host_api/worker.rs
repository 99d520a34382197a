//! `tidegate:plugin/worker`: who and where an instance is. Nothing here costs a limit.

use super::{HostState, Origin, offered};
use offered::worker as wit;

impl wit::Host for HostState {
    fn tenant(&mut self) -> String {
        self.identity.tenant.to_string()
    }

    fn plugin_version(&mut self) -> String {
        self.identity.version.to_string()
    }

    fn worker_name(&mut self) -> String {
        self.identity.node_name.to_string()
    }

    fn instance(&mut self) -> u32 {
        self.instance
    }

    fn tags(&mut self) -> Vec<String> {
        self.identity.tags.iter().map(ToString::to_string).collect()
    }

    fn event_id(&mut self) -> String {
        self.event().map(|(id, _)| id).unwrap_or_default()
    }

    fn attempt(&mut self) -> u32 {
        self.event().map_or(0, |(_, attempt)| u32::from(attempt))
    }
}

impl HostState {
    fn event(&self) -> Option<(String, u8)> {
        match &self.call.as_ref()?.origin {
            Origin::Event { id, attempt, .. } => Some((id.to_string(), *attempt)),
            Origin::Command { .. } => None,
        }
    }
}
