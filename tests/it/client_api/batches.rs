//! Batches: one commit, all of it or nothing.

use anyhow::ensure;
use serde_json::{Value, json};
use tidegate_tests::Outcome;

use super::Place;

#[tokio::test]
async fn a_batch_is_one_commit_in_order() -> Outcome {
    for place in Place::both("batches")? {
        let mut near = place.client(0, "").await?;
        let mut far = place.client(1, "").await?;
        let send = |text: &str| json!({"send": {"to": {"groups": ["b"]}, "text": text}});
        let mut actions = vec![send("before")];
        for client in [&near, &far] {
            let id = client.id();
            actions.push(json!({"join": {"client": id, "group": "b"}}));
            actions.push(json!({"bind": {"client": id, "uid": "batched"}}));
            actions.push(json!({"set_session": {"client": id, "entries": {"k": 1}}}));
        }
        actions.push(send("within"));
        actions.push(json!({"ungroup": {"group": "b"}}));
        actions.push(send("after"));
        actions.push(json!({"send": {"to": {"uids": ["batched"]}, "text": "end"}}));
        let body = json!({"actions": actions});
        let got = place.api(0)?.post("/v1/batch", &body).await?.ok()?;
        ensure!(got == json!({"status": "done"}), "{got}");
        for client in [&mut near, &mut far] {
            for text in ["within", "end"] {
                let heard = client.heard().await?;
                ensure!(heard == text, "{heard}, not {text}");
            }
        }
        let count = place.api(0)?.get("/v1/clients/count?uid=batched").await?;
        let count = count.ok()?;
        ensure!(count == json!({"count": 2, "missing": []}), "{count}");
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_with_one_bad_action_does_nothing() -> Outcome {
    for place in Place::both("batches")? {
        let mut client = place.client(1, "").await?;
        let good = json!({"join": {"client": client.id(), "group": "never"}});
        let send = json!({"send": {"to": {"clients": [client.id()]}, "text": "never"}});
        let many = Value::from_iter((0..1001).map(|_| good.clone()));
        for bad in [
            json!([good, send, {"join": {"client": "nobody", "group": "never"}}]),
            json!([good, send, {"bind": {"client": client.id(), "uid": ""}}]),
            json!([good, send, {"dance": {}}]),
            json!([{}, good, send]),
            json!([good, send, {"send": {"to": {"everyone": true}}}]),
            many,
        ] {
            let body = json!({"actions": bad});
            let reply = place.api(0)?.post("/v1/batch", &body).await?;
            ensure!(reply.problem()? == "invalid-argument", "{}", reply.body);
            ensure!(reply.status == 400, "status {}", reply.status);
        }
        let count = place.api(0)?.get("/v1/groups/never").await?.ok()?;
        ensure!(count["clients"] == 0, "{count}");
        let heard = client.rest().await?;
        ensure!(heard == json!([]), "{heard}");
        let body = json!({"actions": []});
        let got = place.api(0)?.post("/v1/batch", &body).await?.ok()?;
        ensure!(got == json!({"status": "done"}), "an empty batch: {got}");
    }
    Ok(())
}
