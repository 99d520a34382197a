//! Every kind of listener, what else the WebSocket port answers, and limits of messages.

use anyhow::ensure;
use tidegate_tests::load::{Lean, encode};
use tidegate_tests::plugins::Plugin;
use tidegate_tests::{Client, Cluster, Outcome, Transport, http, ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::watcher::Watcher;

#[tokio::test]
async fn every_listener_kind_talks_to_the_same_handler() -> Outcome {
    let cluster = Cluster::apart(1, 1).start().await?;
    let mut web_socket = cluster.ws(0).await?;
    let mut clients = Vec::new();
    for transport in Transport::ALL {
        let mut client = cluster.gateway(0)?.connect(transport).await?;
        client.send("E:hello").await?;
        client.expect("hello").await?;
        clients.push((client.id().await?, client));
    }
    for (id, client) in &mut clients {
        web_socket.send(&format!("C:{id}:to you")).await?;
        client.expect("to you").await?;
    }
    Ok(())
}

#[tokio::test]
async fn tenants_do_not_hear_each_other() -> Outcome {
    let address = ports::free()?;
    let other = format!(
        "[[gateway.listener]]\nlisten = \"text://{address}\"\ntenant = \"other\"\n\
         [[plugin]]\nfile = {:?}\ntenant = \"other\"\n",
        Plugin::Bench.path()?
    );
    let cluster = Cluster::apart(1, 1)
        .settings(&other)
        .listener("tenant = \"default\"")
        .start()
        .await?;
    let mut one = cluster.ws(0).await?;
    let mut two = Client::connect(Transport::Text, address).await?;
    for (client, tenant) in [(&mut one, "default"), (&mut two, "other")] {
        let who = client.ask("W:").await?;
        ensure!(who.contains(&format!("\"tenant\":\"{tenant}\"")), "{who}");
        client.send("J:room").await?;
        client.send("U:ann").await?;
        client.nothing_else().await?;
    }
    // Neither all, nor a group, nor a uid, nor an id reaches over.
    let id = two.id().await?;
    for command in ["B:leak", "G:room:leak", "P:ann:leak"] {
        one.send(command).await?;
        one.expect("leak").await?;
    }
    one.send(&format!("C:{id}:leak")).await?;
    one.send(&format!("K:{id}")).await?;
    one.nothing_else().await?;
    two.nothing_else().await
}

#[tokio::test]
async fn frames_and_chunks_may_be_any_bytes() -> Outcome {
    let cluster = Cluster::serve().start().await?;
    for transport in [Transport::Ws, Transport::Tcp, Transport::Frame] {
        let mut client = cluster.gateway(0)?.connect(transport).await?;
        client.send_binary(b"E:\xff\xfe\n\x00").await?;
        client.expect_binary(b"\xff\xfe\n\x00").await?;
    }
    Ok(())
}

#[tokio::test]
async fn messages_are_cut_by_their_framing_not_by_packets() -> Outcome {
    let cluster = Cluster::serve().start().await?;
    let lines = cluster.gateway(0)?.listener(Transport::Text)?;
    let mut stream = tokio::net::TcpStream::connect(lines).await?;
    stream.write_all(b"E:one\nE:two\nE:th").await?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await?;
    ensure!(&answer == b"one\ntwo\n", "{answer:?}");
    stream.write_all(b"ree\n").await?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await?;
    ensure!(&answer == b"three\n", "{answer:?}");

    let frames = cluster.gateway(0)?.listener(Transport::Frame)?;
    let mut stream = tokio::net::TcpStream::connect(frames).await?;
    stream.write_all(b"\0\0\0\x07E:a\0\0\0\x07E:b\0\0").await?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await?;
    ensure!(&answer == b"\0\0\0\x05a\0\0\0\x05b", "{answer:?}");
    stream.write_all(b"\0\x07E:c").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    ensure!(&answer == b"\0\0\0\x05c", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_over_the_limit_closes_its_client_only() -> Outcome {
    let cluster = Cluster::serve()
        .listener("message-bytes-max = 1000")
        .start()
        .await?;
    let mut neighbour = cluster.ws(0).await?;
    let large = format!("E:{}", "x".repeat(2000));
    let mut client = cluster.ws(0).await?;
    client.send(&large).await?;
    let code = client.closed().await?;
    ensure!(code == Some(1009), "closed with {code:?}, not 1009");
    for transport in [Transport::Text, Transport::Frame] {
        let mut client = cluster.gateway(0)?.connect(transport).await?;
        client.send(&large).await?;
        client.closed().await?;
    }
    // A length that is only announced is believed by nobody.
    let frames = cluster.gateway(0)?.listener(Transport::Frame)?;
    let mut stream = tokio::net::TcpStream::connect(frames).await?;
    stream.write_all(&[0xff; 4]).await?;
    let mut answer = Vec::new();
    tidegate_tests::within("the frame listener closes", async {
        let _ = stream.read_to_end(&mut answer).await;
        Ok(())
    })
    .await?;
    neighbour.nothing_else().await
}

#[tokio::test]
async fn the_web_socket_port_answers_health_and_static_files() -> Outcome {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("index.html"), "<h1>there</h1>")?;
    std::fs::write(folder.path().join("app.js"), "1 + 1")?;
    std::fs::create_dir(folder.path().join("sub"))?;
    let cluster = Cluster::serve()
        .gateway_flags(&["--static", &folder.path().to_string_lossy()])
        .start()
        .await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let health = http::get(address, "/healthz").await?;
    ensure!(health.status == 200, "{health:?}");
    let index = http::get(address, "/").await?;
    ensure!(
        index.status == 200 && index.body == "<h1>there</h1>",
        "{index:?}"
    );
    let script = http::get(address, "/app.js").await?;
    ensure!(script.status == 200 && script.body == "1 + 1", "{script:?}");
    ensure!(
        script.head.to_lowercase().contains("javascript"),
        "{script:?}"
    );
    for outside in ["/none", "/../Cargo.toml", "/%2e%2e/%2e%2e/etc/passwd"] {
        let response = http::get(address, outside).await?;
        ensure!(
            (400..500).contains(&response.status),
            "{outside}: {response:?}"
        );
    }
    let mut client = Client::web_socket(address, "/").await?;
    client.nothing_else().await
}

#[tokio::test]
async fn what_a_client_sent_before_it_closed_is_handled() -> Outcome {
    let cluster = Cluster::serve().start().await?;
    let mut watcher = Watcher::join(&cluster, 0).await?;
    let mut client = cluster.gateway(0)?.connect(Transport::Text).await?;
    let id = client.id().await?;
    client.send("S:k:\"last\"").await?;
    client.close().await?;
    watcher.expect(&id, "client:-::\"last\"").await
}

#[tokio::test]
async fn a_web_socket_that_breaks_the_protocol_is_closed() -> Outcome {
    let cluster = Cluster::serve().start().await?;
    let mut watcher = Watcher::join(&cluster, 0).await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut lean = Lean::connect(address, None).await?;
    lean.write(&encode(b"I:")).await?;
    let id = String::from_utf8(lean.next().await?.to_vec())?;
    // An unmasked frame, then a reserved opcode.
    lean.write(b"\x81\x01x\x83\x00").await?;
    ensure!(lean.next().await.is_err(), "the connection stays open");
    watcher.expect(&id, "protocol:-::null").await
}
