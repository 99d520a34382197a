//! A port that speaks nothing but HTTP: accepts within its limits and ends in order.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use tidegate_watchdog::tolerate;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{HttpSettings, serve};
use crate::net::admission::{AdmissionLimits, Admissions, Admitted};

/// After an accept that failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves every connection until `stop`; requests that are under way then have until `ending` has
/// passed.
pub async fn listen<S, F, B>(
    listener: TcpListener,
    limits: AdmissionLimits,
    settings: HttpSettings,
    ending: Duration,
    stop: CancellationToken,
    service: S,
) where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let admissions = Admissions::new(limits);
    let connections = TaskTracker::new();
    loop {
        let next = async {
            // More wait in the kernel's backlog.
            admissions.room().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let admitted = admissions.admit(address.ip());
                let (stop, service) = (stop.clone(), service.clone());
                let served = connection(stream, admitted, settings, ending, stop, service);
                connections.spawn(async move {
                    // Its panic was told, and is the end of this connection alone.
                    let _ = tolerate(served).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP port cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection<S, F, B>(
    stream: TcpStream,
    admitted: Admitted,
    settings: HttpSettings,
    ending: Duration,
    stop: CancellationToken,
    service: S,
) where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Small answers must not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "an HTTP connection");
    }
    let over = async {
        stop.cancelled().await;
        sleep(ending).await;
    };
    tokio::select! {
        _ = serve(stream, admitted, settings, &stop, service) => {}
        () = over => tracing::debug!("an HTTP connection did not end in time"),
    }
}
