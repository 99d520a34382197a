//! Fuzz target: calls with bodies of every route, through the router, at a cluster without clients.
//!
//! Besides that nothing panics: an answer is 2xx, 4xx, or says that the cluster could not; a refusal
//! names what was wrong, and nothing has been done then.

use std::cell::RefCell;
use std::panic::RefUnwindSafe;

use tidegate_fuzzing::Case;
use tidegate_hub::directory::merge;
use tidegate_wire::query::Answer;
use tokio::runtime::{Builder, Runtime};

use super::*;

/// Calls that are right, or nearly: the line of the call, then the body.
pub(super) const CALLS: [&str; 37] = [
    "POST /v1/messages\n{\"to\":{\"clients\":[\"7f00000107d000000001\"],\"uids\":[\"u\"]},\"text\":\"hi\",\"except\":[\"7f00000107d000000002\"]}",
    "POST /v1/messages\n{\"to\":[{\"everyone\":true},{\"groups\":[\"g\"]}],\"binary\":\"AAH/\"}",
    "POST /v1/batch\n{\"actions\":[{\"send\":{\"to\":{\"groups\":[\"g\"]},\"text\":\"x\"}},{\"ungroup\":{\"group\":\"a\"}}]}",
    "POST /v1/batch\n{\"actions\":[{\"set_session\":{\"client\":\"7f00000107d000000001\",\"entries\":{\"a\":1}}},{\"join_group\":{\"client\":\"7f00000107d000000001\",\"group\":\"g\"}}]}",
    "POST /v1/clients/7f00000107d000000001/close\n{\"farewell\":{\"text\":\"bye\"}}",
    "POST /v1/clients/7f00000107d000000001/destroy\n",
    "POST /v1/uids/u/close\n{\"farewell\":null}",
    "PUT /v1/clients/7f00000107d000000001/uid\n{\"uid\":\"u\"}",
    "DELETE /v1/clients/7f00000107d000000001/uid\n",
    "PUT /v1/clients/7f00000107d000000001/groups/g%20h\n",
    "DELETE /v1/groups/g\n",
    "PUT /v1/clients/7f00000107d000000001/session\n{\"a\":1,\"b\":{\"c\":[true,null,1e400,18446744073709551616]}}",
    "PATCH /v1/clients/7f00000107d000000001/session?deep=true\n{\"a\":{\"b\":1}}",
    "DELETE /v1/clients/7f00000107d000000001/session\n",
    "GET /v1/clients/7f00000107d000000001/session\n",
    "POST /v1/clients/7f00000107d000000001/session/compare-and-set\n{\"key\":\"k\",\"expected\":1,\"new\":null}",
    "GET /v1/clients?group=g&uid=u&limit=10&fields=uid,session&after=7f00000107d000000001\n",
    "POST /v1/clients/query\n{\"of\":{\"groups\":[\"g\"]},\"fields\":[\"uid\",\"groups\"],\"limit\":3}",
    "GET /v1/clients/count?group=g\n",
    "POST /v1/clients/count\n{\"of\":[{\"all_of_groups\":[\"a\",\"b\"]}]}",
    "GET /v1/clients/7f00000107d000000001?fields=traffic\n",
    "GET /v1/groups?limit=5&after=g\n",
    "GET /v1/groups/counts?limit=5\n",
    "POST /v1/groups/counts\n{\"groups\":[\"a\",\"b\"]}",
    "GET /v1/groups/members?by=uid&limit=2\n",
    "GET /v1/uids?group=g&limit=2&after=u\n",
    "GET /v1/uids/count?estimate=true\n",
    "POST /v1/uids/online\n{\"uids\":[\"a\",\"b\"]}",
    "POST /v1/uids/clients\n{\"uids\":[\"a\"]}",
    "GET /v1/gateways/127.0.0.1:2000/clients/7\n",
    "GET /v1/status\n",
    "GET /v1/schedules\n",
    "GET /v1/tasks?limit=3&after=0000000000000001-0-7-0\n",
    "DELETE /v1/tasks/7f00000107d000000001-0000000000000001-0-7-0\n",
    "GET /v1/feed?kind=joined&group=g&uid=u\n",
    "POST /v1/commands\n{\"gateways\":[\"127.0.0.1:2000\"],\"name\":\"n\",\"json\":{\"a\":1}}",
    "POST /v1/requests\n{\"name\":\"n\",\"text\":\"t\",\"timeout_ms\":1000}",
];

