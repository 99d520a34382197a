//! A client of any listener kind, with deadlines. It behaves as a good client does: it answers
//! pings while it is read, and it reads only when it is asked to, so that a client that is left
//! alone is a slow reader.

mod stream;
mod who;

pub use who::Who;

use std::net::SocketAddrV4;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::wait::{DEADLINE, within};
use stream::{Framing, Stream};

/// The kinds of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket.
    Ws,
    /// Bytes as they come.
    Tcp,
    /// Lines.
    Text,
    /// u32 big-endian total length, then the message.
    Frame,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ws, Self::Tcp, Self::Text, Self::Frame];

    /// The scheme of `--listen`.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Tcp => "tcp",
            Self::Text => "text",
            Self::Frame => "frame",
        }
    }
}

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message, or anything on a listener that has no kinds and that is UTF-8.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// The connection is closed; for a WebSocket, with this code.
    Closed(Option<u16>),
}

/// One connection to a gateway.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
}

#[derive(Debug)]
enum Connection {
    WebSocket(Box<WebSocketStream<TcpStream>>),
    Stream(Stream),
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn connect(transport: Transport, address: SocketAddrV4) -> Result<Self> {
        match transport {
            Transport::Ws => Self::web_socket(address, "/").await,
            Transport::Tcp => Self::plain(address, Framing::None).await,
            Transport::Text => Self::plain(address, Framing::Lines).await,
            Transport::Frame => Self::plain(address, Framing::Length).await,
        }
    }

    /// Connects a WebSocket with this path and query.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn web_socket(address: SocketAddrV4, target: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        Self::upgrade(stream, address, target).await
    }

    /// Connects a WebSocket whose kernel takes little, so that it is soon a slow reader.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn web_socket_with_small_window(address: SocketAddrV4) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let stream = socket.connect(address.into()).await?;
        Self::upgrade(stream, address, "/").await
    }

    async fn upgrade(stream: TcpStream, address: SocketAddrV4, target: &str) -> Result<Self> {
        stream.set_nodelay(true)?;
        let url = format!("ws://{address}{target}");
        let upgraded = async { Ok(tokio_tungstenite::client_async(url, stream).await?) };
        let (socket, _) = within("the WebSocket upgrade is accepted", upgraded).await?;
        Ok(Self {
            connection: Connection::WebSocket(Box::new(socket)),
        })
    }

    async fn plain(address: SocketAddrV4, framing: Framing) -> Result<Self> {
        Ok(Self {
            connection: Connection::Stream(Stream::connect(address, framing).await?),
        })
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        match &mut self.connection {
            Connection::WebSocket(socket) => {
                let sent = async { Ok(socket.send(Message::text(text)).await?) };
                within("a message is taken", sent).await
            }
            Connection::Stream(stream) => stream.send(text.as_bytes()).await,
        }
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.connection {
            Connection::WebSocket(socket) => {
                let message = Message::binary(Bytes::copy_from_slice(bytes));
                let sent = async { Ok(socket.send(message).await?) };
                within("a message is taken", sent).await
            }
            Connection::Stream(stream) => stream.send(bytes).await,
        }
    }

    /// Waits for the next message or the end.
    ///
    /// # Errors
    /// When nothing comes before the deadline.
    pub async fn next(&mut self) -> Result<Received> {
        let connection = &mut self.connection;
        let received = async {
            match connection {
                Connection::WebSocket(socket) => next_message(socket).await,
                Connection::Stream(stream) => stream.next().await,
            }
        };
        within("something is received", received).await
    }

    /// Waits for the next message, which must be text.
    ///
    /// # Errors
    /// When something else comes, or nothing before the deadline.
    pub async fn text(&mut self) -> Result<String> {
        match self.next().await? {
            Received::Text(text) => Ok(text),
            other @ (Received::Binary(_) | Received::Closed(_)) => {
                bail!("expected a text, received {other:?}")
            }
        }
    }

    /// Waits for the next message, which must be this text.
    ///
    /// # Errors
    /// When something else comes, or nothing before the deadline.
    pub async fn expect(&mut self, text: &str) -> Result<()> {
        let received = self
            .next()
            .await
            .with_context(|| format!("waiting for {text:?}"))?;
        ensure!(
            received == Received::Text(text.to_owned()),
            "expected {text:?}, received {received:?}"
        );
        Ok(())
    }

    /// Waits for the next message, which must be these bytes as a binary message.
    ///
    /// # Errors
    /// When something else comes, or nothing before the deadline.
    pub async fn expect_binary(&mut self, bytes: &[u8]) -> Result<()> {
        let received = self.next().await?;
        ensure!(
            received == Received::Binary(Bytes::copy_from_slice(bytes)),
            "expected {bytes:?} as binary, received {received:?}"
        );
        Ok(())
    }

    /// Reads over whatever comes until the connection is closed; gives the close code.
    ///
    /// # Errors
    /// When it is still open at the deadline.
    pub async fn closed(&mut self) -> Result<Option<u16>> {
        let until = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Received::Closed(code) = self.next().await? {
                return Ok(code);
            }
            ensure!(
                tokio::time::Instant::now() < until,
                "the connection is not closed within {DEADLINE:?}"
            );
        }
    }

    /// Sends a command and gives the text that answers it.
    ///
    /// # Errors
    /// When no text comes.
    pub async fn ask(&mut self, command: &str) -> Result<String> {
        self.send(command).await?;
        self.text()
            .await
            .with_context(|| format!("no answer to {command:?}"))
    }

    /// This client's id, as the handler sees it.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn id(&mut self) -> Result<String> {
        self.ask("I:").await
    }

    /// What the instance that serves this client says of itself.
    ///
    /// # Errors
    /// When no answer comes, or not the right one.
    pub async fn who(&mut self) -> Result<Who> {
        let answer = self.ask("W:").await?;
        Who::parse(&answer).with_context(|| format!("W: answers {answer}"))
    }

    /// The name of the worker that serves this client.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn worker(&mut self) -> Result<String> {
        Ok(self.who().await?.worker)
    }

    /// Proves that nothing else had been sent to this client: what it sends itself comes back
    /// next. Also a barrier: what it sent before has been handled.
    ///
    /// # Errors
    /// When something else comes first.
    pub async fn nothing_else(&mut self) -> Result<()> {
        self.send("E:nothing else").await?;
        self.expect("nothing else").await
    }

    /// Closes as a well-behaved client does.
    ///
    /// # Errors
    /// When the connection is closed already.
    pub async fn close(mut self) -> Result<()> {
        match &mut self.connection {
            Connection::WebSocket(socket) => Ok((**socket).close(None).await?),
            Connection::Stream(stream) => stream.close().await,
        }
    }
}

async fn next_message(socket: &mut WebSocketStream<TcpStream>) -> Result<Received> {
    loop {
        return Ok(match socket.next().await {
            Some(Ok(Message::Text(text))) => Received::Text(text.as_str().to_owned()),
            Some(Ok(Message::Binary(bytes))) => Received::Binary(bytes),
            Some(Ok(Message::Close(frame))) => {
                // The answer to the close goes out before the code is told.
                let _ = socket.flush().await;
                Received::Closed(frame.map(|frame| frame.code.into()))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            None
            | Some(Err(
                tungstenite::Error::ConnectionClosed
                | tungstenite::Error::AlreadyClosed
                | tungstenite::Error::Io(_)
                | tungstenite::Error::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                ),
            )) => Received::Closed(None),
            Some(Err(error)) => bail!("the gateway breaks the WebSocket protocol: {error}"),
        });
    }
}
