//! This shard's part of answers: one step, whatever is asked.

use std::net::SocketAddrV4;

use tidegate_hub::answer::{Ground, answer};
use tidegate_hub::custody_updates::Part;
use tidegate_hub::directory::{Reach, reach};
use tidegate_hub::hub::{Hub, Trial};
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, AskError, Once, Query, SwapRefusal};

use crate::gateway::shard::State;
use crate::gateway::shard::clients::Outbound;
use crate::gateway::shared::gather::{Asked, shards_of};

impl State {
    /// This shard's part.
    pub(in crate::gateway::shard) fn part(&mut self, asked: &Asked) -> Result<Answer, AskError> {
        // Whom an effect has closed is offline, also before the end of the turn.
        self.end_closing();
        match &asked.query {
            Query::CompareAndSet {
                client,
                key,
                expected,
                new,
                nth: _,
            } => {
                let swapped = self.swap(
                    &asked.tenant,
                    *client,
                    key,
                    expected.as_deref(),
                    new.as_ref(),
                );
                Ok(Answer::Swapped(swapped))
            }
            Query::Once {
                key,
                request,
                effects,
            } => Ok(Answer::Applied(self.act_once(
                &asked.tenant,
                *key,
                *request,
                effects,
            ))),
            Query::Timers { of, after, limit } => {
                let after = after.as_deref();
                let tenant = self.tenant_index(&asked.tenant);
                Ok(self.timers_of(tenant, *of, after, *limit))
            }
            Query::Tasks { after, limit } => {
                let tenant = self.tenant_index(&asked.tenant);
                Ok(self.tasks_of(tenant, after.as_deref(), *limit))
            }
            Query::Clients { .. }
            | Query::ClientCount { .. }
            | Query::UidCounts(_)
            | Query::GroupCounts(_)
            | Query::Uids { .. }
            | Query::UidCount { .. }
            | Query::UidEstimate
            | Query::Groups { .. }
            | Query::GroupInfos { .. }
            | Query::GroupClients { .. }
            | Query::GroupUids { .. }
            | Query::Gateways
            | Query::Command { .. }
            | Query::Request { .. } => self.look_up(asked),
        }
    }

    fn look_up(&mut self, asked: &Asked) -> Result<Answer, AskError> {
        let gateway = self.context.settings.announced;
        let tenant = self.tenant_index(&asked.tenant);
        let found = tenant.and_then(|tenant| self.clients.hub_and_outbound(tenant));
        // Without a listener here the tenant has no clients here.
        let (mut no_hub, mut no_outbound) = (Hub::default(), Outbound::default());
        let (hub, outbound) = found.unwrap_or((&mut no_hub, &mut no_outbound));
        let trial = Trial::begin(hub, gateway, &asked.effects);
        let ground = Ground {
            hub,
            gateway,
            live: &|number| Some(outbound.get(number)?.live()),
        };
        let found = answer(ground, &asked.query);
        trial.undo(hub);
        found.ok_or_else(|| AskError::Invalid("a shard does not answer this".to_owned()))
    }

    /// Compares with what is committed, and sets as any change by others does.
    fn swap(
        &mut self,
        tenant: &Name,
        client: ClientId,
        key: &Name,
        expected: Option<&str>,
        new: Option<&String>,
    ) -> Result<(), SwapRefusal> {
        let (gateway, number) = (self.context.settings.announced, client.connection);
        let hub = self
            .tenant_index(tenant)
            .and_then(|tenant| self.clients.hub_mut(tenant))
            .filter(|hub| client.gateway() == gateway && hub.is_online(number))
            .ok_or(SwapRefusal::Offline)?;
        hub.compare_and_set(number, key, expected, new.map(String::as_str))?;
        self.events.lanes_mut().session_changed(number);
        for worker in self.events.lanes().custodians(number) {
            self.workers.mark(worker, number, Part::Key(key));
        }
        Ok(())
    }

    /// Applies effects here and passes them on. A tenant without a listener here may have clients
    /// elsewhere.
    pub(in crate::gateway::shard) fn act(&mut self, tenant: &Name, effects: Vec<Effect>) {
        match self.tenant_index(tenant) {
            Some(index) => self.effects(index, effects, None),
            None => self.pass_on(tenant, effects, None),
        }
    }

    fn act_once(
        &mut self,
        tenant: &Name,
        key: [u8; 32],
        request: [u8; 32],
        effects: &[Effect],
    ) -> Once {
        let now = std::time::Instant::now();
        let once = self.questions.see_key(tenant, key, request, now);
        if once == Once::First {
            self.act(tenant, effects.to_vec());
        }
        once
    }

    /// Whether only one shard of the whole cluster can matter, so that its part is the answer.
    pub(super) fn is_alone(&self, asked: &Asked) -> bool {
        let here = |address: SocketAddrV4| address == self.context.settings.announced;
        match reach(&asked.query) {
            Reach::Homes(clients) => {
                let mut homes: Vec<(SocketAddrV4, usize)> = clients
                    .iter()
                    .map(|client| {
                        let shard = self.context.shard_of(client.connection);
                        // How another gateway spreads its clients is not known here.
                        let shard = if here(client.gateway()) {
                            shard
                        } else {
                            usize::MAX
                        };
                        (client.gateway(), shard)
                    })
                    .collect();
                homes.sort_unstable();
                homes.dedup();
                match homes.as_slice() {
                    [(gateway, _)] => here(*gateway) || clients.len() == 1,
                    _ => false,
                }
            }
            Reach::Nobody => true,
            Reach::From(_)
            | Reach::Everywhere
            | Reach::Gateways(_)
            | Reach::EveryGateway
            | Reach::Owner(_) => {
                self.peers.is_empty() && shards_of(&self.context, asked).len() == 1
            }
        }
    }
}
