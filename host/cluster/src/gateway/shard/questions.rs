//! Questions of handlers and of the Client API, answered for the whole cluster.
//!
//! The first round of a question starts in the step in which the question arrives, so that it
//! sees what came before it and nothing that comes later; questions that take several rounds go
//! on in a task. Whatever happens, the answer is there by the deadline. Bounded in number.

mod inquiry;
mod part;
mod rounds;
mod swaps;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant as StdInstant};
use tidegate_hub::idempotency::{KEYS_MAX, Keys};

use tidegate_histogram::Histogram;
use tidegate_hub::directory::check;
use tidegate_hub::lanes::WorkerKey;
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::frame::GatewayFrame;
use tidegate_wire::query::{Answered, AskError, Once, Query, Question};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Shard, State};
use crate::gateway::shared::Context;
use crate::gateway::shared::gather::{Asked, fits};
use inquiry::Inquiry;
use rounds::Rounds;
use swaps::{Known, Swaps};

/// Questions of one shard that may be under way; each tenant has its share.
pub(super) const QUESTIONS_MAX: usize = 10_000;
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

/// Questions of this shard's events and of callers.
pub(super) struct Questions {
    rounds: Rounds,
    swaps: Swaps,
    /// Idempotency keys that this shard remembers.
    keys: Keys,
}

impl Questions {
    pub(super) fn new(context: &Context) -> Self {
        let keys_max = KEYS_MAX / context.inboxes.len().max(1);
        Self {
            rounds: Rounds::default(),
            swaps: Swaps::default(),
            keys: Keys::new(keys_max, context.tenants.count()),
        }
    }

    /// The rounds that wait for parts.
    pub(super) const fn rounds(&mut self) -> &mut Rounds {
        &mut self.rounds
    }

    /// A compare-and-set of an event; `nth` counts those of one attempt.
    fn swap(&mut self, during: During, nth: u32, query: &Query) -> Result<Known, AskError> {
        self.swaps.ask(during.sequence, nth, query)
    }

    /// The event of this sequence is committed.
    pub(super) fn event_committed(&mut self, sequence: u64) {
        self.swaps.forget(sequence);
    }

    /// A request with an idempotency key is here: the first one, or again.
    fn see_key(
        &mut self,
        tenant: &Name,
        key: [u8; 32],
        request: [u8; 32],
        now: StdInstant,
    ) -> Once {
        self.keys.see(tenant, key, request, now)
    }
}

impl Asker {
    fn tell(self, context: &Context, tenant: &Name, answer: Result<Answered, AskError>) {
        match self {
            Self::Worker(link, number) => {
                let fit = answer.and_then(|answer| fits(context, &link, tenant, answer));
                let answer = Box::new(fit);
                // A worker whose link has ended has lost the event too.
                let _ = link.send_for(tenant, GatewayFrame::Answered { number, answer });
            }
            // A caller that is gone needs no answer.
            Self::Caller(caller) => drop(caller.send(answer)),
        }
    }

    fn refuse(self, error: AskError) {
        match self {
            Self::Worker(link, number) => {
                let answer = Box::new(Err(error));
                // As above.
                let _ = link.send(GatewayFrame::Answered { number, answer });
            }
            Self::Caller(caller) => drop(caller.send(Err(error))),
        }
    }
}

/// During which event a handler asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct During {
    pub(super) connection: u32,
    pub(super) sequence: u64,
    pub(super) attempt: u8,
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
            return asker.refuse(AskError::Gone);
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
            return asker.refuse(error);
        }
        let Some(place) = QuestionPlace::take(self, &asked.tenant) else {
            let text = format!(
                "the tenant has its share of the {QUESTIONS_MAX} questions that may wait at the gateway's shard"
            );
            return asker.refuse(AskError::Overloaded(text));
        };
        let times = self.state.borrow().question_times(&asked.tenant);
        let begun = Instant::now();
        let mut inquiry = Inquiry {
            deadline: begun + asked.within,
            shard: self.clone(),
            asked: Arc::new(asked),
            during,
            missing: Vec::new(),
            rounds: 0,
        };
        let mut work = Box::pin(async move {
            let answer = inquiry.run().await;
            asker.tell(&place.shard.context, &place.tenant, answer);
            drop(place);
            if let Some(times) = times {
                times.record(begun.elapsed());
            }
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
    /// How long questions of this tenant take.
    fn question_times(&self, tenant: &Name) -> Option<Arc<Histogram>> {
        self.metrics.questions(self.tenant_index(tenant)?)
    }

    /// The tenant of an event that is under way at this worker.
    fn tenant_of(&self, worker: WorkerKey, during: During) -> Option<Name> {
        let During {
            connection,
            sequence,
            attempt,
        } = during;
        if !self
            .events
            .lanes()
            .is_under_way(connection, worker, sequence, attempt)
        {
            return None;
        }
        self.tenant_name(self.events.lanes().tenant(connection)?)
            .cloned()
    }
}

/// The place of one question among those under way.
struct QuestionPlace {
    shard: Rc<Shard>,
    tenant: Name,
}

impl QuestionPlace {
    fn take(shard: &Rc<Shard>, tenant: &Name) -> Option<Self> {
        let mut questions = shard.questions.borrow_mut();
        if !questions.has_room(tenant) {
            return None;
        }
        questions.take(tenant, 1);
        Some(Self {
            shard: shard.clone(),
            tenant: tenant.clone(),
        })
    }
}

impl Drop for QuestionPlace {
    fn drop(&mut self) {
        self.shard.questions.borrow_mut().give(&self.tenant, 1);
    }
}
