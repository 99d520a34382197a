//! Clients that do not finish their upgrade, or do it wrongly, get a clear answer in bounded time
//! and room.

use anyhow::ensure;
use tidegate_tests::{Cluster, Outcome, Transport, http};

const LIMITS: &str = "handshake-ms = 400\nhandshake-bytes-max = 4096";

#[tokio::test]
async fn a_slow_header_is_answered_and_closed() -> Outcome {
    let cluster = Cluster::serve().web_socket_listener(LIMITS).start().await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let answer = http::exchange(address, b"GET / HTTP/1.1\r\nHost: here\r\n").await?;
    ensure!(answer.status == 408, "{answer:?}");
    cluster.ws(0).await?.nothing_else().await
}

#[tokio::test]
async fn a_header_over_the_limit_is_answered_and_closed() -> Outcome {
    let cluster = Cluster::serve().web_socket_listener(LIMITS).start().await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: here\r\nX: {}\r\n\r\n",
        "x".repeat(9000)
    );
    let answer = http::exchange(address, request.as_bytes()).await?;
    ensure!(answer.status == 431, "{answer:?}");
    cluster.ws(0).await?.nothing_else().await
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_so() -> Outcome {
    let cluster = Cluster::serve().web_socket_listener(LIMITS).start().await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let answer = http::get(address, "/").await?;
    ensure!(answer.status == 426 || answer.status == 404, "{answer:?}");
    ensure!(!answer.body.is_empty(), "no word about it: {answer:?}");
    let old = "GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n";
    let answer = http::exchange(address, old.as_bytes()).await?;
    ensure!((400..500).contains(&answer.status), "{answer:?}");
    let answer = http::exchange(address, b"\x16\x03\x01 this is not HTTP\r\n\r\n").await?;
    ensure!(answer.status == 400, "{answer:?}");
    cluster.ws(0).await?.nothing_else().await
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_and_room_comes_back() -> Outcome {
    let cluster = Cluster::serve()
        .listener("connections-max = 2")
        .start()
        .await?;
    let mut first = cluster.ws(0).await?;
    let mut second = cluster.ws(0).await?;
    // Who has only just been answered counts as a stranger for a moment, and may be told to go.
    second.nothing_else().await?;
    ensure!(cluster.ws(0).await.is_err(), "a third client gets in");
    first.nothing_else().await?;
    second.close().await?;
    tidegate_tests::eventually("there is room again", async || {
        cluster.ws(0).await?.nothing_else().await.map(Some)
    })
    .await
}
