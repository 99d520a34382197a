//! Components that a register is to keep and has not, as on a new disk: looked for at the nodes with a
//! link, one after the other.
//!
//! Guarantees: what is lacking is looked for again for as long as it is, at once when a node has come
//! that may have it, else with growing pauses.

use tidegate_link::net::Backoff;
use tokio::time::Instant;

use super::{CoordinatorMessage, CoordinatorTask};
use crate::transfer::From;

/// Whether components are looked for, and when they are next.
#[derive(Debug)]
pub(super) struct Collecting {
    is_under_way: bool,
    /// A node that may have what was lacking has come meanwhile.
    again: bool,
    /// When to look again for what could not be had or kept.
    at: Option<Instant>,
    retries: Backoff,
}

impl Collecting {
    pub(super) const fn new(retries: Backoff) -> Self {
        Self {
            is_under_way: false,
            again: false,
            at: None,
            retries,
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.at
    }
}

impl CoordinatorTask {
    /// Looks for what is lacking: a node has come, or more is to be kept.
    pub(super) fn collect(&mut self) {
        let lacking = self.store.lacking();
        if lacking.is_empty() {
            return;
        }
        if self.collecting.is_under_way {
            self.collecting.again = true;
            return;
        }
        self.collecting.is_under_way = true;
        let (exchange, inbox) = (self.exchange.clone(), self.inbox.clone());
        tokio::spawn(async move {
            for (version, bytes) in lacking {
                match exchange.obtain(&version, bytes, From::Anyone).await {
                    Ok(_) => tracing::info!(%version, "a component was fetched to be kept"),
                    Err(error) => {
                        tracing::debug!(%version, %error, "a component is not to be had yet");
                    }
                }
            }
            // The coordinator may be gone.
            let _ = inbox.send(CoordinatorMessage::Collected).await;
        });
    }

    /// A node has said something: perhaps it has now what is lacking. Not looked for while the pause
    /// after a vain look lasts, since some nodes say much.
    pub(super) fn collect_unless_pausing(&mut self) {
        if !self.collecting.is_under_way && self.collecting.at.is_none() {
            self.collect();
        }
    }

    /// All that was lacking has been looked for.
    pub(super) fn collected(&mut self) {
        let collecting = &mut self.collecting;
        collecting.is_under_way = false;
        if self.store.lacking().is_empty() {
            collecting.retries.reset();
            collecting.again = false;
            collecting.at = None;
        } else if std::mem::take(&mut collecting.again) {
            self.collect();
        } else {
            collecting.at = Some(Instant::now() + collecting.retries.next());
        }
    }

    pub(super) fn collect_in_time(&mut self) {
        let now = Instant::now();
        if self.collecting.at.take_if(|at| *at <= now).is_some() {
            self.collect();
        }
    }
}
