//! The listener: bounds on connections, headers and time; ends in order.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use tidegate_link::net::admission::AdmissionLimits;
use tidegate_link::net::http::{self, HttpSettings};
use tidegate_watchdog::fault;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::debug;

use crate::cluster::{Cluster, Deploys};
use crate::problem;
use crate::router::{Settings, router};

/// Of one address.
const STRANGERS_MAX: usize = 256;
const IDLE_MAX: usize = 512;

const HTTP: HttpSettings = HttpSettings {
    first_byte: Duration::from_secs(5),
    head: Duration::from_secs(10),
    // Longer than callers' pools and proxies keep a connection.
    idle: Duration::from_secs(75),
    stalled: Duration::from_secs(30),
    head_bytes_max: 64 << 10,
    headers_max: 64,
    refusal: problem::of_http,
};

/// So long may calls that are under way take after the stop.
const ENDING: Duration = Duration::from_secs(5);

/// Serves the Client API until `stop`, then lets calls that are under way end.
///
/// # Errors
/// When the listener has no address, that is never for a bound one.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    cluster: Arc<dyn Cluster>,
    deploys: Arc<dyn Deploys>,
    stop: CancellationToken,
) -> io::Result<()> {
    debug!(address = %listener.local_addr()?, "client API listens");
    // At the limit a connection without a call under way is closed for a new one. If each has one,
    // more wait in the kernel's backlog.
    let limits = AdmissionLimits {
        connections_max: settings.connections_max,
        strangers_per_address_max: STRANGERS_MAX,
        idle_per_address_max: IDLE_MAX,
    };
    let router = router(settings, cluster, deploys, stop.clone());
    let answer = move |request: Request<Incoming>| answer(router.clone(), request);
    http::listen(listener, limits, HTTP, ENDING, stop, answer).await;
    Ok(())
}

async fn answer(router: Router, request: Request<Incoming>) -> Response {
    fault("the task of a caller");
    let answered: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
    answered.unwrap_or_else(|never| match never {})
}
