//! What calls ask and do, and how answers are told.

use tidegate_wire::effect::{Recipients, SessionChange};
use tidegate_wire::event::{CloseFrame, Message};
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, ClientInfo, Selector};

use super::*;

const ID: &str = "7f00000107d000000001";

fn id() -> ClientId {
    ID.parse().unwrap()
}

fn whole(answer: Answer) -> Result<Answered, AskError> {
    let missing = Vec::new();
    Ok(Answered { answer, missing })
}

#[tokio::test]
async fn a_send_to_several_kinds_of_selectors_is_one_effect_for_their_union() {
    let cluster = Arc::new(Scripted::gone());
    let one = format!("{{\"clients\":[\"{ID}\"]}}");
    let cases = [
        ("[]".to_owned(), None),
        ("{\"clients\":[]}".into(), None),
        (one.clone(), Some(Recipients::Client(id()))),
        (
            format!("[{one},{one}]"),
            Some(Recipients::Clients(vec![id(), id()])),
        ),
        (
            "{\"groups\":[\"b\",\"a\"]}".into(),
            Some(Recipients::Groups(vec!["b".into(), "a".into()])),
        ),
        (
            format!("[{one},{{\"uids\":[\"0\"],\"groups\":[\"g\"]}}]"),
            Some(Recipients::AnyOf {
                clients: vec![id()],
                uids: vec!["0".into()],
                groups: vec!["g".into()],
            }),
        ),
        (
            format!("[{one},{{\"everyone\":true}}]"),
            Some(Recipients::Everyone),
        ),
    ];
    for (to, wanted) in cases {
        let body = format!("{{\"to\":{to},\"text\":\"hi\",\"except\":[\"{ID}\"]}}");
        let got = ask(&cluster, "POST /v1/messages", &body).await;
        assert_eq!(
            (got.status, got.json()["status"].as_str()),
            (200, Some("done"))
        );
        let (tenant, once, effects) = cluster.done.lock().unwrap().pop().unwrap();
        assert_eq!((&*tenant, once), ("t", None));
        let sent = effects.into_iter().map(|effect| {
            let Effect::Send { to, except, .. } = effect else {
                panic!("{effect:?}")
            };
            assert_eq!(except, [id()]);
            to
        });
        assert_eq!(sent.collect::<Vec<_>>(), Vec::from_iter(wanted), "{to}");
    }
}

