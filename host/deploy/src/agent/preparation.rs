//! What is prepared for an order that is not decided yet.

use tidegate_wire::Name;
use tidegate_wire::deploy::{CanaryPlan, Deploy, is_version};
use tokio::time::Instant;

use super::steps;
use super::task::AgentTask;
use super::tell::send;
use crate::store::Pin;

/// One order of one coordinator.
#[derive(Debug)]
pub(super) struct Preparation {
    pub(super) order: (usize, u64),
    pub(super) tenant: Name,
    pub(super) version: Name,
    source: Name,
    bytes: u64,
    pub(super) canary: Option<CanaryPlan>,
    pub(super) stage: Stage,
    /// Let go then, unless the coordinator says a word.
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

impl AgentTask {
    /// A coordinator asks.
    pub(super) fn prepare(&mut self, coordinator: usize, ask: Deploy) {
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
        let order = (coordinator, order);
        if !is_version(&version) {
            return self.prepared(order, Err("the version is not a hash".to_owned()));
        }
        if !self.knows(&tenant) {
            let text = format!("there are no settings for tenant {tenant:?} here");
            return self.prepared(order, Err(text));
        }
        if self
            .preparation
            .as_ref()
            .is_some_and(|preparation| preparation.order.0 != coordinator)
        {
            let text = "another register's order is under way here: which of them is the first?";
            return self.prepared(order, Err(text.to_owned()));
        }
        if let Some(preparation) = self
            .preparation
            .as_mut()
            .filter(|preparation| preparation.order == order)
        {
            // Asked again over a newer link.
            preparation.until = Instant::now() + self.settings.hold_max;
            if matches!(preparation.stage, Stage::Ready(_)) {
                self.prepared(order, Ok(()));
            }
            return;
        }
        // Its coordinator has moved on.
        self.abandon();
        self.preparation = Some(Preparation {
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
        let tools = self.tools();
        let Some(preparation) = &mut self.preparation else {
            return;
        };
        if preparation.tenant != *tenant || !matches!(preparation.stage, Stage::Queued) {
            return;
        }
        preparation.stage = Stage::Preparing;
        self.working.insert(tenant.clone());
        let sender = self.coordinators.get(preparation.order.0);
        let sender = sender.and_then(|coordinator| coordinator.sender.clone());
        tokio::spawn(steps::prepare(
            tools,
            steps::Prepare {
                order: preparation.order,
                tenant: tenant.clone(),
                version: preparation.version.clone(),
                source: preparation.source.clone(),
                bytes: preparation.bytes,
                canary: preparation.canary.clone(),
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
        match self
            .preparation
            .as_mut()
            .filter(|preparation| preparation.order == order)
        {
            Some(preparation) => match outcome {
                Ok(pin) => {
                    preparation.stage = Stage::Ready(pin);
                    self.prepared(order, Ok(()));
                }
                Err(error) => {
                    self.preparation = None;
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
        if let Some(preparation) = self
            .preparation
            .as_mut()
            .filter(|preparation| preparation.order == order)
        {
            preparation.until = Instant::now() + self.settings.hold_max;
        }
    }

    pub(super) fn discard(&mut self, order: (usize, u64)) {
        if self
            .preparation
            .as_ref()
            .is_some_and(|preparation| preparation.order == order)
        {
            self.abandon();
            // What had to wait for it is tried again.
            self.look_again();
        }
    }

    /// What is being prepared is discarded when that is done.
    pub(super) fn abandon(&mut self) {
        if let Some(preparation) = self.preparation.take()
            && let Stage::Ready(pin) = preparation.stage
        {
            self.deployables
                .discard(preparation.tenant, preparation.version);
            drop(pin);
            self.tidy();
        }
    }

    /// What never served is not kept.
    fn tidy(&self) {
        let store = self.store.clone();
        tokio::spawn(async move { store.tidy().await });
    }

    /// Until when something that is prepared for the tenant is held, if its coordinator is silent.
    pub(super) fn ready_until(&self, tenant: &Name) -> Option<Instant> {
        let preparation = self.preparation.as_ref()?;
        let is_ready =
            preparation.tenant == *tenant && matches!(preparation.stage, Stage::Ready(_));
        is_ready.then_some(preparation.until)
    }

    /// What is prepared makes room for something that was decided.
    pub(super) fn displace(&mut self, tenant: &Name) {
        let ready = |preparation: &&Preparation| {
            preparation.tenant == *tenant && matches!(preparation.stage, Stage::Ready(_))
        };
        if let Some(preparation) = self.preparation.as_ref().filter(ready) {
            let order = preparation.order;
            self.abandon();
            let text = "another version was decided meanwhile";
            self.prepared(order, Err(text.to_owned()));
        }
    }

    fn prepared(&self, order: (usize, u64), outcome: Result<(), String>) {
        let (coordinator, order) = order;
        let sender = self
            .coordinators
            .get(coordinator)
            .and_then(|coordinator| coordinator.sender.as_ref());
        if let Some(sender) = sender {
            send(sender, Deploy::Prepared { order, outcome });
        }
    }
}
