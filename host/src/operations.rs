//! What every service command does around its service: metrics, the admin listener, readiness,
//! the limit of open files.

use anyhow::Context;
use tidegate_cluster::net;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::config::Config;
use crate::telemetry;

/// Starts the recorder of metrics and, if one is configured, the admin listener. Call it before
/// any service, so that all counters are seen.
///
/// # Errors
/// When the admin address cannot be bound.
pub async fn start(config: &Config, stop: &CancellationToken) -> anyhow::Result<Readiness> {
    let metrics = telemetry::start_metrics()?;
    let readiness = Readiness::new();
    raise_open_files();
    if let Some(address) = config.admin.listen {
        let listener = net::bind(address).await.context("`admin.listen`")?;
        tracing::info!(address = %listener.local_addr()?, "admin listens");
        let serve = admin::serve(listener, readiness.clone(), metrics, stop.clone());
        tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the admin listener ended");
            }
        });
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
        readiness.set(name, count > 0, if count > 0 { format!("{count}") } else { missing.into() });
    };
    tell(&readiness, *count.borrow());
    tokio::spawn(async move {
        while count.changed().await.is_ok() {
            let now = *count.borrow_and_update();
            tell(&readiness, now);
        }
    });
}

/// Every client is an open file; the soft limit is often 1024 where the hard one is a million.
#[allow(unsafe_code, reason = "setrlimit has no safe form in std; the struct is ours and whole")]
fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if !raised {
        tracing::warn!("the limit of open files could not be raised to its maximum");
    }
}
