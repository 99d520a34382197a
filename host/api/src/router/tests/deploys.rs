//! Who may deploy, what is taken, and how what happens is told.

use axum::http::request::Builder;

use super::*;

async fn as_deployer(call_: &str, kind: &str, body: impl Into<Body>) -> Got {
    with(DEPLOYER, call_, kind, body).await
}

async fn with(token: &str, call_: &str, kind: &str, body: impl Into<Body>) -> Got {
    let (method, uri) = call_.split_once(' ').unwrap();
    let request: Builder = Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", kind)
        .header("authorization", format!("Bearer {token}"));
    call(&Arc::new(Scripted::gone()), request, body.into()).await
}

#[tokio::test]
async fn a_token_without_the_right_changes_nothing() {
    for call_ in [
        "POST /v1/deployment",
        "DELETE /v1/deployment",
        "POST /v1/deployment/rollback",
        "POST /v1/deployment/promote",
    ] {
        let takes_body = ["POST /v1/deployment", "POST /v1/deployment/rollback"].contains(&call_);
        let body = vec![0; if takes_body { 1 << 20 } else { 0 }];
        let got = with(TOKEN, call_, "application/wasm", body).await;
        assert_eq!(got.status, 403, "{call_}");
        assert_eq!(got.problem().0, "not-permitted");
        let got = with("another-token-of-no-one", call_, "application/wasm", "x").await;
        assert_eq!(got.status, 401, "{call_}");
    }
    // It may look, and here there is nobody to ask.
    let got = with(TOKEN, "GET /v1/deployment", "", "").await;
    assert_eq!(got.status, 503);
    assert!(got.problem().1.contains("127.0.0.1:1236"));
}

#[tokio::test]
async fn what_happens_is_told_and_a_failure_before_it_is_a_refusal() {
    let got = as_deployer("POST /v1/deployment", "application/wasm", "bytes").await;
    assert_eq!(got.status, 200);
    assert_eq!(got.headers["content-type"], "text/event-stream");
    let text = &got.text;
    assert!(text.starts_with("event: uploaded\ndata: {\"event\":\"uploaded\",\"bytes\":5}\n\n"));
    assert!(
        text.contains("event: failed\n") && text.contains("\"status\":503"),
        "{text}"
    );

    let got = as_deployer("DELETE /v1/deployment", "", "").await;
    assert!(got.text.contains("\"version\":null"), "{got:?}");
    for (call_, status) in [
        ("POST /v1/deployment/rollback", 404),
        ("POST /v1/deployment/promote", 409),
    ] {
        let got = as_deployer(call_, "", "").await;
        assert_eq!(got.status, status, "{got:?}");
        got.problem();
    }
}

#[tokio::test]
async fn what_cannot_be_right_is_told_with_its_place() {
    const WASM: &str = "application/wasm";
    const JSON: &str = "application/json";
    for (call_, kind, body, status, words) in [
        ("POST /v1/deployment", JSON, "x", 415, "application/wasm"),
        ("POST /v1/deployment", WASM, "", 400, "the body is empty"),
        (
            "POST /v1/deployment?percent=101",
            WASM,
            "x",
            400,
            "0 to 100",
        ),
        ("POST /v1/deployment?percent=x", WASM, "x", 400, "percent"),
        (
            "POST /v1/deployment?seconds=5",
            WASM,
            "x",
            400,
            "nobody would try it",
        ),
        (
            "POST /v1/deployment?percent=1&seconds=86401",
            WASM,
            "x",
            400,
            "86400",
        ),
        (
            "POST /v1/deployment?client=7",
            WASM,
            "x",
            400,
            "20 lower-case hex",
        ),
        (
            "POST /v1/deployment?source=",
            WASM,
            "x",
            400,
            "1 to 255 bytes",
        ),
        (
            "POST /v1/deployment/rollback",
            JSON,
            "{\"to\":\"xyz\"}",
            400,
            "hex digits",
        ),
        (
            "POST /v1/deployment/rollback",
            JSON,
            "{\"t\":1}",
            400,
            "unknown field",
        ),
    ] {
        let got = as_deployer(call_, kind, body).await;
        assert_eq!(got.status, status, "{call_}: {got:?}");
        let (_, detail) = got.problem();
        assert!(detail.contains(words), "{call_}: {detail}");
    }
}

#[tokio::test]
async fn a_component_over_the_limit_is_refused_and_one_over_the_usual_limit_is_not() {
    let large = vec![0; BODY_BYTES_MAX + 1];
    let got = as_deployer("POST /v1/deployment", "application/octet-stream", large).await;
    assert_eq!(got.status, 200, "{got:?}");
    let limit = usize::try_from(tidegate_deploy::COMPONENT_BYTES_MAX).unwrap();
    let got = as_deployer(
        "POST /v1/deployment",
        "application/wasm",
        vec![0; limit + 1],
    )
    .await;
    assert_eq!(got.status, 413);
    assert!(got.problem().1.contains("67108864"));
}
