//! HTTP/1 on one connection of a port, for whoever serves a port.
//!
//! hyper reads and writes; this adds what binds every server and what bounds strangers. Guarantees:
//! the first byte and the first head come within their times or the connection is over; a
//! connection that makes no progress in taking its answer is ended and one that makes some is not,
//! unless it may be anybody's and others need its place;
//! every refusal has a body that says what is wrong and ends so that the client can read it. Does
//! not know what is served.

mod conversation;
mod heads;
mod port;
mod refusal;
mod rules;

use std::convert::Infallible;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::admission::Admitted;
use conversation::{Conversation, Io, UnderWay};
pub use port::listen;
pub use refusal::HttpRefusal;

/// The least that hyper can be told to buffer.
const HYPER_BYTES_MIN: usize = 8192;
/// So long may a stranger that is told to go still take for the rest of its request.
const NOTICE: Duration = Duration::from_millis(100);
/// How long a client may take to read a last answer and to close, and how much of what it still
/// sends is read meanwhile: a connection that is closed with unread bytes is reset, and the answer
/// lost.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 << 10;

/// Bounds of each connection of a port.
#[derive(Clone, Copy, Debug)]
pub struct HttpSettings {
    /// How long the first byte may take.
    pub first_byte: Duration,
    /// How long the first request's head may take after that.
    pub head: Duration,
    /// How long a connection may wait for its next request, with its head.
    pub idle: Duration,
    /// How long a client may take nothing of its answer.
    pub stalled: Duration,
    /// The longest head.
    pub head_bytes_max: usize,
    /// The most header lines.
    pub headers_max: usize,
    /// How a refusal looks on this port.
    pub refusal: fn(&HttpRefusal) -> (&'static str, String),
}

/// An extension of an answer: whoever asked has shown who it is. Its connection keeps its place
/// however slowly the answer is taken, where that of somebody unknown may have to make room.
#[derive(Clone, Copy, Debug)]
pub struct Proven;

/// How a refusal looks to people: one line of text.
#[must_use]
pub fn plain(refusal: &HttpRefusal) -> (&'static str, String) {
    ("text/plain; charset=utf-8", format!("{}\n", refusal.reason))
}

/// Why the conversation is over.
enum Ended {
    /// As HTTP ends it.
    Done,
    /// hyper could not go on.
    Failed(hyper::Error),
    /// The first head did not come in time.
    SlowHead,
    /// It was told to go, or the port ends.
    Told,
}

/// Serves a connection until it is over, or until the service has answered 101: then the socket is
/// given back, with what had come behind the request.
pub async fn serve<S, F, B>(
    socket: TcpStream,
    admitted: Admitted,
    settings: HttpSettings,
    stop: &CancellationToken,
    service: S,
) -> Option<(TcpStream, Bytes)>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !first_byte(&socket, &admitted, settings.first_byte, stop).await {
        return None;
    }
    admitted.heard();
    limit_silence(&socket, Some(settings.stalled));
    let conversation = Conversation::new(admitted);
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = UnderWay::begin(&conversation);
        let checked = match under_way.is_doubtful() {
            true => Err(rules::two_lengths()),
            false => rules::check(&request),
        };
        let answer = match checked {
            Ok(()) => Ok(service(request)),
            Err(refusal) => Err(refuse(&refusal, settings)),
        };
        // Boxed, because the connection must be movable to be taken apart after an upgrade.
        Box::pin(async move {
            let response = match answer {
                Ok(answer) => answer.await.map(Either::Right),
                Err(refused) => refused.map(Either::Left),
            };
            under_way.answers(&response);
            Ok::<_, Infallible>(response.map(|body| under_way.carried_by(body)))
        })
    });
    let io = Io::new(socket, conversation.clone(), settings.stalled);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .half_close(true)
        .header_read_timeout(settings.idle.max(settings.head))
        .max_buf_size(settings.head_bytes_max.max(HYPER_BYTES_MIN))
        .max_header_size(settings.head_bytes_max)
        .max_headers(settings.headers_max)
        .serve_connection(TokioIo::new(io), service);
    let ended = converse(&mut connection, &conversation, settings.head, stop).await;
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner().into_socket();
    if conversation.is_upgraded() {
        limit_silence(&socket, None);
        return matches!(ended, Ended::Done).then_some((socket, parts.read_buf));
    }
    let refusal = match ended {
        Ended::Done => None,
        Ended::Failed(error) => {
            tracing::debug!(%error, "an HTTP connection ended");
            // Behind an answer that is not yet written nothing can be added.
            if !conversation.is_unanswered() {
                return None;
            }
            let refused = conversation.is_refused();
            HttpRefusal::of(&error, refused, &parts.read_buf, &settings)
        }
        Ended::SlowHead => Some(HttpRefusal::slow_head(settings.head)),
        Ended::Told => {
            // What is not taken would stay in the kernel until it gives up.
            if conversation.is_untaken() {
                let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            }
            return None;
        }
    };
    if let Some(refusal) = refusal {
        let answer = refusal.head_and_body(settings.refusal);
        // Whoever does not take so few bytes in time goes without them.
        let _ = timeout(LINGER, socket.write_all(&answer)).await;
    }
    linger(socket, &conversation).await;
    None
}

