//! Requests from outside into a handler, with its answer to the caller.

use anyhow::ensure;
use serde_json::{Value, json};
use tidegate_tests::Outcome;

use super::Place;

#[tokio::test]
async fn a_request_brings_back_what_the_handler_answers() -> Outcome {
    for place in Place::both("requests")? {
        for gateway in 0..3 {
            let api = place.api(gateway)?;
            for payload in [
                json!({"text": "hello"}),
                json!({"text": ""}),
                json!({"text": "zwei 二 🌊"}),
                json!({"binary": "AP+A"}),
            ] {
                let mut body = payload.clone();
                body["name"] = json!("echo");
                let got = api.post("/v1/requests", &body).await?.ok()?;
                ensure!(got == payload, "{body} is answered by {got}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_fails_says_how() -> Outcome {
    for place in Place::both("requests")? {
        let api = place.api(1)?;
        for (name, timeout_ms, status, error) in [
            ("fail", 5000, 422, "other"),
            ("no such name", 5000, 422, "other"),
            ("trap", 5000, 502, "other"),
            ("loop", 300, 504, "timeout"),
            ("", 5000, 400, "invalid-argument"),
        ] {
            let body = json!({"name": name, "text": "the reason", "timeout_ms": timeout_ms});
            let reply = api.post("/v1/requests", &body).await?;
            ensure!(reply.problem()? == error, "{name}: {}", reply.body);
            ensure!(reply.status == status, "{name}: status {}", reply.status);
            let detail = reply.body["detail"].as_str().unwrap_or_default();
            ensure!(name != "fail" || detail.contains("the reason"), "{detail}");
        }
        // Nobody else is hurt.
        let body = json!({"name": "echo", "text": "still there"});
        let got = api.post("/v1/requests", &body).await?.ok()?;
        ensure!(got == json!({"text": "still there"}), "{got}");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_does_and_asks_like_any_event() -> Outcome {
    for place in Place::both("requests")? {
        let mut client = place.client(1, "uid=asked").await?;
        let join = json!({"op": "join_group", "client": client.id(), "group": "by request"});
        let count = json!({"op": "client_count", "of": [{"groups": ["by request"]}]});
        let send = json!({"op": "send_to_uids", "uids": ["asked"], "message": "hello"});
        let run = |steps: Value| json!({"name": "run", "text": json!({"do": steps}).to_string(), "timeout_ms": 5000});
        let steps = json!([join, count, send]);
        let got = place
            .api(0)?
            .post("/v1/requests", &run(steps))
            .await?
            .ok()?;
        let results: Value = serde_json::from_str(got["text"].as_str().unwrap_or_default())?;
        let counted = &results["ok"][1];
        ensure!(*counted == json!({"count": 1, "missing": []}), "{results}");
        ensure!(client.heard().await? == "hello", "the effect is not there");
        let steps = json!([{"op": "ungroup", "group": "by request"}]);
        place
            .api(0)?
            .post("/v1/requests", &run(steps))
            .await?
            .ok()?;
        let target = "/v1/clients/count?group=by%20request";
        let left = place.api(0)?.get(target).await?.ok()?;
        ensure!(left["count"] == 0, "{left}");
    }
    Ok(())
}
