//! The opening handshake of RFC 6455, section 4.2: whether a request asks for a WebSocket, the
//! answer 101, and refusals with what they must carry.

use bytes::Bytes;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use tidegate_wire::Name;
use tidegate_wire::handshake::{Accepted, Rejected};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::gateway::clients::handshake::ListenerSettings;

/// The protocol and its version.
const WEBSOCKET: &str = "websocket";
const VERSION: &str = "13";

/// A key of 16 bytes in base64: so many characters, and then its padding.
const KEY_CHARACTERS: usize = 22;

const NO_GET: &str = "A WebSocket is opened by GET.\n";
const NO_CONNECTION: &str = "This asks for a WebSocket, but its header `Connection` does not name \
                             `Upgrade`: does a proxy on the way drop it?\n";
const WRONG_VERSION: &str =
    "WebSocket version 13 is spoken here: send `Sec-WebSocket-Version: 13`.\n";
const TWO_VERSIONS: &str = "A WebSocket request has one header `Sec-WebSocket-Version`.\n";
const BAD_KEY: &str =
    "A WebSocket request has one header `Sec-WebSocket-Key` with 16 bytes in base64.\n";
const BODY: &str = "A request for a WebSocket has no body.\n";
const STRANGE_ORIGIN: &str = "This origin may not connect: see the listener's `origins`.\n";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

type UpgradeResponse = Response<String>;

/// Whether a request asks for a WebSocket. Other offers, like the `h2c` of curl and Java, are not
/// taken, which a server may do without a word; those of HTTP/1.0 must be overlooked.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_11
        && members(headers, &UPGRADE).any(|it| it.eq_ignore_ascii_case(WEBSOCKET))
        && (is_hop_by_hop(headers) || headers.contains_key(SEC_WEBSOCKET_KEY))
}

/// Whether the header `Upgrade` was meant for this hop.
fn is_hop_by_hop(headers: &HeaderMap) -> bool {
    members(headers, &CONNECTION).any(|it| it.eq_ignore_ascii_case("upgrade"))
}

/// The members of a header that is a list, over all its lines.
pub(super) fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|member| std::str::from_utf8(member.trim_ascii()).ok())
        .filter(|member| !member.is_empty())
}

/// The answer to a request for a WebSocket: 101, or why there is none.
pub(super) fn accept<B>(listener: &ListenerSettings, request: &Request<B>) -> UpgradeResponse {
    let headers = request.headers();
    let bad = |reason: &str| text(StatusCode::BAD_REQUEST, reason.to_owned());
    let path = request.uri().path();
    if let Some(only) = listener.path.as_deref().filter(|only| *only != path) {
        let reason = format!("There is no WebSocket at {path}: connect to {only}.\n");
        return text(StatusCode::NOT_FOUND, reason);
    }
    if request.method() != Method::GET {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, NO_GET.to_owned());
        let allowed = HeaderValue::from_static("GET");
        refusal.headers_mut().insert(hyper::header::ALLOW, allowed);
        return refusal;
    }
    if !is_hop_by_hop(headers) {
        return bad(NO_CONNECTION);
    }
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    if headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != b"0") {
        return bad(BODY);
    }
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    match (versions.next(), versions.next()) {
        (Some(version), None) if version.as_bytes().trim_ascii() == VERSION.as_bytes() => {}
        (Some(_), Some(_)) => return bad(TWO_VERSIONS),
        (Some(_) | None, _) => return required(WRONG_VERSION.to_owned()),
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => key.as_bytes(),
        (Some(_) | None, _) => return bad(BAD_KEY),
    };
    if !may_connect(&listener.origins, headers) {
        return text(StatusCode::FORBIDDEN, STRANGE_ORIGIN.to_owned());
    }
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    offer_web_socket(answer);
    // Base64 always fits a header.
    if let Ok(accepted) = HeaderValue::from_str(&derive_accept_key(key)) {
        answer.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    }
    if let Some(protocol) = subprotocol(listener, headers) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// Whether this is base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let (characters, padding) = key.split_at(KEY_CHARACTERS.min(key.len()));
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    padding == b"==" && characters.iter().all(is_base64)
}

/// Whether the page that asks may. Only browsers say where their page comes from, and only their
/// users need to be guarded from strange pages: whoever says nothing is no browser.
fn may_connect(origins: &[String], headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(ORIGIN).iter();
    match (said.next(), said.next()) {
        (None, _) => true,
        (Some(_), _) if origins.is_empty() => true,
        (Some(origin), None) => origins
            .iter()
            .any(|known| known.as_bytes() == origin.as_bytes()),
        (Some(_), Some(_)) => false,
    }
}

