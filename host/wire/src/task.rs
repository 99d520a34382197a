//! Tasks of handlers: work beside the lanes.

use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::effect_id::EffectId;
use crate::id::{ClientId, EventId};
use crate::payload::{Carry, Payload};

/// One task, cluster-wide: a client's lives at its home.
pub type TaskId = EffectId;

/// The largest payload of a task, and the most bytes of its result.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Refuses what no task may be submitted with.
///
/// # Errors
/// What would be right.
pub fn check(payload: &[u8]) -> Result<(), String> {
    let bytes = payload.len();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(format!(
            "the payload of a task may have {PAYLOAD_BYTES_MAX} bytes, this one has {bytes}"
        ));
    }
    Ok(())
}

/// A part of a task that is committed before the task goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The event of the task.
    pub event: EventId,
    /// Which attempt at it.
    pub attempt: u8,
    /// The lane of the task.
    pub client: ClientId,
    /// Which step, from 0: it counts once, whatever attempt sends it.
    pub number: u32,
    /// What the handler asked for since the step before, in order.
    pub effects: Vec<Effect>,
}

impl Carry for Step {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        self.effects.carry(visit);
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        self.effects.carry_mut(visit);
    }
}
