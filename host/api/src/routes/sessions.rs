//! Sessions: read, replace, merge, delete, compare-and-set.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate_client::{
    Action, CompareAndSet, Done, DoneStatus, ErrorName, OneClient, SessionEntries, SetSession,
    UpdateSession,
};
use tidegate_wire::query::{Answer, ClientFields, Query, SwapRefusal};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::clients::one_client;
use crate::body::{Body, InPath, Params};
use crate::caller::{Caller, Key};
use crate::problem::ApiRefusal;
use crate::shared::{Api, Outcome, unexpected};
use crate::{answers, effects, names};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(
            get_session,
            set_session,
            update_session,
            delete_session
        ))
        .routes(routes!(compare_and_set))
}

/// A client's session
#[utoipa::path(get, path = "/v1/clients/{client}/session", tag = "sessions",
    params(("client" = String, Path, description = "Its id")),
    responses((status = 200, description = "Key and JSON value of each entry", body = Object),
        (status = 404, description = "offline: it is not connected")))]
async fn get_session(
    State(api): State<Api>,
    caller: Caller,
    path: InPath<String>,
) -> Outcome<SessionEntries> {
    let fields = ClientFields {
        session: true,
        ..ClientFields::default()
    };
    let info = one_client(&api, &caller, &path.0, fields).await?;
    Ok(Json(answers::session(info.session)))
}

/// Replaces a client's session
#[utoipa::path(put, path = "/v1/clients/{client}/session", tag = "actions",
    params(("client" = String, Path, description = "Its id")), request_body = Object,
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn set_session(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
    body: Body<SessionEntries>,
) -> Outcome<Done> {
    let effects = effects::action(Action::SetSession(SetSession {
        client: path.0,
        entries: body.value,
    }))?;
    api.act(&caller.0, key.over(&body.bytes), effects).await
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct How {
    /// Whether objects are merged key by key instead of being replaced.
    deep: bool,
}

/// Sets some keys of a client's session; others stay
#[utoipa::path(patch, path = "/v1/clients/{client}/session", tag = "actions",
    params(("client" = String, Path, description = "Its id"), How), request_body = Object,
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn update_session(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
    how: Params<How>,
    body: Body<SessionEntries>,
) -> Outcome<Done> {
    let effects = effects::action(Action::UpdateSession(UpdateSession {
        client: path.0,
        entries: body.value,
        deep: how.0.deep,
    }))?;
    api.act(&caller.0, key.over(&body.bytes), effects).await
}

/// Removes every key of a client's session
#[utoipa::path(delete, path = "/v1/clients/{client}/session", tag = "actions",
    params(("client" = String, Path, description = "Its id")),
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn delete_session(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
) -> Outcome<Done> {
    let effects = effects::action(Action::DeleteSession(OneClient { client: path.0 }))?;
    api.act(&caller.0, key.over(&[]), effects).await
}

/// Sets one session key if its value is the expected one
#[utoipa::path(post, path = "/v1/clients/{client}/session/compare-and-set", tag = "sessions",
    params(("client" = String, Path, description = "Its id")), request_body = CompareAndSet,
    responses((status = 200, description = "It had the expected value and has the new one",
            body = Done),
        (status = 404, description = "offline: it is not connected"),
        (status = 409, description = "conflict: it has another value")))]
async fn compare_and_set(
    State(api): State<Api>,
    caller: Caller,
    path: InPath<String>,
    body: Body<CompareAndSet>,
) -> Outcome<Done> {
    let client = names::client(&path.0)?;
    let query = Query::CompareAndSet {
        client,
        key: names::name("session key", &body.value.key)?,
        expected: body
            .value
            .expected
            .as_ref()
            .map(effects::json)
            .transpose()?,
        new: body.value.new.as_ref().map(effects::json).transpose()?,
        nth: 0,
    };
    let answered = api.ask(&caller.0, query).await?;
    if !answered.missing.is_empty() {
        let detail = "the client's gateway did not answer: it may or may not be set";
        return Err(ApiRefusal::timeout(detail));
    }
    let Answer::Swapped(swapped) = answered.answer else {
        return Err(unexpected());
    };
    match swapped {
        Ok(()) => Ok(Json(Done {
            status: DoneStatus::Done,
        })),
        Err(SwapRefusal::Offline) => Err(ApiRefusal::offline(client)),
        Err(SwapRefusal::Conflict) => Err(ApiRefusal::new(
            StatusCode::CONFLICT,
            ErrorName::Conflict,
            "the key has another value than the expected one",
        )),
        Err(SwapRefusal::TooLarge) => Err(ApiRefusal::overloaded("the session would be too large")),
    }
}
