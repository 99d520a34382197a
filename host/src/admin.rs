//! A small HTTP/1 listener for operators: `/healthz`, `/readyz`, `/metrics`. It guarantees bounds on
//! connections, header size and time, and that a scrape never waits for a service: it runs on the
//! control thread. It has no password and changes nothing. The caller binds the listener.

mod readiness;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tidegate_watchdog::{self as watchdog, tolerate, vital};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use readiness::Readiness;

use crate::{config, control, telemetry};

/// The request line and headers together.
const HEADER_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
/// So long may a connection take to send a request's headers, also the next one on the same
/// connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any scraper keeps a connection; it ends clients that do not read their answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// After an accept that failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Folds recorded samples into their buckets, also when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the listener is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// More connections wait in the kernel's backlog.
    pub connections_max: usize,
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
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("admin.listen: {address} cannot be bound"))?;
    let address = listener.local_addr()?;
    let metrics = telemetry::start_metrics()?;
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
    let permits = Arc::new(Semaphore::new(settings.connections_max));
    let connections = TaskTracker::new();
    let admin = Admin { settings, metrics };
    connections.spawn(upkeep(admin.metrics.clone(), stop.clone()));
    loop {
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = tolerate(admin.clone().connection(stream));
                let stop = stop.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection) => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "admin cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
    Ok(())
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
    async fn connection(self, stream: TcpStream) {
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            std::future::ready(Ok::<_, Infallible>(self.answer(&request)))
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            debug!(%error, "admin connection");
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            let text = "not found: there are /healthz, /readyz and /metrics\n";
            return plain(StatusCode::NOT_FOUND, text);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = "only GET and HEAD\n";
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, text);
            let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allowed);
            return refused;
        }
        match path {
            "/readyz" => {
                let missing = self.settings.readiness.check().err().unwrap_or_default();
                answered(missing + &sick(), "ready\n")
            }
            "/metrics" => {
                self.metrics.run_upkeep();
                plain(StatusCode::OK, self.metrics.render())
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
    headers.insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(text_type),
    );
    headers.insert(
        CACHE_CONTROL,
        hyper::header::HeaderValue::from_static("no-store"),
    );
    response
}

#[cfg(test)]
mod tests;
