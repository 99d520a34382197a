//! The next deadline of a task that waits for mail as well.

use tokio::time::{Instant, sleep_until};

/// Waits until then, for ever if there is no deadline.
pub async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
