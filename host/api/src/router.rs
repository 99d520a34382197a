//! The whole service: all calls, and what is around them.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tidegate_client::ErrorName;
use tidegate_fair::Places;
use tidegate_link::net::http::Proven;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::body::BODY_BYTES_MAX;
use crate::caller;
use crate::cluster::{Cluster, Deploys};
use crate::openapi;
use crate::problem::ApiRefusal;
use crate::rules::{self, Rules};
use crate::shared::{Apart, Api, ApiShared};
use crate::tokens::Tokens;

/// More calls are refused while so many are under way; each tenant has its share.
const CALLS_MAX: usize = 1024;

/// Components in memory at once; each tenant has its share.
const UPLOADS_MAX: usize = 4;

/// What the API is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The announced address of the gateway behind it.
    pub answering: SocketAddrV4,
    /// How long a question may take before its answer is partial.
    pub query: Duration,
    /// Who may call at present.
    pub tokens: watch::Receiver<Tokens>,
    /// How many connections there may be; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// Why the gateway does not know the cluster yet, as long as that lasts: what concerns clients is
    /// refused then, since its own would look like all.
    pub apart: Apart,
}

/// The whole service.
pub(crate) fn router(
    settings: Settings,
    cluster: Arc<dyn Cluster>,
    deploys: Arc<dyn Deploys>,
    stop: CancellationToken,
) -> Router {
    let tenants = settings.tokens.borrow().tenants();
    let api = Arc::new(ApiShared {
        cluster,
        deploys,
        answering: settings.answering,
        query: settings.query,
        tokens: settings.tokens,
        stop,
        apart: settings.apart,
        calls: Places::new(CALLS_MAX, tenants),
        uploads: Places::new(UPLOADS_MAX, tenants),
    });
    let (calls, document) = openapi::calls();
    let rules = (Arc::new(Rules::of(&document)), Arc::clone(&api));
    calls
        .route_layer(middleware::from_fn_with_state(rules, rules::keep))
        .with_state(Arc::clone(&api))
        .merge(openapi::pages(&document))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api, bounded))
}

async fn bounded(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(tenant) = caller::tenant(request.headers(), &api) else {
        // Refused, or answered from memory.
        return next.run(request).await;
    };
    if concerns_clients(request.uri().path())
        && let Some(why) = api.apart.why()
    {
        let detail = format!("this gateway does not know the cluster yet, ask another one: {why}");
        return ApiRefusal::unavailable(detail).into_response();
    }
    match api.calls.take(&tenant) {
        // Until the head of the answer: a feed goes on without a place.
        Some(_place) => {
            let mut response = next.run(request).await;
            response.extensions_mut().insert(Proven);
            response
        }
        None => {
            let detail = format!(
                "the tenant has its share of the {CALLS_MAX} calls that may be under way on this gateway"
            );
            ApiRefusal::overloaded(detail).into_response()
        }
    }
}

/// What is deployed is answered from the gateway's copy, and the document from memory.
fn concerns_clients(path: &str) -> bool {
    path.starts_with("/v1/") && !path.starts_with("/v1/deployment") && path != "/v1/openapi.json"
}

async fn not_found(uri: Uri) -> ApiRefusal {
    let path: String = uri.path().chars().take(100).collect();
    ApiRefusal::new(
        StatusCode::NOT_FOUND,
        ErrorName::InvalidArgument,
        format!("there is no {path}: see /v1/openapi.json or /docs"),
    )
}

async fn not_allowed(request: Request) -> ApiRefusal {
    let path: String = request.uri().path().chars().take(100).collect();
    ApiRefusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorName::InvalidArgument,
        format!("{path} has no {}: see the header `Allow`", request.method()),
    )
}

#[cfg(test)]
mod tests;
