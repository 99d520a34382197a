//! Asking from outside: each step of the probe's `directory` calls as a call of the Client API,
//! with the answer brought into the probe's form.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tidegate_tests::api::part;
use tidegate_tests::{Answer, Api, Reply};

/// Takes a step.
pub(super) async fn ask(api: &Api, step: &Value) -> Result<Answer> {
    let name = step["op"].as_str().context("no op")?;
    match name {
        "is_online" | "info" | "session_of" => one_client(api, name, step).await,
        "clients" | "infos" => clients(api, name, step).await,
        "are_uids_online" | "clients_of_uids" | "client_counts_of_groups" => {
            many(api, name, step).await
        }
        "compare_and_set_session" => compare_and_set(api, step).await,
        "command_wait" => command(api, step).await,
        "gateways" => {
            let reply = api.get("/v1/gateways").await?;
            Ok(success(&reply)?.map(|body| body["gateways"].clone()))
        }
        "client_at" => {
            let gateway = step["gateway"].as_str().unwrap_or_default();
            let target = format!("/v1/gateways/{gateway}/clients/{}", step["connection"]);
            let reply = api.get(&target).await?;
            Ok(success(&reply)?.map(|body| body["client"].clone()))
        }
        "client_count" => {
            let body = json!({"of": step["of"]});
            success(&api.post("/v1/clients/count", &body).await?)
        }
        _ => success(&api.get(&listing(name, step)?).await?),
    }
}

/// The body of an answer, or the name of its error.
fn success(reply: &Reply) -> Result<Answer> {
    if reply.status >= 400 {
        return Ok(Err(reply.problem()?));
    }
    ensure!(
        reply.status == 200,
        "status {}: {}",
        reply.status,
        reply.body
    );
    Ok(Ok(reply.body.clone()))
}

/// Questions about one client: 404 is what a handler sees as false or none.
async fn one_client(api: &Api, name: &str, step: &Value) -> Result<Answer> {
    let client = part(step["client"].as_str().unwrap_or_default());
    let target = match name {
        "session_of" => format!("/v1/clients/{client}/session"),
        "is_online" => format!("/v1/clients/{client}?fields="),
        _ => format!("/v1/clients/{client}?fields={}", fields(step)),
    };
    let reply = api.get(&target).await?;
    let answer = success(&reply)?;
    if answer == Err("offline".to_owned()) {
        ensure!(reply.status == 404, "offline with status {}", reply.status);
        return Ok(Ok(match name {
            "is_online" => json!(false),
            _ => Value::Null,
        }));
    }
    Ok(match (name, answer) {
        ("is_online", Ok(_)) => Ok(json!(true)),
        ("info", Ok(info)) => Ok(without_address(info)?),
        (_, answer) => answer,
    })
}

async fn clients(api: &Api, name: &str, step: &Value) -> Result<Answer> {
    let mut body = json!({"of": step["of"]});
    for key in ["after", "limit", "fields"] {
        if !step[key].is_null() {
            body[key] = step[key].clone();
        }
    }
    let mut page = match success(&api.post("/v1/clients/query", &body).await?)? {
        Ok(page) => page,
        Err(error) => return Ok(Err(error)),
    };
    let Value::Array(infos) = page["items"].take() else {
        bail!("no items in {page}");
    };
    let mut items = Vec::new();
    for info in infos {
        items.push(match name {
            "clients" => info["client"].clone(),
            _ => without_address(info)?,
        });
    }
    page["items"] = Value::Array(items);
    Ok(Ok(page))
}

/// Every information from outside says where its client is; that must agree with the id.
fn without_address(mut info: Value) -> Result<Value> {
    let id = info["client"].as_str().context("no client")?.to_owned();
    let address = super::address_in(&id)?;
    let object = info.as_object_mut().context("no object")?;
    for name in ["gateway", "connection"] {
        let said = object.remove(name);
        ensure!(
            said.as_ref() == address.get(name),
            "{name} of {id} is {said:?}"
        );
    }
    Ok(info)
}

