//! The live gateways, ids of their connections, and the state of the cluster.

use axum::Json;
use axum::extract::State;
use tidegate_client::{ClientRef, Gateways, Status};
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, Query, Selector};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::clients::count;
use crate::body::InPath;
use crate::caller::Caller;
use crate::problem::ApiRefusal;
use crate::shared::{Api, Outcome, unexpected};
use crate::{answers, names};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_gateways))
        .routes(routes!(client_at))
        .routes(routes!(status))
}

async fn gateways(api: &Api, caller: &Caller) -> Result<Vec<String>, ApiRefusal> {
    let answered = api.ask(&caller.0, Query::Gateways).await?;
    let Answer::Gateways(gateways) = answered.answer else {
        return Err(unexpected());
    };
    Ok(answers::addresses(&gateways))
}

/// The live gateways
#[utoipa::path(get, path = "/v1/gateways", tag = "cluster",
    responses((status = 200, description = "Announced addresses, in order", body = Gateways)))]
async fn list_gateways(State(api): State<Api>, caller: Caller) -> Outcome<Gateways> {
    Ok(Json(Gateways {
        gateways: gateways(&api, &caller).await?,
        answering: api.answering.to_string(),
    }))
}

/// The id of a gateway's connection; no look-up
#[utoipa::path(get, path = "/v1/gateways/{gateway}/clients/{connection}", tag = "cluster",
    params(("gateway" = String, Path, description = "Its announced address, ip:port"),
        ("connection" = u32, Path, description = "The connection's number")),
    responses((status = 200, description = "Whether or not it is connected", body = ClientRef)))]
async fn client_at(_caller: Caller, path: InPath<(String, String)>) -> Outcome<ClientRef> {
    let (gateway, connection) = path.0;
    let client = ClientId::new(names::gateway(&gateway)?, names::connection(&connection)?);
    Ok(Json(ClientRef {
        client: client.to_string(),
    }))
}

/// The cluster as this tenant sees it
#[utoipa::path(get, path = "/v1/status", tag = "cluster",
    responses((status = 200, description = "The cluster", body = Status)))]
async fn status(State(api): State<Api>, caller: Caller) -> Outcome<Status> {
    let of = vec![Selector::Everyone];
    let (gateways, clients) = tokio::join!(
        gateways(&api, &caller),
        count(&api, &caller, Query::ClientCount { of }),
    );
    let Json(clients) = clients?;
    Ok(Json(Status {
        gateway: api.answering.to_string(),
        tenant: caller.0.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gateways: gateways?,
        clients: clients.count,
        missing: clients.missing,
        unserved: api.cluster.unserved(&caller.0),
        failing: api.cluster.failing(&caller.0),
        router_fault: api.cluster.router_fault(&caller.0),
    }))
}
