//! Deploys over the cluster: a component comes in, what happens goes out as server-sent events. Only
//! a token that may deploy changes anything; every token of the tenant may look.

mod progress;
mod upload;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use tidegate_client::{Deployment, ErrorName, Rollback};
use tidegate_deploy::{CanaryPlan, DeployOrder, Overview, Teller};
use tidegate_wire::Name;
use tidegate_wire::deploy::CANARY_CLIENTS_MAX;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, ClientFields, LIMIT_MAX, Query, Selector};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body::{OptionalBody, Params};
use crate::caller::{Caller, Deployer};
use crate::problem::ApiRefusal;
use crate::shared::{Api, Outcome, unexpected};
use crate::{deployments, names};

use progress::Manner;
use upload::Upload;

/// What a component is called whose file is not named.
const SOURCE: &str = "component.wasm";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(get_deployment, deploy, withdraw))
        .routes(routes!(rollback))
        .routes(routes!(promote))
}

/// What the cluster runs for the tenant, and what it ran
///
/// Answered at once, also while the register that takes deploys is away: `answered_by` says by whom.
#[utoipa::path(get, path = "/v1/deployment", tag = "deployment",
    responses((status = 200, description = "State, workers and history", body = Deployment)))]
async fn get_deployment(State(api): State<Api>, caller: Caller) -> Outcome<Deployment> {
    let (overview, teller) = overview(&api).await?;
    Ok(Json(deployments::deployment(&caller.0, &overview, teller)))
}

async fn overview(api: &Api) -> Result<(Overview, Teller), ApiRefusal> {
    match tokio::time::timeout(api.query, api.deploys.look()).await {
        Ok(answered) => Ok(answered.map_err(|error| deployments::refusal(&error))?),
        Err(_) => Err(ApiRefusal::timeout("the register did not answer in time")),
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// The name of the component's file, for the history.
    #[param(min_length = 1, max_length = 255)]
    source: Option<String>,
    /// Of a hundred clients so many try it first. Without `percent`, `client` and `uid`: it serves
    /// all at once.
    #[param(minimum = 0, maximum = 100)]
    percent: Option<u8>,
    /// Clients that try it first.
    client: Vec<String>,
    /// The clients that these uids have now try it first.
    uid: Vec<String>,
    /// After so long it serves everybody; without it when it is promoted.
    #[param(minimum = 0, maximum = 86400)]
    seconds: Option<u64>,
}

/// Has all workers run a version
///
/// The body is the component. All workers prepare it, then all switch; if one cannot, none does.
/// `event:` is `waiting` (a register that has just started waits for workers), `uploaded`, `worker`,
/// `decided`, and at last `done` or `failed`. Hanging up undoes nothing. With `Accept: application/json` the answer comes when all is over, and is the last of
/// them with its own status.
#[utoipa::path(post, path = "/v1/deployment", tag = "deployment", params(Wanted),
    request_body(content = String, content_type = "application/octet-stream",
        description = "The component; `application/wasm` says the same"),
    responses((status = 200, description = "Server-sent events", body = String,
            content_type = "text/event-stream"),
        (status = 403, description = "not-permitted: the token may not deploy"),
        (status = 404, description = "offline: none of the clients that were chosen is connected"),
        (status = 409, description = "conflict: a canary is under way"),
        (status = 413, description = "invalid-argument: the component is too long"),
        (status = 415, description = "invalid-argument: the body is not said to be a component"),
        (status = 422, description = "other: a worker cannot run it; nothing has changed"),
        (status = 503, description = "conflict: another order is under way; \
            other: no register, no worker, or one was lost meanwhile")))]
async fn deploy(
    State(api): State<Api>,
    by: Result<Deployer, ApiRefusal>,
    wanted: Result<Params<Wanted>, ApiRefusal>,
    manner: Manner,
    upload: Upload,
) -> Result<Response, ApiRefusal> {
    let known = upload.check();
    let admitted = async {
        let by = by?;
        let wanted = wanted?.0;
        known?;
        let source = names::name("source", wanted.source.as_deref().unwrap_or(SOURCE))?;
        let canary = canary(&api, &by.tenant, &wanted).await?;
        Ok((by, source, canary))
    };
    let (by, source, canary) = match admitted.await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            // Whoever is still sending would not see the answer.
            upload.pass_over().await;
            return Err(refusal);
        }
    };
    let place = api.uploads.take(&by.tenant);
    let place = place.ok_or_else(|| {
        ApiRefusal::overloaded("other components of the tenant are being deployed")
    })?;
    let component = upload.read().await?;
    let order = DeployOrder {
        tenant: by.tenant,
        source,
        by: by.name,
        canary,
    };
    let progress = api.deploys.deploy(order, component);
    progress::answer(progress, Some(place), manner).await
}

