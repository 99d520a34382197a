//! The listener: bounds on connections, headers and time; ends in order.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tidegate_watchdog::{fault, tolerate};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::cluster::{Cluster, Deploys};
use crate::router::{Settings, router};

/// The request line and headers together.
const HEADER_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// So long may a connection take to send a request's headers, also the next one on the same
/// connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Whoever reads nothing for so long is not there.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// After an accept that failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
    let permits = Arc::new(Semaphore::new(settings.connections_max));
    let router = router(settings, cluster, deploys, stop.clone());
    let connections = TaskTracker::new();
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
                let served = tolerate(connection(stream, router.clone(), stop.clone()));
                connections.spawn(async move {
                    // Its panic was told, and is the end of this connection alone.
                    let _ = served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "client API cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    fault("the task of a caller");
    // Small answers must not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "client API connection");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        );
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(ENDING, served).await {
                Ok(ended) => ended,
                Err(_) => return debug!("client API connection did not end in time"),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "client API connection");
    }
}
