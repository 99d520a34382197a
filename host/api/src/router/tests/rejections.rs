//! What is wrong with a call is told as a problem that names the place, and nothing is done.

use super::*;

const ID: &str = "7f00000107d000000001";

/// Call, body, status, what the detail says.
type Case = (&'static str, &'static str, u16, &'static str);

const BODIES: [Case; 14] = [
    ("POST /v1/messages", "{", 400, "EOF"),
    (
        "POST /v1/messages",
        r#"{"to":7,"text":"x"}"#,
        400,
        "the body: `to`: ",
    ),
    (
        "POST /v1/messages",
        r#"{"to":{"group":[]},"text":"x"}"#,
        400,
        "unknown field `group`",
    ),
    (
        "POST /v1/messages",
        r#"{"to":{},"text":"x"}"#,
        400,
        "at least one of",
    ),
    (
        "POST /v1/messages",
        r#"{"to":{"clients":["x"]},"text":"x"}"#,
        400,
        "20 lower-case hex",
    ),
    (
        "POST /v1/messages",
        r#"{"to":{"all_of_groups":[]},"text":"x"}"#,
        400,
        "cannot be sent to",
    ),
    (
        "POST /v1/messages",
        r#"{"to":[]}"#,
        400,
        "`text` or `binary`",
    ),
    (
        "POST /v1/messages",
        r#"{"to":[],"text":"","binary":""}"#,
        400,
        "not both",
    ),
    (
        "POST /v1/messages",
        r#"{"to":[],"binary":"A"}"#,
        400,
        "base64",
    ),
    (
        "POST /v1/messages",
        r#"{"to":[],"text":"","execpt":[]}"#,
        400,
        "unknown field `execpt` at line 1 column 31; did you mean `except`?",
    ),
    (
        "POST /v1/batch",
        r#"{"actions":[{"ungrop":{"group":"a"}}]}"#,
        400,
        "did you mean `ungroup`?",
    ),
    (
        "POST /v1/batch",
        r#"{"actions":[{"send":{"to":{"uid":[]},"text":""}}]}"#,
        400,
        "did you mean `uids`?",
    ),
    (
        "POST /v1/batch",
        r#"{"actions":[{"ungroup":{"group":"a"}},{"ungroup":{"group":""}}]}"#,
        400,
        "actions[1]: a group has 1 to 255 bytes",
    ),
    (
        "POST /v1/requests",
        r#"{"name":"n","text":"","timeout_ms":60001}"#,
        400,
        "60000",
    ),
];

const PATHS: [Case; 22] = [
    ("PUT /v1/clients/x/groups/g", "", 400, "is not a client id"),
    ("PUT /v1/clients/%ff/groups/g", "", 400, "UTF-8"),
    (
        "PUT /v1/clients/7f00000107d000000001/session",
        r#"{"":1}"#,
        400,
        "session key",
    ),
    ("GET /v1/clients?limit=0", "", 400, "`limit` is 0"),
    ("GET /v1/clients?limit=x", "", 400, "the query: `limit`: "),
    (
        "GET /v1/clients?lmit=1",
        "",
        400,
        "unknown parameter `lmit`, did you mean `limit`?",
    ),
    ("GET /v1/clients?colour=1", "", 400, "expected one of `"),
    ("GET /v1/status?verbose=1", "", 400, "this call has none"),
    (
        "POST /v1/messages?key=1",
        r#"{"to":[],"text":""}"#,
        400,
        "unknown parameter `key`",
    ),
    (
        "POST /v1/clients/7f00000107d000000001/destroy",
        r#"{"farewell":{"text":"bye"}}"#,
        400,
        "takes no body",
    ),
    (
        "DELETE /v1/clients/7f00000107d000000001/session",
        r#"["cart"]"#,
        400,
        "takes no body",
    ),
    ("GET /v1/status", "{}", 400, "takes no body"),
    ("GET /v1/clients?after=n61", "", 400, "`after`"),
    ("GET /v1/clients?fields=uid,ip", "", 400, "\"ip\""),
    ("GET /v1/groups?after=c", "", 400, "is not a cursor"),
    ("GET /v1/uids/count?estimate=true&group=g", "", 400, "exact"),
    ("GET /v1/feed?kind=gone", "", 400, "\"gone\""),
    (
        "GET /v1/gateways/x:1/clients/1",
        "",
        400,
        "address of a gateway",
    ),
    (
        "GET /v1/gateways/127.0.0.1:1/clients/-1",
        "",
        400,
        "a connection's number",
    ),
    ("GET /v1/nothing", "", 404, "there is no /v1/nothing"),
    ("GET /v1/messages", "", 405, "has no GET"),
    ("POST /v1/messages", "", 415, "Content-Type"),
];

async fn refused(cluster: &Arc<Scripted>, call: &str, body: &str, status: u16, says: &str) {
    let got = ask(cluster, call, body).await;
    assert_eq!(got.status, status, "{call} {body}: {got:?}");
    let (name, detail) = got.problem();
    assert_eq!(name, "invalid-argument", "{call} {body}");
    assert!(detail.contains(says), "{call} {body}: {detail}");
    assert!(cluster.done.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_with_the_place_and_nothing_is_done() {
    let cluster = Arc::new(Scripted::gone());
    for (call, body, status, says) in BODIES.into_iter().chain(PATHS) {
        refused(&cluster, call, body, status, says).await;
    }
}

#[tokio::test]
async fn long_names_long_lists_and_deep_values_are_refused() {
    let cluster = Arc::new(Scripted::gone());
    let call = format!("PUT /v1/clients/{ID}/groups/{}", "x".repeat(256));
    refused(&cluster, &call, "", 400, "has 256").await;
    let many = format!("{{\"uids\":{}}}", serde_json::json!(vec!["u"; 1001]));
    refused(&cluster, "POST /v1/uids/online", &many, 400, "at most 1000").await;
    let deep = format!("{{\"k\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let call = format!("PUT /v1/clients/{ID}/session");
    refused(&cluster, &call, &deep, 400, "nested 200 deep").await;
}

#[tokio::test]
async fn a_wrong_method_is_told_with_those_that_are_right() {
    let cluster = Arc::new(Scripted::gone());
    let got = ask(&cluster, &format!("POST /v1/clients/{ID}/uid"), "").await;
    assert_eq!(got.status, 405);
    let allow = got.headers["allow"].to_str().unwrap();
    assert!(allow.contains("PUT") && allow.contains("DELETE"), "{allow}");
}

#[tokio::test]
async fn a_body_that_is_too_long_not_utf_8_or_not_json_is_refused() {
    let cluster = Arc::new(Scripted::gone());
    let send = |body: Vec<u8>, kind: &'static str| {
        let request = Request::post("/v1/messages")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", kind);
        call(&cluster, request, Body::from(body))
    };
    let json = "application/json; charset=utf-8";
    let text = "x".repeat(BODY_BYTES_MAX);
    let long = format!("{{\"to\":[],\"text\":\"{text}\"}}");
    let got = send(long.into_bytes(), json).await;
    assert_eq!((got.status, &*got.problem().0), (413, "invalid-argument"));
    let got = send(b"{\"to\":[],\"text\":\"\xff\"}".to_vec(), json).await;
    assert_eq!((got.status, &*got.problem().0), (400, "invalid-argument"));
    let got = send(b"{\"to\":[],\"text\":\"\"}".to_vec(), "text/plain").await;
    assert_eq!((got.status, &*got.problem().0), (415, "invalid-argument"));
    let got = send(b"{\"to\":[],\"text\":\"\"}".to_vec(), json).await;
    assert_eq!(got.status, 200, "{got:?}");
}

#[tokio::test]
async fn a_key_that_would_change_nothing_is_refused() {
    let cluster = Arc::new(Scripted::gone());
    for call_ in [
        format!("POST /v1/clients/{ID}/session/compare-and-set"),
        "POST /v1/deployment/promote".to_owned(),
        "POST /v1/uids/online".to_owned(),
    ] {
        let (method, uri) = call_.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(uri);
        let request = request
            .header("authorization", format!("bearer {TOKEN}"))
            .header("idempotency-key", "k");
        let got = call(&cluster, request, Body::empty()).await;
        assert_eq!(got.status, 400, "{call_}: {got:?}");
        assert!(got.problem().1.contains("idempotency-key"), "{got:?}");
    }
}

#[tokio::test]
async fn a_key_that_is_too_long_or_not_printable_is_refused() {
    let cluster = Arc::new(Scripted::gone());
    for key in ["", "a\tb", &"k".repeat(256)] {
        let request = Request::delete("/v1/groups/g")
            .header("authorization", format!("bearer {TOKEN}"))
            .header("idempotency-key", key);
        let got = call(&cluster, request, Body::empty()).await;
        assert_eq!(
            (got.status, &*got.problem().0),
            (400, "invalid-argument"),
            "{key:?}"
        );
    }
}
