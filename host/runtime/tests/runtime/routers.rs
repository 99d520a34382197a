//! Routers: what they are told and what they answer, and that one that fails is passed over in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_runtime::{Limits, OnDemandSettings, PluginError, RouterDeployment};
use tidegate_wire::Name;
use tidegate_wire::event::{EventType, Message};
use tidegate_wire::routing::{RouteCall, RouteCandidate, Routed, RouterPassed};

use crate::harness::{arrival, client, guest, marked, plugin, router_guest, runtime};

fn settings(tenant: &str) -> OnDemandSettings {
    OnDemandSettings {
        tenant: tenant.into(),
        gateway_name: "g1".into(),
        limits: Limits {
            cpu_ms: 100,
            wall_ms: 300,
            memory_bytes: 16 << 20,
            ..Limits::default()
        },
        config: serde_json::Map::new(),
        instances_max: 2,
        waiting_max: 2,
    }
}

async fn start(settings: OnDemandSettings) -> RouterDeployment {
    let plugin = plugin(router_guest()).await;
    RouterDeployment::start(&runtime(), plugin, settings)
        .await
        .unwrap()
}

fn call(text: &str) -> RouteCall {
    let candidate = |name: &str, tags: &[&str]| RouteCandidate {
        name: name.into(),
        tags: tags.iter().copied().map(Name::from).collect(),
        clients: 7,
        queued_bytes: 9,
    };
    RouteCall {
        kind: EventType::Message,
        client: Some(client(1)),
        peer: Some(arrival().peer.clone()),
        uid: Some("ann".into()),
        session: vec![("room".into(), "\"w2\"".to_owned())],
        payload: Some(Message::Text(text.as_bytes().to_vec().into())),
        candidates: Arc::new(vec![candidate("w1", &["a", "b"]), candidate("w2", &[])]),
    }
}

async fn ask(router: &RouterDeployment, text: &str) -> Routed {
    router.route(call(text)).await
}

#[tokio::test]
async fn it_is_told_of_the_event_and_the_workers_and_chooses_one_or_none() {
    let router = start(settings("routed")).await;
    let id = client(1);
    let told = format!(
        "expect:EventKind::Message|{id}|127.0.0.1:5000|ann|[(\"room\", \"\\\"w2\\\"\")]|w1(a,b) 7 9;w2() 7 9"
    );
    assert_eq!(ask(&router, &told).await, Ok(Some(1)));
    assert_eq!(ask(&router, "route=w1;").await, Ok(Some(0)));
    assert_eq!(ask(&router, "route=w3;").await, Ok(None));
    assert_eq!(ask(&router, "").await, Ok(None));
    let mut request = call("expect:EventKind::Request|-|-|-|[]|w1(a,b) 7 9;w2() 7 9");
    request.kind = EventType::Request;
    (request.client, request.peer, request.uid) = (None, None, None);
    request.session.clear();
    assert_eq!(router.route(request).await, Ok(Some(1)));
    assert_eq!(router.fault(), None);
}

#[tokio::test]
async fn one_that_fails_is_passed_over_in_time_named_and_then_left_alone_for_a_while() {
    for (script, why) in [
        ("!trap", "unreachable"),
        ("!loop", "CPU limit of 100 ms"),
        ("!sleep", "time limit of 300 ms"),
        ("!grow", "memory limit"),
        ("!far", "number 99 of 2 workers"),
    ] {
        let router = start(settings(&format!("failing{script}"))).await;
        let begun = Instant::now();
        assert_eq!(ask(&router, script).await, Err(RouterPassed::Failed));
        assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
        let fault = router.fault().unwrap_or_default();
        assert!(fault.contains(why), "{script}: {fault}");
        // It is as good as before, and nothing is wrong with it any more.
        assert_eq!(ask(&router, "route=w2;").await, Ok(Some(1)), "{script}");
        assert_eq!(router.fault(), None);
        for _ in 0..5 {
            assert_eq!(ask(&router, script).await, Err(RouterPassed::Failed));
        }
        assert_eq!(ask(&router, "route=w2;").await, Err(RouterPassed::Paused));
        assert!(router.fault().is_some());
        // A new version begins anew.
        let next = plugin(marked(router_guest(), 1)).await;
        router.swap(next).await.unwrap();
        assert_eq!(ask(&router, "route=w2;").await, Ok(Some(1)), "{script}");
    }
}

#[tokio::test]
async fn calls_over_its_bounds_do_not_wait() {
    let mut settings = settings("crowded");
    settings.limits.wall_ms = 3_000;
    let router = start(settings).await;
    // Two run and two wait.
    let many: Vec<_> = (0..4).map(|_| router.route(call("!sleep"))).collect();
    assert_eq!(
        ask(&router, "route=w1;").await,
        Err(RouterPassed::Overloaded)
    );
    for routed in many {
        assert_eq!(routed.await, Err(RouterPassed::Failed));
    }
    assert_eq!(ask(&router, "route=w1;").await, Ok(Some(0)));
    router.stop(Duration::from_secs(1)).await;
    assert_eq!(
        ask(&router, "route=w1;").await,
        Err(RouterPassed::Overloaded)
    );
}

#[tokio::test]
async fn a_handler_is_no_router_and_a_router_no_handler() {
    let handler = plugin(guest()).await;
    let refused = RouterDeployment::start(&runtime(), handler, settings("wrong")).await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.ends_with("is a handler; a router is wanted here"),
        "{text}"
    );
    let router = plugin(router_guest()).await;
    let kind = router.expect_kind(tidegate_runtime::PluginKind::Handler);
    assert!(matches!(kind, Err(PluginError::WrongKind { .. })));
}
