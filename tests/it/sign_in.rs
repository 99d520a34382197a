//! Who may come is the handler's to say, before anybody is a client.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tidegate_tests::handshakes::{self, Plan};
use tidegate_tests::plugins::{Plugin, another_build, replace};
use tidegate_tests::{Client, Cluster, Outcome, Probe, Signal, Transport, eventually, http};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

const ASKED: &str = "sign-in = \"reject\"\nsign-in-ms = 8000";

async fn cluster(gateways: usize, workers: usize, listener: &str) -> Result<Cluster> {
    Cluster::apart(gateways, workers)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .settings("[register]\nlease-ms = 2000\ngrace-ms = 500")
        .listener(listener)
        .other_plugin_file(&Plugin::Scripted.path()?)
        .start()
        .await
}

/// The answer to a request for a WebSocket that is not let in.
pub(crate) async fn turned_away(address: SocketAddrV4, query: &str) -> Result<http::Response> {
    let request = format!(
        "GET /?{query} HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    http::exchange(address, request.as_bytes()).await
}

async fn text(socket: &mut WebSocketStream<TcpStream>) -> Result<String> {
    let message = socket.next().await.context("the connection is over")??;
    Ok(message.to_text()?.to_owned())
}

#[tokio::test]
async fn who_is_accepted_is_what_the_handler_said_at_its_connect_and_at_its_close() -> Outcome {
    let mut cluster = cluster(2, 2, ASKED).await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut watcher = cluster.ws(1).await?;
    watcher.text().await?;
    let query = "uid=ann&group=room&key=7&header=v&sub=chat.v9";
    let mut request = format!("ws://{door}/?{query}").into_client_request()?;
    let offered = HeaderValue::from_static("chat.v1, chat.v9");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", offered);
    let stream = TcpStream::connect(door).await?;
    let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await?;
    let header = |name| {
        response
            .headers()
            .get(name)
            .map(|it| it.as_bytes().to_vec())
    };
    ensure!(header("x-header").as_deref() == Some(b"v"), "{response:?}");
    let agreed = header("sec-websocket-protocol");
    ensure!(agreed.as_deref() == Some(b"chat.v9"), "{response:?}");
    ensure!(text(&mut socket).await?.starts_with("hello"));
    socket.send(Message::text("get key")).await?;
    ensure!(text(&mut socket).await? == "7");
    eventually("its custodians know it", async || {
        let unguarded = "tidegate_gateway_unguarded_clients";
        let left = cluster.gateway(0)?.metric(unguarded, "").await?;
        Ok((left == 0.0).then_some(()))
    })
    .await?;
    cluster.gateway_mut(0)?.kill().await?;
    let told = watcher.text().await?;
    ensure!(told.contains("left [\"room\"]"), "{told}");
    Ok(())
}

#[tokio::test]
async fn who_is_rejected_is_told_what_the_handler_says() -> Outcome {
    let cluster = cluster(1, 1, ASKED).await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let answer = turned_away(door, "reject=403").await?;
    ensure!(
        answer.status == 403 && answer.body == "not you",
        "{answer:?}"
    );
    let head = answer.head.to_ascii_lowercase();
    ensure!(head.contains("www-authenticate: basic"), "{answer:?}");
    ensure!(!head.contains("sec-websocket-accept"), "{answer:?}");
    // What breaks, or makes no sense, lets nobody in.
    for query in ["trap", "reject=200", "uid=", "key=no+json"] {
        let answer = turned_away(door, query).await?;
        ensure!(answer.status == 500, "{query}: {answer:?}");
    }
    // It decides and does nothing else.
    let mut client = Client::web_socket(door, "/?effect").await?;
    client.text().await?;
    let clients = cluster
        .gateway(0)?
        .metric("tidegate_gateway_clients", "")
        .await?;
    ensure!(clients == 1.0, "{clients} clients");
    Ok(())
}

#[tokio::test]
async fn a_handshake_is_bounded_in_time_and_obeys_the_policy_while_nobody_is_asked() -> Outcome {
    let quick = "sign-in = \"reject\"\nsign-in-ms = 300";
    let mut served = cluster(1, 1, quick).await?;
    let door = served.gateway(0)?.listener(Transport::Ws)?;
    let answer = turned_away(door, "sleep=3000").await?;
    ensure!(answer.status == 503, "{answer:?}");
    ensure!(answer.head.contains("retry-after: 1"), "{answer:?}");
    served.worker_named("worker-0")?.kill().await?;
    eventually("nobody serves", async || {
        let answer = turned_away(door, "reject=403").await?;
        Ok((answer.status == 503).then_some(()))
    })
    .await?;
    let mut open = cluster(1, 1, "sign-in = \"accept\"").await?;
    let door = open.gateway(0)?.listener(Transport::Ws)?;
    ensure!(turned_away(door, "reject=403").await?.status == 403);
    open.worker_named("worker-0")?.kill().await?;
    eventually("everybody is let in", async || {
        let client = Client::web_socket(door, "/?reject=403").await;
        Ok(client.is_ok().then_some(()))
    })
    .await
}

#[tokio::test]
async fn over_other_transports_the_first_message_signs_in() -> Outcome {
    let cluster = cluster(1, 1, "sign-in = \"reject\"\nsign-in-ms = 700").await?;
    for transport in [Transport::Text, Transport::Frame] {
        let door = cluster.gateway(0)?.listener(transport)?;
        let mut client = Client::connect(transport, door).await?;
        // What is sent at once is handled behind the sign-in, in order.
        client.send("uid=ann&key=7").await?;
        client.send("get key").await?;
        client.send("echo last").await?;
        let hello = client.text().await?;
        ensure!(hello.starts_with("hello"), "{hello}");
        client.expect("7").await?;
        client.expect("last").await?;

        let mut client = Client::connect(transport, door).await?;
        client.send("reject=1").await?;
        client.expect("not you").await?;
        client.closed().await?;

        let mut silent = Client::connect(transport, door).await?;
        silent.expect("Sign in with the first message.").await?;
        silent.closed().await?;
    }
    let closes = "tidegate_gateway_connections_total";
    let clients = cluster.gateway(0)?.metric(closes, "").await?;
    ensure!(clients == 2.0, "{clients} of the six became clients");
    Ok(())
}

#[tokio::test]
async fn who_leaves_before_the_verdict_leaves_nobody_behind() -> Outcome {
    let cluster = cluster(1, 1, ASKED).await?;
    let node = cluster.gateway(0)?;
    let mut own = Client::web_socket(node.listener(Transport::Ws)?, "/").await?;
    own.text().await?;
    let commits = "tidegate_gateway_commits_total";
    let before = node.metric(commits, "outcome=\"done\"").await?;
    let early = Client::web_socket(node.listener(Transport::Ws)?, "/?uid=ann&sleep=500");
    let early = tokio::time::timeout(Duration::from_millis(200), early).await;
    ensure!(early.is_err(), "let in before the handler has said so");
    let mut early = Client::connect(Transport::Text, node.listener(Transport::Text)?).await?;
    early.send("uid=ann&sleep=500").await?;
    drop(early);
    eventually(
        "the handler has decided, and only who stayed is there",
        async || {
            let done = node.metric(commits, "outcome=\"done\"").await?;
            let clients = node.metric("tidegate_gateway_clients", "").await?;
            Ok((done >= before + 2.0 && clients == 1.0).then_some(()))
        },
    )
    .await?;
    own.send("echo still here").await?;
    loop {
        // Of those who were there for a moment it is told that they have left.
        if own.text().await? == "still here" {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn promise_3_a_handshake_survives_the_loss_of_its_worker() -> Outcome {
    let mut cluster = cluster(1, 2, ASKED).await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    // One worker does not run: what it is asked goes to the other one.
    cluster.worker_named("worker-0")?.signal(Signal::Stop)?;
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(tokio::spawn(async move {
            let mut client = Client::web_socket(door, "/?uid=ann").await?;
            // The others that leave are told to all.
            loop {
                let text = client.text().await?;
                if text.starts_with("hello") {
                    return anyhow::Ok(());
                }
            }
        }));
    }
    cluster.worker_named("worker-0")?.kill().await?;
    for client in asked {
        client.await??;
    }
    Ok(())
}

#[tokio::test]
async fn a_handler_of_the_sdk_decides_who_may_come() -> Outcome {
    let cluster = Cluster::serve()
        .listener(ASKED)
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let answer = turned_away(door, "reject=429").await?;
    ensure!(
        answer.status == 429 && answer.body == "rejected",
        "{answer:?}"
    );
    ensure!(turned_away(door, "fail").await?.status == 500);
    let mut client = Probe::connect(door, "accept=ann").await?;
    let session = json!({"op": "session_get", "key": "accepted"});
    ensure!(client.ask(&session).await? == Ok(json!("ann")));
    let uids = json!({"op": "uids", "of": [{"everyone": true}]});
    let uids = client.ask(&uids).await?;
    ensure!(format!("{uids:?}").contains("ann"), "{uids:?}");
    let door = cluster.gateway(0)?.listener(Transport::Text)?;
    let mut client = Client::connect(Transport::Text, door).await?;
    client.send("bob").await?;
    ensure!(client.text().await?.len() == 20, "its id comes first");
    Ok(())
}

/// Clients that come while versions change and a worker dies: each is let in once, with what the handler
/// said, whichever version and worker that was.
#[tokio::test]
async fn promise_3_handshakes_are_decided_once_over_swaps_and_the_loss_of_a_worker() -> Outcome {
    const EACH: usize = 30;
    let folder = tempfile::tempdir()?;
    let file = Plugin::Probe.copy_to(folder.path())?;
    let mut cluster = Cluster::apart(3, 3)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .listener(ASKED)
        .other_plugin_file(&file)
        .start()
        .await?;
    let mut coming = tokio::task::JoinSet::new();
    for gateway in 0..3 {
        let door = cluster.gateway(gateway)?.listener(Transport::Ws)?;
        coming.spawn(async move {
            let mut inside = Vec::new();
            for number in 0..EACH {
                let uid = format!("{gateway}-{number}");
                let mut client = Probe::connect(door, &format!("accept={uid}")).await?;
                let session = json!({"op": "session_get", "key": "accepted"});
                let kept = client.ask(&session).await?;
                ensure!(kept == Ok(json!(uid)), "{kept:?}, not {uid}");
                inside.push(client);
            }
            Ok(inside)
        });
    }
    let component = std::fs::read(&file)?;
    replace(&file, &another_build(&component, "second")?)?;
    cluster.worker_named("worker-1")?.kill().await?;
    replace(&file, &another_build(&component, "third")?)?;
    let mut inside = Vec::new();
    while let Some(came) = coming.join_next().await {
        inside.extend(came??);
    }
    let client = inside.first_mut().context("nobody came")?;
    let counts = json!({"do": [
        {"op": "client_count", "of": [{"everyone": true}]},
        {"op": "uid_count", "of": [{"everyone": true}]},
    ]});
    let counts = client.ask(&counts).await?;
    let counted = json!({"count": 3 * EACH, "missing": []});
    ensure!(counts == Ok(json!([counted, counted])), "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn handshakes_that_come_at_a_steady_pace_are_all_answered_beside_other_clients() -> Outcome {
    let found = handshakes::run(Plan {
        others: 5,
        every: Duration::from_millis(50),
        per_second: 50,
        time: Duration::from_secs(1),
        pin: None,
    })
    .await?;
    eprintln!("{found}");
    ensure!(found.accepted.rate > 0.0 && found.rejected.rate > 0.0);
    Ok(())
}
