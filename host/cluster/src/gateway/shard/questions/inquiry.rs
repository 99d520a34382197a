//! One question on its way to its answer: which rounds it takes, and what becomes of their parts.
//! Several rounds ask for large pages one after the other, so that memory stays bounded.

use std::net::SocketAddrV4;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_hub::answer::PART_MAX;
use tidegate_wire::Name;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, Answered, AskError, GroupInfo, Query, Selector};
use tidegate_wire::sketch::Sketch;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::During;
use super::swaps::{Known, Outcome};
use crate::gateway::questions::is_work;
use crate::gateway::shard::Shard;
use crate::gateway::shared::gather::Asked;

/// One question on its way to its answer.
pub(super) struct Inquiry {
    pub(super) shard: Rc<Shard>,
    pub(super) asked: Arc<Asked>,
    pub(super) during: Option<During>,
    pub(super) deadline: Instant,
    pub(super) missing: Vec<SocketAddrV4>,
    /// Rounds that have begun.
    pub(super) rounds: usize,
}

impl Inquiry {
    pub(super) async fn run(&mut self) -> Result<Answered, AskError> {
        let asked = self.asked.clone();
        let answer = match &asked.query {
            Query::Gateways => Ok(Answer::Gateways(self.shard.state.borrow().peers.gateways())),
            Query::UidCount { of } => self.uid_count(of).await.map(Answer::Count),
            Query::UidEstimate => self.uid_estimate().await,
            Query::GroupInfos { .. } => self.group_infos().await,
            Query::CompareAndSet { nth, .. } => match self.during {
                Some(during) => return self.swap_once(during, *nth).await,
                None => self.plain().await,
            },
            Query::Clients { .. }
            | Query::ClientCount { .. }
            | Query::UidCounts(_)
            | Query::GroupCounts(_)
            | Query::Uids { .. }
            | Query::Groups { .. }
            | Query::GroupClients { .. }
            | Query::GroupUids { .. }
            | Query::Timers { .. }
            | Query::Tasks { .. }
            | Query::Command { .. }
            | Query::Once { .. }
            | Query::Request { .. } => self.plain().await,
        };
        self.missing.sort_unstable();
        self.missing.dedup();
        Ok(Answered {
            answer: answer?,
            missing: std::mem::take(&mut self.missing),
        })
    }

    async fn plain(&mut self) -> Result<Answer, AskError> {
        let asked = self.asked.clone();
        self.round(&asked, self.deadline).await
    }

    /// One round of several, with another query in place of the one that was asked. It may take
    /// half of the time that is left: after a gateway that does not answer the rest goes on.
    async fn with(&mut self, query: Query) -> Result<Answer, AskError> {
        let asked = Arc::new(Asked {
            tenant: self.asked.tenant.clone(),
            effects: self.asked.effects.clone(),
            query,
            within: self.asked.within,
        });
        let now = Instant::now();
        let half = now + self.deadline.saturating_duration_since(now) / 2;
        self.round(&asked, half).await
    }

