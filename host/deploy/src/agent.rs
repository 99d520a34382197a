//! The worker's side: prepares what a coordinator asks for, and runs what is desired.
//!
//! Guarantees: follows the highest state that it has heard of, kept on the disk first, also without
//! any register; what does not work is tried again with backoff and told; what was prepared and not
//! decided is let go when the coordinator is silent. Calls to [`Deployables`] for one tenant never overlap.

mod preparation;
mod steps;
mod task;
mod tell;

use std::time::Duration;

use tidegate_link::Identity;
use tidegate_watchdog::watched;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::store::Pin;
use super::transfer::Exchange;
use super::uplink::{News, Uplinks};
use super::{Coordinators, DeploySettings, Deployables, Shared, Store, TakenBack};
use task::AgentTask;

/// How many messages may wait.
const MESSAGES_MAX: usize = 256;

/// Keeps a worker at what is desired, until `stop`.
#[derive(Clone, Debug)]
pub struct Agent {
    state: watch::Receiver<AgentState>,
    lags: watch::Receiver<Vec<String>>,
    inbox: mpsc::Sender<AgentMessage>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AgentState {
    /// A register has told what is desired.
    heard: bool,
    /// Nothing is being done for any tenant.
    settled: bool,
}

/// What reaches the task.
#[derive(Debug)]
enum AgentMessage {
    News(usize, News),
    TakenBack(TakenBack),
    /// What runs has changed by something else than this agent.
    Changed,
    /// What was to be prepared for an order is ready, or cannot be.
    Prepared {
        tenant: super::Name,
        version: super::Name,
        order: (usize, u64),
        outcome: Result<Pin, String>,
    },
    /// A step towards what is desired.
    Stepped {
        tenant: super::Name,
        outcome: Result<(), String>,
    },
}

impl Agent {
    /// Starts to follow what `store` says, then what the registers say. `identity` is the worker's.
    #[must_use]
    pub fn start(
        coordinators: Coordinators,
        identity: Identity,
        store: Store,
        deployables: Shared<dyn Deployables>,
        settings: DeploySettings,
        stop: CancellationToken,
    ) -> Self {
        let (inbox, messages) = mpsc::channel(MESSAGES_MAX);
        let exchange = Exchange::new(store.clone(), settings.link.lease);
        let seed = identity.node.incarnation.0;
        let uplinks = Uplinks {
            identity,
            store: store.clone(),
            exchange: exchange.clone(),
            settings,
            stop: stop.clone(),
        };
        let coordinators = uplinks.start(coordinators, &inbox, AgentMessage::News);
        let pass_on = pass_on(deployables.taken_back(), inbox.clone(), stop.clone());
        tokio::spawn(watched("the rollbacks of the deploy agent", pass_on));
        let (told, state) = watch::channel(AgentState::default());
        let task = AgentTask::new(
            coordinators.len(),
            store,
            exchange,
            deployables,
            settings,
            inbox.clone(),
            seed,
        );
        let lags = task.lags.subscribe();
        tokio::spawn(watched("the deploy agent", task.run(messages, told, stop)));
        Self { state, lags, inbox }
    }

    /// The tenants that this worker cannot run as it should, each with the reason.
    #[must_use]
    pub fn lags(&self) -> watch::Receiver<Vec<String>> {
        self.lags.clone()
    }

    /// Waits until a register has told what is desired, but not longer than this. A worker that was
    /// away would otherwise begin with what nobody wants any more.
    pub async fn heard(&self, within: Duration) {
        let mut state = self.state.clone();
        // Fails only when the agent has ended; without a register there is nothing to hear.
        let _ = timeout(within, state.wait_for(|state| state.heard)).await;
    }

    /// Tells the registers what runs, as something else than this agent has brought it to run.
    /// Without that they would hear of it with the next sign of life.
    pub async fn changed(&self) {
        // Fails only when the agent has ended.
        let _ = self.inbox.send(AgentMessage::Changed).await;
    }

    /// Waits until every tenant that the store names a version for runs it, as far as its bytes can
    /// be had and it starts. What is left is tried again for as long as the process runs.
    pub async fn settled(&self) {
        let mut state = self.state.clone();
        // Fails only when the agent has ended.
        let _ = state.wait_for(|state| state.settled).await;
    }
}

async fn pass_on(
    mut taken_back: mpsc::Receiver<TakenBack>,
    inbox: mpsc::Sender<AgentMessage>,
    stop: CancellationToken,
) {
    let pass = async {
        while let Some(it) = taken_back.recv().await {
            if inbox.send(AgentMessage::TakenBack(it)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = pass => {}
    }
}
