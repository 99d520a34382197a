//! Work beside the events of clients, at least once. Submitting and cancelling are effects: they happen
//! with the event that asks for them, or not at all.
//!
//! A task has an instance of its own and limits of its own (`task-ms`, `task-cpu-ms` of the plugin). It lives
//! at the gateway that took the event and ends with it; traps, swaps and lost workers do not end it: it runs
//! again. What it has [committed](commit) in steps stays and is not done again, so that a long answer
//! reaches a client piece by piece, each piece once.
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Gateway;
//!
//! #[derive(Default)]
//! struct Bot;
//!
//! const ANSWER: [&str; 3] = ["let ", "me ", "think"];
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Bot {
//!     fn on_message(&mut self, _: Client, question: Message) -> Result {
//!         tasks::submit(question.bytes()).map(drop)
//!     }
//!
//!     fn on_task(&mut self, client: Option<Client>, _: Task, _: Vec<u8>) -> Result<Vec<u8>> {
//!         // Goes on behind the pieces that were sent before a worker was lost.
//!         for piece in &ANSWER[tasks::resume() as usize..] {
//!             if let Some(client) = client {
//!                 client.send(*piece)?;
//!             }
//!             tasks::commit()?;
//!         }
//!         Ok(b"done".to_vec())
//!     }
//!
//!     fn on_finished(&mut self, client: Option<Client>, _: Task, end: Finished) -> Result {
//!         match (client, end) {
//!             (Some(client), Ok(_)) => client.send("."),
//!             (Some(client), Err(why)) => client.send(format!("sorry: {why}")),
//!             (None, _) => Ok(()),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result {
//! let mut gateway = Gateway::<Bot>::start()?;
//! let client = gateway.connect()?;
//! gateway.send(client, "why?")?;
//! // The worker is lost after two pieces, and another one goes on.
//! gateway.lose_tasks_after(2);
//! gateway.run_tasks()?;
//! let pieces = ["let ", "me ", "think", "."].map(Message::from);
//! assert_eq!(gateway.received(client), pieces);
//! # Ok(())
//! # }
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::backend;
use crate::error::Result;

/// A task, wherever it runs. A name, not a handle: it may be kept, and names nothing once the task is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Task(String);

impl Task {
    pub(crate) const fn new(id: String) -> Self {
        Self(id)
    }

    /// Its id, as the host has given it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Ends it, also one of another client. What it has committed stays; of the rest nothing happens,
    /// and no `on_finished` comes. Nothing happens if it is over.
    pub fn cancel(&self) -> Result {
        Ok(backend::cancel_task(&self.0)?)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a task has given, or why there is nothing: its error, or that it broke its instance or lost its
/// worker at each try.
pub type Finished = std::result::Result<Vec<u8>, String>;

/// Begins a task with this payload (at most 1 MiB), once the event's effects have happened and its turn has
/// come: [`on_task`](crate::Handler::on_task) runs it.
pub fn submit(payload: impl AsRef<[u8]>) -> Result<Task> {
    let id = backend::submit_task(payload.as_ref())?;
    Ok(Task::new(id))
}

/// In `on_task` only: commits what was asked for so far as one step, and goes on. Steps are numbered from 0 in
/// each run. A step that was committed in a run before is recognised by its number, and what was asked for in
/// it is dropped: so the same steps must come in the same order, unless the task begins with [`resume`]. Gives
/// the number of the next step. [`Refused::Other`](crate::Refused::Other): this run counts no more; return.
pub fn commit() -> Result<u32> {
    Ok(backend::commit_step()?)
}

/// In `on_task`, before the first [`commit`]: goes on behind the steps that were committed in runs before.
/// Gives the number of the first one that was not, 0 in the first run: the next `commit` is that step.
pub fn resume() -> u32 {
    backend::resume()
}
