//! The answer to `W:`, in which a bench instance says who it is.

use anyhow::{Context, Result};
use serde_json::Value;

/// An instance and the event that it handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The tenant that it serves.
    pub tenant: String,
    /// The name of its worker.
    pub worker: String,
    /// Its number within its deployment on that worker.
    pub instance: u64,
    /// The content hash of its plugin.
    pub version: String,
    /// The event.
    pub event_id: String,
    /// Which attempt at the event.
    pub attempt: u64,
}

impl Who {
    pub(super) fn parse(json: &str) -> Result<Self> {
        let who: Value = serde_json::from_str(json)?;
        let member = |name: &str| who.get(name).with_context(|| format!("no {name}"));
        let text = |name: &str| {
            let text = member(name)?.as_str();
            Ok::<_, anyhow::Error>(
                text.with_context(|| format!("{name} is no text"))?
                    .to_owned(),
            )
        };
        let number = |name: &str| {
            member(name)?
                .as_u64()
                .with_context(|| format!("{name} is no number"))
        };
        Ok(Self {
            tenant: text("tenant")?,
            worker: text("worker")?,
            instance: number("instance")?,
            version: text("version")?,
            event_id: text("event-id")?,
            attempt: number("attempt")?,
        })
    }
}
