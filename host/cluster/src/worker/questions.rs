//! Questions of handlers that wait for their home's answer, on one link. Bounded by the instances
//! that can run; each leaves when its answer comes, when whoever asked gives up, or at the link's
//! end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tidegate_wire::effect::SessionChange;
use tidegate_wire::frame::WorkerFrame;
use tidegate_wire::query::{Answered, AskError, Query, Question};
use tokio::sync::oneshot;

use super::gateway_link::GatewayLink;

/// The questions of one link.
#[derive(Debug, Default)]
pub(super) struct Questions {
    state: Mutex<QuestionsState>,
}

#[derive(Debug, Default)]
struct QuestionsState {
    last: u64,
    waiting: FxHashMap<u64, WaitingQuestion>,
    ended: bool,
}

/// One question.
#[derive(Debug)]
pub(super) struct WaitingQuestion {
    caller: oneshot::Sender<Result<Answered, AskError>>,
    /// What a compare-and-set of the lane's own session changes if it succeeds.
    pub(super) swap: Option<(u32, SessionChange)>,
}

impl WaitingQuestion {
    pub(super) fn tell(self, answer: Result<Answered, AskError>) {
        // Whoever asked may have given up.
        let _ = self.caller.send(answer);
    }
}

impl Questions {
    fn state(&self) -> MutexGuard<'_, QuestionsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers and sends a question, and waits for its answer. Cancel safe.
    pub(super) async fn ask(
        &self,
        mut question: Question,
        home: &GatewayLink,
    ) -> Result<Answered, AskError> {
        let (caller, answer) = oneshot::channel();
        let guard = {
            let mut state = self.state();
            if state.ended {
                return Err(AskError::Gone);
            }
            state.last += 1;
            question.number = state.last;
            let swap = own_swap(&question);
            state
                .waiting
                .insert(question.number, WaitingQuestion { caller, swap });
            Guard {
                questions: self,
                number: question.number,
            }
        };
        let sent = home.sender.send(WorkerFrame::Question(Box::new(question)));
        sent.map_err(|_| AskError::Gone)?;
        let answer = answer.await.unwrap_or(Err(AskError::Gone));
        drop(guard);
        answer
    }

    /// Whoever waits for this answer.
    pub(super) fn take(&self, number: u64) -> Option<WaitingQuestion> {
        self.state().waiting.remove(&number)
    }

    /// The link has ended: nobody is answered any more.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let lost = std::mem::take(&mut state.waiting);
        drop(state);
        drop(lost);
    }
}

fn own_swap(question: &Question) -> Option<(u32, SessionChange)> {
    let Query::CompareAndSet {
        client, key, new, ..
    } = &question.query
    else {
        return None;
    };
    let key = key.clone();
    let change = match new.clone() {
        Some(value) => SessionChange::Set { key, value },
        None => SessionChange::Remove { key },
    };
    (*client == question.client).then_some((client.connection, change))
}

/// Takes a question back that nobody waits for.
struct Guard<'a> {
    questions: &'a Questions,
    number: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.questions.take(self.number);
    }
}