    async fn round(&mut self, asked: &Arc<Asked>, deadline: Instant) -> Result<Answer, AskError> {
        let begun = {
            let mut state = self.shard.state.borrow_mut();
            let begun = state.begin_round(asked);
            // The first one is part of the turn in which the question came.
            if self.rounds > 0 {
                state.finish_turn();
            }
            begun
        };
        self.rounds += 1;
        let guard = RoundGuard {
            shard: &self.shard,
            number: begun.number,
        };
        let found = match timeout_at(deadline, begun.found).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => {
                let suspect = !is_work(&asked.query);
                let mut state = self.shard.state.borrow_mut();
                state.end_round(begun.number, suspect)
            }
        };
        drop(guard);
        let answered = found.conclude(&asked.query)?;
        self.missing.extend(answered.missing);
        Ok(answered.answer)
    }

    /// Counts distinct uids by paging through them: those of several shards may be the same.
    async fn uid_count(&mut self, of: &[Selector]) -> Result<u64, AskError> {
        if self.shard.state.borrow().is_alone(&self.asked) {
            let Answer::Count(count) = self.plain().await? else {
                return Err(unexpected());
            };
            return Ok(count);
        }
        let (mut count, mut after) = (0, None);
        loop {
            let query = Query::Uids {
                of: of.to_vec(),
                after: after.take(),
                limit: PART_MAX,
            };
            let Answer::Names { page, more } = self.with(query).await? else {
                return Err(unexpected());
            };
            count += page.len() as u64;
            match page.into_iter().next_back() {
                Some(last) if more && !self.is_over() => after = Some(last),
                Some(_) | None => return Ok(count),
            }
        }
    }

    async fn uid_estimate(&mut self) -> Result<Answer, AskError> {
        let Answer::Sketch(bytes) = self.plain().await? else {
            return Err(unexpected());
        };
        let sketch = Sketch::from_bytes(bytes).unwrap_or_default();
        Ok(Answer::Count(sketch.estimate()))
    }

    /// Whether the deadline has passed. Who is not asked any more is missing.
    fn is_over(&mut self) -> bool {
        let over = Instant::now() >= self.deadline;
        if over {
            let all = self.shard.state.borrow().peers.gateways();
            self.missing.extend(all);
        }
        over
    }

    /// Counts again what the parts could not: distinct uids of groups with members in several.
    async fn group_infos(&mut self) -> Result<Answer, AskError> {
        let first = self.asked.query.clone();
        let Answer::Groups { mut page, more } = self.with(first).await? else {
            return Err(unexpected());
        };
        let mut after = next_repeating(&mut page, None);
        while let Some(from) = after.take() {
            let query = Query::GroupUids {
                after: Some(from),
                limit: PART_MAX,
            };
            let Answer::GroupUids { page: pairs, more } = self.with(query).await? else {
                return Err(unexpected());
            };
            for (group, _) in &pairs {
                if let Ok(place) = page.binary_search_by(|info| info.group.cmp(group))
                    && let Some(info) = page.get_mut(place).filter(|info| info.uids_may_repeat)
                {
                    info.uids += 1;
                }
            }
            if more && !self.is_over() {
                after = next_repeating(&mut page, pairs.into_iter().next_back());
            }
        }
        for info in &mut page {
            info.uids_may_repeat = false;
        }
        Ok(Answer::Groups { page, more })
    }

    /// A compare-and-set during an event: a further try at the event gets the same result.
    async fn swap_once(&mut self, during: During, nth: u32) -> Result<Answered, AskError> {
        let known = {
            let mut state = self.shard.state.borrow_mut();
            let query = &self.asked.query;
            state.questions.swap(during, nth, query)?
        };
        match known {
            Known::No(tell) => {
                let answer = self.plain().await;
                let missing = std::mem::take(&mut self.missing);
                let answered = answer.map(|answer| Answered { answer, missing });
                // The event may have been committed meanwhile.
                let _ = tell.send(Some(answered.clone()));
                answered
            }
            Known::Yes(outcome) => {
                let outcome = timeout_at(self.deadline, wait(outcome)).await;
                self.mistrust_mirror(during);
                outcome.unwrap_or(Err(AskError::Timeout))
            }
        }
    }

    /// The session that went with this attempt has the change, and maybe later ones, which the
    /// worker now overwrites in its mirror.
    fn mistrust_mirror(&self, during: During) {
        let mut state = self.shard.state.borrow_mut();
        let own = ClientId::new(state.context.settings.announced, during.connection);
        if matches!(&self.asked.query, Query::CompareAndSet { client, .. } if *client == own) {
            state.events.lanes_mut().session_changed(during.connection);
        }
    }
}

async fn wait(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(AskError::Gone)),
        Err(_) => Err(AskError::Gone),
    }
}

/// Where to go on counting behind `last`: there, or in front of the next group that needs it.
/// The count of that group starts over.
fn next_repeating(page: &mut [GroupInfo], last: Option<(Name, Name)>) -> Option<(Name, Name)> {
    let from = last.as_ref().map(|(group, _)| group.clone());
    if last.is_none() {
        let repeating = page.iter_mut().filter(|info| info.uids_may_repeat);
        repeating.for_each(|info| info.uids = 0);
    }
    let next = page.iter().find(|info| {
        info.uids_may_repeat && from.as_ref().is_none_or(|from| info.group >= *from)
    })?;
    match last {
        Some(last) if last.0 == next.group => Some(last),
        // No uid is empty: this is in front of the first.
        Some(_) | None => Some((next.group.clone(), "".into())),
    }
}

fn unexpected() -> AskError {
    tracing::error!("an answer of another kind than the question");
    AskError::Invalid("an answer of another kind than the question".to_owned())
}

/// Forgets a round whose question was given up.
struct RoundGuard<'a> {
    shard: &'a Rc<Shard>,
    number: u64,
}

impl Drop for RoundGuard<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shard.state.try_borrow_mut() {
            state.questions.rounds().forget(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<GroupInfo> {
        let info = |(group, uids_may_repeat): (&str, bool)| GroupInfo {
            group: group.into(),
            clients: 9,
            uids: 7,
            uids_may_repeat,
        };
        let groups = [("a", false), ("b", true), ("c", false), ("d", true)];
        groups.into_iter().map(info).collect()
    }

    #[test]
    fn only_groups_that_may_count_a_uid_twice_are_counted_again() {
        let mut page = page();
        let mut next = |last: Option<(&str, &str)>| {
            let last = last.map(|(group, uid)| (group.into(), uid.into()));
            let next: Option<(Name, Name)> = next_repeating(&mut page, last);
            next.map(|(group, uid)| (group.to_string(), uid.to_string()))
        };
        let at = |group: &str, uid: &str| Some((group.to_owned(), uid.to_owned()));
        assert_eq!(next(None), at("b", ""));
        assert_eq!(next(Some(("b", "u"))), at("b", "u"));
        assert_eq!(next(Some(("c", "u"))), at("d", ""));
        assert_eq!(next(Some(("d", "u"))), at("d", "u"));
        assert_eq!(next(Some(("e", "u"))), None);
        let counts: Vec<u64> = page.iter().map(|info| info.uids).collect();
        assert_eq!(counts, [7, 0, 7, 0]);
    }
}
