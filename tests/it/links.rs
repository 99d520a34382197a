//! What strangers can do to the ports of the nodes: nothing, in bounded time and room.

use std::net::SocketAddrV4;

use anyhow::{Context, ensure};
use tidegate_tests::{Cluster, Outcome, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const QUICK: &str = "[link]\nhandshake-timeout-ms = 500\n[register]\nhandshake-timeout-ms = 500";

/// Sends bytes to a node and expects to be cut off.
async fn cut_off(address: SocketAddrV4, bytes: &[u8]) -> Outcome {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await.ok();
    let what = format!("{address} cuts off {} bytes of nonsense", bytes.len());
    within(&what, async {
        let mut sink = vec![0; 4096];
        let mut total = 0;
        while let Ok(read @ 1..) = stream.read(&mut sink).await {
            total += read;
            ensure!(total < 65_536, "it talks to a stranger");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_garbage_hello_is_cut_off_and_nobody_notices() -> Outcome {
    let cluster = Cluster::apart(1, 1).settings(QUICK).start().await?;
    let register = cluster.register.as_ref().context("no register")?.lan()?;
    let gateway = cluster.gateway(0)?.lan()?;
    let mut client = cluster.ws(0).await?;
    for address in [register, gateway] {
        cut_off(address, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await?;
        cut_off(address, b"\0\0\0\0").await?;
        cut_off(address, b"TDGT").await?;
        // A length that is only announced: nothing is kept for it.
        cut_off(address, &[0xff; 64]).await?;
        cut_off(address, &[0x41; 100_000]).await?;
        cut_off(address, b"").await?;
        client.nothing_else().await?;
    }
    cluster.meshed().await?;
    cluster.ws(0).await?.nothing_else().await
}

#[tokio::test]
async fn many_silent_strangers_do_not_keep_a_worker_out() -> Outcome {
    let mut cluster = Cluster::apart(1, 1).settings(QUICK).start().await?;
    let register = cluster.register.as_ref().context("no register")?.lan()?;
    let gateway = cluster.gateway(0)?.lan()?;
    let mut strangers = Vec::new();
    for _ in 0..200 {
        strangers.push(TcpStream::connect(register).await?);
        strangers.push(TcpStream::connect(gateway).await?);
    }
    cluster.add_worker().await
}
