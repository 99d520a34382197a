//! Answers to what is no request that can be served: which status, and a sentence for whoever looks
//! for the mistake.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;

use super::HttpSettings;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRefusal {
    /// The status.
    pub status: StatusCode,
    /// A sentence that says what is wrong and what would be right.
    pub reason: String,
}

const TLS: &str = "These are the first bytes of TLS, and this port speaks plain HTTP: connect by \
                   http:// or ws://, or have a proxy in front end TLS.";

const HTTP2: &str = "HTTP/2 is not spoken here: send HTTP/1.1.";

impl HttpRefusal {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    pub(super) fn slow_head(limit: Duration) -> Self {
        let reason = format!(
            "The request head did not arrive within {} ms.",
            limit.as_millis()
        );
        Self::new(StatusCode::REQUEST_TIMEOUT, reason)
    }

    /// What hyper could not go on with, and whether it would have refused it by itself; `head` is
    /// what had come and was not taken yet. None if there is nobody to answer.
    pub(super) fn of(
        error: &hyper::Error,
        refused: bool,
        head: &[u8],
        settings: &HttpSettings,
    ) -> Option<Self> {
        if head.is_empty() && !refused {
            return None;
        }
        if error.is_timeout() {
            return Some(Self::slow_head(settings.idle));
        }
        error
            .is_parse()
            .then(|| Self::of_head(error, head, settings))
    }

    fn of_head(error: &hyper::Error, head: &[u8], settings: &HttpSettings) -> Self {
        if head.starts_with(b"\x16\x03") {
            return Self::new(StatusCode::BAD_REQUEST, TLS);
        }
        if error.is_parse_too_large() {
            return Self::too_large(head, settings);
        }
        // hyper tells this kind of error in words only.
        let other = format!("{error:?}").contains("Version");
        match other.then(|| other_version(head)).flatten() {
            None => Self::new(
                StatusCode::BAD_REQUEST,
                format!("The request head cannot be read: {error}."),
            ),
            Some(version) if version.starts_with("HTTP/2") => {
                Self::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, HTTP2)
            }
            Some(version) => Self::new(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                format!("{version} is not spoken here: send HTTP/1.1 or HTTP/1.0."),
            ),
        }
    }

    fn too_large(head: &[u8], settings: &HttpSettings) -> Self {
        let max = settings.head_bytes_max;
        let line_end = head.iter().position(|byte| *byte == b'\n');
        if line_end.is_none_or(|end| end > max) {
            let reason = format!(
                "The request line is too long: with the header lines it may have {max} bytes."
            );
            return Self::new(StatusCode::URI_TOO_LONG, reason);
        }
        let reason = format!(
            "The request head is too large: it may have {max} bytes and {} header lines.",
            settings.headers_max
        );
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
    }

    /// The whole answer, for a connection that ends with it.
    pub(super) fn head_and_body(&self, shape: fn(&Self) -> (&'static str, String)) -> Vec<u8> {
        let (kind, body) = shape(self);
        let date = httpdate::fmt_http_date(SystemTime::now());
        let head = format!(
            "HTTP/1.1 {}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
             date: {date}\r\n\r\n",
            self.status,
            body.len(),
        );
        [head.into_bytes(), body.into_bytes()].concat()
    }
}

/// The version in a request line if it is another one, as far as it has come: the answer must not
/// depend on the pieces in which a request comes.
fn other_version(head: &[u8]) -> Option<&str> {
    let line = head.trim_ascii_start();
    let version = line.splitn(3, |byte| *byte == b' ').nth(2)?;
    let is_other = match version.strip_prefix(b"HTTP/")? {
        [b'1', b'.', minor, ..] => minor.is_ascii_digit() && !matches!(minor, b'0' | b'1'),
        [b'1', ..] => false,
        [major, ..] => major.is_ascii_digit(),
        [] => false,
    };
    let named = version
        .iter()
        .take(8)
        .take_while(|byte| byte.is_ascii_graphic());
    let named = version.get(..named.count()).filter(|_| is_other)?;
    std::str::from_utf8(named).ok()
}
