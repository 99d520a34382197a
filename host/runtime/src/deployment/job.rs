//! One event on its way into a deployment, and what the runtime needs of whoever gives it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::effect::{Commit, Effect};
use tidegate_wire::event::{Arrival, Delivery};
use tidegate_wire::id::EventId;
use tidegate_wire::query::{Answered, AskError, Query};
use tidegate_wire::session::Session;
use tidegate_wire::task::Step;

/// One event to run. It goes through queues, each of which moves it: so it is two pointers.
pub struct Job {
    /// The event.
    pub delivery: Box<Delivery>,
    /// Where its session comes from and its commit goes to.
    pub context: Arc<dyn EventContext>,
}

/// What the runtime needs of whoever gives it events.
pub trait EventContext: Send + Sync + 'static {
    /// The client's session; read when the event starts to run.
    fn session(&self) -> Arc<Session>;
    /// How the client came whose event it is; none of a request.
    fn arrival(&self) -> Option<Arc<Arrival>>;
    /// Takes the event's commit: exactly once per job. Must not block.
    fn commit(&self, commit: Commit);
    /// Sends a step of the event, a task, home, and resolves when there is room for another. False if
    /// this run of the task counts no more.
    fn step(&self, step: Step) -> Boxed<bool>;
    /// Asks the event's home; resolves within `asking.within`. A compare-and-set of the event's
    /// own client that succeeded is in [`EventContext::session`] of its later events.
    fn ask(&self, asking: Asking) -> Boxed<Result<Answered, AskError>>;
}

/// A future that can be sent to another thread.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One question during an event.
#[derive(Clone, Debug)]
pub struct Asking {
    /// During which event.
    pub event: EventId,
    /// Which attempt at it.
    pub attempt: u8,
    /// The event's effects so far.
    pub effects: Vec<Effect>,
    /// What is asked.
    pub query: Query,
    /// How long the answer may take.
    pub within: Duration,
}
