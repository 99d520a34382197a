//! The baseline of the figures: the plainest server that does the same for clients. One thread,
//! tokio-tungstenite with 4 KiB buffers, no gateway, no worker, no component. It answers
//! `E:<payload>` itself and knows groups by `J:<group>` and `G:<group>:<payload>`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::rc::Rc;

use anyhow::{Context, Result};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

/// Messages that wait for one client; when it is full, that client misses one.
const QUEUE: usize = 64;

/// Buffers of tungstenite; its default of 128 KiB would not be a fair baseline.
const BUFFER_BYTES: usize = 4096;

type Groups = Rc<RefCell<HashMap<String, Vec<mpsc::Sender<Message>>>>>;

fn main() -> Result<()> {
    let address: SocketAddrV4 = std::env::args()
        .nth(1)
        .context("usage: plain 127.0.0.1:PORT")?
        .parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(serve(address)))
}

async fn serve(address: SocketAddrV4) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.into())?;
    let listener: TcpListener = socket.listen(4096)?;
    let groups = Groups::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let groups = groups.clone();
        // What goes wrong with one client ends that client.
        spawn_local(async move { client(stream, groups).await.ok() });
    }
}

async fn client(stream: TcpStream, groups: Groups) -> Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    let (sender, mut queue) = mpsc::channel(QUEUE);
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(message) = message else { return Ok(()) };
                handle(message?, &mut socket, &sender, &groups).await?;
            }
            Some(message) = queue.recv() => {
                socket.feed(message).await?;
                while let Some(Some(message)) = queue.recv().now_or_never() {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
        }
    }
}

async fn handle(
    message: Message,
    socket: &mut WebSocketStream<TcpStream>,
    sender: &mpsc::Sender<Message>,
    groups: &Groups,
) -> Result<()> {
    let Message::Text(text) = message else {
        return Ok(());
    };
    match text.split_once(':') {
        Some(("E", payload)) => socket.send(Message::text(payload)).await?,
        Some(("J", group)) => {
            let mut groups = groups.borrow_mut();
            groups
                .entry(group.to_owned())
                .or_default()
                .push(sender.clone());
        }
        Some(("G", rest)) => {
            if let Some((group, payload)) = rest.split_once(':') {
                publish(groups, group, payload);
            }
        }
        _ => {}
    }
    Ok(())
}

fn publish(groups: &Groups, group: &str, payload: &str) {
    let message = Message::text(payload);
    if let Some(members) = groups.borrow_mut().get_mut(group) {
        members.retain(|member| {
            !matches!(
                member.try_send(message.clone()),
                Err(mpsc::error::TrySendError::Closed(_))
            )
        });
    }
}
