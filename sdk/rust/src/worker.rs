//! Who and where this instance is, and which event it is handling.

use crate::backend;

/// The tenant that this instance serves.
#[must_use]
pub fn tenant() -> String {
    backend::tenant()
}

/// The content hash of the plugin that is running (64 hex digits).
#[must_use]
pub fn plugin_version() -> String {
    backend::plugin_version()
}

/// The worker's name in its configuration.
#[must_use]
pub fn name() -> String {
    backend::worker_name()
}

/// Number of this instance within its deployment on this worker, from 0.
#[must_use]
pub fn instance() -> u32 {
    backend::instance()
}

/// The worker's tags in its configuration.
#[must_use]
pub fn tags() -> Vec<String> {
    backend::tags()
}

/// The same for every attempt at one event: an idempotency key for calls that act at once.
/// Empty outside an event.
#[must_use]
pub fn event_id() -> String {
    backend::event_id()
}

/// 0 at first; more when the event is run again after a loss.
#[must_use]
pub fn attempt() -> u32 {
    backend::attempt()
}
