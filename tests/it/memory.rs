//! What strangers can make a gateway keep is bounded, an honest client is answered meanwhile, and the
//! memory is given back: a real process, judged by what the system says of it.

use std::net::SocketAddrV4;

use anyhow::ensure;
use tidegate_tests::load::Lean;
use tidegate_tests::{Client, Cluster, Outcome, Transport, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const STRANGERS: usize = 400;
const UNFINISHED_BYTES: usize = 1_000_000;

/// What clients may make the gateway keep.
const LIMIT_BYTES: u64 = 64 << 20;
const SETTINGS: &str = "[gateway]\nclients-bytes-max = 67108864\npending-bytes-max = 16777216\n\
                        close-ms = 1000";

/// The begin of a message that never ends.
fn begin(transport: Transport) -> Vec<u8> {
    let mut begin = match transport {
        Transport::Ws => {
            let length = (UNFINISHED_BYTES as u64).to_be_bytes();
            // A first fragment, masked with zeros.
            [&[0x02, 0xff], &length[..], &[0; 4]].concat()
        }
        Transport::Tcp | Transport::Text => Vec::new(),
        Transport::Frame => (UNFINISHED_BYTES as u32 + 100).to_be_bytes().to_vec(),
    };
    begin.resize(begin.len() + UNFINISHED_BYTES, b'x');
    begin
}

/// Connects, begins a message and stays.
async fn stranger(address: SocketAddrV4, transport: Transport, begin: &'static [u8]) -> Outcome {
    match transport {
        Transport::Ws => {
            let mut lean = Lean::connect(address, None).await?;
            // Who is closed cannot write on.
            let _ = lean.write(begin).await;
            while lean.next().await.is_ok() {}
        }
        Transport::Tcp | Transport::Text | Transport::Frame => {
            let mut stream = TcpStream::connect(address).await?;
            let _ = stream.write_all(begin).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
    Ok(())
}

async fn flooded(transport: Transport) -> Outcome {
    let cluster = Cluster::serve().settings(SETTINGS).start().await?;
    let mut honest: Client = cluster.gateway(0)?.connect(transport).await?;
    honest.nothing_else().await?;
    let resident = || cluster.gateway(0)?.process()?.resident_bytes();
    let before = resident()?;
    let address = cluster.gateway(0)?.listener(transport)?;
    let begin: &'static [u8] = begin(transport).leak();
    let mut strangers = JoinSet::new();
    let mut most = before;
    for number in 0..STRANGERS {
        strangers.spawn(stranger(address, transport, begin));
        if number % 20 == 0 {
            honest.nothing_else().await?;
            most = most.max(resident()?);
        }
    }
    let closed = "tidegate_gateway_cut_clients_total";
    eventually("most strangers are closed", async || {
        honest.nothing_else().await?;
        most = most.max(resident()?);
        let closed = cluster.gateway(0)?.metric(closed, "memory").await?;
        Ok(
            (closed as usize > STRANGERS - 2 * (LIMIT_BYTES as usize / UNFINISHED_BYTES))
                .then_some(()),
        )
    })
    .await?;
    let grown = most - before;
    eprintln!(
        "{}: grown by at most {} MiB",
        transport.scheme(),
        grown >> 20
    );
    // A buffer that grows by doubling holds twice as much for a moment.
    ensure!(
        grown < 3 * LIMIT_BYTES,
        "the process has grown by {grown} bytes"
    );
    drop(strangers);
    eventually("the memory is given back", async || {
        honest.nothing_else().await?;
        let left = resident()?.saturating_sub(before);
        ensure!(
            left < LIMIT_BYTES / 2,
            "{left} bytes more than before are resident"
        );
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn unfinished_web_socket_messages_are_bounded_and_their_memory_is_given_back() -> Outcome {
    flooded(Transport::Ws).await
}

#[tokio::test]
async fn unfinished_lines_are_bounded_and_their_memory_is_given_back() -> Outcome {
    flooded(Transport::Text).await
}

#[tokio::test]
async fn unfinished_frames_are_bounded_and_their_memory_is_given_back() -> Outcome {
    flooded(Transport::Frame).await
}

/// A finished message leaves nothing behind either: a parser that keeps the buffer of its largest
/// message would hold a megabyte for each client.
#[tokio::test]
async fn large_messages_that_are_handled_leave_no_memory_with_their_clients() -> Outcome {
    let cluster = Cluster::serve().start().await?;
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = cluster.ws(0).await?;
        client.nothing_else().await?;
        clients.push(client);
    }
    let resident = || cluster.gateway(0)?.process()?.resident_bytes();
    let before = resident()?;
    let large = "x".repeat(900_000);
    for client in &mut clients {
        client.send(&format!("E:{large}")).await?;
        client.expect(&large).await?;
    }
    eventually("the memory is given back", async || {
        clients[0].nothing_else().await?;
        let left = resident()?.saturating_sub(before);
        ensure!(
            left < 50 << 20,
            "{left} bytes more than before are resident"
        );
        Ok(Some(()))
    })
    .await
}
