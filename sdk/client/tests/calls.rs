//! The client against scripted servers: what it repeats, under which key, and what it says when
//! nothing helps.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken script fails the test"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use tidegate_client::{Client, Error, FeedFilter, Message, Selector, Send, Told};

const TOKEN: &str = "0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers in order, and the idempotency keys that were seen.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
    keys: Arc<Mutex<Vec<String>>>,
}

async fn answer(State(script): State<Script>, headers: HeaderMap) -> Response {
    let key = headers.get("idempotency-key");
    let key = key.map_or("", |key| key.to_str().unwrap());
    script.keys.lock().unwrap().push(key.to_owned());
    let next = script.answers.lock().unwrap().pop_front();
    match next {
        Some((status, body)) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        None => std::future::pending().await,
    }
}

async fn serve(listener: tokio::net::TcpListener, script: &Script) {
    let app = Router::new().fallback(answer).with_state(script.clone());
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
}

async fn script(answers: &[(u16, &'static str)]) -> (Script, String) {
    let script = Script::default();
    script.answers.lock().unwrap().extend(answers);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    serve(listener, &script).await;
    (script, url)
}

/// An address that was free a moment ago.
async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn client(url: &str, ms: u64) -> Client {
    let builder = Client::builder(url).token(TOKEN);
    builder.deadline(Duration::from_millis(ms)).build().unwrap()
}

const BUSY: &str =
    r#"{"type":"about:blank","title":"","status":503,"detail":"ending","error":"other"}"#;

#[tokio::test]
async fn an_action_is_repeated_under_one_key() {
    let (script, url) = script(&[(503, BUSY), (503, BUSY), (200, r#"{"status":"done"}"#)]).await;
    let send = Send::new(Selector::everyone(), "hello");
    client(&url, 10_000).send(&send).await.unwrap();
    let keys = script.keys.lock().unwrap().clone();
    assert_eq!(keys.len(), 3);
    assert!(
        !keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]),
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_client_without_keys_repeats_only_what_was_not_taken() {
    let busy = r#"{"type":"about:blank","title":"","status":429,"detail":"busy","error":"quota-exceeded"}"#;
    let (script, url) = script(&[(429, busy), (504, BUSY), (200, "{}")]).await;
    let client = Client::builder(&url).token(TOKEN).keys(false);
    let send = Send::new(Selector::everyone(), "hello");
    let done = client.build().unwrap().send(&send).await;
    assert!(matches!(done, Err(Error::Refused(_))), "{done:?}");
    assert_eq!(*script.keys.lock().unwrap(), ["", ""]);
}

#[tokio::test]
async fn a_request_to_the_handler_is_made_once() {
    let (script, url) = script(&[(503, BUSY), (200, "{}")]).await;
    let made = client(&url, 10_000)
        .request(
            "pay",
            Message::of_bytes(b"7".to_vec()),
            Duration::from_secs(1),
        )
        .await;
    assert!(matches!(made, Err(Error::Refused(_))), "{made:?}");
    assert_eq!(script.keys.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_deadline_tells_why_the_last_repetition_failed() {
    let url = format!("http://{}", nobody().await);
    let error = client(&url, 300).status().await.unwrap_err().to_string();
    assert!(
        error.contains("within 300 ms") && error.contains("refused"),
        "{error}"
    );

    let (_script, url) = script(&[]).await;
    let error = client(&url, 100).status().await.unwrap_err().to_string();
    assert_eq!(error, format!("{url} gave no answer within 100 ms"));
}

#[tokio::test]
async fn a_call_ends_within_its_deadline_with_all_its_repetitions_and_pauses() {
    let late = Duration::from_millis(250);
    let call = async |ms: u64| {
        let (_script, url) = script(&[(503, BUSY); 20]).await;
        let start = Instant::now();
        let error = client(&url, ms).status().await.unwrap_err();
        (Duration::from_millis(ms), start.elapsed(), error)
    };
    // The longer it has gone on, the longer are the pauses.
    let (a, b, c) = tokio::join!(call(700), call(1500), call(3100));
    for (within, took, error) in [a, b, c] {
        assert!(took < within + late, "{took:?} instead of {within:?}");
        assert!(error.to_string().contains("ending"), "{error}");
    }
}

#[tokio::test]
async fn calls_of_one_work_end_together() {
    let (_script, url) = script(&[]).await;
    let (within, late) = (Duration::from_millis(300), Duration::from_millis(600));
    let client = client(&url, 10_000).ending_within(within);
    let start = Instant::now();
    let request = client.request("slow", "", Duration::from_secs(10));
    let (status, deployment, request) = tokio::join!(client.status(), client.deployment(), request);
    assert!(start.elapsed() < within + late, "{:?}", start.elapsed());
    assert!(matches!(status, Err(Error::Deadline { .. })), "{status:?}");
    assert!(deployment.is_err() && request.is_err());
    // What comes after has no time left.
    let start = Instant::now();
    assert!(client.status().await.is_err());
    assert!(start.elapsed() < late, "{:?}", start.elapsed());
}

#[tokio::test]
async fn who_is_not_patient_hears_at_once_that_nobody_is_there() {
    let url = format!("http://{}", nobody().await);
    let start = Instant::now();
    let client = Client::builder(&url).token(TOKEN).patient(false);
    let error = client.build().unwrap().status().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&url), "{error}");
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_is_no_client_api_is_said_to_be_none() {
    let (_script, url) = script(&[(405, ""), (404, "not found: /healthz is there")]).await;
    let client = client(&url, 10_000);
    for says in ["says nothing", "/healthz is there"] {
        let error = client.status().await.unwrap_err().to_string();
        assert!(error.contains(&url) && error.contains(says), "{error}");
    }
}

#[test]
fn a_wrong_url_or_token_is_refused_before_anything_is_sent() {
    for (url, token, says) in [
        ("127.0.0.1:7280", TOKEN, "http://127.0.0.1:7280 is right"),
        ("", TOKEN, "is not a URL"),
        ("ftp://host", TOKEN, "http"),
        ("http://host", "", "the token is empty"),
        ("http://host", "a b", "without spaces"),
    ] {
        let error = Client::new(url, token).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_feed_says_once_that_nobody_is_there_and_goes_on_when_somebody_is() {
    let address = nobody().await;
    let client = client(&format!("http://{address}"), 10_000);
    let mut feed = pin!(client.feed(&FeedFilter::default()));
    let first = feed.try_next().await.unwrap();
    assert!(matches!(first, Some(Told::Broken(_))), "{first:?}");

    let script = Script::default();
    let coverage = "event: coverage\ndata: {\"missing\":[]}\n\n";
    script.answers.lock().unwrap().push_back((200, coverage));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    serve(listener, &script).await;
    let next = tokio::time::timeout(PATIENCE, feed.try_next()).await;
    assert_eq!(next.unwrap().unwrap(), Some(Told::Coverage(Vec::new())));
}