/// Who tries it first.
async fn canary(
    api: &Api,
    tenant: &Name,
    wanted: &Wanted,
) -> Result<Option<CanaryPlan>, ApiRefusal> {
    let (percent, seconds) = (wanted.percent.unwrap_or(0), wanted.seconds.unwrap_or(0));
    if percent > 100 {
        let detail = format!("`percent` is {percent}: 0 to 100 is right");
        return Err(ApiRefusal::invalid(detail));
    }
    if percent == 0 && wanted.client.is_empty() && wanted.uid.is_empty() {
        return match seconds {
            0 => Ok(None),
            _ => Err(ApiRefusal::invalid(
                "`seconds` without `percent`, `client` or `uid`: nobody would try it first",
            )),
        };
    }
    if seconds > 86_400 {
        let detail = format!("`seconds` is {seconds}: 0 to 86400 is right");
        return Err(ApiRefusal::invalid(detail));
    }
    let mut chosen = Vec::new();
    if !wanted.client.is_empty() {
        chosen.push(Selector::Clients(names::clients(&wanted.client)?));
    }
    if !wanted.uid.is_empty() {
        chosen.push(Selector::Uids(names::names("uid", &wanted.uid)?));
    }
    let clients = match chosen.is_empty() {
        true => Vec::new(),
        false => connected(api, tenant, chosen).await?,
    };
    if clients.len() > CANARY_CLIENTS_MAX {
        return Err(too_many(clients.len()));
    }
    Ok(Some(CanaryPlan {
        percent,
        clients,
        seconds,
    }))
}

fn too_many(clients: usize) -> ApiRefusal {
    ApiRefusal::invalid(format!(
        "{clients} clients or more would try it first, at most {CANARY_CLIENTS_MAX} may be chosen: \
         give a `percent`"
    ))
}

/// Those of the clients that were chosen that are there: a version that nobody tries is not tried.
async fn connected(
    api: &Api,
    tenant: &Name,
    of: Vec<Selector>,
) -> Result<Vec<ClientId>, ApiRefusal> {
    let query = Query::Clients {
        of,
        fields: ClientFields::default(),
        after: None,
        limit: LIMIT_MAX,
    };
    let answered = api.ask(tenant, query).await?;
    let Answer::Clients { page, more } = answered.answer else {
        return Err(unexpected());
    };
    if more {
        return Err(too_many(page.len() + 1));
    }
    if let Some(missing) = answered.missing.first() {
        let detail =
            format!("the gateway {missing} did not say which of the chosen clients it has");
        return Err(ApiRefusal::timeout(detail));
    }
    match page.is_empty() {
        false => Ok(page.into_iter().map(|info| info.client).collect()),
        true => Err(ApiRefusal::new(
            StatusCode::NOT_FOUND,
            ErrorName::Offline,
            "none of the clients that were chosen is connected",
        )),
    }
}

/// Lets the cluster forget what the tenant runs
///
/// At their next start workers use the file of their configuration. Answers as a deploy does.
#[utoipa::path(delete, path = "/v1/deployment", tag = "deployment",
    responses((status = 200, description = "Server-sent events", body = String,
            content_type = "text/event-stream"),
        (status = 403, description = "not-permitted: the token may not deploy"),
        (status = 404, description = "invalid-argument: the tenant was never deployed"),
        (status = 503, description = "conflict: another order is under way; other: no register")))]
async fn withdraw(
    State(api): State<Api>,
    by: Deployer,
    manner: Manner,
) -> Result<Response, ApiRefusal> {
    progress::answer(api.deploys.withdraw(by.tenant, by.name), None, manner).await
}

/// Goes back to an earlier version
///
/// Without `to` the version that some clients try is given up, or, if there is none, the release
/// before serves again. Answers as a deploy does.
#[utoipa::path(post, path = "/v1/deployment/rollback", tag = "deployment",
    request_body(content = Option<Rollback>),
    responses((status = 200, description = "Server-sent events", body = String,
            content_type = "text/event-stream"),
        (status = 403, description = "not-permitted: the token may not deploy"),
        (status = 404, description = "invalid-argument: no such version, or never deployed"),
        (status = 409, description = "conflict: nothing to go back to, it is to run already, or no node \
            has its component any more"),
        (status = 422, description = "other: a worker cannot run it; nothing has changed"),
        (status = 503, description = "conflict: another order is under way; \
            other: no register, no worker, or one was lost meanwhile")))]
async fn rollback(
    State(api): State<Api>,
    by: Deployer,
    manner: Manner,
    body: OptionalBody<Rollback>,
) -> Result<Response, ApiRefusal> {
    let to = body.value.to;
    if let Some(to) = &to {
        let is_hash = (1..=64).contains(&to.len()) && to.bytes().all(|it| it.is_ascii_hexdigit());
        if !is_hash {
            let to: String = to.chars().take(80).collect();
            return Err(ApiRefusal::invalid(format!(
                "`to`: {to:?} is not the beginning of a version: up to 64 hex digits are right"
            )));
        }
    }
    let to = to.map(|to| to.to_ascii_lowercase());
    progress::answer(api.deploys.rollback(by.tenant, to, by.name), None, manner).await
}

/// Lets all clients follow those that try a version
///
/// Answers as a deploy does.
#[utoipa::path(post, path = "/v1/deployment/promote", tag = "deployment",
    responses((status = 200, description = "Server-sent events", body = String,
            content_type = "text/event-stream"),
        (status = 403, description = "not-permitted: the token may not deploy"),
        (status = 404, description = "invalid-argument: the tenant was never deployed"),
        (status = 409, description = "conflict: no client tries a version, or no node has its component \
            any more"),
        (status = 422, description = "other: a worker cannot run it; nothing has changed"),
        (status = 503, description = "conflict: another order is under way; \
            other: no register, no worker, or one was lost meanwhile")))]
async fn promote(
    State(api): State<Api>,
    by: Deployer,
    manner: Manner,
) -> Result<Response, ApiRefusal> {
    progress::answer(api.deploys.promote(by.tenant, by.name), None, manner).await
}
