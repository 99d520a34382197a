//! HTTP of a tenant's own: what asks for no WebSocket, no health and no file is an event of the tenant's
//! handler, whose commit carries the answer.
//!
//! A request is read whole before it becomes an event; its size, time and number are bounded. Its answer
//! is written after the effects of its event are applied. What belongs to one connection only (RFC 9110,
//! section 7.6.1) goes neither in nor out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tidegate_hub::outbound::Account;
use tidegate_wire::effect::Reply;
use tidegate_wire::event::{Arrival, EventKind};
use tidegate_wire::http::{Fields, HttpAnswer, HttpCall};
use tidegate_wire::query::RequestError;
use tokio::time::{Instant, timeout_at};

use super::{Body, bytes_body, text, upgrade};
use crate::gateway::clients::connection::home::Home;
use crate::gateway::clients::memory::Reserve;
use crate::gateway::settings::ListenerSettings;

/// When whoever finds no room may come again, in seconds.
const COME_AGAIN: &str = "1";

const SLOW: &str = "The body of the request did not come in time.\n";
const BROKEN: &str = "The body of the request ended too early or was no body.\n";
const FULL: &str = "Too many requests wait here for their answers: try again.\n";
const NO_WORKER: &str = "Nobody is there who could answer: try again.\n";
const LATE: &str = "The handler has not answered in time.\n";
const FAILED: &str = "The handler has failed.\n";

/// What came of a request, as a label of metrics.
#[derive(Clone, Copy)]
enum Outcome {
    Answered,
    Failed,
    Timeout,
    Overloaded,
    Refused,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
        }
    }
}

/// Why the gateway answers in the handler's place.
struct Refusal {
    outcome: Outcome,
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn new(outcome: Outcome, status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            outcome,
            status,
            text,
        }
    }

    fn full(text: impl Into<String>) -> Self {
        Self::new(Outcome::Overloaded, StatusCode::SERVICE_UNAVAILABLE, text)
    }

    fn response(self) -> Response<Body> {
        let mut response = text(self.status, self.text);
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(COME_AGAIN));
        }
        if matches!(self.outcome, Outcome::Refused) {
            // The rest of the body is not waited for.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A request's place among those of its listener that wait for their answers.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize, max: usize) -> Option<Self> {
        let more = |count: usize| (count < max).then_some(count + 1);
        let updated = taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        updated.is_ok().then(|| Self(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Who asks, where.
pub(super) struct Asked<'a> {
    pub(super) home: &'a dyn Home,
    pub(super) listener: &'a ListenerSettings,
    /// The listener's place among all.
    pub(super) index: usize,
    pub(super) arrival: Arrival,
}

impl Asked<'_> {
    /// What the handler answers; none if it is not for the handler, or that takes none.
    pub(super) async fn answer(self, head: &Parts, body: Incoming) -> Option<Response<Body>> {
        let is_for_handler = self.listener.http_requests_max > 0
            && self.home.takes_http(&self.listener.tenant)
            && !matches!(head.method, Method::CONNECT | Method::TRACE)
            && head.uri.path() != "*";
        if !is_for_handler {
            return None;
        }
        let method = head.method.clone();
        let (outcome, response) = match self.ask(head, body).await {
            Ok(Some(answer)) => match response(answer, &method, self.home) {
                Ok(response) => (Outcome::Answered, response),
                Err(why) => {
                    let tenant = &*self.listener.tenant;
                    tracing::warn!(tenant, why, "a worker's answer to an HTTP request is none");
                    let failed = Refusal::new(Outcome::Failed, StatusCode::BAD_GATEWAY, FAILED);
                    (failed.outcome, failed.response())
                }
            },
            Ok(None) => return None,
            Err(refusal) => (refusal.outcome, refusal.response()),
        };
        metrics::counter!("tidegate_gateway_http_requests_total", "outcome" => outcome.name())
            .increment(1);
        Some(response)
    }

    /// Reads the request and asks the handler; none if its version takes no such requests.
    async fn ask(&self, head: &Parts, body: Incoming) -> Result<Option<HttpAnswer>, Refusal> {
        let (home, listener) = (self.home, self.listener);
        let deadline = Instant::now() + listener.http_time;
        let (body, room) = self.read(body, deadline).await?;
        let taken = home.context().http_requests.get(self.index);
        let place = taken.and_then(|taken| Place::take(taken, listener.http_requests_max));
        let Some(_place) = place else {
            return Err(Refusal::full(FULL));
        };
        let kind = EventKind::Http {
            arrival: Arc::new(self.arrival.clone()),
            call: Box::new(self.call(head, body)),
        };
        let within = deadline.saturating_duration_since(Instant::now());
        let asked = home.ask_handler(&listener.tenant, kind, within);
        // From now on it counts among the events.
        drop(room);
        let replied = match asked {
            Ok(replied) => match timeout_at(deadline, replied).await {
                Ok(Ok(replied)) => replied,
                Ok(Err(_gone)) => Err(RequestError::Ending),
                Err(_elapsed) => Err(RequestError::Timeout),
            },
            Err(error) => Err(error),
        };
        match replied {
            Ok(Reply::Http(answer)) => Ok(Some(*answer)),
            Err(RequestError::Unhandled) => Ok(None),
            Err(RequestError::Timeout) if !home.is_served(&listener.tenant) => {
                Err(Refusal::full(NO_WORKER))
            }
            Err(RequestError::Timeout) => Err(Refusal::new(
                Outcome::Timeout,
                StatusCode::GATEWAY_TIMEOUT,
                LATE,
            )),
            Err(RequestError::Overloaded(_) | RequestError::Ending) => Err(Refusal::full(FULL)),
            Ok(
                Reply::Ok(_)
                | Reply::Failed(_)
                | Reply::Unhandled
                | Reply::Accepted(_)
                | Reply::Rejected(_),
            )
            | Err(
                RequestError::Failed(_)
                | RequestError::DeadLettered
                | RequestError::Reused
                | RequestError::Forgotten,
            ) => Err(Refusal::new(
                Outcome::Failed,
                StatusCode::INTERNAL_SERVER_ERROR,
                FAILED,
            )),
        }
    }

    /// The whole body, which counts with the most that it may take until it is there.
    async fn read(
        &self,
        mut body: Incoming,
        deadline: Instant,
    ) -> Result<(Bytes, Reserve), Refusal> {
        let max = self.listener.http_body_bytes_max;
        let too_large = || {
            let why = format!("The body of a request may have {max} bytes here.\n");
            Refusal::new(Outcome::Refused, StatusCode::PAYLOAD_TOO_LARGE, why)
        };
        let announced = body.size_hint();
        let most = announced
            .exact()
            .map_or(max, |exact| usize::try_from(exact).unwrap_or(usize::MAX));
        if most > max {
            return Err(too_large());
        }
        let room = Reserve::take(self.home.memory(), most);
        let room = timeout_at(deadline, room).await;
        let room = room.map_err(|_elapsed| Refusal::full(FULL))?;
        let mut whole = BytesMut::new();
        let refused = |status, text| Refusal::new(Outcome::Refused, status, text);
        loop {
            let frame = match timeout_at(deadline, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) => return Err(refused(StatusCode::BAD_REQUEST, BROKEN)),
                Err(_elapsed) => return Err(refused(StatusCode::REQUEST_TIMEOUT, SLOW)),
            };
            // Trailers are left out.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if whole.len() + data.len() > max {
                return Err(too_large());
            }
            if whole.is_empty() && data.len() == most {
                return Ok((data, room));
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), room))
    }

    fn call(&self, head: &Parts, body: Bytes) -> HttpCall {
        let target = head.uri.path_and_query();
        let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
        let said = match head.uri.authority() {
            Some(authority) => authority.as_str().to_owned(),
            None => String::from_utf8_lossy(host.unwrap_or_default()).into_owned(),
        };
        // HTTP/1.0 need not say which host is meant.
        let authority = match said.is_empty() {
            true => self.listener.address.to_string(),
            false => said,
        };
        HttpCall {
            method: head.method.as_str().into(),
            target: target.map_or_else(|| "/".to_owned(), ToString::to_string),
            authority,
            headers: end_to_end(&head.headers),
            body: body.into(),
        }
    }
}