const WORDS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "true",
    "-0",
    "1e999",
    "18446744073709551616",
    "\\ud800",
    "\\u0000",
    "\"to\":",
    "\"text\":\"\",",
    "{\"everyone\":true}",
    "\"clients\":[]",
    "[[[[[[[[",
    "&limit=0",
    "&after=",
    "%00",
    "%",
    "7f00000107d000000001",
];

/// The router with its cluster, in this thread.
struct Rig {
    runtime: Runtime,
    cluster: Arc<Scripted>,
    router: RefCell<Router>,
}

/// After a case that has failed nothing is relied on.
impl RefUnwindSafe for Rig {}

impl Rig {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let nobody = |query: &Query| {
            // Its parts are sketches; the whole is a number.
            let answer = if matches!(query, Query::UidEstimate) {
                Answer::Count(0)
            } else {
                merge(query, Vec::new()).ok_or(AskError::Timeout)?
            };
            let missing = Vec::new();
            Ok(Answered { answer, missing })
        };
        let cluster = Arc::new(Scripted::new(nobody));
        let router = {
            let _inside = runtime.enter();
            service(cluster.clone())
        };
        Self {
            runtime,
            cluster,
            router: RefCell::new(router),
        }
    }

    /// The status and the body of the answer; none if the edits left no request.
    fn call(&self, bytes: &[u8]) -> Option<(u16, HeaderMap, Vec<u8>)> {
        let place = bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, body) = bytes.split_at(place);
        let (method, uri) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json");
        let body = Body::from(body.get(1..).unwrap_or_default().to_vec());
        let request = request.body(body).ok()?;
        let router = self.router.borrow().clone();
        self.runtime.block_on(async {
            let (head, body) = router.oneshot(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Some((head.status.as_u16(), head.headers, body.to_vec()))
        })
    }
}

#[test]
fn bodies_of_every_route() {
    let rig = Rig::new();
    let seeds: Vec<Vec<u8>> = CALLS.iter().map(|call| call.as_bytes().to_vec()).collect();
    for seed in &seeds {
        let (status, _, body) = rig.call(seed).unwrap();
        let (seed, body) = (
            String::from_utf8_lossy(seed),
            String::from_utf8_lossy(&body),
        );
        let absent = status == 404 && body.contains("\"offline\"");
        let right = absent || !matches!(status, 404 | 405 | 415);
        assert!(right, "{seed}: {status} {body}");
    }
    rig.cluster.done.lock().unwrap().clear();
    tidegate_fuzzing::run!(|case: &Case| {
        let rig = &rig;
        let bytes = case.bytes(&seeds, &WORDS);
        let Some((status, headers, body)) = rig.call(&bytes) else {
            return;
        };
        let done = std::mem::take(&mut *rig.cluster.done.lock().unwrap());
        let shown = (
            String::from_utf8_lossy(&bytes),
            status,
            String::from_utf8_lossy(&body),
        );
        assert!(matches!(status, 200..=499 | 503 | 504), "{shown:?}");
        if status < 400 {
            return;
        }
        assert!(done.is_empty(), "{shown:?}");
        let problem = headers
            .get("content-type")
            .is_some_and(|it| it == "application/problem+json");
        assert!(problem, "{shown:?}");
        let problem: tidegate_client::Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.status, status, "{shown:?}");
        assert!(!problem.detail.is_empty(), "{shown:?}");
    });
}
