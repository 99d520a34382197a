//! Connections that say nothing, or next to nothing, keep nobody out of any port.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Cluster, Outcome, Transport, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// So many connections; every second one sends the beginning of a request.
async fn silent(address: SocketAddrV4, count: usize) -> Result<Vec<TcpStream>> {
    let mut all = Vec::with_capacity(count);
    for turn in 0..count {
        let mut stream = TcpStream::connect(address).await?;
        if turn % 2 == 0 {
            // It may have been told to go already.
            let _ = stream.write_all(b"G").await;
        }
        all.push(stream);
    }
    Ok(all)
}

async fn cluster() -> Result<Cluster> {
    Cluster::apart(1, 1)
        .tenant("default", &[Transport::Ws])
        .start()
        .await
}

#[tokio::test]
async fn eleven_hundred_silent_connections_keep_no_call_out() -> Outcome {
    let cluster = cluster().await?;
    let gateway = cluster.gateway(0)?;
    let api = gateway.api_address()?;
    let _strangers = silent(api, 1100).await?;
    let answer = http::get(api, "/v1/openapi.json").await?;
    ensure!(answer.status == 200, "{answer:?}");
    let admin = gateway.admin()?;
    let _more = silent(admin, 200).await?;
    let answer = http::get(admin, "/healthz").await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// Their bodies are not awaited: without a token nothing would be done with them.
#[tokio::test]
async fn eleven_hundred_calls_without_a_token_whose_bodies_do_not_come_keep_no_call_out() -> Outcome
{
    let cluster = cluster().await?;
    let api = cluster.gateway(0)?.api_address()?;
    let request = "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                   Content-Length: 1000\r\n\r\n{";
    let mut strangers = Vec::new();
    for _ in 0..1100 {
        let mut stream = TcpStream::connect(api).await?;
        stream.write_all(request.as_bytes()).await?;
        strangers.push(stream);
    }
    let asked = Instant::now();
    let answer = http::get(api, "/v1/openapi.json").await?;
    ensure!(answer.status == 200, "{answer:?}");
    let took = asked.elapsed();
    ensure!(took < Duration::from_secs(5), "the call waited {took:?}");
    let mut answer = [0; 12];
    let first = strangers.first_mut().context("there is one")?;
    tidegate_tests::within("a stranger is refused", async {
        Ok(first.read_exact(&mut answer).await?)
    })
    .await?;
    ensure!(&answer == b"HTTP/1.1 401", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn eleven_hundred_silent_connections_keep_no_client_out() -> Outcome {
    let cluster = Cluster::serve()
        .web_socket_listener("connections-max = 50")
        .start()
        .await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut first = cluster.ws(0).await?;
    let _strangers = silent(address, 1100).await?;
    let mut second = cluster.ws(0).await?;
    second.nothing_else().await?;
    first.nothing_else().await
}

#[tokio::test]
async fn silent_connections_at_the_register_and_at_gateways_keep_no_node_out() -> Outcome {
    let mut cluster = Cluster::apart(1, 1).start().await?;
    let register = cluster.register_mut()?.lan()?;
    let lan = cluster.gateway(0)?.lan()?;
    let _strangers = silent(register, 400).await?;
    let _more = silent(lan, 400).await?;
    cluster.add_worker().await
}

#[tokio::test]
async fn a_caller_that_keeps_a_thousand_idle_connections_can_make_its_next() -> Outcome {
    let cluster = cluster().await?;
    let api = cluster.gateway(0)?.api_address()?;
    let mut idle = Vec::new();
    for _ in 0..1100 {
        let mut stream = TcpStream::connect(api).await?;
        stream
            .write_all(b"GET /v1/none HTTP/1.1\r\nHost: x\r\n\r\n")
            .await?;
        let mut first = [0; 12];
        let read = tidegate_tests::within("a call is answered", async {
            Ok(stream.read_exact(&mut first).await?)
        });
        read.await
            .with_context(|| format!("connection {}", idle.len()))?;
        ensure!(&first == b"HTTP/1.1 404", "{first:?}");
        idle.push(stream);
    }
    let answer = http::get(api, "/v1/openapi.json").await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}