#[tokio::test]
async fn actions_on_paths_and_in_a_batch_are_the_same_effects() {
    let cluster = Arc::new(Scripted::gone());
    let client = id();
    let group: Name = "a/b %".into();
    let session = |change| Effect::Session { client, change };
    let cases = [
        (
            format!("PUT /v1/clients/{ID}/groups/a%2Fb%20%25"),
            String::new(),
            format!("{{\"join\":{{\"client\":\"{ID}\",\"group\":\"a/b %\"}}}}"),
            vec![Effect::JoinGroup { client, group }],
        ),
        (
            format!("PUT /v1/clients/{ID}/uid"),
            "{\"uid\":\"0\"}".into(),
            format!("{{\"bind\":{{\"client\":\"{ID}\",\"uid\":\"0\"}}}}"),
            vec![Effect::BindUid {
                client,
                uid: "0".into(),
            }],
        ),
        (
            format!("PATCH /v1/clients/{ID}/session?deep=true"),
            "{\"b\":{\"c\":null},\"a\":1}".into(),
            format!(
                "{{\"update_session\":{{\"client\":\"{ID}\",\"deep\":true,\
                 \"entries\":{{\"a\":1,\"b\":{{\"c\":null}}}}}}}}"
            ),
            vec![
                session(SessionChange::Merge {
                    key: "a".into(),
                    value: "1".into(),
                }),
                session(SessionChange::Merge {
                    key: "b".into(),
                    value: "{\"c\":null}".into(),
                }),
            ],
        ),
        (
            format!("PUT /v1/clients/{ID}/session"),
            "{\"n\":-123456789012345678901234567890,\"e\":1e400}".into(),
            format!(
                "{{\"set_session\":{{\"client\":\"{ID}\",\
                 \"entries\":{{\"n\":-123456789012345678901234567890,\"e\":1e400}}}}}}"
            ),
            vec![session(SessionChange::Replace(vec![
                ("e".into(), "1e400".into()),
                ("n".into(), "-123456789012345678901234567890".into()),
            ]))],
        ),
        (
            format!("POST /v1/clients/{ID}/close"),
            String::new(),
            format!("{{\"close\":{{\"client\":\"{ID}\"}}}}"),
            vec![Effect::Close {
                client,
                farewell: None,
                frame: None,
            }],
        ),
        (
            "POST /v1/uids/ann/close".into(),
            "{\"code\":4003,\"reason\":\"banned\"}".into(),
            "{\"close_uid\":{\"uid\":\"ann\",\"code\":4003,\"reason\":\"banned\"}}".into(),
            vec![Effect::CloseUid {
                uid: "ann".into(),
                farewell: None,
                frame: Some(Box::new(CloseFrame {
                    code: 4003,
                    reason: "banned".into(),
                })),
            }],
        ),
        (
            "POST /v1/messages".into(),
            "{\"to\":{\"everyone\":true},\"text\":\"hi\",\"latest\":\"k\"}".into(),
            "{\"send\":{\"to\":{\"everyone\":true},\"text\":\"hi\",\"latest\":\"k\"}}".into(),
            vec![Effect::SendLatest {
                to: Recipients::Everyone,
                key: "k".into(),
                message: Message::Text(b"hi".to_vec().into()),
                except: vec![],
            }],
        ),
    ];
    for (call, body, action, wanted) in cases {
        let got = ask(&cluster, &call, &body).await;
        assert_eq!(got.status, 200, "{call}: {got:?}");
        let batch = format!("{{\"actions\":[{action}]}}");
        let got = ask(&cluster, "POST /v1/batch", &batch).await;
        assert_eq!(got.status, 200, "{action}: {got:?}");
        let done: Vec<_> = std::mem::take(&mut *cluster.done.lock().unwrap());
        for (_, _, effects) in done {
            assert_eq!(effects, wanted, "{call}");
        }
    }
}

#[tokio::test]
async fn a_key_and_a_call_have_the_same_hashes_until_either_changes() {
    let cluster = Arc::new(Scripted::gone());
    let send = async |key: &str, text: &str| {
        let request = Request::post("/v1/messages")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        let body = format!("{{\"to\":[],\"text\":\"{text}\"}}");
        let got = call(&cluster, request, Body::from(body)).await;
        assert_eq!(got.status, 200);
        let (_, once, _) = cluster.done.lock().unwrap().pop().unwrap();
        once.unwrap()
    };
    let first = send("k", "a").await;
    assert_eq!(first, send("k", "a").await);
    let other_body = send("k", "b").await;
    assert_eq!(first.key, other_body.key);
    assert_ne!(first.request, other_body.request);
    assert_ne!(first.key, send("l", "a").await.key);
}

#[tokio::test]
async fn a_used_key_is_told_as_repeated_and_one_for_another_call_as_a_conflict() {
    for (once, status, says) in [
        (Once::Again, 200, "repeated"),
        (Once::Reused, 409, "conflict"),
    ] {
        let cluster = Arc::new(Scripted {
            once,
            ..Scripted::gone()
        });
        let request = Request::delete("/v1/groups/g")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("idempotency-key", "k");
        let got = call(&cluster, request, Body::empty()).await;
        assert_eq!(got.status, status);
        assert!(got.text.contains(says), "{got:?}");
    }
}

