//! A connection with a codec, natively: keeps what the host keeps between two calls.

use std::marker::PhantomData;

use crate::codec::{Codec, decode_all, encode_one};
use crate::error::Result;
use crate::message::Message;

/// One connection of a codec, for its unit tests. It keeps what was not taken, and waits for what
/// is needed, as the gateway does.
pub struct CodecConnection<C> {
    peer: String,
    state: Vec<u8>,
    unread: Vec<u8>,
    needs: usize,
    codec: PhantomData<C>,
}

impl<C: Codec> CodecConnection<C> {
    /// A connection from `192.0.2.1:50000`.
    #[must_use]
    pub fn open() -> Self {
        Self::open_from("192.0.2.1:50000")
    }

    /// A connection from this address.
    #[must_use]
    pub fn open_from(peer: &str) -> Self {
        Self {
            peer: peer.to_owned(),
            state: Vec::new(),
            unread: Vec::new(),
            needs: 0,
            codec: PhantomData,
        }
    }

    /// Bytes come from the client: the messages that they complete. An error closes the connection;
    /// messages before the mistake are lost with it here, not in the gateway.
    pub fn receive(&mut self, bytes: impl AsRef<[u8]>) -> Result<Vec<Message>> {
        self.unread.extend_from_slice(bytes.as_ref());
        match self.unread.len() < self.needs {
            true => Ok(Vec::new()),
            false => self.decode(false),
        }
    }

    /// The client sends no more: what it completes by that.
    pub fn end(&mut self) -> Result<Vec<Message>> {
        self.decode(true)
    }

    /// The bytes that the client gets for a message.
    pub fn send(&mut self, message: impl Into<Message>) -> Result<Vec<u8>> {
        let (bytes, state) = encode_one::<C>(&self.state, message.into())?;
        self.state = state.unwrap_or_else(|| std::mem::take(&mut self.state));
        Ok(bytes)
    }

    /// What has come and belongs to no message yet.
    #[must_use]
    pub fn unfinished(&self) -> &[u8] {
        &self.unread
    }

    fn decode(&mut self, ended: bool) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let decoded = decode_all::<C>(&self.peer, &self.state, &self.unread, ended)?;
            messages.extend(decoded.messages);
            self.unread.drain(..decoded.taken.min(self.unread.len()));
            self.state = decoded
                .state
                .unwrap_or_else(|| std::mem::take(&mut self.state));
            self.needs = decoded.needs;
            let again = (1..=self.unread.len()).contains(&decoded.needs);
            if !again || decoded.taken == 0 {
                return Ok(messages);
            }
        }
    }
}
