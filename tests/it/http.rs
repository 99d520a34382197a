//! HTTP of a tenant's own: its handler answers what is no upgrade, no health check and no file.

mod bounds;
mod losses;

use std::net::SocketAddrV4;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::http::{self, Kept, Response};
use tidegate_tests::{Cluster, Outcome, Plugin, Probe, Transport, tools};

use crate::rfc::proxies::Proxy;

/// One process whose listener has these settings; the plugin is the probe.
async fn served(listener: &str) -> Result<(Cluster, SocketAddrV4)> {
    let cluster = Cluster::serve()
        .web_socket_listener(listener)
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    Ok((cluster, door))
}

/// Sends a request of this method with a body.
async fn send(door: SocketAddrV4, method: &str, target: &str, body: &str) -> Result<Response> {
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: a.example:80\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    http::exchange(door, request.as_bytes()).await
}

/// What the probe has seen of a request.
fn seen(response: &Response) -> Result<Value> {
    ensure!(response.status == 200, "{response:?}");
    serde_json::from_str(&response.body).with_context(|| format!("{response:?}"))
}

#[tokio::test]
async fn the_handler_answers_what_is_no_upgrade_no_health_check_and_no_file() -> Outcome {
    let web = tempfile::tempdir()?;
    std::fs::write(web.path().join("echo"), "a file")?;
    let listener = format!("static = {:?}\npath = \"/ws\"", web.path());
    let (_cluster, door) = served(&listener).await?;
    let file = http::get(door, "/echo?x").await?;
    ensure!((file.status, &*file.body) == (200, "a file"), "{file:?}");
    ensure!(http::get(door, "/healthz").await?.body == "ok\n");
    let none = http::get(door, "/none").await?;
    ensure!(
        none.status == 404 && none.header("x-from") == Some("probe"),
        "{none:?}"
    );
    // A file takes no bodies, so this is for the handler.
    let posted = seen(&send(door, "POST", "/echo?a=%20b", "the body").await?)?;
    ensure!(posted["method"] == "POST" && posted["target"] == "/echo?a=%20b");
    ensure!(posted["authority"] == "a.example:80" && posted["body"] == "the body");
    let peer = posted["peer"]["address"].as_str().unwrap_or_default();
    ensure!(peer.starts_with("127.0.0.1:"), "{posted}");
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
        let answer = seen(&send(door, method, "/echo", "").await?)?;
        ensure!(answer["method"] == method, "{answer}");
    }
    for (method, target) in [("TRACE", "/echo"), ("CONNECT", "a.example:80")] {
        let answer = send(door, method, target, "").await?;
        ensure!(answer.status == 405, "{answer:?}");
    }
    ensure!(send(door, "OPTIONS", "*", "").await?.status == 204);
    let client = tidegate_tests::Client::web_socket(door, "/ws").await;
    client.context("the upgrade beside it")?.text().await?;
    Ok(())
}

