//! What the agent tells coordinators: what runs, what it takes for desired, what it has taken back.

use tidegate_link::LinkSender;
use tidegate_wire::deploy::{Deploy, Running, reason};

use super::task::AgentTask;
use crate::converge::{Now, nothing_left};
use crate::{Serving, TakenBack};

/// A link that has ended says so by a message.
pub(super) fn send(sender: &LinkSender, frame: Deploy) {
    let _ = sender.send(frame);
}

impl AgentTask {
    /// Tells the first register; told again when its link is back.
    pub(super) fn report(&self, it: &TakenBack) {
        if let Some(sender) = self
            .coordinators
            .first()
            .and_then(|coordinator| coordinator.sender.as_ref())
        {
            let TakenBack {
                tenant,
                version,
                reason: why,
            } = it.clone();
            let reason = reason(why);
            send(
                sender,
                Deploy::TakenBack {
                    tenant,
                    version,
                    reason,
                },
            );
        }
    }

    /// Tells every coordinator what is new to it.
    pub(super) fn tell(&mut self) {
        let desired = self.store.desired();
        let tenants = self.deployables.tenants();
        let running: Vec<Running> = tenants.into_iter().map(|it| self.running(it)).collect();
        let lag = |it: &Running| Some(format!("tenant {}: {}", it.tenant, it.trouble.as_ref()?));
        let lags: Vec<String> = running.iter().filter_map(lag).collect();
        self.lags
            .send_if_modified(|told| std::mem::replace(told, lags.clone()) != lags);
        let troubled = running.iter().filter(|it| it.trouble.is_some()).count();
        let troubled = u32::try_from(troubled).unwrap_or(u32::MAX);
        metrics::gauge!("tidegate_worker_deploy_troubles").set(troubled);
        for coordinator in &mut self.coordinators {
            let Some(sender) = &coordinator.sender else {
                continue;
            };
            if coordinator
                .known
                .is_some_and(|known| known < desired.rank())
            {
                coordinator.known = Some(desired.rank());
                send(sender, Deploy::State((*desired).clone()));
            }
            let status = (desired.generation, running.clone());
            if coordinator.told.as_ref() != Some(&status) {
                let (generation, running) = status.clone();
                send(
                    sender,
                    Deploy::Status {
                        generation,
                        running,
                    },
                );
                coordinator.told = Some(status);
            }
        }
    }

    /// What a tenant runs, and why it does not run what it should.
    fn running(&self, it: Serving) -> Running {
        let now = Now {
            serving: it.serving.as_ref(),
            canary: it.canary.as_ref(),
        };
        let desired = self.store.desired();
        let deployed = desired.tenants.get(&it.tenant);
        let nothing_left = || Some(reason(nothing_left(deployed?, now)?));
        let taken_back = self.taken_back.get(&it.tenant);
        let trouble = self.troubles.get(&it.tenant).map(|it| it.text.clone());
        let unkept = self.keeping.trouble().map(str::to_owned);
        let trouble = trouble.or_else(|| taken_back.map(|(it, _)| reason(it.reason.clone())));
        let trouble = unkept.or(trouble).or_else(nothing_left);
        Running {
            tenant: it.tenant,
            serving: it.serving,
            canary: it.canary,
            trial: it.trial,
            trouble,
            failing: it.failing.map(reason),
        }
    }
}
