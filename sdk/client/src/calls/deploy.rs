//! Deploys over the cluster: each is a stream of what happens, up to the last event. None is
//! repeated by itself; dropping the stream undoes nothing.

use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use reqwest::Response;
use tokio::time::timeout;

use crate::call::{Call, refused};
use crate::client::Client;
use crate::error::Error;
use crate::sse::Events;
use crate::types::{DeployProgress, Deployment, Rollback};

/// Three heartbeats of the gateway.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// So long may an upload take, and a component be fetched by the register.
const UPLOAD_MAX: Duration = Duration::from_secs(300);

/// What is deployed, and who gets it first. With neither a share nor clients nor uids all do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deploy {
    /// The component.
    pub component: Vec<u8>,
    /// The name of its file, for the history.
    pub source: String,
    /// Of a hundred clients so many try it first.
    pub canary_percent: u8,
    /// These try it first too.
    pub canary_clients: Vec<String>,
    /// And the clients that these uids have now.
    pub canary_uids: Vec<String>,
    /// After so long it serves everybody; with 0 when it is promoted.
    pub canary_seconds: u64,
}

impl Client {
    /// Has all workers run a version: all prepare it, then all switch; if one cannot, none does.
    ///
    /// # Errors
    /// See [`Error`]; a failure after the first event is the stream's last event.
    pub async fn deploy(
        &self,
        deploy: Deploy,
    ) -> Result<impl Stream<Item = Result<DeployProgress, Error>> + use<>, Error> {
        let mut call = Call::upload("/v1/deployment", deploy.component);
        if !deploy.source.is_empty() {
            call = call.with("source", deploy.source);
        }
        if deploy.canary_percent > 0 {
            call = call.with("percent", deploy.canary_percent);
        }
        for client in deploy.canary_clients {
            call = call.with("client", client);
        }
        for uid in deploy.canary_uids {
            call = call.with("uid", uid);
        }
        if deploy.canary_seconds > 0 {
            call = call.with("seconds", deploy.canary_seconds);
        }
        self.progress(call).await
    }

    /// Goes back to an earlier version: the one before, or the one whose hash begins with `to`.
    /// While some clients try a version and nothing is said, that one is given up.
    ///
    /// # Errors
    /// See [`Client::deploy`].
    pub async fn rollback(
        &self,
        to: Option<&str>,
    ) -> Result<impl Stream<Item = Result<DeployProgress, Error>> + use<>, Error> {
        let to = to.map(str::to_owned);
        self.progress(Call::ask("/v1/deployment/rollback", &Rollback { to })?)
            .await
    }

    /// Lets all clients follow those that try a version.
    ///
    /// # Errors
    /// See [`Client::deploy`].
    pub async fn promote(
        &self,
    ) -> Result<impl Stream<Item = Result<DeployProgress, Error>> + use<>, Error> {
        self.progress(Call::post("/v1/deployment/promote")).await
    }

    /// Lets the cluster forget what the tenant runs: at their next start workers use the file of
    /// their configuration.
    ///
    /// # Errors
    /// See [`Client::deploy`].
    pub async fn withdraw(
        &self,
    ) -> Result<impl Stream<Item = Result<DeployProgress, Error>> + use<>, Error> {
        self.progress(Call::delete("/v1/deployment")).await
    }

    /// What the cluster runs for the tenant, and what it ran.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deployment(&self) -> Result<Deployment, Error> {
        Call::get("/v1/deployment").make(self).await
    }

    async fn progress(
        &self,
        call: Call,
    ) -> Result<impl Stream<Item = Result<DeployProgress, Error>> + use<>, Error> {
        let base = self.base.clone();
        let unreachable = |error: reqwest::Error| Error::unreachable(&base, &error);
        let silent = |within| Error::Deadline {
            url: base.clone(),
            within,
            last: None,
        };
        let sent = timeout(UPLOAD_MAX, call.request(self).send()).await;
        let response = sent.map_err(|_| silent(UPLOAD_MAX))?.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            let body = timeout(self.deadline, response.bytes()).await;
            let body = body.ok().and_then(Result::ok).unwrap_or_default();
            return Err(refused(&base, status, &body));
        }
        let following = Following {
            base,
            response,
            events: Events::default(),
            ready: Vec::new().into_iter(),
            is_over: false,
        };
        Ok(unfold(following, |mut following| async move {
            let next = following.next().await?;
            Some((next, following))
        }))
    }
}

/// An answer that comes event by event.
struct Following {
    base: String,
    response: Response,
    events: Events,
    ready: std::vec::IntoIter<DeployProgress>,
    is_over: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Result<DeployProgress, Error>> {
        loop {
            if self.is_over {
                return None;
            }
            if let Some(progress) = self.ready.next() {
                self.is_over = matches!(
                    progress,
                    DeployProgress::Done { .. } | DeployProgress::Failed { .. }
                );
                return Some(Ok(progress));
            }
            match self.read().await {
                Ok(events) => self.ready = events.into_iter(),
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<DeployProgress>, Error> {
        let bytes = match timeout(SILENCE_MAX, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(cut_short("the gateway ended its answer")),
            Ok(Err(error)) => {
                let error = Error::unreachable(&self.base, &error);
                return Err(cut_short(&error.to_string()));
            }
            Err(_) => return Err(cut_short("the gateway says nothing any more")),
        };
        let mut known = Vec::new();
        for event in self.events.take(&bytes)? {
            match serde_json::from_str(&event.data) {
                Ok(progress) => known.push(progress),
                // An event of a later version is no harm, unless it should have been known.
                Err(error) if matches!(event.name.as_str(), "done" | "failed") => {
                    return Err(Error::Answer(format!(
                        "the event {:?} has unknown data: {error}",
                        event.name
                    )));
                }
                Err(_) => {}
            }
        }
        Ok(known)
    }
}

fn cut_short(why: &str) -> Error {
    Error::Answer(format!(
        "{why} before the end of the deploy, which goes on: its history says what became of it"
    ))
}
