//! Messages as they wait for a codec: in the same queue, under the same policies, with their kind
//! in front.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_wire::event::Message;

use super::Content;

const RAW: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// What waits for a codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Bytes to be sent as they are.
    Raw(Bytes),
    /// A message to be made bytes.
    Message(Message),
}

pub(super) fn marked(content: Content<'_>) -> BytesMut {
    let (kind, payload) = match content {
        Content::Raw(bytes) => (RAW, bytes),
        Content::Message(Message::Text(payload)) => (TEXT, payload.bytes()),
        Content::Message(Message::Binary(payload)) => (BINARY, payload.bytes()),
    };
    let mut part = BytesMut::with_capacity(payload.len() + 1);
    part.put_u8(kind);
    part.put_slice(payload);
    part
}

impl Plain {
    /// What was queued. The bytes are shared, and so counted for as long as this lives.
    pub(super) fn of(part: &Bytes) -> Self {
        let payload = part.slice(part.len().min(1)..);
        match part.first() {
            Some(&TEXT) => Self::Message(Message::Text(payload.into())),
            Some(&BINARY) => Self::Message(Message::Binary(payload.into())),
            Some(_) | None => Self::Raw(payload),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Raw(bytes) => bytes.len(),
            Self::Message(message) => message.payload().len(),
        }
    }
}
