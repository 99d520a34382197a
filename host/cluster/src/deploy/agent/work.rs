//! What takes its time: each runs as a task of its own and ends with a letter to the body.

use std::sync::Arc;
use std::time::Duration;

use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::deploy::{CanaryPlan, Deploy, Step};
use tokio::sync::mpsc;

use super::Mail;
use super::tell::send;
use crate::deploy::converge::Next;
use crate::deploy::store::Pin;
use crate::deploy::transfer::{Exchange, From};
use crate::deploy::{Coming, Component, Deployables, now_ms};

/// How many steps may wait to be told.
const STEPS_MAX: usize = 16;

/// What the tasks need.
pub(super) struct Hands {
    pub(super) deployables: Arc<dyn Deployables>,
    pub(super) exchange: Exchange,
    pub(super) mail: mpsc::Sender<Mail>,
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

/// For an order: each step is told to the desk.
pub(super) async fn prepare(hands: Hands, ask: Prepare, desk: Option<LinkSender>) {
    let order = ask.order;
    let (tenant, version) = (ask.tenant.clone(), ask.version.clone());
    let tell = |step| {
        if let Some(desk) = &desk {
            let order = order.1;
            send(desk, Deploy::Step { order, step });
        }
    };
    let outcome = start(&hands, ask, tell).await;
    let prepared = Mail::Prepared {
        tenant,
        version,
        order,
        outcome,
    };
    // The body is gone only when the process ends.
    let _ = hands.mail.send(prepared).await;
}

async fn start(hands: &Hands, ask: Prepare, tell: impl Fn(Step)) -> Result<Pin, String> {
    let obtained = hands.exchange.obtain(&ask.version, ask.bytes, From::Anyone);
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
    let deployables = &hands.deployables;
    let prepare = deployables.prepare(ask.tenant, component, ask.canary, steps);
    let tell_all = async {
        while let Some(step) = told.recv().await {
            tell(step);
        }
    };
    let (outcome, ()) = tokio::join!(prepare, tell_all);
    outcome.map(|()| obtained.pin)
}

/// One step towards what is desired. `held`: what is to be served is ready.
pub(super) async fn step(hands: Hands, tenant: Name, next: Next, held: Option<Pin>) {
    let outcome = go(&hands, &tenant, next, held).await;
    // As above.
    let _ = hands.mail.send(Mail::Stepped { tenant, outcome }).await;
}

async fn go(hands: &Hands, tenant: &Name, next: Next, held: Option<Pin>) -> Result<(), String> {
    let deployables = &hands.deployables;
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
            // What was held is decided this moment, whatever the clocks say.
            let age = if held.is_some() {
                0
            } else {
                now_ms().saturating_sub(at_ms)
            };
            let new = Coming::New(Duration::from_millis(age));
            let coming = again.map_or(new, Coming::Again);
            // Kept until it serves: from then on the state names it.
            let _pin = match held {
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
                    start(hands, ask, |_| {}).await?
                }
            };
            tracing::info!(%tenant, %version, generation, "the cluster's version is to serve");
            deployables.activate(tenant, version, coming).await
        }
    }
}
