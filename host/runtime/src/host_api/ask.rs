//! Asking during a call: within the limits of questions, and never so long that the answer comes
//! too late for the guest. Waiting costs the guest no CPU.

use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::effect::Effect;
use tidegate_wire::query::{Answer, Answered, Query};
use tokio::time::{Instant, timeout};

use super::call::Origin;
use super::directory::convert::refusal;
use super::offered::types::Error;
use super::{HostState, quota};
use crate::deployment::Asking;

/// An answer that is under way when the deadline passes may still arrive: part of what is kept of
/// the call's time.
const GRACE_SHARE: u32 = 2;

impl HostState {
    /// When a question that starts now has waited long enough.
    pub(super) fn patience(&self) -> Instant {
        Instant::now() + self.identity.limits.query()
    }

    /// Asks the home of the event.
    pub(super) async fn ask(&mut self, query: Query, until: Instant) -> Result<Answered, Error> {
        let within = self.admit_question(until)?;
        let call = self.current()?;
        let Origin::Event {
            id,
            attempt,
            context,
        } = &call.origin
        else {
            return Err(Error::NotPermitted(
                "a command asks its own gateway, through `hub`".to_owned(),
            ));
        };
        let asking = Asking {
            event: *id,
            attempt: *attempt,
            effects: visible_effects(&call.effects, &query),
            query,
            within,
        };
        let answer = context.ask(asking);
        self.wait(within, answer).await?.map_err(refusal)
    }

    /// Asks the hub beside which a command runs.
    pub(super) async fn ask_hub(&mut self, query: Query) -> Result<Answer, Error> {
        let within = self.admit_question(self.patience())?;
        let hub = match &self.current()?.origin {
            Origin::Command { hub } => Arc::clone(hub),
            Origin::Event { .. } => {
                return Err(Error::NotPermitted(
                    "only a command may ask a single gateway".to_owned(),
                ));
            }
        };
        self.wait(within, hub.ask(query)).await?.map_err(refusal)
    }

    /// Counts a question; gives the time that it may take.
    fn admit_question(&mut self, until: Instant) -> Result<Duration, Error> {
        let limits = self.identity.limits;
        let call = self.current()?;
        if call.questions >= limits.queries_max {
            return Err(quota(format!(
                "an event may have {} questions",
                limits.queries_max
            )));
        }
        call.questions += 1;
        let now = Instant::now();
        let left = call.ends.saturating_duration_since(now);
        let within = left
            .saturating_sub(limits.answer_margin())
            .min(until.saturating_duration_since(now));
        // The link counts in milliseconds.
        if within < Duration::from_millis(1) {
            return Err(Error::Timeout);
        }
        Ok(within)
    }

    async fn wait<T>(
        &mut self,
        within: Duration,
        answer: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let grace = self.identity.limits.answer_margin() / GRACE_SHARE;
        let started = Instant::now();
        let answered = timeout(within + grace, answer).await;
        self.cpu.waited(started.elapsed());
        answered.map_err(|_elapsed| Error::Timeout)
    }
}

/// The effects that the answer depends on: those that change what a query finds.
fn visible_effects(effects: &[Effect], query: &Query) -> Vec<Effect> {
    match query {
        Query::Gateways
        | Query::CompareAndSet { .. }
        | Query::Command { .. }
        | Query::Once { .. }
        | Query::Request { .. } => Vec::new(),
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
        | Query::GroupUids { .. } => effects.iter().filter_map(visible).collect(),
    }
}

fn visible(effect: &Effect) -> Option<Effect> {
    match effect {
        Effect::Send { .. } | Effect::SendRaw { .. } | Effect::Command { .. } => None,
        Effect::Close { client, .. } => Some(Effect::Close {
            client: *client,
            farewell: None,
        }),
        Effect::CloseUid { uid, .. } => Some(Effect::CloseUid {
            uid: uid.clone(),
            farewell: None,
        }),
        Effect::Destroy { .. }
        | Effect::BindUid { .. }
        | Effect::UnbindUid { .. }
        | Effect::JoinGroup { .. }
        | Effect::LeaveGroup { .. }
        | Effect::Ungroup { .. }
        | Effect::Session { .. } => Some(effect.clone()),
    }
}
