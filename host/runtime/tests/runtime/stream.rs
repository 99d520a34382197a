//! Clients that never stop sending, for whatever must not lose, repeat or reorder their events.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_runtime::Deployment;
use tidegate_wire::effect::Outcome;
use tidegate_wire::id::ClientId;

use crate::harness::{Home, client, eventually};

/// Keeps sending events of some clients, as fast as they are done.
pub(crate) struct Stream {
    home: Arc<Home>,
    sent: tokio::task::JoinHandle<HashMap<ClientId, Vec<u64>>>,
    end: Arc<AtomicBool>,
}

impl Stream {
    pub(crate) fn start(
        deployment: &Deployment,
        clients: u32,
        script: impl Fn(u64) -> String + Send + 'static,
    ) -> Self {
        let home = Home::new();
        let end = Arc::new(AtomicBool::new(false));
        let (own, ended, deployment) = (Arc::clone(&home), Arc::clone(&end), deployment.clone());
        let sent = tokio::spawn(async move {
            let mut sent: HashMap<ClientId, Vec<u64>> = HashMap::new();
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                for client in (0..clients).map(client) {
                    let sequence = own.script(&deployment, client, &script(number));
                    sent.entry(client).or_default().push(sequence);
                    number += 1;
                }
                while deployment.queued_events() > 300 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::task::yield_now().await;
            }
            sent
        });
        Self { home, sent, end }
    }

    pub(crate) async fn committed(&self, more: usize) {
        let before = self.home.committed();
        eventually("events are committed", || {
            self.home.committed() >= before + more
        })
        .await;
    }

    /// Stops sending: each event was committed once, and those of a client in order; gives how they ended.
    pub(crate) async fn end(self, deployment: &Deployment) -> Vec<Outcome> {
        self.end.store(true, Ordering::Relaxed);
        let sent = self.sent.await.unwrap();
        eventually("all is done", || deployment.queued_events() == 0).await;
        let mut got: HashMap<ClientId, Vec<u64>> = HashMap::new();
        let mut outcomes = Vec::new();
        for commit in self.home.commits() {
            got.entry(commit.client)
                .or_default()
                .push(commit.event.sequence);
            outcomes.push(commit.outcome);
        }
        assert!(got == sent, "an event is lost, repeated or out of order");
        outcomes
    }
}
