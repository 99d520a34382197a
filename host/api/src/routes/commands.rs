//! Custom commands beside the gateways' hubs, and requests to the tenant's handler.

use std::net::SocketAddrV4;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tidegate_client::{
    Action, Command, CommandAnswer, CommandAnswers, CommandRun, Done, ErrorName, Message, Request,
};
use tidegate_wire::query::{Answer, CommandOutcome, Query};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body::Body;
use crate::caller::{Caller, Key};
use crate::problem::{ApiRefusal, command_error};
use crate::shared::{Api, Outcome, unexpected};
use crate::{answers, effects, names};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(run_command))
        .routes(routes!(request))
}

/// What was given, or that it was started.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Ran {
    /// The answers.
    Answers(CommandAnswers),
    /// With `wait: false`.
    Done(Done),
}

/// Runs a custom command beside the gateways' hubs
#[utoipa::path(post, path = "/v1/commands", tag = "code", request_body = CommandRun,
    responses((status = 200, description = "What each gateway's command gave", body = Ran),
        (status = 409, description = "conflict: the idempotency key was used for another call")))]
async fn run_command(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    body: Body<CommandRun>,
) -> Outcome<Ran> {
    let it = body.value;
    if !it.wait {
        let effects = effects::action(Action::Command(Command {
            gateways: it.gateways,
            name: it.name,
            payload: it.payload,
        }))?;
        let Json(done) = api.act(&caller.0, key.over(&body.bytes), effects).await?;
        return Ok(Json(Ran::Done(done)));
    }
    if key.is_given() {
        return Err(ApiRefusal::invalid(
            "commands whose answers are waited for take no idempotency key: they act at once and \
             their answers are not kept; with `\"wait\": false` they are started once",
        ));
    }
    let within = names::timeout(it.timeout_ms, api.query)?;
    let gateways = names::gateways(it.gateways.as_ref())?;
    let query = Query::Command {
        gateways: gateways.clone(),
        name: names::name("command", &it.name)?,
        payload: it.payload.into_bytes().into(),
    };
    let answered = api.cluster.ask(&caller.0, query, within).await;
    let answered = answered.map_err(ApiRefusal::from)?;
    let Answer::Commands(outcomes) = answered.answer else {
        return Err(unexpected());
    };
    let silent = not_live(gateways.unwrap_or_default(), &outcomes, &answered.missing);
    let mut answers: Vec<_> = outcomes
        .into_iter()
        .map(|(gateway, outcome)| (gateway, answer(gateway.to_string(), outcome)))
        .chain(silent)
        .collect();
    answers.sort_unstable_by_key(|(gateway, _)| *gateway);
    let answers = answers.into_iter().map(|(_, answer)| answer).collect();
    let missing = answers::addresses(&answered.missing);
    Ok(Json(Ran::Answers(CommandAnswers { answers, missing })))
}

/// Those that were named, gave nothing and are not missed either: there is no such gateway.
fn not_live(
    mut named: Vec<SocketAddrV4>,
    outcomes: &[(SocketAddrV4, CommandOutcome)],
    missing: &[SocketAddrV4],
) -> Vec<(SocketAddrV4, CommandAnswer)> {
    named.sort_unstable();
    named.dedup();
    named.retain(|gateway| {
        !missing.contains(gateway) && outcomes.iter().all(|(other, _)| other != gateway)
    });
    let offline = |gateway: SocketAddrV4| CommandAnswer {
        gateway: gateway.to_string(),
        error: Some(ErrorName::Offline),
        detail: Some("no live gateway has this address".to_owned()),
        ..CommandAnswer::default()
    };
    named.into_iter().map(|at| (at, offline(at))).collect()
}

fn answer(gateway: String, outcome: CommandOutcome) -> CommandAnswer {
    let mut answer = CommandAnswer {
        gateway,
        ..CommandAnswer::default()
    };
    match outcome {
        Ok(payload) => match String::from_utf8(payload.to_vec()) {
            Ok(text) => answer.text = Some(text),
            Err(error) => answer.binary = Some(STANDARD.encode(error.into_bytes())),
        },
        Err(error) => {
            let (name, detail) = command_error(error);
            (answer.error, answer.detail) = (Some(name), Some(detail));
        }
    }
    answer
}

/// Calls the tenant's handler and waits for its reply
///
/// Under an idempotency key the handler runs once: whoever comes again with the same call gets the
/// reply of the first, or waits for it.
#[utoipa::path(post, path = "/v1/requests", tag = "code", request_body = Request,
    responses((status = 200, description = "What the handler gave", body = Message),
        (status = 409, description = "conflict: the idempotency key was used for another call, or \
            the reply of the first is not kept any more"),
        (status = 422, description = "other: what the handler refused, or it takes no requests"),
        (status = 502, description = "other: the handler broke twice")))]
async fn request(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    body: Body<Request>,
) -> Outcome<Message> {
    let once = key.over(&body.bytes);
    let it = body.value;
    let within = names::timeout(it.timeout_ms, api.query)?;
    let name = names::name("request", &it.name)?;
    let payload = it.payload.into_bytes().into();
    let calling = match once {
        None => api.cluster.request(&caller.0, name, payload, within),
        Some(once) => api
            .cluster
            .request_once(&caller.0, once, name, payload, within),
    };
    let reply = calling.await;
    let reply = reply.map_err(ApiRefusal::from)?;
    Ok(Json(Message::of_bytes(reply.into())))
}
