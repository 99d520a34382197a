//! What every service command does around its service: metrics, the admin listener, readiness,
//! the limit of open files.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Readiness};
use crate::config::Config;

/// Starts metrics and the admin listener, if one is configured. Call it before any service, so
/// that all counters are seen.
///
/// # Errors
/// When the admin address cannot be bound.
pub async fn start(config: &Config, stop: &CancellationToken) -> anyhow::Result<Readiness> {
    let readiness = Readiness::new();
    // Conditions are added step by step; none of them must look like all of them.
    readiness.set("start", false, "the service is starting");
    raise_open_files();
    let tasks = TaskTracker::new();
    let bound = admin::start(&config.admin, readiness.clone(), &tasks, stop.clone()).await?;
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
    tokio::spawn(async move {
        while count.changed().await.is_ok() {
            let now = *count.borrow_and_update();
            tell(&readiness, now);
        }
    });
}

/// Every client is an open file; the soft limit is often 1024 where the hard one is a million.
#[allow(
    unsafe_code,
    reason = "setrlimit has no safe form in std; the struct is ours and whole"
)]
fn raise_open_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
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
