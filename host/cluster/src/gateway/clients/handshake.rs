//! The HTTP side of a WebSocket listener: upgrades, the health path, a static folder.
//!
//! What is not an upgrade gets a plain answer that says what would be right. The other transports
//! have no handshake.

mod describe;
mod files;
mod upgrade;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use tidegate_link::net::admission::Admitted;
use tidegate_link::net::http::{self, HttpSettings};
use tidegate_watchdog::{self as watchdog, tolerate};
use tidegate_wire::Name;
use tidegate_wire::event::{Arrival, HttpRequest, Peer, Transport};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::gateway::clients::connection::home::Home;
use crate::gateway::clients::connection::{self, now_ms};
use crate::gateway::clients::memory::Reserve;
use crate::gateway::settings::ListenerSettings;
use crate::gateway::shared::Context;
use crate::gateway::shared::socket::{LocalSocket, Socket};

/// How long the first byte may take.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// How long a connection may wait for its next request: longer than proxies keep theirs, so that
/// none is closed while a proxy is about to use it.
const IDLE: Duration = Duration::from_secs(75);
/// How long a client may take nothing of its answer.
const STALLED: Duration = Duration::from_secs(30);
/// The most header lines.
const HEADERS_MAX: usize = 128;
/// What the plain side of the port allows.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Gives a connection's place in its listener back.
pub(in crate::gateway) fn release(context: &Context, listener: usize) {
    if let Some(count) = context.connections.get(listener) {
        count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Holds a connection's place in its listener.
pub(in crate::gateway) struct Admission {
    context: std::sync::Arc<Context>,
    listener: usize,
}

impl Drop for Admission {
    fn drop(&mut self) {
        release(&self.context, self.listener);
    }
}

/// Takes a connection that was accepted to where it is a client, or answers it.
pub(in crate::gateway) async fn welcome(
    home: Rc<dyn Home>,
    listener: Rc<ListenerSettings>,
    index: usize,
    socket: TcpStream,
    address: SocketAddr,
    stranger: Option<Admitted>,
) {
    let admission = Admission {
        context: home.context().clone(),
        listener: index,
    };
    let (socket, upgraded, early) = match stranger {
        // Boxed, so that the long life of the client does not carry the handshake's state.
        Some(stranger) => {
            // Whoever says nothing has no part of the room that requests have.
            let (first_byte, ended) = (first_byte(&listener), &home.context().ended);
            if !http::first_byte(&socket, &stranger, first_byte, ended).await {
                return;
            }
            let Some(_head) = room_for_head(&*home, &listener).await else {
                return;
            };
            let upgrade = upgrade(&listener, socket, stranger, &home.context().ended);
            match Box::pin(tolerate(upgrade)).await {
                Ok(Some((socket, upgraded, early))) => (socket, Some(upgraded), early),
                Ok(None) | Err(_) => return,
            }
        }
        None => (socket, None, Bytes::new()),
    };
    let socket = Socket::Tcp(socket);
    let (request, subprotocol) = match upgraded {
        Some(upgraded) => (Some(Box::new(upgraded.request)), upgraded.subprotocol),
        None => (None, None),
    };
    let arrival = arrival(&listener, address, subprotocol);
    let (connection, codec) = home.client_connected(socket, &listener, arrival, request, &early);
    drop((early, listener));
    connection::run_alone(connection, codec, home).await;
    drop(admission);
}

/// The same for a client of this process. One at a WebSocket listener is closed: it has no
/// handshake.
pub(in crate::gateway) async fn welcome_local(
    home: Rc<dyn Home>,
    listener: Rc<ListenerSettings>,
    index: usize,
    socket: LocalSocket,
    address: SocketAddr,
) {
    let admission = Admission {
        context: home.context().clone(),
        listener: index,
    };
    if listener.transport == Transport::WebSocket {
        return tracing::warn!(listener = %listener.name, "a WebSocket listener takes no clients of its own process");
    }
    let arrival = arrival(&listener, address, None);
    let socket = Socket::Local(socket);
    let (connection, codec) =
        home.client_connected(socket, &listener, arrival, None, &Bytes::new());
    drop(listener);
    connection::run_alone(connection, codec, home).await;
    drop(admission);
}

/// Somebody has become a client now.
fn arrival(listener: &ListenerSettings, address: SocketAddr, subprotocol: Option<Name>) -> Arrival {
    Arrival {
        peer: Peer {
            address,
            transport: listener.transport,
            listener: listener.name.clone(),
            secure: false,
        },
        connected_at_ms: now_ms(),
        subprotocol,
    }
}

/// Room for the HTTP request of somebody who has connected; none if there is none in time.
async fn room_for_head(home: &dyn Home, listener: &ListenerSettings) -> Option<Reserve> {
    let room = Reserve::take(home.memory(), listener.handshake_bytes_max);
    tokio::time::timeout(listener.handshake, room).await.ok()
}

fn first_byte(listener: &ListenerSettings) -> Duration {
    FIRST_BYTE.min(listener.handshake / 2)
}

/// What an upgrade says of the client.
struct Upgraded {
    request: HttpRequest,
    subprotocol: Option<Name>,
}

/// Serves HTTP until the connection is upgraded or over.
async fn upgrade(
    listener: &Rc<ListenerSettings>,
    socket: TcpStream,
    stranger: Admitted,
    stop: &CancellationToken,
) -> Option<(TcpStream, Upgraded, Bytes)> {
    let upgraded: Rc<RefCell<Option<Upgraded>>> = Rc::default();
    let settings = HttpSettings {
        first_byte: first_byte(listener),
        head: listener.handshake,
        idle: IDLE,
        stalled: STALLED,
        head_bytes_max: listener.handshake_bytes_max,
        headers_max: HEADERS_MAX,
        refusal: http::plain,
    };
    let service = |request: Request<Incoming>| {
        let (listener, upgraded) = (listener.clone(), upgraded.clone());
        async move { answer(&listener, request, &upgraded).await }
    };
    let (socket, early) = http::serve(socket, stranger, settings, stop, service).await?;
    Some((socket, upgraded.take()?, early))
}

async fn answer(
    listener: &ListenerSettings,
    request: Request<Incoming>,
    upgraded: &RefCell<Option<Upgraded>>,
) -> Response<Body> {
    if upgrade::is_asked(&request) {
        let response = upgrade::accept(listener, &request);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            *upgraded.borrow_mut() = Some(Upgraded {
                request: describe::request(&request),
                subprotocol: upgrade::agreed(&response),
            });
        }
        return response.map(text_body);
    }
    let mut response = plain(listener, request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer to a request that is not for a WebSocket.
async fn plain(listener: &ListenerSettings, request: Request<Incoming>) -> Response<Body> {
    match *request.method() {
        Method::GET | Method::HEAD => {}
        // Load balancers ask so whether the server is there.
        Method::OPTIONS => return allowing(text(StatusCode::NO_CONTENT, String::new())),
        ref other => {
            let reason = format!("There is no {other} here, only {ALLOWED}.\n");
            let status = match *other {
                Method::POST
                | Method::PUT
                | Method::PATCH
                | Method::DELETE
                | Method::TRACE
                | Method::CONNECT => StatusCode::METHOD_NOT_ALLOWED,
                _ => StatusCode::NOT_IMPLEMENTED,
            };
            return allowing(text(status, reason));
        }
    }
    let path = request.uri().path();
    if listener.health_path.as_deref() == Some(path) {
        return match watchdog::health() {
            Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
            // Who it is concerns operators: they ask the admin listener.
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "stuck\n".to_owned()),
        };
    }
    match &listener.static_folder {
        Some(folder) => files::answer(folder, request).await,
        None => upgrade::required(upgrade::offer(listener)).map(text_body),
    }
}

fn allowing(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
    response
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    upgrade::text(status, body).map(text_body)
}

fn text_body(body: String) -> Body {
    Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed_unsync()
}