#[tokio::test]
async fn what_belongs_to_one_connection_goes_neither_in_nor_out() -> Outcome {
    let (_cluster, door) = served("").await?;
    let request = b"POST /echo HTTP/1.1\r\nHost: here\r\nConnection: close, X-Own\r\nX-Own: 1\r\n\
        TE: trailers\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\nX-Kept: \xff\r\n\r\n\
        3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let echo = seen(&http::exchange(door, request).await?)?;
    ensure!(echo["body"] == "abcde", "{echo}");
    ensure!(echo["headers"] == json!([["x-kept", "\u{fffd}"]]), "{echo}");
    for name in ["connection", "transfer-encoding", "a%20b", "keep-alive"] {
        let target = format!("/header?name={name}&value=x");
        let answer = http::get(door, &target).await?;
        ensure!(answer.status == 500, "{name}: {answer:?}");
    }
    let answer = http::get(door, "/header?name=x-fine&value=x").await?;
    ensure!(answer.header("x-fine") == Some("x"), "{answer:?}");
    ensure!(answer.header("content-length") == Some("13"), "{answer:?}");
    ensure!(answer.header("date").is_some(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_one_after_the_other() -> Outcome {
    let (_cluster, door) = served("").await?;
    let mut kept = Kept::connect(door).await?;
    let mut pipelined = Vec::new();
    for number in 0..20 {
        let body = "x".repeat(number);
        let request = format!(
            "POST /echo?{number} HTTP/1.1\r\nHost: here\r\nContent-Length: {number}\r\n\r\n{body}"
        );
        pipelined.extend(request.into_bytes());
    }
    pipelined.extend(b"HEAD /echo HTTP/1.1\r\nHost: here\r\n\r\n");
    pipelined.extend(b"GET /status?is=204 HTTP/1.1\r\nHost: here\r\n\r\n");
    kept.send(&pipelined).await?;
    for number in 0..20 {
        let echo = seen(&kept.response(false).await?)?;
        ensure!(echo["target"] == format!("/echo?{number}"), "{echo}");
        ensure!(echo["body"] == "x".repeat(number), "{echo}");
    }
    let head = kept.response(true).await?;
    let length: usize = head.header("content-length").unwrap_or("0").parse()?;
    ensure!(head.status == 200 && length > 50, "{head:?}");
    let bare = kept.response(false).await?;
    ensure!(
        bare.status == 204 && bare.header("content-length").is_none(),
        "{bare:?}"
    );
    // The next one comes when all others are answered, with what it expects first.
    kept.send(
        b"POST /echo HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    )
    .await?;
    ensure!(kept.response(false).await?.status == 100);
    kept.send(b"hi").await?;
    ensure!(seen(&kept.response(false).await?)?["body"] == "hi");
    Ok(())
}

#[tokio::test]
async fn effects_of_a_request_have_happened_when_its_answer_comes() -> Outcome {
    let (_cluster, door) = served("").await?;
    let mut watcher = Probe::connect(door, "group=news").await?;
    for number in 0..20 {
        let told = format!("news {number}");
        let answer = send(door, "POST", "/tell?group=news", &told).await?;
        ensure!(answer.status == 200 && answer.body == told, "{answer:?}");
        // It is in the socket before the answer is, so nothing has to be waited for.
        ensure!(watcher.rest().await? == json!([told]), "{number}");
    }
    let asked = json!({"do": [{"op": "client_count", "of": [{"everyone": true}]}, {"op": "session_get", "key": "k"}]});
    let answer = send(door, "POST", "/run", &asked.to_string()).await?;
    let told: Value = serde_json::from_str(&answer.body)?;
    ensure!(told.pointer("/ok/0/count") == Some(&json!(1)), "{told}");
    let refused = told.pointer("/ok/1/error").and_then(Value::as_str);
    ensure!(
        refused.is_some_and(|it| it.starts_with("not-permitted")),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn a_plugin_without_it_answers_what_it_has_always_answered() -> Outcome {
    let cluster = Cluster::serve().start().await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    ensure!(http::get(door, "/echo").await?.status == 426);
    ensure!(send(door, "POST", "/echo", "body").await?.status == 405);
    let requests = "tidegate_gateway_requests_total";
    let asked = cluster.gateway(0)?.metric(requests, "").await?;
    ensure!(asked == 0.0, "the handler was asked {asked} times");
    let (_cluster, door) = served("http-requests-max = 0").await?;
    ensure!(http::get(door, "/echo").await?.status == 426);
    Ok(())
}

const PYTHON: &str = "
import http.client, json, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
for number in range(5):
    body = json.dumps({'number': number})
    connection.request('POST', f'/echo?{number}', body, {'Content-Type': 'application/json'})
    response = connection.getresponse()
    echo = json.loads(response.read())
    assert response.status == 200 and json.loads(echo['body']) == {'number': number}, echo
connection.request('POST', '/echo', iter([b'in ', b'pieces']), encode_chunked=True,
                   headers={'Transfer-Encoding': 'chunked'})
assert json.loads(connection.getresponse().read())['body'] == 'in pieces'
connection.request('HEAD', '/large?bytes=70000')
response = connection.getresponse()
assert response.getheader('content-length') == '70000' and response.read() == b''
connection.request('GET', '/large?bytes=70000')
assert len(connection.getresponse().read()) == 70000
";

#[tokio::test]
async fn clients_of_others_and_proxies_are_served() -> Outcome {
    let (_cluster, door) = served("").await?;
    let mut doors = vec![door];
    let mut proxies = Vec::new();
    if tools::runs("haproxy", "-v") {
        proxies.push(Proxy::haproxy(door, "").await?);
    }
    if tools::runs("nginx", "-v") {
        proxies.push(Proxy::nginx(door).await?);
    }
    doors.extend(proxies.iter().map(|proxy| proxy.address));
    for door in doors {
        if tools::runs("python3", "--version") {
            let mut python = tokio::process::Command::new("python3");
            crate::third_party::run(python.args(["-c", PYTHON, &door.to_string()])).await?;
        }
        if !tools::runs("curl", "--version") {
            continue;
        }
        // Larger than what curl sends at once: it asks first whether it may.
        let body = "x".repeat(500_000);
        let url = format!("http://{door}/echo");
        let output = tokio::task::spawn_blocking(move || {
            let arguments = ["-sS", "--max-time", "60", "-d", "@-", &url, &url];
            let mut curl = Command::new("curl");
            curl.args(arguments).stdin(std::process::Stdio::piped());
            curl.stdout(std::process::Stdio::piped());
            let mut curl = curl.spawn()?;
            let mut stdin = curl.stdin.take().context("curl has no stdin")?;
            std::io::Write::write_all(&mut stdin, body.as_bytes())?;
            drop(stdin);
            anyhow::Ok(curl.wait_with_output()?)
        })
        .await??;
        let said = String::from_utf8_lossy(&output.stdout);
        let whole = said.matches(&"x".repeat(500_000)).count();
        ensure!(
            output.status.success() && whole == 2,
            "{} bytes",
            said.len()
        );
    }
    Ok(())
}
