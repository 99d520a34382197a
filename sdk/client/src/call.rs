//! One call: its URL, its body, its repetitions within its deadline.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::client::Client;
use crate::error::Error;
use crate::types::{ErrorName, Problem};

/// A longer answer is none of the Client API.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
const ATTEMPTS_MAX: usize = 8;

/// What a path part keeps as it is.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// One call, ready to be made.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    body_type: &'static str,
    key: Option<String>,
    repeatable: bool,
    within: Option<Duration>,
}

impl Call {
    /// A question.
    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            query: Vec::new(),
            body: None,
            body_type: "application/json",
            key: None,
            repeatable: true,
            within: None,
        }
    }

    /// A call without a body that changes something.
    pub(crate) fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    /// A call that takes something away.
    pub(crate) fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// A call with a component.
    pub(crate) fn upload(path: &str, component: Vec<u8>) -> Self {
        Self {
            body: Some(component),
            body_type: "application/wasm",
            ..Self::new(Method::POST, path)
        }
    }

    /// A question with a body.
    pub(crate) fn ask(path: &str, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::Setting(format!("the call cannot be written: {error}")))?;
        Ok(Self {
            body: Some(body),
            ..Self::new(Method::POST, path)
        })
    }

    /// A call that must not be made twice.
    pub(crate) fn once(path: &str, body: &impl Serialize) -> Result<Self, Error> {
        let mut call = Self::ask(path, body)?;
        call.repeatable = false;
        Ok(call)
    }

    /// An action: it may be repeated because it carries a key.
    pub(crate) fn act(path: &str, body: &impl Serialize, key: &str) -> Result<Self, Error> {
        let mut call = Self::ask(path, body)?;
        call.key = Some(key.to_owned());
        Ok(call)
    }

    /// Adds a path part. `.` and `..` would change the path, however they are encoded.
    pub(crate) fn part(mut self, name: &str) -> Result<Self, Error> {
        if matches!(name, "" | "." | "..") {
            return Err(Error::Setting(format!(
                "{name:?} cannot stand in a URL: ask with a list of names"
            )));
        }
        self.path.push('/');
        self.path.extend(utf8_percent_encode(name, PART));
        Ok(self)
    }

    /// Adds a path part that needs no encoding.
    pub(crate) fn word(mut self, word: &str) -> Self {
        self.path.push('/');
        self.path.push_str(word);
        self
    }

    /// Adds a parameter.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Adds a parameter, if there is a value.
    pub(crate) fn with_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Sets a deadline of its own.
    pub(crate) fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Makes it, again while that is safe and may help. Attempts and the pauses between them end with
    /// its deadline.
    pub(crate) async fn make<A: DeserializeOwned>(self, client: &Client) -> Result<A, Error> {
        let within = self.within.unwrap_or(client.deadline);
        let own = Instant::now() + within;
        let deadline = client.ends.map_or(own, |ends| ends.min(own));
        let mut failed = None;
        let backoff = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(BACKOFF_MIN)
            .with_max_delay(BACKOFF_MAX)
            .with_max_times(if client.retries { ATTEMPTS_MAX } else { 0 });
        let attempts = || self.attempt(client);
        let attempts = attempts
            .retry(backoff)
            .when(|error| error.is_passing(self.repeatable, client.patient))
            .notify(|error: &Error, _| failed = Some(error.to_string()));
        let body = timeout_at(deadline, attempts.into_future()).await;
        let body = body.unwrap_or_else(|_| {
            Err(Error::Deadline {
                url: client.base.clone(),
                within,
                last: failed,
            })
        })?;
        serde_json::from_slice(&body).map_err(|error| {
            Error::Answer(format!("{} gave an unknown answer: {error}", self.path))
        })
    }

    /// The request, without a deadline.
    pub(crate) fn request(&self, client: &Client) -> RequestBuilder {
        let url = format!("{}{}", client.base, self.path);
        let mut request = client
            .http
            .request(self.method.clone(), url)
            .bearer_auth(&client.token)
            .query(&self.query);
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = &self.body {
            request = request
                .header("content-type", self.body_type)
                .body(body.clone());
        }
        request
    }

    async fn attempt(&self, client: &Client) -> Result<Vec<u8>, Error> {
        let unreachable = |error: reqwest::Error| Error::unreachable(&client.base, &error);
        let response = self.request(client).send().await.map_err(unreachable)?;
        let status = response.status();
        let body = read(response, &client.base).await?;
        match status.is_success() {
            true => Ok(body),
            false => Err(refused(&client.base, status, &body)),
        }
    }
}

async fn read(mut response: Response, url: &str) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Error::unreachable(url, &error))?
    {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Error::Answer(format!(
                "the answer has more than {ANSWER_BYTES_MAX} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The refusal of a response that is no success; a proxy's has no problem in it, and that of
/// something else which listens there neither.
pub(crate) fn refused(url: &str, status: StatusCode, body: &[u8]) -> Error {
    let problem = serde_json::from_slice(body).unwrap_or_else(|_| {
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        let said = match text.trim() {
            "" => "nothing".to_owned(),
            text => format!("{text:?}"),
        };
        Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: format!(
                "this is no answer of the Client API; is {url} its `api.listen`? It says {said}"
            ),
            error: ErrorName::Other,
            retryable: matches!(status.as_u16(), 502..=504),
        }
    });
    Error::Refused(Box::new(problem))
}
