//! `tidegate:plugin/tasks`: what submits and cancels collects one effect; a task commits in steps.

use std::sync::Arc;

use tidegate_wire::effect::Effect;
use tidegate_wire::effect_id::EffectIdError;
use tidegate_wire::payload::Payload;
use tidegate_wire::task::{Step, TaskId, check};
use tokio::time::Instant;

use super::call::Origin;
use super::{HostState, invalid, offered, quota};
use offered::tasks as wit;
use offered::types::Error;

/// What a task costs beside its payload, for the limit of bytes: about its size on a link.
const TASK_BYTES: usize = 48;

impl wit::Host for HostState {
    fn submit(&mut self, payload: Vec<u8>) -> Result<String, Error> {
        check(&payload).map_err(quota)?;
        let task = self.current()?.next_id()?;
        let bytes = TASK_BYTES + payload.len();
        let effect = Effect::SubmitTask {
            task: Box::new(task),
            payload: Payload::from(payload),
        };
        self.push(effect, bytes)?;
        Ok(task.to_string())
    }

    fn cancel(&mut self, task: String) -> Result<(), Error> {
        let task: Result<TaskId, EffectIdError> = task.parse();
        let task = Box::new(task.map_err(|error| invalid(error.to_string()))?);
        self.push(Effect::CancelTask { task }, TASK_BYTES)
    }

    async fn commit(&mut self) -> Result<u32, Error> {
        let call = self.current()?;
        let (number, effects) = call.end_step()?;
        let Origin::Event {
            id,
            attempt,
            context,
        } = &call.origin
        else {
            return Ok(0);
        };
        let Some(steps) = call.steps.filter(|steps| number >= steps.committed) else {
            // It happened in an earlier run.
            return Ok(number + 1);
        };
        let (context, started) = (Arc::clone(context), Instant::now());
        let sent = context.step(Step {
            event: *id,
            attempt: *attempt,
            client: steps.lane,
            number,
            effects,
        });
        let counts = sent.await;
        self.cpu.waited(started.elapsed());
        if !counts {
            if let Some(steps) = &mut self.current()?.steps {
                steps.is_void = true;
            }
            return Err(Error::Other(
                "this run of the task counts no more: it was cancelled, or goes on elsewhere"
                    .to_owned(),
            ));
        }
        if let Some(steps) = &mut self.current()?.steps {
            steps.committed = number + 1;
        }
        Ok(number + 1)
    }

    fn resume(&mut self) -> u32 {
        let call = self.call.as_mut();
        let steps = call.and_then(|call| call.steps.as_mut());
        steps.map_or(0, |steps| {
            steps.next = steps.next.max(steps.committed);
            steps.next
        })
    }
}
