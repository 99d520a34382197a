//! Who a client is, in each of its callbacks: at its connect, its messages and its close, also after the
//! loss of the worker that saw it come, of its gateway, and across a swap. And how WebSockets close.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tidegate_tests::plugins::Plugin;
use tidegate_tests::{Cluster, Outcome, Probe, Received, Transport, eventually};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, handshake::client::Request};

/// A client that speaks subprotocols and looks at close frames.
struct Speaker {
    socket: WebSocketStream<TcpStream>,
    id: String,
    address: SocketAddr,
}

impl Speaker {
    async fn connect(gateway: SocketAddrV4, query: &str) -> Result<Self> {
        let mut request: Request = format!("ws://{gateway}/?{query}").into_client_request()?;
        let offered = HeaderValue::from_static("unknown, chat.v2, chat.v1");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", offered);
        let stream = TcpStream::connect(gateway).await?;
        let address = stream.local_addr()?;
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        let id = text(&mut socket).await?;
        Ok(Self {
            socket,
            id,
            address,
        })
    }

    /// What the handler says of this client during a message.
    async fn who(&mut self) -> Result<Value> {
        let asked = json!({"op": "who"}).to_string();
        futures_util::SinkExt::send(&mut self.socket, Message::text(asked)).await?;
        let answer: Value = serde_json::from_str(&text(&mut self.socket).await?)?;
        let who = answer.get("ok").cloned();
        who.with_context(|| format!("the probe answers {answer}"))
    }

    async fn close(mut self, code: u16, reason: &str) -> Outcome {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        self.socket.close(Some(frame)).await?;
        // The answer, and the end.
        while self.socket.next().await.is_some_and(|it| it.is_ok()) {}
        Ok(())
    }

    /// The close frame that ends the connection.
    async fn closed(&mut self) -> Result<(u16, String)> {
        while let Some(message) = self.socket.next().await {
            if let Message::Close(Some(frame)) = message? {
                return Ok((frame.code.into(), frame.reason.as_str().to_owned()));
            }
        }
        anyhow::bail!("the connection ends without a close frame that has a code")
    }
}

async fn text(socket: &mut WebSocketStream<TcpStream>) -> Result<String> {
    let message = socket.next().await.context("the connection is over")??;
    Ok(message.to_text()?.to_owned())
}

/// What the watcher is told of this client at this callback.
async fn told(watcher: &mut Probe, id: &str, during: &str) -> Result<Value> {
    loop {
        let Received::Text(text) = watcher.next().await? else {
            continue;
        };
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let says = |key, what: &str| said.get(key).and_then(Value::as_str) == Some(what);
        if says("id", id) && says("during", during) {
            return Ok(said);
        }
    }
}

/// All of it but the time and the worker, which are looked at by themselves.
fn expected(of: &Speaker, gateway: &str, during: &str, closed_with: Value) -> Value {
    json!({
        "during": during,
        "id": of.id,
        "address": of.address.to_string(),
        "transport": "WebSocket",
        "listener": "web",
        "secure": false,
        "gateway": gateway,
        "subprotocol": "chat.v2",
        "closed_with": closed_with,
    })
}

fn check(mut said: Value, expected: &Value, came_ms: u64) -> Outcome {
    let object = said.as_object_mut().context("no object")?;
    object.remove("worker");
    let connected = object.remove("connected_at_ms").and_then(|it| it.as_u64());
    ensure!(
        connected.is_some_and(|at| at.abs_diff(came_ms) < 60_000),
        "connected at {connected:?}, it came at {came_ms}"
    );
    ensure!(said == *expected, "told {said}, expected {expected}");
    Ok(())
}

