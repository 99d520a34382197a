//! The worker's side: prepares what a desk asks for, and runs what is desired.
//!
//! Guarantees: follows the highest state that it has heard of, kept on the disk first, also without
//! any register; what does not work is tried again with backoff and told; what was prepared and not
//! decided is let go when the desk is silent. Calls to [`Deployables`] for one tenant never overlap.

mod body;
mod held;
mod tell;
mod work;

use std::time::Duration;

use tidegate_link::Identity;
use tidegate_watchdog::watched;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::store::Pin;
use super::transfer::Exchange;
use super::uplink::{News, Uplinks};
use super::{DeploySettings, Deployables, Desks, Shared, Store, TakenBack};
use body::Body;

/// How many messages may wait.
const MAIL_MAX: usize = 256;

/// Keeps a worker at what is desired, until `stop`.
#[derive(Clone, Debug)]
pub struct Agent {
    state: watch::Receiver<State>,
    lags: watch::Receiver<Vec<String>>,
    mail: mpsc::Sender<Mail>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// A register has told what is desired.
    heard: bool,
    /// Nothing is being done for any tenant.
    settled: bool,
}

/// What reaches the body.
#[derive(Debug)]
enum Mail {
    News(usize, News),
    TakenBack(TakenBack),
    /// What runs has changed by something else than this agent.
    Changed,
    /// What was to be prepared for an order is held, or cannot be.
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
        desks: Desks,
        identity: Identity,
        store: Store,
        deployables: Shared<dyn Deployables>,
        settings: DeploySettings,
        stop: CancellationToken,
    ) -> Self {
        let (mail, letters) = mpsc::channel(MAIL_MAX);
        let exchange = Exchange::new(store.clone(), settings.link.lease);
        let seed = identity.node.incarnation.0;
        let uplinks = Uplinks {
            identity,
            store: store.clone(),
            exchange: exchange.clone(),
            settings,
            stop: stop.clone(),
        };
        let desks = uplinks.start(desks, &mail, Mail::News);
        let pass_on = pass_on(deployables.taken_back(), mail.clone(), stop.clone());
        tokio::spawn(watched("the rollbacks of the deploy agent", pass_on));
        let (told, state) = watch::channel(State::default());
        let body = Body::new(
            desks.len(),
            store,
            exchange,
            deployables,
            settings,
            mail.clone(),
            seed,
        );
        let lags = body.lags.subscribe();
        tokio::spawn(watched("the deploy agent", body.run(letters, told, stop)));
        Self { state, lags, mail }
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
        let _ = self.mail.send(Mail::Changed).await;
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
    mail: mpsc::Sender<Mail>,
    stop: CancellationToken,
) {
    let pass = async {
        while let Some(it) = taken_back.recv().await {
            if mail.send(Mail::TakenBack(it)).await.is_err() {
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
