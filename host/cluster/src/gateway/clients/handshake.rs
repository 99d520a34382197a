//! The HTTP side of a WebSocket listener: upgrades, the health path, a static folder, and what the
//! tenant's handler answers, in this order.
//!
//! What is for none of them gets a plain answer that says what would be right. The other transports
//! have no handshake.

mod describe;
mod files;
mod handler;
mod upgrade;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tidegate_link::net::admission::Admitted;
use tidegate_link::net::http::{self, HttpSettings};
use tidegate_watchdog::{self as watchdog, tolerate};
use tidegate_wire::Name;
use tidegate_wire::event::{Arrival, HttpRequest, Peer, Transport};
use tidegate_wire::handshake::{Accepted, SignIn};
use tokio::net::TcpStream;

use crate::gateway::clients::connection::home::{Home, Newcomer};
use crate::gateway::clients::connection::{self, Connection, now_ms};
use crate::gateway::clients::memory::Reserve;
use crate::gateway::clients::sign_in;
use crate::gateway::settings::{ListenerSettings, SignInPolicy};
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
            let upgrade = upgrade(&home, &listener, index, socket, stranger, address);
            match Box::pin(tolerate(upgrade)).await {
                Ok(Some((socket, upgraded, early))) => (socket, Some(upgraded), early),
                Ok(None) | Err(_) => return,
            }
        }
        None => (socket, None, Bytes::new()),
    };
    let socket = Socket::Tcp(socket);
    let newcomer = match upgraded {
        Some(upgraded) => Newcomer {
            arrival: arrival(&listener, address, upgraded.subprotocol),
            request: Some(Box::new(upgraded.request)),
            accepted: upgraded.accepted,
        },
        None => plain_newcomer(&listener, address),
    };
    let (connection, codec) = home.client_connected(socket, &listener, newcomer, &early);
    drop((early, listener));
    introduce(&connection, &home);
    connection::run_alone(connection, codec, home).await;
    drop(admission);
}

/// Somebody over a transport that has no handshake.
fn plain_newcomer(listener: &ListenerSettings, address: SocketAddr) -> Newcomer {
    Newcomer {
        arrival: arrival(listener, address, None),
        request: None,
        accepted: None,
    }
}

/// Who has still to sign in does so beside the life of its connection.
fn introduce(connection: &Rc<Connection>, home: &Rc<dyn Home>) {
    if let Some(first) = connection.first_message() {
        let introduce = sign_in::introduce(home.clone(), connection.clone(), first);
        tokio::task::spawn_local(introduce);
    }
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
    let newcomer = plain_newcomer(&listener, address);
    let socket = Socket::Local(socket);
    let (connection, codec) = home.client_connected(socket, &listener, newcomer, &Bytes::new());
    drop(listener);
    introduce(&connection, &home);
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
    /// What the handler has made of the client, if it was asked.
    accepted: Option<Accepted>,
}

/// Serves HTTP until the connection is upgraded or over.
async fn upgrade(
    home: &Rc<dyn Home>,
    listener: &Rc<ListenerSettings>,
    index: usize,
    socket: TcpStream,
    stranger: Admitted,
    address: SocketAddr,
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
        let (home, listener, upgraded) = (home.clone(), listener.clone(), upgraded.clone());
        async move { answer(&*home, &listener, index, address, request, &upgraded).await }
    };
    let stop = &home.context().ended;
    let (socket, early) = http::serve(socket, stranger, settings, stop, service).await?;
    Some((socket, upgraded.take()?, early))
}

async fn answer(
    home: &dyn Home,
    listener: &ListenerSettings,
    index: usize,
    address: SocketAddr,
    request: Request<Incoming>,
    upgraded: &RefCell<Option<Upgraded>>,
) -> Response<Body> {
    if upgrade::is_asked(&request) {
        let response = upgrade::accept(listener, &request);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(text_body);
        }
        let described = describe::request(&request);
        let agreed = upgrade::agreed(&response);
        let verdict = match listener.sign_in {
            SignInPolicy::Off => Ok(None),
            SignInPolicy::Reject | SignInPolicy::Accept => {
                let arrival = Arc::new(arrival(listener, address, agreed));
                let said = SignIn::Request(Box::new(described.clone()));
                sign_in::ask(home, listener, arrival, said).await.map(Some)
            }
        };
        let accepted = match verdict {
            Ok(accepted) => accepted,
            Err(rejected) => return upgrade::rejected(rejected).map(bytes_body),
        };
        let response = match &accepted {
            Some(accepted) => upgrade::with_words_of(accepted, &request, response),
            None => response,
        };
        *upgraded.borrow_mut() = Some(Upgraded {
            request: described,
            subprotocol: upgrade::agreed(&response),
            accepted,
        });
        return response.map(text_body);
    }
    let (head, body) = request.into_parts();
    let mut response = match own(listener, &head).await {
        Ok(response) => response,
        Err(nothing) => {
            let asked = handler::Asked {
                home,
                listener,
                index,
                arrival: arrival(listener, address, None),
            };
            match asked.answer(&head, body).await {
                Some(answer) => return answer,
                None => nothing,
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The gateway's own answer to a request that is not for a WebSocket; as an error what is said if the
/// handler has none either.
async fn own(listener: &ListenerSettings, head: &Parts) -> Result<Response<Body>, Response<Body>> {
    match head.method {
        Method::GET | Method::HEAD => {}
        // Load balancers ask so whether the server is there.
        Method::OPTIONS => return Err(allowing(text(StatusCode::NO_CONTENT, String::new()))),
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
            return Err(allowing(text(status, reason)));
        }
    }
    if listener.health_path.as_deref() == Some(head.uri.path()) {
        return Ok(match watchdog::health() {
            Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
            // Who it is concerns operators: they ask the admin listener.
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "stuck\n".to_owned()),
        });
    }
    let Some(folder) = &listener.static_folder else {
        return Err(upgrade::required(upgrade::offer(listener)).map(text_body));
    };
    let response = files::answer(folder, Request::from_parts(head.clone(), ())).await;
    match response.status() {
        StatusCode::NOT_FOUND => Err(response),
        _ => Ok(response),
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
    bytes_body(Bytes::from(body))
}

fn bytes_body(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}
