//! The live feed as a stream. It connects again by itself and says that it had to: what happened
//! in between is not told.

use std::collections::VecDeque;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::Stream;
use futures_util::stream::unfold;
use reqwest::Response;
use serde::Deserialize;
use tokio::time::timeout;

use crate::call::{Call, refused};
use crate::client::Client;
use crate::error::Error;
use crate::sse::{Event, Events};
use crate::types::{Happening, Kind};

/// Three heartbeats of the gateway.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What is wanted. An empty list is no restriction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedFilter {
    /// Only these kinds.
    pub kinds: Vec<Kind>,
    /// Only joins and leaves of these groups, and closes of their members.
    pub groups: Vec<String>,
    /// Only changes of clients with one of these uids.
    pub uids: Vec<String>,
}

/// What the feed tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something happened to a client.
    Happened(Kind, Happening),
    /// So many were dropped because this end was too slow.
    Missed(u64),
    /// Gateways whose changes are not told at the moment; first, and whenever that changes.
    Coverage(Vec<String>),
    /// The connection broke, for this reason; it is made again.
    Broken(String),
}

impl Client {
    /// Follows what happens to the tenant's clients, until the stream is dropped. It ends with an
    /// error only if the gateway refuses it for good.
    pub fn feed(&self, filter: &FeedFilter) -> impl Stream<Item = Result<Told, Error>> + use<> {
        let mut call = Call::get("/v1/feed");
        if !filter.kinds.is_empty() {
            let kinds: Vec<&str> = filter.kinds.iter().map(|kind| kind.as_str()).collect();
            call = call.with("kind", kinds.join(","));
        }
        for group in &filter.groups {
            call = call.with("group", group);
        }
        for uid in &filter.uids {
            call = call.with("uid", uid);
        }
        let feed = Feed {
            client: self.clone(),
            call,
            open: None,
            ready: VecDeque::new(),
            backoff: backoff(),
            is_down: false,
        };
        unfold(Some(feed), |feed| async move {
            let mut feed = feed?;
            match feed.next().await {
                Ok(told) => Some((Ok(told), Some(feed))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(BACKOFF_MIN)
        .with_max_delay(BACKOFF_MAX)
        .without_max_times()
        .build()
}

struct Feed {
    client: Client,
    call: Call,
    open: Option<(Response, Events)>,
    ready: VecDeque<Told>,
    backoff: ExponentialBackoff,
    /// The caller was told that there is no connection.
    is_down: bool,
}

impl Feed {
    async fn next(&mut self) -> Result<Told, Error> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Ok(told);
            }
            let read = match &mut self.open {
                Some((response, events)) => read(response, events, &self.client.base).await,
                None => {
                    let told = self.connect().await?;
                    self.ready.extend(told);
                    continue;
                }
            };
            match read {
                Ok(events) => {
                    (self.backoff, self.is_down) = (backoff(), false);
                    for event in events {
                        self.ready.extend(told(&event)?);
                    }
                }
                Err(error) => {
                    (self.open, self.is_down) = (None, true);
                    return Ok(Told::Broken(error.to_string()));
                }
            }
        }
    }

    /// Connects. If it cannot be done the caller is told once, and there is a pause.
    async fn connect(&mut self) -> Result<Option<Told>, Error> {
        match self.response().await {
            Ok(response) => {
                self.open = Some((response, Events::default()));
                Ok(None)
            }
            Err(error) if error.is_passing(true, true) => {
                if !std::mem::replace(&mut self.is_down, true) {
                    return Ok(Some(Told::Broken(error.to_string())));
                }
                let pause = self.backoff.next().unwrap_or(BACKOFF_MAX);
                tokio::time::sleep(pause).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn response(&self) -> Result<Response, Error> {
        let base = &self.client.base;
        let unreachable = |error: reqwest::Error| Error::unreachable(base, &error);
        let request = self.call.request(&self.client).send();
        let Ok(sent) = timeout(self.client.deadline, request).await else {
            return Err(Error::Unreachable {
                url: base.clone(),
                reason: "no answer".to_owned(),
                unsent: false,
            });
        };
        let response = sent.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = timeout(self.client.deadline, response.bytes()).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        Err(refused(base, status, &body))
    }
}

async fn read(
    response: &mut Response,
    events: &mut Events,
    base: &str,
) -> Result<Vec<Event>, Error> {
    match timeout(SILENCE_MAX, response.chunk()).await {
        Ok(Ok(Some(bytes))) => events.take(&bytes),
        Ok(Ok(None)) => Err(Error::Answer("the gateway ended the feed".to_owned())),
        Ok(Err(error)) => Err(Error::unreachable(base, &error)),
        Err(_) => Err(Error::Deadline {
            url: base.to_owned(),
            within: SILENCE_MAX,
            last: None,
        }),
    }
}

/// What an event says; nothing if its name is of a later version.
fn told(event: &Event) -> Result<Option<Told>, Error> {
    #[derive(Deserialize)]
    struct Missed {
        missed: u64,
    }
    #[derive(Deserialize)]
    struct Coverage {
        missing: Vec<String>,
    }
    fn data<'a, T: Deserialize<'a>>(event: &'a Event) -> Result<T, Error> {
        serde_json::from_str(&event.data).map_err(|error| {
            Error::Answer(format!(
                "the event {:?} has unknown data: {error}",
                event.name
            ))
        })
    }
    if let Some(kind) = Kind::of(&event.name) {
        return Ok(Some(Told::Happened(kind, data(event)?)));
    }
    match event.name.as_str() {
        "missed" => Ok(Some(Told::Missed(data::<Missed>(event)?.missed))),
        "coverage" => Ok(Some(Told::Coverage(data::<Coverage>(event)?.missing))),
        _ => Ok(None),
    }
}
