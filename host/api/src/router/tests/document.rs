//! The document describes the router: every operation is served, secured and says how it refuses.

use std::collections::BTreeSet;

use super::*;
use crate::openapi::document;

/// Each operation of the document: method, path with values for its parts, and itself.
fn operations() -> Vec<(String, String, Value)> {
    let document = document();
    let mut found = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{client}", "7f00000107d000000001")
            .replace("{gateway}", "127.0.0.1:2000")
            .replace("{connection}", "1")
            .replace("{uid}", "u")
            .replace("{group}", "g")
            .replace("{task}", "0000000000000001-0-7-0");
        assert!(!path.contains('{'), "{path}");
        for (method, operation) in operations.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    assert_eq!(found.len(), 44);
    found
}

#[tokio::test]
async fn no_operation_is_there_without_a_token_or_with_a_wrong_one() {
    let cluster = Arc::new(Scripted::gone());
    let wrong = [
        "",
        "Bearer",
        "Bearer  ",
        "Basic dDp0",
        "Bearer token-of-tenant-x",
    ];
    for (method, path, _) in operations() {
        for value in wrong {
            let mut request = Request::builder().method(method.as_str()).uri(&path);
            if !value.is_empty() {
                request = request.header("authorization", value);
            }
            let got = call(&cluster, request, Body::empty()).await;
            assert_eq!(got.status, 401, "{method} {path} with {value:?}");
            assert_eq!(got.problem().0, "not-permitted");
            assert_eq!(got.headers["www-authenticate"], "Bearer");
        }
    }
    assert!(cluster.done.lock().unwrap().is_empty());
}

#[tokio::test]
async fn every_operation_is_served_and_answers_as_documented() {
    let cluster = Arc::new(Scripted::gone());
    for (method, path, operation) in operations() {
        for body in ["", "{}", "[]"] {
            let got = ask(&cluster, &format!("{method} {path}"), body).await;
            let documented = &operation["responses"][got.status.to_string()];
            assert!(documented.is_object(), "{method} {path} gave {got:?}");
            assert!(!matches!(got.status, 404 | 405), "{method} {path}: {got:?}");
            if got.status >= 400 {
                got.problem();
            }
        }
    }
}

#[test]
fn every_operation_is_secured_and_names_its_refusals() {
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations() {
        let at = format!("{method} {path}");
        assert_eq!(
            operation["security"],
            serde_json::json!([{"token": []}]),
            "{at}"
        );
        assert!(operation["summary"].is_string(), "{at}");
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "{at}: its id is there twice");
        for status in [
            "200", "400", "401", "404", "405", "429", "500", "503", "504",
        ] {
            let response = &operation["responses"][status];
            assert!(response["content"].is_object(), "{at} has no {status}");
        }
        let with_body = operation["requestBody"].is_object();
        assert_eq!(operation["responses"]["413"].is_object(), with_body, "{at}");
    }
}

#[test]
fn every_reference_has_its_target_and_messages_are_spread() {
    let document = document();
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        match value {
            Value::Object(members) => open.extend(members.values()),
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for name in ["Send", "Command", "CommandRun", "Request"] {
        let schema = &document["components"]["schemas"][name];
        let message = match name {
            "Send" => &schema["oneOf"][1]["required"][0],
            _ => &schema["not"]["required"][1],
        };
        assert_eq!(message, "binary", "{name}: {schema}");
        assert_eq!(schema["additionalProperties"], false, "{name}");
    }
}

#[tokio::test]
async fn the_document_and_the_page_are_for_everybody_and_from_here() {
    let cluster = Arc::new(Scripted::gone());
    let get = |uri: &str| call(&cluster, Request::get(uri), Body::empty());
    let got = get("/v1/openapi.json").await;
    assert_eq!((got.status, got.json()), (200, document()));
    let page = get("/docs/").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(
        page.headers["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'self'")
    );
    assert!(
        page.text.contains("<title>Tidegate Client API</title>"),
        "{}",
        page.text
    );
    assert_eq!(get("/docs/index.html").await.text, page.text);
    let root = get("/").await;
    assert_eq!(
        (root.status, &root.headers["location"]),
        (307, &"/docs/".parse().unwrap())
    );
    let about = document()["info"]["description"].to_string();
    for words in ["token", "openssl rand", "[[api-token]]", "Authorize"] {
        assert!(about.contains(words), "{about}");
    }
    let script = get("/docs/swagger-initializer.js").await;
    assert!(script.text.contains("/v1/openapi.json"), "{}", script.text);
    assert!(script.text.contains("BaseLayout"), "{}", script.text);
    assert!(!script.text.contains("http://") && !script.text.contains("https://"));
}