/// Has the kernel give up a client that acknowledges nothing for so long: one whose machine has vanished
/// behind an answer that trickles, such as the live feed, would otherwise keep its place for a quarter
/// of an hour.
fn limit_silence(socket: &TcpStream, limit: Option<Duration>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = SockRef::from(socket).set_tcp_user_timeout(limit) {
        tracing::debug!(%error, "an HTTP connection");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (socket, limit);
}

/// The answer to a request that breaks a rule. How its end is told may be wrong too, so the
/// connection ends with it.
fn refuse(refusal: &HttpRefusal, settings: HttpSettings) -> Response<Full<Bytes>> {
    let (kind, body) = (settings.refusal)(refusal);
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Waits for the first byte, for whoever wants to know before [`serve`] has a buffer for it. False if
/// none comes in time.
pub async fn first_byte(
    socket: &TcpStream,
    admitted: &Admitted,
    limit: Duration,
    stop: &CancellationToken,
) -> bool {
    let mut byte = [0];
    tokio::select! {
        biased;
        // Not `readable`, which may say so of a socket that has nothing.
        peeked = socket.peek(&mut byte) => peeked.is_ok_and(|count| count > 0),
        () = admitted.told_to_go() => has_spoken(socket),
        () = stop.cancelled() => false,
        () = sleep(limit) => false,
    }
}

/// Asks the kernel, since this thread may not have heard yet of bytes that are there.
fn has_spoken(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    matches!(SockRef::from(socket).peek(&mut byte), Ok(count) if count > 0)
}

/// Lets hyper finish what is under way and nothing more.
fn end<S, B>(connection: &mut http1::Connection<TokioIo<Io>, S>)
where
    S: hyper::service::HttpService<Incoming, ResBody = B> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Pin::new(connection).graceful_shutdown();
}

/// Lets hyper work until the connection is over.
async fn converse<S, B>(
    connection: &mut http1::Connection<TokioIo<Io>, S>,
    conversation: &Conversation,
    head: Duration,
    stop: &CancellationToken,
) -> Ended
where
    S: hyper::service::HttpService<Incoming, ResBody = B> + Unpin,
    S::Future: Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut head_is_late = pin!(sleep(head));
    let mut notice = pin!(sleep_until(Instant::now()));
    let (mut told, mut stopping) = (false, false);
    let gives_way = || conversation.is_stranger() || conversation.is_untaken();
    loop {
        // The conditions are asked once each turn, but a turn may last as long as a request: what they
        // say is asked again where it matters.
        tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
                return ended.map_or_else(Ended::Failed, |()| Ended::Done);
            }
            () = head_is_late.as_mut(), if conversation.is_stranger() => {
                if conversation.is_stranger() {
                    return Ended::SlowHead;
                }
            }
            () = conversation.admitted().told_to_go() => {
                told = true;
                notice.as_mut().reset(Instant::now() + NOTICE);
                end(connection);
            }
            () = notice.as_mut(), if told && gives_way() => {
                if gives_way() {
                    return Ended::Told;
                }
            }
            () = stop.cancelled(), if !stopping => {
                if conversation.is_stranger() {
                    return Ended::Told;
                }
                stopping = true;
                end(connection);
            }
        }
    }
}

/// Ends this side, and reads what still comes until the other side has ended too.
async fn linger(mut socket: TcpStream, conversation: &Conversation) {
    let rest = async {
        if socket.shutdown().await.is_err() {
            return;
        }
        let (mut sink, mut read) = ([0; 1024], 0);
        while read < LINGER_BYTES_MAX && socket.readable().await.is_ok() {
            match socket.try_read(&mut sink) {
                Ok(0) => return,
                Ok(count) => read += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        _ = timeout(LINGER, rest) => {}
        () = conversation.admitted().told_to_go() => {}
    }
}

#[cfg(test)]
mod tests;