#[tokio::test]
async fn one_client_is_there_offline_or_behind_a_gateway_that_is_silent() {
    let call = format!("GET /v1/clients/{ID}");
    let found = |answer: Vec<ClientInfo>, missing: Vec<std::net::SocketAddrV4>| {
        Arc::new(Scripted::new(move |query| {
            let Query::Clients { of, fields, .. } = query else {
                panic!("{query:?}")
            };
            assert_eq!(of, &[Selector::Clients(vec![id()])]);
            assert!(fields.peer && fields.traffic);
            let (page, more) = (answer.clone(), false);
            let answer = Answer::Clients { page, more };
            let missing = missing.clone();
            Ok(Answered { answer, missing })
        }))
    };
    let mut info = ClientInfo::new(id());
    info.session = vec![(
        "k".into(),
        "{\"a\":[1,null,123456789012345678901234567890,1e400]}".into(),
    )];
    let got = ask(&found(vec![info], vec![]), &call, "").await;
    assert_eq!(got.status, 200);
    assert!(
        got.text.contains("\"gateway\":\"127.0.0.1:2000\""),
        "{got:?}"
    );
    // Every digit, though a reader may round.
    let session = r#""session":{"k":{"a":[1,null,123456789012345678901234567890,1e400]}}"#;
    assert!(got.text.contains(session), "{}", got.text);
    let got = ask(&found(vec![], vec![]), &call, "").await;
    assert_eq!((got.status, &*got.problem().0), (404, "offline"));
    let own = vec![id().gateway()];
    let got = ask(&found(vec![], own), &call, "").await;
    assert_eq!((got.status, &*got.problem().0), (504, "timeout"));
    let other = vec!["127.0.0.1:9".parse().unwrap()];
    let got = ask(&found(vec![], other), &call, "").await;
    assert_eq!((got.status, &*got.problem().0), (404, "offline"));
}

