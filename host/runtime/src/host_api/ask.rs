//! Asking during a call: within the limits of questions, and never so long that the answer comes
//! too late for the guest. Waiting costs the guest no CPU.

use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::effect::{Effect, SessionChange};
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

/// Bytes of the event's own effects that may go with its questions, all together: each question takes
/// along what it depends on, so that many of both would cost their product.
const CARRIED_BYTES_MAX: usize = 64 << 20;
/// What an effect counts besides its texts.
const EFFECT_BYTES: usize = 64;

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
        let effects = visible_effects(&call.effects, &query);
        let carried = carried(call.carried, &effects)?;
        let asking = Asking {
            event: *id,
            attempt: *attempt,
            effects,
            query,
            within,
        };
        let answer = context.ask(asking);
        call.carried = carried;
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

/// The bytes that went with questions, with these effects.
fn carried(before: usize, effects: &[Effect]) -> Result<usize, Error> {
    let carried = effects
        .iter()
        .fold(before, |bytes, it| bytes.saturating_add(weight(it)));
    if carried > CARRIED_BYTES_MAX {
        return Err(quota(format!(
            "the changes of an event go with each of its questions, {CARRIED_BYTES_MAX} bytes in all \
             at most: ask before changing, or less often"
        )));
    }
    Ok(carried)
}

fn weight(effect: &Effect) -> usize {
    let texts = match effect {
        Effect::Session { change, .. } => match change {
            SessionChange::Set { key, value } | SessionChange::Merge { key, value } => {
                key.len() + value.len()
            }
            SessionChange::Replace(entries) => entries
                .iter()
                .map(|(key, value)| EFFECT_BYTES + key.len() + value.len())
                .sum(),
            SessionChange::Remove { .. } | SessionChange::Clear => 0,
        },
        Effect::Send { .. }
        | Effect::SendLatest { .. }
        | Effect::SendRaw { .. }
        | Effect::Command { .. }
        | Effect::Close { .. }
        | Effect::CloseUid { .. }
        | Effect::Destroy { .. }
        | Effect::BindUid { .. }
        | Effect::UnbindUid { .. }
        | Effect::JoinGroup { .. }
        | Effect::LeaveGroup { .. }
        | Effect::Ungroup { .. }
        | Effect::SetTimer { .. }
        | Effect::CancelTimer { .. }
        | Effect::SubmitTask { .. }
        | Effect::CancelTask { .. }
        | Effect::PeerMessage(_) => 0,
    };
    EFFECT_BYTES + texts
}

/// The effects that the answer depends on: those that change what a query finds.
fn visible_effects(effects: &[Effect], query: &Query) -> Vec<Effect> {
    match query {
        Query::Gateways
        | Query::Timers { .. }
        | Query::Tasks { .. }
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
        | Query::GroupUids { .. } => {
            let visible = effects.iter().filter(|it| it.is_visible_to_questions());
            visible.map(without_farewell).collect()
        }
    }
}

/// As the home needs it: a farewell changes nothing.
fn without_farewell(effect: &Effect) -> Effect {
    match effect {
        Effect::Close { client, .. } => Effect::Close {
            client: *client,
            farewell: None,
            frame: None,
        },
        Effect::CloseUid { uid, .. } => Effect::CloseUid {
            uid: uid.clone(),
            farewell: None,
            frame: None,
        },
        Effect::Send { .. }
        | Effect::SendLatest { .. }
        | Effect::SendRaw { .. }
        | Effect::Command { .. }
        | Effect::SetTimer { .. }
        | Effect::CancelTimer { .. }
        | Effect::SubmitTask { .. }
        | Effect::CancelTask { .. }
        | Effect::PeerMessage(_)
        | Effect::Destroy { .. }
        | Effect::BindUid { .. }
        | Effect::UnbindUid { .. }
        | Effect::JoinGroup { .. }
        | Effect::LeaveGroup { .. }
        | Effect::Ungroup { .. }
        | Effect::Session { .. } => effect.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_questions_behind_many_changes_are_refused_before_their_product_is_paid() {
        let client = tidegate_wire::id::ClientId {
            ip: 1,
            port: 2,
            connection: 3,
        };
        let change = |n: usize| Effect::Session {
            client,
            change: SessionChange::Set {
                key: format!("k{n}").into(),
                value: "1".repeat(700),
            },
        };
        let effects: Vec<Effect> = (0..10_000).map(change).collect();
        let (mut sum, mut questions) = (0, 0);
        while let Ok(more) = carried(sum, &effects) {
            (sum, questions) = (more, questions + 1);
        }
        assert!((5..20).contains(&questions), "{questions}");
        // Few changes never come to it.
        let few = effects.get(..10).unwrap_or_default();
        let all = (0..1000).try_fold(0, |sum, _| carried(sum, few));
        assert!(all.is_ok());
    }
}
