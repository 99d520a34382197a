//! What is prepared for an order that is not decided yet.

use tidegate_wire::Name;
use tidegate_wire::deploy::{CanaryPlan, Deploy, is_version};
use tokio::time::Instant;

use super::body::Body;
use super::tell::send;
use super::work;
use crate::deploy::store::Pin;

/// One order of one desk.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) order: (usize, u64),
    pub(super) tenant: Name,
    pub(super) version: Name,
    source: Name,
    bytes: u64,
    pub(super) canary: Option<CanaryPlan>,
    pub(super) stage: Stage,
    /// Let go then, unless the desk says a word.
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Something else is done for the tenant.
    Queued,
    Preparing,
    /// The instances have started.
    Ready(Pin),
}

impl Body {
    /// A desk asks.
    pub(super) fn prepare(&mut self, desk: usize, ask: Deploy) {
        let Deploy::Prepare {
            order,
            tenant,
            version,
            source,
            bytes,
            canary,
        } = ask
        else {
            return;
        };
        let order = (desk, order);
        if !is_version(&version) {
            return self.prepared(order, Err("the version is not a hash".to_owned()));
        }
        if !self.knows(&tenant) {
            let text = format!("there are no settings for tenant {tenant:?} here");
            return self.prepared(order, Err(text));
        }
        if self.held.as_ref().is_some_and(|held| held.order.0 != desk) {
            let text = "another register's order is under way here: which of them is the first?";
            return self.prepared(order, Err(text.to_owned()));
        }
        if let Some(held) = self.held.as_mut().filter(|held| held.order == order) {
            // Asked again over a newer link.
            held.until = Instant::now() + self.settings.hold_max;
            if matches!(held.stage, Stage::Ready(_)) {
                self.prepared(order, Ok(()));
            }
            return;
        }
        // Its desk has moved on.
        self.let_go();
        self.held = Some(Held {
            order,
            tenant: tenant.clone(),
            version,
            source,
            bytes,
            canary,
            stage: Stage::Queued,
            until: Instant::now() + self.settings.hold_max,
        });
        self.look(&tenant);
    }

    /// Begins what is queued; nothing else is done for its tenant now.
    pub(super) fn begin_prepare(&mut self, tenant: &Name) {
        let hands = self.hands();
        let Some(held) = &mut self.held else {
            return;
        };
        if held.tenant != *tenant || !matches!(held.stage, Stage::Queued) {
            return;
        }
        held.stage = Stage::Preparing;
        self.working.insert(tenant.clone());
        let sender = self.desks.get(held.order.0);
        let sender = sender.and_then(|desk| desk.sender.clone());
        tokio::spawn(work::prepare(
            hands,
            work::Prepare {
                order: held.order,
                tenant: tenant.clone(),
                version: held.version.clone(),
                source: held.source.clone(),
                bytes: held.bytes,
                canary: held.canary.clone(),
            },
            sender,
        ));
    }

    pub(super) fn end_prepare(
        &mut self,
        tenant: &Name,
        version: Name,
        order: (usize, u64),
        outcome: Result<Pin, String>,
    ) {
        self.working.remove(tenant);
        match self.held.as_mut().filter(|held| held.order == order) {
            Some(held) => match outcome {
                Ok(pin) => {
                    held.stage = Stage::Ready(pin);
                    self.prepared(order, Ok(()));
                }
                Err(error) => {
                    self.held = None;
                    self.tidy();
                    tracing::warn!(%tenant, %version, %error, "a version cannot run here");
                    self.prepared(order, Err(error));
                }
            },
            // Nobody wants it any more.
            None => {
                if outcome.is_ok() {
                    self.deployables.discard(tenant.clone(), version);
                }
                drop(outcome);
                self.tidy();
            }
        }
        self.look(tenant);
    }

    pub(super) fn hold(&mut self, order: (usize, u64)) {
        if let Some(held) = self.held.as_mut().filter(|held| held.order == order) {
            held.until = Instant::now() + self.settings.hold_max;
        }
    }

    pub(super) fn discard(&mut self, order: (usize, u64)) {
        if self.held.as_ref().is_some_and(|held| held.order == order) {
            self.let_go();
        }
    }

    /// What is being prepared is discarded when that is done.
    pub(super) fn let_go(&mut self) {
        if let Some(held) = self.held.take()
            && let Stage::Ready(pin) = held.stage
        {
            self.deployables.discard(held.tenant, held.version);
            drop(pin);
            self.tidy();
        }
    }

    /// What never served is not kept.
    fn tidy(&self) {
        let store = self.store.clone();
        tokio::spawn(async move { store.tidy().await });
    }

    /// What is held makes room for something that was decided.
    pub(super) fn displace(&mut self, tenant: &Name) {
        let ready = |held: &&Held| held.tenant == *tenant && matches!(held.stage, Stage::Ready(_));
        if let Some(held) = self.held.as_ref().filter(ready) {
            let order = held.order;
            self.let_go();
            let text = "another version was decided meanwhile";
            self.prepared(order, Err(text.to_owned()));
        }
    }

    fn prepared(&self, order: (usize, u64), outcome: Result<(), String>) {
        let (desk, order) = order;
        let sender = self.desks.get(desk).and_then(|desk| desk.sender.as_ref());
        if let Some(sender) = sender {
            send(sender, Deploy::Prepared { order, outcome });
        }
    }
}
