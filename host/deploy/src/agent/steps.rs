//! What takes its time: each runs as a task of its own and ends with a message to the task.

use std::sync::Arc;
use std::time::Duration;

use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::deploy::{CanaryPlan, Deploy, Step};
use tokio::sync::mpsc;

use super::AgentMessage;
use super::tell::send;
use crate::converge::Next;
use crate::store::Pin;
use crate::transfer::{Exchange, From};
use crate::{Coming, Component, Deployables, now_ms};

/// How many steps may wait to be told.
const STEPS_MAX: usize = 16;

/// What the tasks need.
pub(super) struct Tools {
    pub(super) deployables: Arc<dyn Deployables>,
    pub(super) exchange: Exchange,
    pub(super) inbox: mpsc::Sender<AgentMessage>,
}

/// One version to be started and held.
pub(super) struct Prepare {
    pub(super) order: (usize, u64),
    pub(super) tenant: Name,
    pub(super) version: Name,
    pub(super) source: Name,
    pub(super) bytes: u64,
    pub(super) canary: Option<CanaryPlan>,
}

/// For an order: each step is told to the coordinator.
pub(super) async fn prepare(tools: Tools, ask: Prepare, coordinator: Option<LinkSender>) {
    let order = ask.order;
    let (tenant, version) = (ask.tenant.clone(), ask.version.clone());
    let tell = |step| {
        if let Some(coordinator) = &coordinator {
            let order = order.1;
            send(coordinator, Deploy::Step { order, step });
        }
    };
    let outcome = start(&tools, ask, tell).await;
    let prepared = AgentMessage::Prepared {
        tenant,
        version,
        order,
        outcome,
    };
    // The task is gone only when the process ends.
    let _ = tools.inbox.send(prepared).await;
}

async fn start(tools: &Tools, ask: Prepare, tell: impl Fn(Step)) -> Result<Pin, String> {
    let obtained = tools.exchange.obtain(&ask.version, ask.bytes, From::Anyone);
    let obtained = obtained.await.map_err(|error| {
        let version = &ask.version;
        format!("the bytes of version {version} cannot be fetched: {error}")
    })?;
    tell(Step::Fetched);
    let component = Component {
        version: ask.version,
        source: ask.source,
        bytes: (*obtained.bytes).clone(),
    };
    let (steps, mut told) = mpsc::channel(STEPS_MAX);
    let deployables = &tools.deployables;
    let prepare = deployables.prepare(ask.tenant, component, ask.canary, steps);
    let tell_all = async {
        while let Some(step) = told.recv().await {
            tell(step);
        }
    };
    let (outcome, ()) = tokio::join!(prepare, tell_all);
    outcome.map(|()| obtained.pin)
}

/// One step towards what is desired. `ready`: what is to be served is prepared.
pub(super) async fn step(tools: Tools, tenant: Name, next: Next, ready: Option<Pin>) {
    let outcome = go(&tools, &tenant, next, ready).await;
    // As above.
    let _ = tools
        .inbox
        .send(AgentMessage::Stepped { tenant, outcome })
        .await;
}

async fn go(tools: &Tools, tenant: &Name, next: Next, ready: Option<Pin>) -> Result<(), String> {
    let deployables = &tools.deployables;
    let tenant = tenant.clone();
    match next {
        Next::Nothing => Ok(()),
        Next::Promote(version) => {
            tracing::info!(%tenant, %version, "the canary serves everybody");
            deployables.promote(tenant, version).await
        }
        Next::GiveUp(version, reason) => {
            tracing::info!(%tenant, %version, reason, "a version is given up");
            deployables.give_up(tenant, version, reason).await
        }
        Next::Serve {
            version,
            source,
            bytes,
            generation,
            canary,
            at_ms,
            again,
        } => {
            // What was prepared is decided this moment, whatever the clocks say.
            let age = if ready.is_some() {
                0
            } else {
                now_ms().saturating_sub(at_ms)
            };
            let new = Coming::New(Duration::from_millis(age));
            let coming = again.map_or(new, Coming::Again);
            // Kept until it serves: from then on the state names it.
            let _pin = match ready {
                Some(pin) => pin,
                None => {
                    let ask = Prepare {
                        order: (0, 0),
                        tenant: tenant.clone(),
                        version: version.clone(),
                        source,
                        bytes,
                        canary,
                    };
                    start(tools, ask, |_| {}).await?
                }
            };
            tracing::info!(%tenant, %version, generation, "the cluster's version is to serve");
            deployables.activate(tenant, version, coming).await
        }
    }
}