/// Questions that answer with a map by name, where a handler gets a list in the order asked.
async fn many(api: &Api, name: &str, step: &Value) -> Result<Answer> {
    let (target, asked, member) = match name {
        "are_uids_online" => ("/v1/uids/online", "uids", "online"),
        "clients_of_uids" => ("/v1/uids/clients", "uids", "clients"),
        _ => ("/v1/groups/counts", "groups", "clients"),
    };
    let reply = api.post(target, &json!({asked: step[asked]})).await?;
    let body = match success(&reply)? {
        Ok(body) => body,
        Err(error) => return Ok(Err(error)),
    };
    let Value::Array(names) = &step[asked] else {
        bail!("no {asked}");
    };
    let found = names
        .iter()
        .map(|name| body[member][name.as_str().unwrap_or_default()].clone())
        .collect();
    let mut distinct: Vec<_> = names.iter().map(Value::to_string).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let members = body[member].as_object().map_or(0, serde_json::Map::len);
    ensure!(
        members == distinct.len(),
        "{} names asked, {members} answered",
        distinct.len()
    );
    let member = if asked == "groups" { "counts" } else { member };
    Ok(Ok(
        json!({member: Value::Array(found), "missing": body["missing"]}),
    ))
}

async fn compare_and_set(api: &Api, step: &Value) -> Result<Answer> {
    let client = part(step["client"].as_str().unwrap_or_default());
    let mut body = json!({"key": step["key"]});
    for name in ["expected", "new"] {
        // An absent member is an absent key; null is a value.
        if let Some(value) = step.get(name) {
            body[name] = value.clone();
        }
    }
    let target = format!("/v1/clients/{client}/session/compare-and-set");
    let answer = success(&api.post(&target, &body).await?)?;
    if let Ok(body) = &answer {
        ensure!(*body == json!({"status": "done"}), "{body}");
    }
    Ok(answer.map(|_| Value::Null))
}

async fn command(api: &Api, step: &Value) -> Result<Answer> {
    let mut body = step.clone();
    body.as_object_mut().context("no object")?.remove("op");
    if body["gateways"].is_null() {
        body.as_object_mut()
            .context("no object")?
            .remove("gateways");
    }
    let reply = api.post("/v1/commands", &body).await?;
    Ok(success(&reply)?.map(|mut body| {
        let mut answers = body["answers"].take();
        for answer in answers.as_array_mut().into_iter().flatten() {
            if let Some(answer) = answer.as_object_mut() {
                answer.remove("detail");
            }
        }
        answers
    }))
}

/// Lists and counts that are asked with a query in the address.
fn listing(name: &str, step: &Value) -> Result<String> {
    let path = match name {
        "uids" => "/v1/uids?",
        "uid_count" => "/v1/uids/count?",
        "uid_count_estimate" => "/v1/uids/count?estimate=true",
        "groups" => "/v1/groups?",
        "group_infos" => "/v1/groups/counts?",
        "group_clients" => "/v1/groups/members?of=clients",
        "group_uids" => "/v1/groups/members?of=uids",
        other => bail!("no call for {other}"),
    };
    let mut target = path.to_owned();
    for selector in step["of"].as_array().into_iter().flatten() {
        let (kind, names) = selector
            .as_object()
            .and_then(|members| members.iter().next())
            .context("an empty selector")?;
        let parameter = kind.strip_suffix('s').unwrap_or(kind);
        let parameter = match kind.as_str() {
            "all_of_groups" => "all_of_groups",
            "everyone" => continue,
            _ => parameter,
        };
        for name in names.as_array().into_iter().flatten() {
            write!(
                target,
                "&{parameter}={}",
                part(name.as_str().unwrap_or_default())
            )?;
        }
    }
    for key in ["after", "limit"] {
        match &step[key] {
            Value::Null => {}
            Value::String(text) => write!(target, "&{key}={}", part(text))?,
            other => write!(target, "&{key}={other}")?,
        }
    }
    Ok(target)
}

fn fields(step: &Value) -> String {
    let names = step["fields"].as_array().into_iter().flatten();
    let names: Vec<_> = names.filter_map(Value::as_str).collect();
    names.join(",")
}
