//! The calls of `session`, `timers`, `tasks`, `peers`, `client` and `worker`.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_sdk::prelude::*;

use crate::arguments::Arguments;
use crate::shape;

/// Makes a call, if it is one of these.
pub(crate) fn call(op: &str, it: &Arguments<'_>) -> Option<Result<Value>> {
    Some(match op {
        "session_get" => get(it),
        "session_set" => set(it),
        "session_remove" => it
            .text("key")
            .and_then(session::remove)
            .map(|()| Value::Null),
        "session_entries" => session::entries().map(|entries| shape::session(&entries)),
        "session_clear" => session::clear().map(|()| Value::Null),
        "after" | "every" => timer(op, it),
        "cancel" => cancel(it),
        "timers" => waiting(it),
        "submit" => submit(it),
        "cancel_task" => cancel_task(it),
        "peer_send" => it
            .text("topic")
            .and_then(|topic| peers::send(topic, it.text("payload")?))
            .map(|()| Value::Null),
        "peers_said" => Ok(said()),
        "who" => who("message"),
        "event_id" => Ok(json!(worker::event_id())),
        "attempt" => Ok(json!(worker::attempt())),
        _ => return None,
    })
}

/// All that `client` says, `during` this callback.
pub(crate) fn who(during: &str) -> Result<Value> {
    let peer = client::peer()?;
    let frame = client::closed_with()?;
    Ok(json!({
        "during": during,
        "id": client::current()?.as_str(),
        "address": peer.address,
        "transport": format!("{:?}", peer.transport),
        "listener": peer.listener,
        "secure": peer.secure,
        "gateway": client::gateway()?,
        "subprotocol": client::subprotocol()?,
        "connected_at_ms": client::connected_at_ms()?,
        "closed_with": frame.map(|it| json!([it.code, it.reason])),
        "worker": worker::name(),
    }))
}

thread_local! {
    static SAID: RefCell<Vec<[String; 2]>> = const { RefCell::new(Vec::new()) };
}

/// What another instance says is kept: topic and payload.
pub(crate) fn heard(topic: &str, payload: &[u8]) {
    let payload = String::from_utf8_lossy(payload).into_owned();
    SAID.with_borrow_mut(|said| said.push([topic.to_owned(), payload]));
}

/// All that was said to this instance, and which one it is.
fn said() -> Value {
    let said = SAID.with_borrow(|said| json!(said));
    json!({ "worker": worker::name(), "instance": worker::instance(), "said": said })
}

/// The payload, given as `run`, is what the probe does when the timer has run out.
fn timer(op: &str, it: &Arguments<'_>) -> Result<Value> {
    let run = it.get("run").map(Value::to_string).unwrap_or_default();
    let ms = it.get("ms").and_then(Value::as_u64).unwrap_or_default();
    let time = Duration::from_millis(ms);
    let timer = match op {
        "every" => timers::every(time, run)?,
        _ => timers::after(time, run)?,
    };
    Ok(json!(timer))
}

fn cancel(it: &Arguments<'_>) -> Result<Value> {
    let timer: Timer = serde_json::from_value(json!(it.text("timer")?))?;
    timer.cancel().map(|()| Value::Null)
}

/// The task, given as `task`, is what [`crate::work`] runs.
fn submit(it: &Arguments<'_>) -> Result<Value> {
    let task = it.get("task").map(Value::to_string).unwrap_or_default();
    Ok(json!(tasks::submit(task)?))
}

fn cancel_task(it: &Arguments<'_>) -> Result<Value> {
    let task: Task = serde_json::from_value(json!(it.text("task")?))?;
    task.cancel().map(|()| Value::Null)
}

fn waiting(it: &Arguments<'_>) -> Result<Value> {
    let limit = it.get("limit").and_then(Value::as_u64).unwrap_or(1_000);
    let list = timers::waiting().limit(u32::try_from(limit).unwrap_or(u32::MAX));
    let page = list
        .after(it.text("after").ok().map(str::to_owned))
        .page()?;
    let timers = page.items.iter().map(|it| {
        json!({
            "timer": it.timer,
            "due_in_ms": it.due_in.as_millis(),
            "period_ms": it.period.map(|it| it.as_millis()),
            "payload": String::from_utf8_lossy(&it.payload),
        })
    });
    let timers: Vec<Value> = timers.collect();
    Ok(json!({ "timers": timers, "next": page.next, "missing": page.missing }))
}

fn get(it: &Arguments<'_>) -> Result<Value> {
    let json = session::get_json(it.text("key")?)?;
    Ok(json.map_or(Value::Null, |json| shape::json(&json)))
}

fn set(it: &Arguments<'_>) -> Result<Value> {
    let value = it.json("value").unwrap_or_else(|| "null".to_owned());
    session::set_json(it.text("key")?, &value)?;
    Ok(Value::Null)
}
