//! Requests by HTTP: what [`Handler::on_http`](crate::Handler::on_http) gets and answers. Web hooks, small
//! APIs, long polling for clients that have no WebSocket.
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Gateway;
//!
//! #[derive(Default)]
//! struct Hook;
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Hook {
//!     fn on_http(&mut self, _: Peer, request: http::Request) -> Result<http::Response> {
//!         match (request.method.as_str(), request.path()) {
//!             ("POST", "/announce") => {
//!                 gateway::to_all().send(request.text()?)?;
//!                 http::Response::new(204).into()
//!             }
//!             ("GET", "/online") => {
//!                 let online = directory::everyone().count()?;
//!                 http::Response::json(&online.value)
//!             }
//!             _ => http::Response::new(404).into(),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result {
//! let mut gateway = Gateway::<Hook>::start()?;
//! let client = gateway.connect()?;
//! let announced = gateway.http(http::Request::new("POST", "/announce").with_body("hi"))?;
//! assert_eq!(announced.status, 204);
//! assert_eq!(gateway.received(client), [Message::from("hi")]);
//! let online = gateway.http(http::Request::new("GET", "/online"))?;
//! assert_eq!(online.body, b"1");
//! # Ok(())
//! # }
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;

/// A request. What belongs to one connection only is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET` and its like.
    pub method: String,
    /// Path and query, percent-encoded as they came: `/a%20b?c=d`.
    pub target: String,
    /// Which host was meant, with its port if that was said.
    pub authority: String,
    /// Names in lower case, and values, which are bytes; in order, without `host`.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// One without headers and body, for tests.
    #[must_use]
    pub fn new(method: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            authority: "testing".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header; its name is in lower case.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Gives it this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The path, percent-encoded as it came.
    #[must_use]
    pub fn path(&self) -> &str {
        let end = self.target.find('?').unwrap_or(self.target.len());
        self.target.get(..end).unwrap_or_default()
    }

    /// The first query value of this name, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key) == name).then(|| decoded(value))
        })
    }

    /// The first header of this name, in lower case, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The body as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.body)?)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// What is answered. How long the body is the gateway says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Names and values, in order. Those that belong to the connection, such as `connection` and
    /// `transfer-encoding`, are not a handler's to set.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// With this status and nothing else.
    #[must_use]
    pub const fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// 200 with this text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(200)
            .header("content-type", "text/plain; charset=utf-8")
            .body(text.into())
    }

    /// 200 with this value as JSON.
    ///
    /// # Errors
    /// When the value is no JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(Self::new(200)
            .header("content-type", "application/json")
            .body(body))
    }

    /// Adds a header, such as `set-cookie`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Gives it this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

// So that a callback's last expression may be `Response::new(204).into()`.
impl From<Response> for Result<Response> {
    fn from(response: Response) -> Self {
        Ok(response)
    }
}

/// A part of a query: `+` is a space, `%41` a byte; what is not UTF-8 is replaced.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let hex = |digit: &u8| char::from(*digit).to_digit(16);
        match (byte, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                let value = hex(high).unwrap_or_default() * 16 + hex(low).unwrap_or_default();
                bytes.push(u8::try_from(value).unwrap_or_default());
                rest = after;
            }
            (other, _) => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_and_a_query() {
        let request = Request::new("GET", "/a%20b?c=d+e%21&f&c=x&%67=%4");
        assert_eq!(request.path(), "/a%20b");
        assert_eq!(request.query("c").as_deref(), Some("d e!"));
        assert_eq!(request.query("f").as_deref(), Some(""));
        assert_eq!(request.query("g").as_deref(), Some("%4"));
        assert_eq!(request.query("x"), None);
        assert_eq!(Request::new("GET", "/").query("c"), None);
    }
}