/// The worker that said it.
fn worker(said: &Value) -> Result<String> {
    let worker = said.get("worker").and_then(Value::as_str);
    Ok(worker.context("no worker")?.to_owned())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

async fn cluster(gateways: usize, workers: usize) -> Result<Cluster> {
    Cluster::apart(gateways, workers)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .settings("[register]\nlease-ms = 2000\ngrace-ms = 500")
        .web_socket_listener("name = \"web\"\nsubprotocols = [\"chat.v2\", \"chat.v1\"]")
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await
}

#[tokio::test]
async fn a_client_is_known_in_every_callback_also_when_its_worker_is_killed() -> Outcome {
    let mut cluster = cluster(2, 2).await?;
    let gateway = cluster.gateway(0)?.listener(Transport::Ws)?;
    let other = cluster.gateway(1)?.listener(Transport::Ws)?;
    let announced = cluster.gateway(0)?.lan()?.to_string();
    let mut watcher = Probe::connect(other, "group=watchers").await?;
    let came = now_ms();
    let mut client = Speaker::connect(gateway, "who=watchers").await?;
    let at = |during, with| expected(&client, &announced, during, with);
    let [connect, message] = ["connect", "message"].map(|during| at(during, Value::Null));
    let close = at("close", json!([4001, "enough"]));
    let said = told(&mut watcher, &client.id, "connect").await?;
    let first = worker(&said)?;
    check(said, &connect, came)?;
    check(client.who().await?, &message, came)?;
    cluster.worker_named(&first)?.kill().await?;
    let said = client.who().await?;
    ensure!(worker(&said)? != first, "the killed worker serves");
    check(said, &message, came)?;
    let id = client.id.clone();
    client.close(4001, "enough").await?;
    check(told(&mut watcher, &id, "close").await?, &close, came)
}

#[tokio::test]
async fn who_tells_the_close_of_a_lost_gateway_knows_how_the_client_came() -> Outcome {
    let mut cluster = cluster(2, 2).await?;
    let gateway = cluster.gateway(0)?.listener(Transport::Ws)?;
    let other = cluster.gateway(1)?.listener(Transport::Ws)?;
    let announced = cluster.gateway(0)?.lan()?.to_string();
    let mut watcher = Probe::connect(other, "group=watchers").await?;
    let came = now_ms();
    let mut client = Speaker::connect(gateway, "who=watchers").await?;
    let close = expected(&client, &announced, "close", Value::Null);
    // Who tells it has never run an event of the client.
    let first = worker(&client.who().await?)?;
    cluster.worker_named(&first)?.kill().await?;
    eventually("another worker is the custodian", async || {
        let node = cluster.gateway(0)?;
        let noticed = node.process()?.log().contains("link ended role=\"worker\"");
        let unguarded = "tidegate_gateway_unguarded_clients";
        let left = node.metric(unguarded, "").await?;
        Ok((noticed && left == 0.0).then_some(()))
    })
    .await?;
    cluster.gateway_mut(0)?.kill().await?;
    check(told(&mut watcher, &client.id, "close").await?, &close, came)
}

#[tokio::test]
async fn clients_of_other_transports_are_known_and_close_without_a_frame() -> Outcome {
    let cluster = cluster(1, 1).await?;
    for transport in [Transport::Text, Transport::Frame] {
        let address = cluster.gateway(0)?.listener(transport)?;
        let mut client = Probe::over(transport, address).await?;
        let who = client.ask(&json!({"op": "who"})).await;
        let who = who.with_context(|| format!("{transport:?}"))?;
        let who = who.map_err(anyhow::Error::msg)?;
        let nothing = ["subprotocol", "closed_with"].map(|key| who.get(key));
        ensure!(nothing == [Some(&Value::Null); 2], "{who}");
        ensure!(who.get("id") == Some(&json!(client.id())), "{who}");
    }
    Ok(())
}

#[tokio::test]
async fn a_handler_closes_with_a_code_and_a_reason() -> Outcome {
    let cluster = cluster(2, 1).await?;
    let addresses = [0, 1].map(|number| cluster.gateway(number)?.listener(Transport::Ws));
    let [here, there] = addresses;
    let (here, there) = (here?, there?);
    let mut actor = Probe::connect(here, "").await?;
    let mut one = Speaker::connect(there, "uid=ann").await?;
    let mut two = Speaker::connect(here, "uid=ann").await?;
    let close = json!({"op": "close_client", "client": one.id, "code": 4003, "reason": "banned", "farewell": "bye"});
    ensure!(actor.ask(&close).await?.is_ok());
    ensure!(
        text(&mut one.socket).await? == "bye",
        "the farewell comes first"
    );
    ensure!(one.closed().await? == (4003, "banned".to_owned()));
    let close = json!({"op": "close_uid", "uid": "ann", "code": 1000, "reason": "done"});
    ensure!(actor.ask(&close).await?.is_ok());
    ensure!(two.closed().await? == (1000, "done".to_owned()));
    let long = "x".repeat(124);
    for (code, reason) in [(1001, "no"), (2999, "no"), (5000, "no"), (4000, &*long)] {
        let close =
            json!({"op": "close_client", "client": actor.id(), "code": code, "reason": reason});
        let refused = actor.ask(&close).await?;
        ensure!(
            refused == Err("invalid-argument".to_owned()),
            "{code}: {refused:?}"
        );
    }
    Ok(())
}
