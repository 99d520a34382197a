//! Clients of the listeners without a protocol of their own: `tcp`, `text` and `frame`.

use std::net::SocketAddrV4;

use anyhow::{Context, Result};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Received;
use crate::wait::within;

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Lines,
    Length,
}

#[derive(Debug)]
pub(super) struct Stream {
    stream: TcpStream,
    framing: Framing,
    input: BytesMut,
}

impl Stream {
    pub(super) async fn connect(address: SocketAddrV4, framing: Framing) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            framing,
            input: BytesMut::new(),
        })
    }

    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 4);
        if self.framing == Framing::Length {
            bytes.extend_from_slice(&u32::try_from(payload.len() + 4)?.to_be_bytes());
        }
        bytes.extend_from_slice(payload);
        if self.framing == Framing::Lines {
            bytes.push(b'\n');
        }
        let sent = async { Ok(self.stream.write_all(&bytes).await?) };
        within("a message is taken", sent).await
    }

    pub(super) async fn next(&mut self) -> Result<Received> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(String::from_utf8(message.to_vec())
                    .map_or_else(|_| Received::Binary(message.freeze()), Received::Text));
            }
            // A reset is an end as well.
            if matches!(self.stream.read_buf(&mut self.input).await, Ok(0) | Err(_)) {
                return Ok(Received::Closed(None));
            }
        }
    }

    /// Takes a whole message, if one is there.
    fn take(&mut self) -> Result<Option<BytesMut>> {
        match self.framing {
            Framing::None if self.input.is_empty() => Ok(None),
            Framing::None => Ok(Some(self.input.split())),
            Framing::Lines => {
                let Some(end) = self.input.iter().position(|&byte| byte == b'\n') else {
                    return Ok(None);
                };
                let line = self.input.split_to(end);
                self.input.advance(1);
                Ok(Some(line))
            }
            Framing::Length => {
                let Some(mut prefix) = self.input.get(..4) else {
                    return Ok(None);
                };
                let length = usize::try_from(prefix.get_u32())?;
                let payload = length
                    .checked_sub(4)
                    .with_context(|| format!("a frame of total length {length}"))?;
                if self.input.len() < length {
                    return Ok(None);
                }
                self.input.advance(4);
                Ok(Some(self.input.split_to(payload)))
            }
        }
    }

    pub(super) async fn close(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }
}