#[tokio::test]
async fn a_page_goes_on_with_its_cursor_and_names_who_is_missing() {
    let cluster = Arc::new(Scripted::new(|query| {
        let Query::Groups { after, limit } = query else {
            panic!("{query:?}")
        };
        assert_eq!(*limit, 2);
        let (page, more) = match after.as_deref() {
            None => (vec!["a".into(), "й".into()], true),
            Some("й") => (vec!["я".into()], false),
            Some(other) => panic!("{other}"),
        };
        Ok(Answered {
            answer: Answer::Names { page, more },
            missing: vec!["127.0.0.1:2001".parse().unwrap()],
        })
    }));
    let first = ask(&cluster, "GET /v1/groups?limit=2", "").await.json();
    assert_eq!(first["items"], serde_json::json!(["a", "й"]));
    assert_eq!(first["missing"], serde_json::json!(["127.0.0.1:2001"]));
    let next = first["next"].as_str().unwrap();
    let call = format!("GET /v1/groups?limit=2&after={next}");
    let second = ask(&cluster, &call, "").await.json();
    assert_eq!(second["items"], serde_json::json!(["я"]));
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn selectors_in_a_query_may_repeat_and_none_is_everyone() {
    let cluster = Arc::new(Scripted::new(|query| {
        let Query::ClientCount { of } = query else {
            panic!("{query:?}")
        };
        whole(Answer::Count(of.iter().fold(0, |sum, of| match of {
            Selector::Everyone => 1000,
            Selector::Uids(list) | Selector::Groups(list) | Selector::AllOfGroups(list) => {
                sum + list.len() as u64
            }
            Selector::Clients(list) => sum + list.len() as u64,
        })))
    }));
    let count = async |query: &str| {
        let got = ask(&cluster, &format!("GET /v1/clients/count{query}"), "").await;
        got.json()["count"].as_u64().unwrap()
    };
    assert_eq!(count("").await, 1000);
    assert_eq!(count("?group=a&group=%D0%B1+c&uid=0").await, 3);
    assert_eq!(count("?all_of_groups=a&all_of_groups=b").await, 2);
    let got = ask(&cluster, "POST /v1/clients/count", "{\"of\":[]}").await;
    assert_eq!(got.json()["count"], 0);
}

#[tokio::test]
async fn errors_of_the_cluster_have_their_statuses_and_names() {
    let cases = [
        (AskError::Gone, 503, "other"),
        (AskError::Timeout, 504, "timeout"),
        (AskError::Invalid("x".into()), 400, "invalid-argument"),
        (AskError::Overloaded("x".into()), 429, "quota-exceeded"),
    ];
    for (error, status, name) in cases {
        let cluster = Arc::new(Scripted::new(move |_| Err(error.clone())));
        let got = ask(&cluster, "GET /v1/status", "").await;
        assert_eq!((got.status, &*got.problem().0), (status, name));
        assert_eq!(
            got.headers.contains_key("retry-after"),
            matches!(status, 429 | 503)
        );
    }
    let cases = [
        (RequestError::Failed("no".into()), 422, "other"),
        (RequestError::Unhandled, 422, "other"),
        (RequestError::DeadLettered, 502, "other"),
        (RequestError::Timeout, 504, "timeout"),
        (RequestError::Overloaded("x".into()), 429, "quota-exceeded"),
        (RequestError::Ending, 503, "other"),
        (RequestError::Reused, 409, "conflict"),
        (RequestError::Forgotten, 409, "conflict"),
    ];
    for (error, status, name) in cases {
        let cluster = Arc::new(Scripted {
            reply: Err(error),
            ..Scripted::gone()
        });
        let got = ask(
            &cluster,
            "POST /v1/requests",
            "{\"name\":\"n\",\"text\":\"\"}",
        )
        .await;
        assert_eq!((got.status, &*got.problem().0), (status, name));
    }
}

#[tokio::test]
async fn a_request_with_a_key_goes_to_whoever_remembers_it_with_a_hash_of_the_call() {
    let cluster = Arc::new(Scripted {
        reply: Ok(Bytes::from_static(b"paid")),
        ..Scripted::gone()
    });
    let request = async |key: &'static str, body: &'static str| {
        let request = Request::post("/v1/requests")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        let got = call(&cluster, request, Body::from(body)).await;
        assert_eq!((got.status, &*got.text), (200, "{\"text\":\"paid\"}"));
        let done = cluster.done.lock().unwrap();
        done.last().unwrap().1.unwrap()
    };
    let first = request("k", "{\"name\":\"n\"}").await;
    assert_eq!(request("k", "{\"name\":\"n\"}").await, first);
    let other = request("k", "{\"name\":\"m\"}").await;
    assert_eq!(other.key, first.key);
    assert_ne!(other.request, first.request);
    assert_ne!(request("l", "{\"name\":\"n\"}").await.key, first.key);
}

#[tokio::test]
async fn a_request_and_a_command_may_have_nothing_to_say() {
    let cluster = Arc::new(Scripted {
        reply: Ok(Bytes::new()),
        ..Scripted::gone()
    });
    let got = ask(&cluster, "POST /v1/requests", "{\"name\":\"n\"}").await;
    assert_eq!(got.status, 200, "{got:?}");
    let body = "{\"name\":\"n\",\"wait\":false}";
    let got = ask(&cluster, "POST /v1/commands", body).await;
    assert_eq!(got.status, 200, "{got:?}");
    let body = "{\"name\":\"n\",\"text\":\"a\",\"binary\":\"\"}";
    let got = ask(&cluster, "POST /v1/requests", body).await;
    assert!(got.problem().1.contains("not both"), "{got:?}");
    let got = ask(&cluster, "POST /v1/messages", "{\"to\":[]}").await;
    assert_eq!(got.status, 400, "a message says something");
}

#[tokio::test]
async fn a_command_that_is_waited_for_takes_no_key() {
    let cluster = Arc::new(Scripted::gone());
    let request = Request::post("/v1/commands")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .header("idempotency-key", "k");
    let got = call(&cluster, request, Body::from("{\"name\":\"n\"}")).await;
    assert_eq!(got.status, 400, "{got:?}");
    assert!(got.problem().1.contains("\"wait\": false"), "{got:?}");
}

#[tokio::test]
async fn a_reply_is_text_if_it_can_be_and_else_base64() {
    for (reply, wanted) in [
        (&b"hi"[..], "{\"text\":\"hi\"}"),
        (b"\xff", "{\"binary\":\"/w==\"}"),
    ] {
        let cluster = Arc::new(Scripted {
            reply: Ok(Bytes::from_static(reply)),
            ..Scripted::gone()
        });
        let got = ask(
            &cluster,
            "POST /v1/requests",
            "{\"name\":\"n\",\"binary\":\"\"}",
        )
        .await;
        assert_eq!((got.status, &*got.text), (200, wanted));
    }
}

#[tokio::test]
async fn the_feed_tells_first_whom_it_is_without() {
    let cluster = Arc::new(Scripted::gone());
    let got = ask(&cluster, "GET /v1/feed?kind=joined,left&kind=bound", "").await;
    assert_eq!(got.status, 200);
    assert_eq!(
        got.text,
        "event: coverage\ndata: {\"missing\":[\"127.0.0.1:2001\"]}\n\n\
         event: missed\ndata: {\"missed\":3}\n\n"
    );
}
