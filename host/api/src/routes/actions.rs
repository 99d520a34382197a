//! Sends, closes, binds, joins: each is one commit.

use axum::extract::State;
use tidegate_client::{
    Action, Batch, Bind, Close, CloseUid, Done, Farewell, Group, Member, OneClient, Send, Uid,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body::{Body, InPath, OptionalBody};
use crate::caller::{Caller, Key};
use crate::effects;
use crate::shared::{Api, Outcome};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(send))
        .routes(routes!(batch))
        .routes(routes!(close))
        .routes(routes!(destroy))
        .routes(routes!(close_uid))
        .routes(routes!(bind, unbind))
        .routes(routes!(join, leave))
        .routes(routes!(ungroup))
}

/// Sends a message
#[utoipa::path(post, path = "/v1/messages", tag = "actions", request_body = Send,
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn send(State(api): State<Api>, caller: Caller, key: Key, body: Body<Send>) -> Outcome<Done> {
    let effects = effects::action(Action::Send(body.value))?;
    api.act(&caller.0, key.over(&body.bytes), effects).await
}

/// Does several things in one commit, in order
#[utoipa::path(post, path = "/v1/batch", tag = "actions", request_body = Batch,
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn batch(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    body: Body<Batch>,
) -> Outcome<Done> {
    let effects = effects::batch(body.value)?;
    api.act(&caller.0, key.over(&body.bytes), effects).await
}

/// Closes a client once its queue and the farewell are written
#[utoipa::path(post, path = "/v1/clients/{client}/close", tag = "actions",
    params(("client" = String, Path, description = "Its id")),
    request_body = Option<Farewell>,
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn close(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
    body: OptionalBody<Farewell>,
) -> Outcome<Done> {
    let effects = effects::action(Action::Close(Close {
        client: path.0,
        farewell: body.value.farewell,
        code: body.value.code,
        reason: body.value.reason,
    }))?;
    api.act(&caller.0, key.over(&body.bytes), effects).await
}

/// Closes a client at once and drops what is queued
#[utoipa::path(post, path = "/v1/clients/{client}/destroy", tag = "actions",
    params(("client" = String, Path, description = "Its id")),
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn destroy(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
) -> Outcome<Done> {
    let effects = effects::action(Action::Destroy(OneClient { client: path.0 }))?;
    api.act(&caller.0, key.over(&[]), effects).await
}

/// Closes all clients of a uid
#[utoipa::path(post, path = "/v1/uids/{uid}/close", tag = "actions",
    params(("uid" = String, Path, description = "The uid")),
    request_body = Option<Farewell>,
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn close_uid(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
    body: OptionalBody<Farewell>,
) -> Outcome<Done> {
    let effects = effects::action(Action::CloseUid(CloseUid {
        uid: path.0,
        farewell: body.value.farewell,
        code: body.value.code,
        reason: body.value.reason,
    }))?;
    api.act(&caller.0, key.over(&body.bytes), effects).await
}

/// Gives a client a uid; it has one at most
#[utoipa::path(put, path = "/v1/clients/{client}/uid", tag = "actions",
    params(("client" = String, Path, description = "Its id")), request_body = Uid,
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn bind(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
    body: Body<Uid>,
) -> Outcome<Done> {
    let effects = effects::action(Action::Bind(Bind {
        client: path.0,
        uid: body.value.uid,
    }))?;
    api.act(&caller.0, key.over(&body.bytes), effects).await
}

/// Takes a client's uid away
#[utoipa::path(delete, path = "/v1/clients/{client}/uid", tag = "actions",
    params(("client" = String, Path, description = "Its id")),
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn unbind(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
) -> Outcome<Done> {
    let effects = effects::action(Action::Unbind(OneClient { client: path.0 }))?;
    api.act(&caller.0, key.over(&[]), effects).await
}

/// Adds a client to a group
#[utoipa::path(put, path = "/v1/clients/{client}/groups/{group}", tag = "actions",
    params(("client" = String, Path, description = "Its id"),
        ("group" = String, Path, description = "The group")),
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn join(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<(String, String)>,
) -> Outcome<Done> {
    let (client, group) = path.0;
    let effects = effects::action(Action::Join(Member { client, group }))?;
    api.act(&caller.0, key.over(&[]), effects).await
}

/// Takes a client out of a group
#[utoipa::path(delete, path = "/v1/clients/{client}/groups/{group}", tag = "actions",
    params(("client" = String, Path, description = "Its id"),
        ("group" = String, Path, description = "The group")),
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn leave(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<(String, String)>,
) -> Outcome<Done> {
    let (client, group) = path.0;
    let effects = effects::action(Action::Leave(Member { client, group }))?;
    api.act(&caller.0, key.over(&[]), effects).await
}

/// Removes every member of a group; they stay connected
#[utoipa::path(delete, path = "/v1/groups/{group}", tag = "actions",
    params(("group" = String, Path, description = "The group")),
    responses((status = 200, description = "Done, now or before", body = Done)))]
async fn ungroup(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
) -> Outcome<Done> {
    let effects = effects::action(Action::Ungroup(Group { group: path.0 }))?;
    api.act(&caller.0, key.over(&[]), effects).await
}
