//! The routes without a socket and with a scripted cluster.

mod calls;
mod deploys;
mod document;
mod fuzz;
mod rejections;

use std::sync::Mutex;

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http_body_util::BodyExt;
use serde_json::Value;
use tidegate_cluster::gateway::access::{RequestError, ScheduleStatus, Told};
use tidegate_deploy::{DeployError, DeployOrder, Overview, Progress};
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::feed::Filter;
use tidegate_wire::query::{Answered, AskError, Once, Query};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::*;
use crate::cluster::OnceKey;

const TOKEN: &str = "token-of-tenant-t";
const DEPLOYER: &str = "token-of-a-deployer";

type Done = (Name, Option<OnceKey>, Vec<Effect>);
type Asked = dyn Fn(&Query) -> Result<Answered, AskError> + Send + Sync;

/// A cluster that answers as it is told and keeps what it was asked to do.
struct Scripted {
    asked: Box<Asked>,
    once: Once,
    done: Mutex<Vec<Done>>,
    reply: Result<Bytes, RequestError>,
}

impl Scripted {
    fn new(asked: impl Fn(&Query) -> Result<Answered, AskError> + Send + Sync + 'static) -> Self {
        Self {
            asked: Box::new(asked),
            once: Once::First,
            done: Mutex::default(),
            reply: Ok(Bytes::new()),
        }
    }

    /// It has gone: no question is answered.
    fn gone() -> Self {
        Self::new(|_| Err(AskError::Gone))
    }
}

impl Cluster for Scripted {
    fn ask<'a>(
        &'a self,
        _: &'a Name,
        query: Query,
        _: Duration,
    ) -> BoxFuture<'a, Result<Answered, AskError>> {
        ready((self.asked)(&query)).boxed()
    }

    fn act<'a>(
        &'a self,
        tenant: &'a Name,
        effects: Vec<Effect>,
    ) -> BoxFuture<'a, Result<(), AskError>> {
        let done = (tenant.clone(), None, effects);
        self.done.lock().unwrap().push(done);
        ready(Ok(())).boxed()
    }

    fn act_once<'a>(
        &'a self,
        tenant: &'a Name,
        once: OnceKey,
        effects: Vec<Effect>,
        _: Duration,
    ) -> BoxFuture<'a, Result<Once, AskError>> {
        let done = (tenant.clone(), Some(once), effects);
        self.done.lock().unwrap().push(done);
        ready(Ok(self.once)).boxed()
    }

    fn request<'a>(
        &'a self,
        _: &'a Name,
        _: Name,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>> {
        ready(self.reply.clone()).boxed()
    }

    fn request_once<'a>(
        &'a self,
        tenant: &'a Name,
        once: OnceKey,
        _: Name,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>> {
        let done = (tenant.clone(), Some(once), Vec::new());
        self.done.lock().unwrap().push(done);
        ready(self.reply.clone()).boxed()
    }

    fn watch(&self, _: &Name, _: Filter) -> Result<mpsc::Receiver<Told>, AskError> {
        let (told, receiver) = mpsc::channel(8);
        told.try_send(Told::Missing(vec!["127.0.0.1:2001".parse().unwrap()]))
            .unwrap();
        told.try_send(Told::Missed(3)).unwrap();
        Ok(receiver)
    }

    fn unserved(&self, tenant: &Name) -> Option<String> {
        Some(format!("nobody serves {tenant}"))
    }

    fn schedules(&self, tenant: &Name) -> Vec<ScheduleStatus> {
        vec![ScheduleStatus {
            tenant: tenant.clone(),
            name: "night".into(),
            cron: "30 2 * * *".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            last_s: Some(60),
            next_s: Some(120),
            open_s: None,
        }]
    }

    fn failing(&self, _: &Name) -> Vec<String> {
        Vec::new()
    }

    fn router_fault(&self, _: &Name) -> Option<String> {
        None
    }
}

/// Where nothing can be deployed.
struct Nobody;

