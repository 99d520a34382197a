//! What every service command does around its service: metrics, the admin listener, readiness.

use tidegate_watchdog::watched;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::config::Config;
use crate::descriptors;

/// Starts metrics and the admin listener, if one is configured. Call it before any service, so
/// that all counters are seen.
///
/// # Errors
/// When the admin address cannot be bound.
pub async fn start(config: &Config, stop: &CancellationToken) -> anyhow::Result<Readiness> {
    let readiness = Readiness::new();
    // Conditions are added step by step; none of them must look like all of them.
    readiness.set("start", false, "the service is starting");
    let settings = admin::Settings {
        connections_max: descriptors::of_process(config).admin,
        purpose: config.purpose,
        readiness: readiness.clone(),
    };
    let bound = admin::start(&config.admin, settings, stop.clone()).await?;
    if let Some(address) = bound {
        tracing::info!(%address, "admin listens");
    }
    Ok(readiness)
}

/// Keeps a condition true while a count is above zero.
pub fn ready_while_any(
    readiness: &Readiness,
    name: &'static str,
    missing: &'static str,
    mut count: watch::Receiver<usize>,
) {
    let readiness = readiness.clone();
    let tell = move |readiness: &Readiness, count: usize| {
        readiness.set(
            name,
            count > 0,
            if count > 0 {
                format!("{count}")
            } else {
                missing.into()
            },
        );
    };
    tell(&readiness, *count.borrow());
    let follow = async move {
        while count.changed().await.is_ok() {
            let now = *count.borrow_and_update();
            tell(&readiness, now);
        }
    };
    tokio::spawn(watched(format!("the readiness of {name}"), follow));
}
