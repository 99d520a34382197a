//! `tidegate worker`: A worker.

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Runs until `stop`.
///
/// # Errors
/// When it cannot start, or when a service fails while it runs.
pub async fn run(_config: Config, _stop: CancellationToken) -> anyhow::Result<()> {
    anyhow::bail!("tidegate worker is not wired yet")
}
