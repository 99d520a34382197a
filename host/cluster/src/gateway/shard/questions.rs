//! Questions of handlers and of the Client API, answered for the whole cluster.
//!
//! The first round of a question starts in the step in which the question arrives, so that it
//! sees what came before it and nothing that comes later; questions that take several rounds go
//! on in a task. Whatever happens, the answer is there by the deadline. Bounded in number.

use std::future::Future;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tidegate_wire::Name;
use tidegate_wire::frame::Frame;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, Answered, AskError, GroupInfo, Query, Question, Selector};
use tidegate_wire::sketch::Sketch;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::swaps::{Known, Outcome};
use super::{Shard, State};
use crate::directory::check;
use crate::gateway::answer::PART_MAX;
use crate::gateway::gather::Asked;
use crate::gateway::pending::WorkerKey;
use crate::link::LinkSender;

/// Questions of one shard that may be under way.
const QUESTIONS_MAX: usize = 10_000;
/// The bounds of a deadline.
const WITHIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));

/// Who waits for an answer.
#[derive(Debug)]
pub(in crate::gateway) enum Asker {
    /// A worker, for its question of this number.
    Worker(LinkSender, u64),
    /// A caller in this process.
    Caller(oneshot::Sender<Result<Answered, AskError>>),
}

impl Asker {
    fn tell(self, answer: Result<Answered, AskError>) {
        match self {
            Self::Worker(link, number) => {
                let answer = Box::new(answer);
                // A worker whose link has ended has lost the event too.
                let _ = link.send(Frame::Answered { number, answer });
            }
            // A caller that is gone needs no answer.
            Self::Caller(caller) => drop(caller.send(answer)),
        }
    }
}

/// During which event a handler asks.
#[derive(Clone, Copy, Debug)]
struct During {
    connection: u32,
    sequence: u64,
    attempt: u8,
}

impl Shard {
    /// A handler asks during an event of this shard.
    pub(in crate::gateway) fn handler_asks(
        self: &Rc<Self>,
        worker: WorkerKey,
        link: LinkSender,
        question: Question,
    ) {
        let asker = Asker::Worker(link, question.number);
        let during = During {
            connection: question.client.connection,
            sequence: question.event.sequence,
            attempt: question.attempt,
        };
        let tenant = self.state.borrow().tenant_of(worker, during);
        let Some(tenant) = tenant else {
            return asker.tell(Err(AskError::Gone));
        };
        let asked = Asked {
            tenant,
            effects: question.effects,
            query: question.query,
            within: Duration::from_millis(question.within_ms.into()),
        };
        self.ask(asked, Some(during), asker);
    }

    /// The same, straight from a link on this thread.
    pub(in crate::gateway) fn handler_asks_now(
        self: &Rc<Self>,
        worker: WorkerKey,
        link: LinkSender,
        question: Question,
    ) {
        self.handler_asks(worker, link, question);
        self.state.borrow_mut().finish_turn();
    }

    /// Somebody outside asks.
    pub(in crate::gateway) fn caller_asks(
        self: &Rc<Self>,
        asked: Asked,
        caller: oneshot::Sender<Result<Answered, AskError>>,
    ) {
        self.ask(asked, None, Asker::Caller(caller));
    }

    fn ask(self: &Rc<Self>, mut asked: Asked, during: Option<During>, asker: Asker) {
        asked.within = asked.within.clamp(WITHIN.0, WITHIN.1);
        if let Err(error) = check(&asked.query) {
            return asker.tell(Err(error));
        }
        let Some(place) = Place::take(self) else {
            let text = format!("{QUESTIONS_MAX} questions wait at the gateway's shard");
            return asker.tell(Err(AskError::Overloaded(text)));
        };
        let mut inquiry = Inquiry {
            deadline: Instant::now() + asked.within,
            shard: self.clone(),
            asked: Arc::new(asked),
            during,
            missing: Vec::new(),
            rounds: 0,
        };
        let mut work = Box::pin(async move {
            let answer = inquiry.run().await;
            drop(place);
            asker.tell(answer);
        });
        // Polled here once, so that the first round starts now; most questions end with that.
        if poll_once(work.as_mut()).is_pending() {
            tokio::task::spawn_local(work);
        }
    }
}

fn poll_once(work: Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
    work.poll(&mut TaskContext::from_waker(Waker::noop()))
}

impl State {
    /// The tenant of an event that is under way at this worker.
    fn tenant_of(&self, worker: WorkerKey, during: During) -> Option<Name> {
        let During {
            connection,
            sequence,
            attempt,
        } = during;
        if !self
            .lanes
            .is_under_way(connection, worker, sequence, attempt)
        {
            return None;
        }
        self.tenant_name(self.lanes.tenant(connection)?).cloned()
    }

    fn gateways(&self) -> Vec<SocketAddrV4> {
        let mut all: Vec<_> = self.addresses.keys().copied().collect();
        all.push(self.context.settings.announced);
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The place of one question among those under way.
struct Place {
    shard: Rc<Shard>,
}

impl Place {
    fn take(shard: &Rc<Shard>) -> Option<Self> {
        let under_way = shard.questions.get();
        if under_way >= QUESTIONS_MAX {
            return None;
        }
        shard.questions.set(under_way + 1);
        Some(Self {
            shard: shard.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shard.questions.set(self.shard.questions.get() - 1);
    }
}

/// One question on its way to its answer.
struct Inquiry {
    shard: Rc<Shard>,
    asked: Arc<Asked>,
    during: Option<During>,
    deadline: Instant,
    missing: Vec<SocketAddrV4>,
    /// Rounds that have begun.
    rounds: usize,
}

impl Inquiry {
    async fn run(&mut self) -> Result<Answered, AskError> {
        let asked = self.asked.clone();
        let answer = match &asked.query {
            Query::Gateways => Ok(Answer::Gateways(self.shard.state.borrow().gateways())),
            Query::UidCount { of } => self.uid_count(of).await.map(Answer::Count),
            Query::UidEstimate => self.uid_estimate().await,
            Query::GroupInfos { .. } => self.group_infos().await,
            Query::CompareAndSet { .. } => match self.during {
                Some(during) => return self.swap_once(during).await,
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
            | Query::Command { .. }
            | Query::Once { .. } => self.plain().await,
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
            // A command may take its time without its gateway being lost.
            Ok(Err(_)) | Err(_) => {
                let suspect = !matches!(asked.query, Query::Command { .. });
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
            let all = self.shard.state.borrow().gateways();
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

    /// A compare-and-set during an event: a further attempt at the event gets the same result.
    async fn swap_once(&mut self, during: During) -> Result<Answered, AskError> {
        let known = {
            let mut state = self.shard.state.borrow_mut();
            let query = &self.asked.query;
            state.swaps.ask(during.sequence, during.attempt, query)?
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
            state.lanes.session_changed(during.connection);
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
            state.drop_round(self.number);
        }
    }
}