/// The lines of a head that are not for this connection only. What was expected has been met.
fn end_to_end(headers: &HeaderMap) -> Fields {
    let named: Vec<&str> = upgrade::members(headers, &CONNECTION).collect();
    let is_named = |name: &HeaderName| {
        named
            .iter()
            .any(|it| it.eq_ignore_ascii_case(name.as_str()))
    };
    headers
        .iter()
        .filter(|(name, _)| !is_of_connection(name) && !is_named(name))
        .filter(|(name, _)| **name != HOST && **name != EXPECT)
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// Whether a line belongs to one connection, whether `Connection` names it or not.
fn is_of_connection(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

/// What is written to the client, or what is wrong with the answer.
fn response(
    answer: HttpAnswer,
    method: &Method,
    home: &dyn Home,
) -> Result<Response<Body>, String> {
    let status = StatusCode::from_u16(answer.status).ok();
    let status = status.filter(|it| (200..=599).contains(&it.as_u16()));
    let status = status.ok_or_else(|| format!("{} is no status of an answer", answer.status))?;
    // Nothing follows these heads (RFC 9110, section 6.4.1).
    let is_bare = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if is_bare || status == StatusCode::RESET_CONTENT {
        Bytes::new()
    } else {
        answer.body.into_bytes()
    };
    // How long the answer to GET would be may be said without it; else the body says it itself.
    let keeps_length = status == StatusCode::NOT_MODIFIED
        || (*method == Method::HEAD && body.is_empty() && !is_bare);
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in &answer.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let parsed = parsed.zip(HeaderValue::from_bytes(value).ok());
        let (name, value) = parsed.ok_or_else(|| format!("its header {name:?} is none"))?;
        if !is_of_connection(&name) && (name != CONTENT_LENGTH || keeps_length) {
            headers.append(name, value);
        }
    }
    let lengths: Vec<&HeaderValue> = headers.get_all(CONTENT_LENGTH).iter().collect();
    if lengths.len() > 1 || !lengths.iter().all(|length| is_length(length)) {
        return Err("its header `content-length` is no number".to_owned());
    }
    let body = match body.is_empty() {
        true => body,
        false => home.memory().outbound().hold(body),
    };
    Ok(response.map(|()| bytes_body(body)))
}

fn is_length(value: &HeaderValue) -> bool {
    let digits = value.as_bytes();
    !digits.is_empty() && digits.len() < 20 && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "example.org"),
            ("connection", "keep-alive, X-Own"),
            ("x-own", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ] {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_static(value));
        }
        let kept = end_to_end(&headers);
        let cookie = |value: &[u8]| ("cookie".to_owned(), value.to_vec());
        assert_eq!(kept, [cookie(b"a=1"), cookie(b"b=2")]);
    }

    #[test]
    fn so_many_places_are_taken_and_no_more() {
        let taken = AtomicUsize::new(0);
        let first = Place::take(&taken, 1);
        assert!(first.is_some() && Place::take(&taken, 1).is_none());
        drop(first);
        assert!(Place::take(&taken, 1).is_some());
    }
}
