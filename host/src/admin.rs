//! A small HTTP/1 listener for operators: `/healthz`, `/readyz`, `/metrics`. It guarantees bounds on
//! connections, header size and time, and that a scrape never waits for a service: it runs on the
//! control thread. It has no password and changes nothing. The caller binds the listener.

mod readiness;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;
use tidegate_link::net;
use tidegate_link::net::admission::AdmissionLimits;
use tidegate_link::net::http::{self, HttpSettings};
use tidegate_watchdog::{self as watchdog, vital};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use readiness::Readiness;

use crate::config::Purpose;
use crate::{config, control, telemetry};

/// Of one address.
const STRANGERS_MAX: usize = 32;
const IDLE_MAX: usize = 32;

const HTTP: HttpSettings = HttpSettings {
    first_byte: Duration::from_secs(5),
    head: Duration::from_secs(10),
    // Longer than a scraper waits between two scrapes.
    idle: Duration::from_secs(75),
    stalled: Duration::from_secs(10),
    head_bytes_max: 8 << 10,
    headers_max: 64,
    refusal: http::plain,
};

/// Folds recorded samples into their buckets, also when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the listener is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// More connections wait in the kernel's backlog.
    pub connections_max: usize,
    /// What the process does.
    pub purpose: Purpose,
    /// What `/readyz` says.
    pub readiness: Readiness,
}

/// Starts metrics, binds the address and serves on the control thread, if an address is configured.
/// Returns the bound address.
///
/// # Errors
/// When the address cannot be bound, or metrics were started before.
pub async fn start(
    admin: &config::Admin,
    settings: Settings,
    stop: CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = admin.listen else {
        return Ok(None);
    };
    let listener = net::bind(address)
        .await
        .with_context(|| format!("admin.listen: {address} cannot be bound"))?;
    let address = listener.local_addr()?;
    let metrics = telemetry::metrics(settings.purpose)?;
    // Given to the event loop of another thread.
    let listener = listener.into_std()?;
    let ended = stop.clone();
    let serve = async move {
        let served = match TcpListener::from_std(listener) {
            Ok(listener) => serve(listener, settings, metrics, stop).await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            tracing::error!(%error, "admin ended");
        }
    };
    let beside = control::handle();
    beside.spawn(async move { vital("the admin listener", ended, serve).await });
    Ok(Some(address))
}

/// Answers until `stop`, then closes every connection.
///
/// # Errors
/// When the listener has no address, that is never for a bound one.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> io::Result<()> {
    debug!(address = %listener.local_addr()?, "admin listens");
    // At the limit a connection without a request under way is closed for a new one.
    let limits = AdmissionLimits {
        connections_max: settings.connections_max,
        strangers_per_address_max: STRANGERS_MAX,
        idle_per_address_max: IDLE_MAX,
    };
    let admin = Admin { settings, metrics };
    let upkeep = tokio::spawn(upkeep(admin.metrics.clone(), stop.clone()));
    let answer = move |request: Request<Incoming>| std::future::ready(admin.answer(&request));
    http::listen(listener, limits, HTTP, Duration::ZERO, stop, answer).await;
    upkeep.await.map_err(io::Error::other)
}

async fn upkeep(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => metrics.run_upkeep(),
        }
    }
}

#[derive(Clone)]
struct Admin {
    settings: Settings,
    metrics: PrometheusHandle,
}

impl Admin {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            let text = "not found: there are /healthz, /readyz and /metrics\n";
            return plain(StatusCode::NOT_FOUND, text);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = match *request.method() {
                // Load balancers ask so whether the server is there.
                Method::OPTIONS => plain(StatusCode::NO_CONTENT, ""),
                _ => plain(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "only GET, HEAD and OPTIONS\n",
                ),
            };
            let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS");
            answer.headers_mut().insert(ALLOW, allowed);
            return answer;
        }
        match path {
            "/readyz" => {
                let missing = self.settings.readiness.check().err().unwrap_or_default();
                answered(missing + &sick(), "ready\n")
            }
            "/metrics" => {
                self.metrics.run_upkeep();
                plain(
                    StatusCode::OK,
                    self.metrics.render() + &telemetry::histograms(),
                )
            }
            _ => answered(sick(), "ok\n"),
        }
    }
}

/// Who does not turn, one a line.
fn sick() -> String {
    watchdog::health().err().unwrap_or_default()
}

/// Good news, or what is wrong.
fn answered(wrong: String, right: &'static str) -> Response<Full<Bytes>> {
    if wrong.is_empty() {
        plain(StatusCode::OK, right)
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, wrong)
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let text_type = "text/plain; version=0.0.4; charset=utf-8";
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(text_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
