//! What is wrong with a call is told as a problem that names the place, and nothing is done.

use super::*;

const ID: &str = "7f00000107d000000001";

/// (call, body, status, what the detail says)
#[tokio::test]
async fn what_breaks_a_rule_is_refused_with_the_place_and_nothing_is_done() {
    let long = "x".repeat(256);
    let many = format!("{{\"uids\":{}}}", serde_json::json!(vec!["u"; 1001]));
    let deep = format!("{{\"k\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let to = |to: &str| format!("{{\"to\":{to},\"text\":\"x\"}}");
    let client = |rest: &str| format!("/v1/clients/{ID}{rest}");
    let cases: Vec<(String, String, u16, &str)> = vec![
        ("POST /v1/messages".into(), "{".into(), 400, "EOF"),
        ("POST /v1/messages".into(), to("7"), 400, "to: "),
        (
            "POST /v1/messages".into(),
            to("{\"group\":[]}"),
            400,
            "unknown field `group`",
        ),
        ("POST /v1/messages".into(), to("{}"), 400, "at least one of"),
        (
            "POST /v1/messages".into(),
            to("{\"clients\":[\"x\"]}"),
            400,
            "20 lower-case hex",
        ),
        (
            "POST /v1/messages".into(),
            to("{\"all_of_groups\":[]}"),
            400,
            "cannot be sent to",
        ),
        (
            "POST /v1/messages".into(),
            "{\"to\":[]}".into(),
            400,
            "`text` or `binary`",
        ),
        (
            "POST /v1/messages".into(),
            "{\"to\":[],\"text\":\"\",\"binary\":\"\"}".into(),
            400,
            "not both",
        ),
        (
            "POST /v1/messages".into(),
            "{\"to\":[],\"binary\":\"A\"}".into(),
            400,
            "base64",
        ),
        (
            "POST /v1/messages".into(),
            "{\"to\":[],\"text\":\"\",\"execpt\":[]}".into(),
            400,
            "execpt",
        ),
        (
            "POST /v1/batch".into(),
            "{\"actions\":[{\"ungroup\":{\"group\":\"a\"}},{\"ungroup\":{\"group\":\"\"}}]}".into(),
            400,
            "actions[1]: a group has 1 to 255 bytes",
        ),
        ("POST /v1/uids/online".into(), many, 400, "at most 1000"),
        (
            format!("PUT {}", client("/session")),
            deep,
            400,
            "recursion",
        ),
        (
            format!("PUT {}", client("/session")),
            "{\"\":1}".into(),
            400,
            "session key",
        ),
        (
            format!("PUT {}", client(&format!("/groups/{long}"))),
            String::new(),
            400,
            "has 256",
        ),
        (
            "PUT /v1/clients/x/groups/g".into(),
            String::new(),
            400,
            "is not a client id",
        ),
        (
            "PUT /v1/clients/%ff/groups/g".into(),
            String::new(),
            400,
            "UTF-8",
        ),
        (
            "GET /v1/clients?limit=0".into(),
            String::new(),
            400,
            "`limit` is 0",
        ),
        (
            "GET /v1/clients?limit=x".into(),
            String::new(),
            400,
            "the query: ",
        ),
        ("GET /v1/clients?lmit=1".into(), String::new(), 400, "lmit"),
        (
            "GET /v1/clients?after=n61".into(),
            String::new(),
            400,
            "`after`",
        ),
        (
            "GET /v1/clients?fields=uid,ip".into(),
            String::new(),
            400,
            "\"ip\"",
        ),
        (
            "GET /v1/groups?after=c".into(),
            String::new(),
            400,
            "is not a cursor",
        ),
        (
            "GET /v1/uids/count?estimate=true&group=g".into(),
            String::new(),
            400,
            "exact",
        ),
        (
            "GET /v1/feed?kind=gone".into(),
            String::new(),
            400,
            "\"gone\"",
        ),
        (
            "GET /v1/gateways/x:1/clients/1".into(),
            String::new(),
            400,
            "address of a gateway",
        ),
        (
            "POST /v1/requests".into(),
            "{\"name\":\"n\",\"text\":\"\",\"timeout_ms\":60001}".into(),
            400,
            "60000",
        ),
        (
            "GET /v1/nothing".into(),
            String::new(),
            404,
            "there is no /v1/nothing",
        ),
        ("GET /".into(), String::new(), 404, "/docs"),
        ("GET /v1/messages".into(), String::new(), 405, "has no GET"),
        (
            "POST /v1/messages".into(),
            String::new(),
            415,
            "Content-Type",
        ),
    ];
    let cluster = Arc::new(Scripted::gone());
    for (what, body, status, says) in cases {
        let got = ask(&cluster, &what, &body).await;
        assert_eq!(got.status, status, "{what} {body}: {got:?}");
        let (name, detail) = got.problem();
        assert_eq!(name, "invalid-argument", "{what} {body}");
        assert!(detail.contains(says), "{what} {body}: {detail}");
    }
    assert!(cluster.done.lock().unwrap().is_empty());
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
