//! Waiting for conditions. Every wait has a deadline and says what it waited for; nothing sleeps
//! for a fixed time and hopes.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

/// How long a test waits for anything. Generous, because it is only ever reached by a failure.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks at a condition again and again until it gives a value.
///
/// # Errors
/// When the deadline passes first; the error names `what` and the condition's last error.
pub async fn eventually<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    let mut last = None;
    while Instant::now() < deadline {
        match tokio::time::timeout_at(deadline, condition()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => last = Some(error),
            Err(_) => break,
        }
        tokio::time::sleep(PAUSE).await;
    }
    let text = format!("not within {DEADLINE:?}: {what}");
    Err(match last {
        Some(error) => error.context(text),
        None => anyhow::anyhow!(text),
    })
}

/// Waits for a future, but not for ever.
///
/// # Errors
/// When the deadline passes first, or the future's own.
pub async fn within<T>(what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, future)
        .await
        .with_context(|| format!("not within {DEADLINE:?}: {what}"))?
        .with_context(|| what.to_owned())
}
