//! `tidegate:plugin/worker`: who and where an instance is. Nothing here costs a limit.

use super::{HostState, offered};
use offered::worker as wit;

impl wit::Host for HostState {
    fn tenant(&mut self) -> String {
        self.identity.tenant.to_string()
    }

    fn plugin_version(&mut self) -> String {
        self.identity.version.to_string()
    }

    fn worker_name(&mut self) -> String {
        self.identity.worker_name.to_string()
    }

    fn instance(&mut self) -> u32 {
        self.instance
    }

    fn tags(&mut self) -> Vec<String> {
        self.identity.tags.iter().map(ToString::to_string).collect()
    }

    fn event_id(&mut self) -> String {
        self.event
            .as_ref()
            .map(|event| event.id.to_string())
            .unwrap_or_default()
    }

    fn attempt(&mut self) -> u32 {
        self.event
            .as_ref()
            .map_or(0, |event| u32::from(event.attempt))
    }
}
