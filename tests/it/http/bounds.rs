//! What is too much or too late is refused with its status and a sentence, and costs nobody else.

use anyhow::ensure;
use serde_json::json;
use tidegate_tests::http::{self, Kept};
use tidegate_tests::{Cluster, Outcome, Plugin, Probe, Transport, eventually};

use super::{seen, send, served};

#[tokio::test]
async fn a_request_that_is_too_large_or_too_slow_is_refused() -> Outcome {
    let limits = "http-body-bytes-max = 1000\nhttp-ms = 700\nhandshake-bytes-max = 4096";
    let (cluster, door) = served(limits).await?;
    ensure!(send(door, "POST", "/echo", &"x".repeat(1000)).await?.status == 200);
    let large = send(door, "POST", "/echo", &"x".repeat(1001)).await?;
    ensure!(
        large.status == 413 && large.body.contains("1000"),
        "{large:?}"
    );
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1024)
    );
    let large = http::exchange(door, chunked.as_bytes()).await?;
    ensure!(large.status == 413, "{large:?}");
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: here\r\nX: {}\r\n\r\n",
        "x".repeat(9000)
    );
    let large = http::exchange(door, head.as_bytes()).await?;
    ensure!(large.status == 431, "{large:?}");
    let slow = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nab";
    let slow = http::exchange(door, slow).await?;
    ensure!(slow.status == 408 && !slow.body.is_empty(), "{slow:?}");
    let late = http::get(door, "/wait?ms=3000").await?;
    ensure!(late.status == 504 && !late.body.is_empty(), "{late:?}");
    let node = cluster.gateway(0)?;
    let requests = "tidegate_gateway_http_requests_total";
    ensure!(node.metric(requests, "outcome=\"refused\"").await? == 3.0);
    ensure!(node.metric(requests, "outcome=\"timeout\"").await? == 1.0);
    ensure!(node.metric(requests, "outcome=\"answered\"").await? == 1.0);
    Ok(())
}

#[tokio::test]
async fn requests_beyond_the_listener_s_number_are_told_to_come_again() -> Outcome {
    let (cluster, door) = served("http-requests-max = 2").await?;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut kept = Kept::connect(door).await?;
        kept.send(b"GET /wait?ms=3000 HTTP/1.1\r\nHost: here\r\n\r\n")
            .await?;
        waiting.push(kept);
    }
    eventually("both wait", async || {
        let pending = "tidegate_gateway_pending_events";
        let pending = cluster.gateway(0)?.metric(pending, "").await?;
        Ok((pending == 2.0).then_some(()))
    })
    .await?;
    // Who is slow with its body takes no place from others.
    let mut slow = Kept::connect(door).await?;
    slow.send(b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\na")
        .await?;
    eventually("a third one is refused", async || {
        let answer = http::get(door, "/echo").await?;
        let refused = answer.status == 503 && answer.header("retry-after") == Some("1");
        Ok(refused.then_some(()))
    })
    .await?;
    for kept in &mut waiting {
        let answer = kept.response(false).await?;
        ensure!(answer.body == "waited", "{answer:?}");
    }
    slow.send(b"b").await?;
    ensure!(seen(&slow.response(false).await?)?["body"] == "ab");
    Ok(())
}

#[tokio::test]
async fn promise_4_a_handler_that_fails_loops_traps_or_answers_nonsense_is_named_and_hurts_nobody()
-> Outcome {
    let cluster = Cluster::serve()
        .plugin_settings("wall-ms = 700")
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let node = cluster.gateway(0)?;
    let door = node.listener(Transport::Ws)?;
    let mut watcher = Probe::connect(door, "group=watchers").await?;
    for target in [
        "/fail",
        "/trap",
        "/loop",
        "/status?is=101",
        "/status?is=103",
        "/status?is=0",
        "/header?name=content-length&value=99",
        "/wait?ms=x",
    ] {
        let answer = http::get(door, target).await?;
        ensure!(answer.status == 500, "{target}: {answer:?}");
        ensure!(
            answer.body == "The handler has failed.\n",
            "{target}: {answer:?}"
        );
    }
    ensure!(
        watcher.rest().await? == json!([]),
        "effects of what has failed"
    );
    ensure!(send(door, "POST", "/echo", "still").await?.status == 200);
    let failed = "tidegate_gateway_http_requests_total";
    ensure!(node.metric(failed, "outcome=\"failed\"").await? == 8.0);
    Ok(())
}

#[tokio::test]
async fn while_nobody_could_be_asked_a_request_waits_and_is_then_told_so() -> Outcome {
    let mut cluster = Cluster::apart(1, 1)
        .web_socket_listener("http-ms = 1500")
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    ensure!(send(door, "POST", "/echo", "").await?.status == 200);
    cluster.worker_named("worker-0")?.kill().await?;
    let answer = send(door, "POST", "/echo", "").await?;
    ensure!(
        answer.status == 503 && answer.header("retry-after") == Some("1"),
        "{answer:?}"
    );
    // It waits for a worker that comes.
    cluster.worker_named("worker-0")?.start()?;
    eventually("it is answered again", async || {
        let answer = send(door, "POST", "/echo", "").await?;
        Ok((answer.status == 200).then_some(()))
    })
    .await
}
