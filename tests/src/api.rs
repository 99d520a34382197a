//! The Client API as a stranger with an HTTP library sees it: raw JSON in, raw JSON out, no types
//! of Tidegate's own, so that tests hold the wire shapes themselves.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::http;

/// The Client API of one gateway, with a token.
#[derive(Clone, Debug)]
pub struct Api {
    address: SocketAddrV4,
    token: Option<String>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    /// The body; null if it is empty.
    pub body: Value,
}

impl Api {
    /// With this token, or none.
    #[must_use]
    pub fn new(address: SocketAddrV4, token: Option<&str>) -> Self {
        Self {
            address,
            token: token.map(str::to_owned),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Its token; empty if it has none.
    #[must_use]
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// `GET target`.
    ///
    /// # Errors
    /// When no answer comes, or one that is not JSON.
    pub async fn get(&self, target: &str) -> Result<Reply> {
        self.call("GET", target, &[], None).await
    }

    /// `POST target` with a JSON body.
    ///
    /// # Errors
    /// When no answer comes, or one that is not JSON.
    pub async fn post(&self, target: &str, body: &Value) -> Result<Reply> {
        self.send("POST", target, body).await
    }

    /// Any method with a JSON body; without one if it is null.
    ///
    /// # Errors
    /// When no answer comes, or one that is not JSON.
    pub async fn send(&self, method: &str, target: &str, body: &Value) -> Result<Reply> {
        if body.is_null() {
            return self.call(method, target, &[], None).await;
        }
        let json = [("Content-Type", "application/json")];
        self.call(method, target, &json, Some(&body.to_string()))
            .await
    }

    /// Any request.
    ///
    /// # Errors
    /// When no answer comes, or one that is not JSON.
    pub async fn call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Reply> {
        let mut request = self.head(method, target, "HTTP/1.1");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());
        let what = || format!("{method} {target}");
        let response = http::exchange(self.address, request.as_bytes())
            .await
            .with_context(what)?;
        let body = match response.body.as_str() {
            "" => Value::Null,
            body => serde_json::from_str(body)
                .with_context(|| format!("{method} {target}: not JSON: {body}"))?,
        };
        Ok(Reply {
            status: response.status,
            head: response.head.to_lowercase(),
            body,
        })
    }

    /// Request line and the headers that every request has.
    pub(crate) fn head(&self, method: &str, target: &str, version: &str) -> String {
        let host = self.address;
        let mut head =
            format!("{method} {target} {version}\r\nHost: {host}\r\nConnection: close\r\n");
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        head
    }
}

impl Reply {
    /// The body of a success.
    ///
    /// # Errors
    /// When it is none.
    pub fn ok(self) -> Result<Value> {
        ensure!(self.status == 200, "status {}: {}", self.status, self.body);
        Ok(self.body)
    }

    /// The name of the error of a refusal, after a look at the form of the problem document.
    ///
    /// # Errors
    /// When it is no refusal, or its form is not that of RFC 9457.
    pub fn problem(&self) -> Result<String> {
        let (status, body) = (self.status, &self.body);
        ensure!(status >= 400, "status {status} is no refusal: {body}");
        ensure!(
            self.head.contains("content-type: application/problem+json"),
            "status {status} without application/problem+json: {}",
            self.head
        );
        ensure!(
            body["status"] == status,
            "status {status}, the body has {body}"
        );
        for member in ["type", "title", "detail"] {
            ensure!(body[member].is_string(), "no {member} in {body}");
        }
        match body["error"].as_str() {
            Some(name) => Ok(name.to_owned()),
            None => bail!("no error in {body}"),
        }
    }
}

/// A text as one part of a path or as a value of a query: everything but letters and digits is
/// percent-encoded.
#[must_use]
pub fn part(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