/// The first of the listener's subprotocols that the client offers.
fn subprotocol(listener: &ListenerSettings, headers: &HeaderMap) -> Option<HeaderValue> {
    let chosen = listener
        .subprotocols
        .iter()
        .find(|ours| members(headers, &SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == *ours))?;
    HeaderValue::from_str(chosen).ok()
}

/// The subprotocol that an answer has agreed on.
pub(super) fn agreed<B>(response: &Response<B>) -> Option<Name> {
    let agreed = response.headers().get(SEC_WEBSOCKET_PROTOCOL)?;
    agreed.to_str().ok().map(Name::from)
}

/// The answer 101 with what the handler has said. A subprotocol that was not offered is left out, and
/// so are headers that are not the handler's to set.
pub(super) fn with_words_of<B>(
    accepted: &Accepted,
    request: &Request<B>,
    mut response: UpgradeResponse,
) -> UpgradeResponse {
    let headers = response.headers_mut();
    if let Some(chosen) = &accepted.subprotocol {
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        let is_chosen = |offered| offered == &**chosen;
        let mut offers = members(request.headers(), &SEC_WEBSOCKET_PROTOCOL);
        match HeaderValue::from_str(chosen) {
            Ok(value) if offers.any(is_chosen) => {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
            }
            Ok(_) | Err(_) => tracing::debug!(
                subprotocol = &**chosen,
                "the handler has chosen a subprotocol that the client did not offer"
            ),
        }
    }
    append(headers, &accepted.headers);
    response
}

/// What somebody is told whom the handler does not let in.
pub(super) fn rejected(rejected: Rejected) -> Response<Bytes> {
    let status = StatusCode::from_u16(rejected.status).ok();
    // An answer below that would not be the last word.
    let status = status.filter(|it| it.as_u16() >= 300);
    let is_text = std::str::from_utf8(&rejected.body).is_ok() && !rejected.body.is_empty();
    let mut response = Response::new(rejected.body.into_bytes());
    *response.status_mut() = status.unwrap_or(StatusCode::FORBIDDEN);
    let headers = response.headers_mut();
    append(headers, &rejected.headers);
    if is_text && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, TEXT);
    }
    response
}

/// Headers of a handler, without those that belong to the connection and to the handshake itself.
fn append(to: &mut HeaderMap, headers: &[(String, String)]) {
    for (name, value) in headers {
        let parsed = name
            .parse::<HeaderName>()
            .ok()
            .zip(HeaderValue::from_str(value).ok());
        match parsed {
            Some((name, value)) if !is_own(&name) => {
                to.append(name, value);
            }
            Some(_) | None => tracing::debug!(
                header = name.as_str(),
                "the handler has answered a handshake with a header that it may not set"
            ),
        }
    }
}

fn is_own(name: &HeaderName) -> bool {
    [
        CONNECTION,
        UPGRADE,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        SEC_WEBSOCKET_ACCEPT,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_EXTENSIONS,
    ]
    .contains(name)
}

fn offer_web_socket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// What a request is told that should have been for a WebSocket.
pub(super) fn offer(listener: &ListenerSettings) -> String {
    let path = listener.path.as_deref();
    let there = path.map_or_else(String::new, |path| format!(" to {path}"));
    format!("This address speaks WebSocket: connect{there} with a WebSocket client.\n")
}

/// 426 with what would be right.
pub(super) fn required(reason: String) -> UpgradeResponse {
    let mut response = text(StatusCode::UPGRADE_REQUIRED, reason);
    let headers = response.headers_mut();
    offer_web_socket(headers);
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    response
}

/// A sentence for people.
pub(super) fn text(status: StatusCode, body: String) -> UpgradeResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_base64_of_sixteen_bytes() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for wrong in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZSE=",
            b"dGhlIHNhbXBsZSBub25j",
            b"dGhl!HNhbXBsZSBub25jZQ==",
            b"dGhlIHNhbXBsZSBub25jZQ==dGhl",
        ] {
            assert!(!is_key(wrong), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn lists_go_over_lines_spaces_and_tabs() {
        let mut headers = HeaderMap::new();
        for line in ["keep-alive,\tUpgrade ,, x", "\t, close"] {
            headers.append(CONNECTION, HeaderValue::from_static(line));
        }
        let found: Vec<&str> = members(&headers, &CONNECTION).collect();
        assert_eq!(found, ["keep-alive", "Upgrade", "x", "close"]);
    }
}
