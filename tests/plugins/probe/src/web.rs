//! Requests by HTTP; `README.md` has the paths.

use std::time::Duration;

use serde_json::json;
use tidegate_sdk::prelude::*;

use crate::run::Run;

pub(crate) fn answer(peer: &Peer, request: &http::Request) -> Result<http::Response> {
    let number = |name: &str| -> Result<usize> {
        let text = request.query(name).unwrap_or_default();
        Ok(text.parse()?)
    };
    match request.path() {
        "/echo" => echo(peer, request),
        "/tell" => {
            let group = request.query("group").unwrap_or_default();
            let body = request.text()?;
            gateway::to_group(&group).send(body)?;
            let event = worker::event_id();
            Ok(http::Response::text(body).header("x-event", event))
        }
        "/run" => {
            let run = Run::read(&request.body);
            let answer = run.answer(None);
            crate::finish(run.then)?;
            http::Response::json(&answer)
        }
        "/wait" => {
            wait(Duration::from_millis(number("ms")? as u64));
            Ok(http::Response::text("waited"))
        }
        "/fail" => {
            gateway::to_group("watchers").send("never")?;
            bail!("told to fail")
        }
        "/trap" => {
            gateway::to_group("watchers").send("never")?;
            crate::trap()
        }
        "/loop" => crate::spin(),
        "/status" => Ok(http::Response::new(number("is")? as u16).body("a body")),
        "/large" => Ok(http::Response::new(200).body(vec![b'x'; number("bytes")?])),
        "/header" => {
            let part = |name| request.query(name).unwrap_or_default();
            Ok(http::Response::text("with a header").header(part("name"), part("value")))
        }
        _ => Ok(http::Response::new(404)
            .header("x-from", "probe")
            .body("the probe has nothing there")),
    }
}

fn echo(peer: &Peer, request: &http::Request) -> Result<http::Response> {
    let headers = request.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value);
        json!([name, value])
    });
    http::Response::json(&json!({
        "method": request.method,
        "target": request.target,
        "authority": request.authority,
        "headers": headers.collect::<Vec<_>>(),
        "peer": { "address": peer.address, "listener": peer.listener },
        "body": String::from_utf8_lossy(&request.body),
    }))
}

#[allow(clippy::disallowed_methods, reason = "a guest waits by blocking")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
