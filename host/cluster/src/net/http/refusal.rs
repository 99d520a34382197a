//! Answers to what is no request that can be served: which status, and a sentence for whoever looks
//! for the mistake.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;

use super::HttpSettings;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// A sentence that says what is wrong and what would be right.
    pub reason: String,
}

const TLS: &str = "These are the first bytes of TLS, and this port speaks plain HTTP: connect by \
                   http:// or ws://, or have a proxy in front end TLS.";

const HTTP2: &str = "HTTP/2 is not spoken here: send HTTP/1.1.";

const BROKEN_OFF: &str = "The connection ended before the request did.";

impl Refusal {
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
        if error.is_incomplete_message() {
            return Some(Self::new(StatusCode::BAD_REQUEST, BROKEN_OFF));
        }
        error
            .is_parse()
            .then(|| Self::of_head(error, head, settings))
    }

    fn of_head(error: &hyper::Error, head: &[u8], settings: &HttpSettings) -> Self {
        if head.starts_with(b"\x16\x03") {
            return Self::new(StatusCode::BAD_REQUEST, TLS);
        }
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
        if error.is_parse_too_large() {
            return Self::too_large(head, settings);
        }
        match version(line) {
            Some("HTTP/1.0" | "HTTP/1.1") | None => Self::new(
                StatusCode::BAD_REQUEST,
                format!("The request head cannot be read: {error}."),
            ),
            Some("HTTP/2.0") => Self::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, HTTP2),
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

/// The version at the end of a request line, if it looks like one.
fn version(line: &[u8]) -> Option<&str> {
    let last = line.rsplit(|byte| *byte == b' ').next()?;
    match last {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            std::str::from_utf8(last).ok()
        }
        _ => None,
    }
}
