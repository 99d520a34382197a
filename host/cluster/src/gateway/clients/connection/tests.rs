//! Clients with real sockets: how they end, how they leave, and what they can make a gateway keep.

mod coded;
mod ends;
mod kept;
mod leaving;
mod listeners;

use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::effect::{Effect, Outcome, Recipients};
use tidegate_wire::event::{CloseReason, Delivery, EventKind, Message, Transport};
use tidegate_wire::id::ClientId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::commands::NoCommands;
use crate::gateway::rig::{LOOPBACK, Running, Scripted, soon};
use crate::gateway::settings::GatewaySettings;

/// A gateway with one listener of this kind.
async fn gateway(transport: Transport, set: impl FnOnce(&mut GatewaySettings)) -> Running {
    Running::start_as(1, Arc::new(NoCommands), LOOPBACK, |settings| {
        settings.listeners[0].transport = transport;
        set(settings);
    })
    .await
}

/// A client of that listener, upgraded if it is one of WebSockets.
async fn client(gateway: &Running) -> TcpStream {
    let mut client = gateway.client().await;
    let settings = &gateway.gateway.services.context.settings;
    if settings.listeners[0].transport == Transport::WebSocket {
        let request =
            b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("the upgrade", client.read_u8()).await.unwrap());
        }
    }
    client
}

/// A message as a client sends it.
fn framed(transport: Transport, payload: &[u8]) -> Vec<u8> {
    match transport {
        Transport::WebSocket => masked(0x81, payload),
        Transport::Tcp => payload.to_vec(),
        Transport::TextLines => [payload, b"\n"].concat(),
        Transport::LengthPrefixed => {
            let length = u32::try_from(payload.len() + 4).unwrap();
            [&length.to_be_bytes(), payload].concat()
        }
    }
}

/// A frame of a WebSocket client, with a mask of zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u64::try_from(payload.len()).unwrap();
    [
        &[first, 0x80 | 127],
        &length.to_be_bytes()[..],
        &[0; 4],
        payload,
    ]
    .concat()
}

fn text(content: impl Into<String>) -> Message {
    Message::Text(content.into().into_bytes().into())
}

fn say(client: ClientId, content: impl Into<String>) -> Effect {
    Effect::Send {
        to: Recipients::Client(client),
        message: text(content),
        except: vec![],
    }
}

fn close(client: ClientId, farewell: &str) -> Effect {
    Effect::Close {
        client,
        farewell: Some(text(farewell)),
        frame: None,
    }
}

/// Commits the next message, which must be this one, with these effects.
async fn handle(worker: &mut Scripted, expected: &str, effects: Vec<Effect>) {
    let delivery = worker.delivery().await;
    assert_eq!(content(&delivery), expected);
    worker.end(&delivery, Outcome::Done, effects, None);
}

fn content(delivery: &Delivery) -> String {
    let EventKind::Message(message) = &delivery.kind else {
        panic!("expected a message, got {delivery:?}");
    };
    String::from_utf8(message.payload().bytes().to_vec()).unwrap()
}

/// The next event, which must be a close; its reason.
async fn closed(worker: &mut Scripted) -> CloseReason {
    let delivery = worker.delivery().await;
    worker.end(&delivery, Outcome::Done, vec![], None);
    let EventKind::Close(closed) = &delivery.kind else {
        panic!("expected a close, got {delivery:?}");
    };
    closed.reason
}

/// Everything until the gateway ends its side.
async fn rest(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(60), client.read_to_end(&mut rest));
    reading.await.unwrap().map(|_| rest)
}
