//! What a task of the probe does: so many steps, of each of which its client is told, then calls as a message
//! asks for them.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_sdk::prelude::*;

use crate::run::Run;

/// Runs a task, which is JSON: `steps` of `ms` each, then `do` and `then`. It traps before the step
/// `trap_at` unless it began with one committed. With `from_the_start` it makes all steps again.
pub(crate) fn work(client: Option<Client>, task: &Task, payload: &[u8]) -> Result<Vec<u8>> {
    let asked: Value = serde_json::from_slice(payload)?;
    let number = |key| asked.get(key).and_then(Value::as_u64);
    let steps = u32::try_from(number("steps").unwrap_or(0))?;
    let pause = Duration::from_millis(number("ms").unwrap_or(0));
    let begun = match asked.get("from_the_start") {
        Some(_) => 0,
        None => tasks::resume(),
    };
    for step in begun..steps {
        if begun == 0 && number("trap_at") == Some(step.into()) {
            std::process::abort();
        }
        #[allow(clippy::disallowed_methods, reason = "a task that takes its time")]
        std::thread::sleep(pause);
        let told = json!({ "task": task, "step": step, "worker": worker::name() });
        tell(client, &told)?;
        tasks::commit()?;
    }
    let run = Run::read(payload);
    let answer = run.answer(None);
    if !run.quiet {
        tell(client, &json!({ "task": task, "answer": answer }))?;
    }
    crate::finish(run.then)?;
    Ok(format!("{steps} steps").into_bytes())
}

/// What was a task.
pub(crate) fn finished(client: Option<Client>, task: &Task, finished: Finished) -> Result {
    let outcome = match finished {
        Ok(result) => json!({ "ok": String::from_utf8_lossy(&result) }),
        Err(why) => json!({ "error": why }),
    };
    tell(client, &json!({ "task": task, "finished": outcome }))
}

/// Its client is told, or the group `tasks`.
fn tell(client: Option<Client>, told: &Value) -> Result {
    match client {
        Some(client) => client.send_json(told),
        None => gateway::to_group("tasks").send_json(told),
    }
}