impl Deploys for Nobody {
    fn deploy(&self, _: DeployOrder, component: Bytes) -> mpsc::Receiver<Progress> {
        let bytes = component.len() as u64;
        told([
            Progress::Uploaded { bytes },
            Progress::Failed {
                reason: DeployError::NoWorker,
            },
        ])
    }

    fn rollback(&self, tenant: Name, _: Option<String>, _: Name) -> mpsc::Receiver<Progress> {
        told([Progress::Failed {
            reason: DeployError::NotDeployed { tenant },
        }])
    }

    fn promote(&self, tenant: Name, _: Name) -> mpsc::Receiver<Progress> {
        told([Progress::Failed {
            reason: DeployError::NoCanary { tenant },
        }])
    }

    fn withdraw(&self, _: Name, _: Name) -> mpsc::Receiver<Progress> {
        told([Progress::Done {
            generation: 7,
            version: "".into(),
            workers: 0,
            trial: false,
        }])
    }

    fn overview(&self) -> BoxFuture<'_, Result<Overview, DeployError>> {
        let register = "127.0.0.1:1236".to_owned();
        ready(Err(DeployError::NoRegister { register })).boxed()
    }
}

fn told(progress: impl IntoIterator<Item = Progress>) -> mpsc::Receiver<Progress> {
    let (tell, told) = mpsc::channel(8);
    for progress in progress {
        tell.try_send(progress).unwrap();
    }
    told
}

/// A call's answer.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The named case and the detail, of an answer that must be a problem.
    fn problem(&self) -> (String, String) {
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{self:?}"
        );
        let problem: tidegate_client::Problem = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem.status, self.status);
        assert!(!problem.title.is_empty() && !problem.detail.is_empty());
        (problem.error.to_string(), problem.detail)
    }
}

fn service(cluster: Arc<Scripted>) -> Router {
    service_of(cluster, Apart::never())
}

fn service_of(cluster: Arc<Scripted>, apart: Apart) -> Router {
    let mut tokens = Tokens::new();
    let grant = |deploy| crate::Grant {
        tenant: "t".into(),
        name: "ci".into(),
        deploy,
    };
    tokens.add(TOKEN.as_bytes(), grant(false));
    tokens.add(DEPLOYER.as_bytes(), grant(true));
    let settings = Settings {
        connections_max: 1024,
        answering: "127.0.0.1:2000".parse().unwrap(),
        query: Duration::from_secs(2),
        apart,
        tokens: tokio::sync::watch::channel(tokens).1,
    };
    router(
        settings,
        cluster,
        Arc::new(Nobody),
        CancellationToken::new(),
    )
}

async fn call(cluster: &Arc<Scripted>, request: axum::http::request::Builder, body: Body) -> Got {
    let request = request.body(body).unwrap();
    let response = service(Arc::clone(cluster)).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Got {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// A call with the token, and JSON if there is a body.
async fn ask(cluster: &Arc<Scripted>, call_: &str, body: &str) -> Got {
    let (method, uri) = call_.split_once(' ').unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", format!("Bearer {TOKEN}"));
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    call(cluster, request, Body::from(body.to_owned())).await
}

#[tokio::test]
async fn a_gateway_that_does_not_know_the_cluster_speaks_for_no_client() {
    let cluster = Arc::new(Scripted::new(|query| panic!("asked {query:?}")));
    let apart = Apart::new(|| Some("no register".to_owned()));
    let call = async |method: &str, uri: &str, token: &str| {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        let service = service_of(Arc::clone(&cluster), apart.clone());
        let response = service.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            String::from_utf8_lossy(&body).contains("no register"),
        )
    };
    for line in fuzz::CALLS.map(|call| call.lines().next().unwrap()) {
        let (method, uri) = line.split_once(' ').unwrap();
        assert_eq!(call(method, uri, TOKEN).await, (503, true), "{line}");
        assert_eq!(call(method, uri, "nobody's").await, (401, false), "{line}");
    }
    assert!(cluster.done.lock().unwrap().is_empty());
    // What is deployed it tells from its own copy.
    assert!(!call("GET", "/v1/deployment", TOKEN).await.1);
}
