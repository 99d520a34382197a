//! Doing from outside: each step of the probe's `gateway` calls as a call of the Client API, alone
//! or as an action of a batch.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::api::part;
use tidegate_tests::{Answer, Api, Reply};

/// A step as method, target and body; none if it is no action.
fn call(step: &Value) -> Option<(&'static str, String, Value)> {
    let text = |name: &str| part(step[name].as_str().unwrap_or_default());
    let client = |rest: &str| format!("/v1/clients/{}{rest}", text("client"));
    let group = || format!("/groups/{}", text("group"));
    Some(match step["op"].as_str()? {
        "close_client" => ("POST", client("/close"), farewell(step)),
        "destroy_client" => ("POST", client("/destroy"), Value::Null),
        "close_uid" => (
            "POST",
            format!("/v1/uids/{}/close", text("uid")),
            farewell(step),
        ),
        "bind_uid" => ("PUT", client("/uid"), json!({"uid": step["uid"]})),
        "unbind_uid" => ("DELETE", client("/uid"), Value::Null),
        "join_group" => ("PUT", client(&group()), Value::Null),
        "leave_group" => ("DELETE", client(&group()), Value::Null),
        "ungroup" => ("DELETE", format!("/v1{}", group()), Value::Null),
        "set_session" => ("PUT", client("/session"), step["entries"].clone()),
        "update_session" if step["deep"] == true => (
            "PATCH",
            client("/session?deep=true"),
            step["entries"].clone(),
        ),
        "update_session" => ("PATCH", client("/session"), step["entries"].clone()),
        "delete_session" => ("DELETE", client("/session"), Value::Null),
        "command" => {
            let mut body = without_op(step);
            body["wait"] = json!(false);
            ("POST", "/v1/commands".into(), body)
        }
        _ => ("POST", "/v1/messages".into(), send(step)?),
    })
}

/// The body of a send; none if the step is something else.
fn send(step: &Value) -> Option<Value> {
    let to = match step["op"].as_str()? {
        "send_to_client" => json!({"clients": [step["client"]]}),
        "send_to_clients" => json!({"clients": step["clients"]}),
        "send_to_uids" => json!({"uids": step["uids"]}),
        "send_to_groups" => json!({"groups": step["groups"]}),
        "send_to_all" => json!({"everyone": true}),
        "send_raw" => step["to"].clone(),
        _ => return None,
    };
    let mut body = match (&step["message"], &step["text"]) {
        (Value::Null, text) => json!({"text": text, "raw": true}),
        (message, _) => message_of(message),
    };
    body["to"] = to;
    if let except @ Value::Array(_) = &step["except"] {
        body["except"] = except.clone();
    }
    Some(body)
}

/// A message of the probe's protocol as one of the Client API.
fn message_of(message: &Value) -> Value {
    match message {
        Value::String(text) => json!({"text": text}),
        other => other.clone(),
    }
}

fn farewell(step: &Value) -> Value {
    match &step["farewell"] {
        Value::Null => json!({}),
        farewell => json!({"farewell": message_of(farewell)}),
    }
}

fn without_op(step: &Value) -> Value {
    let mut body = step.clone();
    if let Value::Object(members) = &mut body {
        members.remove("op");
    }
    body
}

/// A step as an action of a batch; none if it is no action.
fn action(step: &Value) -> Option<Value> {
    let own = |name: &str| json!({name: without_op(step)});
    Some(match step["op"].as_str()? {
        "close_client" => {
            let mut close = farewell(step);
            close["client"] = step["client"].clone();
            json!({"close": close})
        }
        "close_uid" => {
            let mut close = farewell(step);
            close["uid"] = step["uid"].clone();
            json!({"close_uid": close})
        }
        "destroy_client" => own("destroy"),
        "bind_uid" => own("bind"),
        "unbind_uid" => own("unbind"),
        "join_group" => own("join"),
        "leave_group" => own("leave"),
        name @ ("ungroup" | "set_session" | "update_session" | "delete_session" | "command") => {
            own(name)
        }
        _ => json!({"send": send(step)?}),
    })
}

/// Takes a step if it is an action.
pub(super) async fn ask(api: &Api, step: &Value) -> Result<Option<Answer>> {
    match call(step) {
        Some((method, target, body)) => Ok(Some(done(&api.send(method, &target, &body).await?)?)),
        None => Ok(None),
    }
}

/// Takes actions together; steps that are questions are left out.
pub(super) async fn batch(api: &Api, steps: &[Value]) -> Result<Answer> {
    let actions: Vec<_> = steps.iter().filter_map(action).collect();
    done(&api.post("/v1/batch", &json!({"actions": actions})).await?)
}

/// Every action that is accepted has the same answer.
fn done(reply: &Reply) -> Result<Answer> {
    if reply.status >= 400 {
        return Ok(Err(reply.problem()?));
    }
    ensure!(
        reply.status == 200 && reply.body == json!({"status": "done"}),
        "status {}: {}",
        reply.status,
        reply.body
    );
    Ok(Ok(Value::Null))
}
