//! One client's connection: a socket to a gateway's process, or a pipe into a gateway of this process,
//! which takes no file descriptor. Both carry short messages and are read one message at a time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_cluster::gateway::{Gateway, LocalClient};
use tokio::time::sleep;

use crate::load::{Lean, encode};

/// Clients from one source address: far fewer than it has ports.
const FROM_ONE_ADDRESS: usize = 4_000;
/// The first port that a pipe pretends to come from.
const FIRST_PORT: usize = 10_000;
/// A pipe wakes nobody: so often somebody who waits for an answer looks whether it has come.
const LOOK: Duration = Duration::from_millis(1);
/// What is taken from a pipe at once: many answers.
const READ_BYTES: usize = 4 << 10;

/// A client's connection.
#[derive(Debug)]
pub(super) enum Connection {
    Socket(Lean),
    Pipe(Pipe),
}

impl Connection {
    /// The connection of the client with this number, over a WebSocket.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub(super) async fn dial(door: SocketAddrV4, number: usize) -> Result<Self> {
        let source = Some(source(number)?);
        Ok(Self::Socket(Lean::connect(door, source).await?))
    }

    /// The connection of the client with this number, by a pipe to the first listener, which is for
    /// lines.
    ///
    /// # Errors
    /// When there are far too many clients.
    pub(super) fn pipe(gateway: &Gateway, number: usize) -> Result<Self> {
        let port = u16::try_from(FIRST_PORT + number % FROM_ONE_ADDRESS)?;
        let address = SocketAddr::from((source(number)?, port));
        Ok(Self::Pipe(Pipe {
            client: gateway.connect(0, address),
            input: Vec::new(),
            taken: 0,
        }))
    }

    /// Sends a message without a newline.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(super) async fn send(&mut self, text: &str) -> Result<()> {
        match self {
            Self::Socket(lean) => lean.write(&encode(text.as_bytes())).await,
            Self::Pipe(pipe) => pipe.send(text).await,
        }
    }

    /// The next message. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(super) async fn next(&mut self) -> Result<&[u8]> {
        match self {
            Self::Socket(lean) => lean.next().await,
            Self::Pipe(pipe) => pipe.next().await,
        }
    }
}

/// Where the client with this number comes from.
fn source(number: usize) -> Result<Ipv4Addr> {
    let host = u8::try_from(2 + number / FROM_ONE_ADDRESS % 250)?;
    Ok(Ipv4Addr::new(127, 0, 0, host))
}

/// A pipe whose messages are lines.
#[derive(Debug)]
pub(super) struct Pipe {
    client: LocalClient,
    input: Vec<u8>,
    /// So many bytes of the input were returned already.
    taken: usize,
}

impl Pipe {
    async fn send(&self, text: &str) -> Result<()> {
        let line = format!("{text}\n");
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match self.client.try_send(rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) => no_loss(error)?,
            }
            if !rest.is_empty() {
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<&[u8]> {
        self.input.drain(..self.taken);
        self.taken = 0;
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                self.taken = end + 1;
                return self.input.get(..end).context("a lost line");
            }
            if !self.fill()? {
                sleep(LOOK).await;
            }
        }
    }

    /// Takes what has come. Returns whether there was something.
    fn fill(&mut self) -> Result<bool> {
        let mut buffer = [0; READ_BYTES];
        match self.client.try_receive(&mut buffer) {
            Ok(count) => {
                ensure!(count > 0, "the gateway closed the connection");
                let came = buffer.get(..count).context("more than there is room for")?;
                self.input.extend_from_slice(came);
                Ok(true)
            }
            Err(error) => no_loss(error).map(|()| false),
        }
    }
}

/// A pipe that is full or empty at the moment is no error.
fn no_loss(error: io::Error) -> Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Ok(());
    }
    Err(error).context("the gateway closed the connection")
}
