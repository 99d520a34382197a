//! The HTTP side of a WebSocket listener: upgrades, the health path, a static folder.
//!
//! hyper reads the request, within limits of bytes and time; what is not an upgrade gets a plain
//! answer that says what would be right. The other transports have no handshake.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, COOKIE, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tidegate_watchdog::{self as watchdog, tolerate};
use tidegate_wire::event::{HttpRequest, Peer, Transport};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tower::ServiceExt;
use tower_http::services::ServeDir;

use super::client;
use super::client::socket::{LocalSocket, Socket};
use super::settings::ListenerSettings;
use super::shard::{Context, Shard};

/// The least that hyper can be told to buffer.
const HYPER_BYTES_MIN: usize = 8192;

/// How long a connection may go on fetching files.
const HTTP_LIFE: std::time::Duration = std::time::Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Gives a connection's place in its listener back.
pub(super) fn release(context: &Context, listener: usize) {
    if let Some(count) = context.connections.get(listener) {
        count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Holds a connection's place in its listener.
pub(super) struct Admission {
    context: std::sync::Arc<Context>,
    listener: usize,
}

impl Drop for Admission {
    fn drop(&mut self) {
        release(&self.context, self.listener);
    }
}

/// Takes a connection that was accepted to where it is a client, or answers it.
pub(super) async fn welcome(
    shard: Rc<Shard>,
    listener: Rc<ListenerSettings>,
    index: usize,
    socket: TcpStream,
    address: SocketAddr,
) {
    let admission = Admission {
        context: shard.context.clone(),
        listener: index,
    };
    let peer = Peer {
        address,
        transport: listener.transport,
        listener: listener.name.clone(),
        secure: false,
    };
    let (socket, request, early) = if listener.transport == Transport::WebSocket {
        let Some(_head) = shard.room_for_head(&listener).await else {
            return;
        };
        // Boxed, so that the long life of the client does not carry the handshake's state.
        match Box::pin(tolerate(upgrade(&listener, socket))).await {
            Ok(Some((socket, request, early))) => (socket, Some(Box::new(request)), early),
            Ok(None) | Err(_) => return,
        }
    } else {
        (socket, None, Bytes::new())
    };
    let socket = Socket::Tcp(socket);
    let (connection, codec) = shard.client_connected(socket, &listener, peer, request, &early);
    drop((early, listener));
    client::run_alone(connection, codec, shard).await;
    drop(admission);
}

/// The same for a client of this process. One at a WebSocket listener is closed: it has no
/// handshake.
pub(super) async fn welcome_local(
    shard: Rc<Shard>,
    listener: Rc<ListenerSettings>,
    index: usize,
    socket: LocalSocket,
    address: SocketAddr,
) {
    let admission = Admission {
        context: shard.context.clone(),
        listener: index,
    };
    if listener.transport == Transport::WebSocket {
        return tracing::warn!(listener = %listener.name, "a WebSocket listener takes no clients of its own process");
    }
    let peer = Peer {
        address,
        transport: listener.transport,
        listener: listener.name.clone(),
        secure: false,
    };
    let socket = Socket::Local(socket);
    let (connection, codec) = shard.client_connected(socket, &listener, peer, None, &Bytes::new());
    drop(listener);
    client::run_alone(connection, codec, shard).await;
    drop(admission);
}

/// Serves HTTP until the connection is upgraded or over.
async fn upgrade(
    listener: &Rc<ListenerSettings>,
    socket: TcpStream,
) -> Option<(TcpStream, HttpRequest, Bytes)> {
    let upgraded: Rc<RefCell<Option<HttpRequest>>> = Rc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (listener, upgraded) = (listener.clone(), upgraded.clone());
        // Boxed, because the connection must be movable to be taken apart after the upgrade.
        Box::pin(async move { Ok::<_, Infallible>(answer(&listener, request, &upgraded).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(listener.handshake)
        .max_buf_size(listener.handshake_bytes_max.max(HYPER_BYTES_MIN))
        .serve_connection(TokioIo::new(socket), service);
    let served = timeout(
        HTTP_LIFE,
        poll_fn(|cx| connection.poll_without_shutdown(cx)),
    );
    match served.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(listener = %listener.name, %error, "no HTTP request was completed");
            if error.is_timeout() {
                too_slow(listener, &connection.into_parts().io.into_inner());
            }
            return None;
        }
        Err(_elapsed) => return None,
    }
    let request = upgraded.take()?;
    let parts = connection.into_parts();
    Some((parts.io.into_inner(), request, parts.read_buf))
}

/// hyper closes a connection whose request does not end without a word; a person with a slow tool
/// is told why.
fn too_slow(listener: &ListenerSettings, socket: &TcpStream) {
    let limit_ms = listener.handshake.as_millis();
    let reason = format!("The request head did not arrive within {limit_ms} ms.\n");
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\n\r\n{reason}",
        reason.len()
    );
    // Whoever does not take so few bytes at once goes without them.
    let _ = socket.try_write(answer.as_bytes());
}

async fn answer(
    listener: &ListenerSettings,
    request: Request<Incoming>,
    upgraded: &RefCell<Option<HttpRequest>>,
) -> Response<Body> {
    let path = request.uri().path();
    if request.headers().contains_key(UPGRADE) {
        return match accept(listener, &request) {
            Ok(response) => {
                *upgraded.borrow_mut() = Some(describe(&request));
                response
            }
            Err((status, reason)) => text(status, reason),
        };
    }
    if listener.health_path.as_deref() == Some(path) && request.method() == Method::GET {
        return match watchdog::health() {
            Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
            // Who it is concerns operators: they ask the admin listener.
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "stuck\n".to_owned()),
        };
    }
    match &listener.static_folder {
        Some(folder) => match ServeDir::new(folder).oneshot(request).await {
            Ok(response) => response.map(BodyExt::boxed_unsync),
            Err(never) => match never {},
        },
        None => {
            let mut response = text(
                StatusCode::UPGRADE_REQUIRED,
                "This address speaks WebSocket: connect with a WebSocket client.\n".to_owned(),
            );
            response
                .headers_mut()
                .insert(UPGRADE, HeaderValue::from_static("websocket"));
            response
        }
    }
}

/// The answer to a request for an upgrade, or why there is none.
fn accept(
    listener: &ListenerSettings,
    request: &Request<Incoming>,
) -> Result<Response<Body>, (StatusCode, String)> {
    let path = request.uri().path();
    if let Some(only) = listener.path.as_deref().filter(|only| *only != path) {
        let reason = format!("There is no WebSocket at {path}: connect to {only}.\n");
        return Err((StatusCode::NOT_FOUND, reason));
    }
    let origin = request
        .headers()
        .get(ORIGIN)
        .and_then(|origin| origin.to_str().ok());
    if !listener.origins.is_empty()
        && !origin.is_some_and(|origin| listener.origins.iter().any(|known| known == origin))
    {
        let reason = "This origin may not connect: see the listener's `origins`.\n".to_owned();
        return Err((StatusCode::FORBIDDEN, reason));
    }
    let mut response =
        create_response_with_body(request, || text_body(String::new())).map_err(|error| {
            (
                StatusCode::BAD_REQUEST,
                format!("Not a WebSocket upgrade: {error}.\n"),
            )
        })?;
    if let Some(protocol) = subprotocol(listener, request) {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}

/// The first of the listener's subprotocols that the client offers.
fn subprotocol(listener: &ListenerSettings, request: &Request<Incoming>) -> Option<HeaderValue> {
    let offered: Vec<&str> = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let chosen = listener
        .subprotocols
        .iter()
        .find(|ours| offered.contains(&ours.as_str()))?;
    HeaderValue::from_str(chosen).ok()
}

/// What the handler is told of the request.
fn describe(request: &Request<Incoming>) -> HttpRequest {
    let headers = request.headers().iter();
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let cookies = request.headers().get_all(COOKIE).iter();
    let cookies = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect();
    HttpRequest {
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(query).unwrap_or_default(),
        headers,
        cookies,
    }
}

fn query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (
                decode(&name.replace('+', " ")),
                decode(&value.replace('+', " ")),
            )
        })
        .collect()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(text_body(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn text_body(body: String) -> Body {
    Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_pair_by_pair() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = vec![pair("a", "1 2"), pair("b", "ü&"), pair("c", "")];
        assert_eq!(query("a=1+2&b=%C3%BC%26&&c"), expected);
    }
}
