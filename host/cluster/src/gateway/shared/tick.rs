//! A tick of a schedule, on its way to the shard where its task lives.

use tidegate_wire::payload::Payload;
use tidegate_wire::task::TaskId;
use tokio::sync::oneshot;

/// How the task of a tick has ended: with an answer, or with why there is none.
pub(in crate::gateway) type TickEnd = Result<(), String>;

/// The task of a tick is to begin.
#[derive(Debug)]
pub(in crate::gateway) struct BeginTick {
    pub(in crate::gateway) tenant: u16,
    pub(in crate::gateway) task: TaskId,
    pub(in crate::gateway) payload: Payload,
    /// Is told its end. Dropped if the task is lost before that.
    pub(in crate::gateway) ended: oneshot::Sender<TickEnd>,
}
