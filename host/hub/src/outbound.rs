//! What is sent to clients: messages encoded once per transport, and the queue of one connection,
//! bounded in bytes, with its policy when it is full.
//!
//! Pure: it decides what is kept, dropped or the end; the client's task writes.

mod latest;
mod plain;

use std::cell::OnceCell;
use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_wire::Name;
use tidegate_wire::event::{Message, Transport};

use latest::Latest;
pub use plain::Plain;

/// What happens to a message for a client whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueuePolicy {
    /// The client is closed: it does not read.
    #[default]
    Close,
    /// The new message is dropped and counted.
    DropNew,
    /// The oldest messages are dropped and counted until the new one fits.
    DropOld,
}

/// What happens to a message with a newline in it for a client that is sent lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Newlines {
    /// It is not sent, and counted: one message never becomes two.
    #[default]
    Refuse,
    /// It is sent as it is: each of its lines reaches the client as a message of its own.
    Split,
    /// In every message a newline becomes `\\n`, a carriage return `\\r` and a backslash `\\\\`.
    Escape,
}

/// Counts bytes that wait to be written.
pub trait Account {
    /// The bytes, counted until the last copy of what is returned is dropped.
    fn hold<B: AsRef<[u8]> + Send + 'static>(&self, bytes: B) -> Bytes;
}

/// Counts nothing.
impl Account for () {
    fn hold<B: AsRef<[u8]> + Send + 'static>(&self, bytes: B) -> Bytes {
        Bytes::from_owner(bytes)
    }
}

/// One message, encoded at most once for each transport.
#[derive(Debug)]
pub struct Outgoing<'a> {
    content: Content<'a>,
    /// It takes the place of what still waits under this key.
    key: Option<&'a Name>,
    /// As it is: for `tcp`, and raw bytes for everybody. In memory of its own: what came over a link is
    /// a slice of all that was read there, which a client that does not read would keep.
    plain: OnceCell<Bytes>,
    web_socket: OnceCell<Bytes>,
    lines: OnceCell<Bytes>,
    escaped: OnceCell<Bytes>,
    prefixed: OnceCell<Bytes>,
    marked: OnceCell<Bytes>,
    has_newline: OnceCell<bool>,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A message, to be framed as each client's listener demands.
    Message(&'a Message),
    /// Bytes as they are.
    Raw(&'a Bytes),
}

impl<'a> Outgoing<'a> {
    /// A message, to be framed as each client's listener demands.
    #[must_use]
    pub const fn message(message: &'a Message) -> Self {
        Self::new(Content::Message(message), None)
    }

    /// A message that takes the place of what still waits for a client under the same key.
    #[must_use]
    pub const fn latest(message: &'a Message, key: &'a Name) -> Self {
        Self::new(Content::Message(message), Some(key))
    }

    /// Bytes as they are.
    #[must_use]
    pub const fn raw(bytes: &'a Bytes) -> Self {
        Self::new(Content::Raw(bytes), None)
    }

    /// What it was made of.
    #[must_use]
    pub const fn content(&self) -> Content<'a> {
        self.content
    }

    /// The key under which it replaces what waits.
    #[must_use]
    pub const fn key(&self) -> Option<&'a Name> {
        self.key
    }

    const fn new(content: Content<'a>, key: Option<&'a Name>) -> Self {
        Self {
            content,
            key,
            plain: OnceCell::new(),
            web_socket: OnceCell::new(),
            lines: OnceCell::new(),
            escaped: OnceCell::new(),
            prefixed: OnceCell::new(),
            marked: OnceCell::new(),
            has_newline: OnceCell::new(),
        }
    }

    /// The bytes for a client on this transport, counted in `account`; none if the message cannot be
    /// one line.
    #[must_use]
    pub fn encoded(
        &self,
        transport: Transport,
        newlines: Newlines,
        account: &impl Account,
    ) -> Option<Bytes> {
        let (message, payload) = match self.content {
            Content::Raw(bytes) => return Some(held(&self.plain, account, || bytes.to_vec())),
            Content::Message(message) => (message, message.payload().bytes()),
        };
        Some(match (transport, newlines) {
            (Transport::Tcp, _) => held(&self.plain, account, || payload.to_vec()),
            (Transport::WebSocket, _) => {
                held(&self.web_socket, account, || web_socket_frame(message))
            }
            (Transport::TextLines, Newlines::Escape) => {
                held(&self.escaped, account, || escaped(payload))
            }
            (Transport::TextLines, Newlines::Refuse) if self.has_newline(payload) => return None,
            (Transport::TextLines, _) => held(&self.lines, account, || line(payload)),
            (Transport::LengthPrefixed, _) => held(&self.prefixed, account, || prefixed(payload)),
        })
    }

    /// As it waits for a codec, counted in `account`: to be taken by [`Outbound::take_plain`].
    #[must_use]
    pub fn for_codec(&self, account: &impl Account) -> Bytes {
        held(&self.marked, account, || plain::marked(self.content))
    }

    fn has_newline(&self, payload: &[u8]) -> bool {
        *self
            .has_newline
            .get_or_init(|| memchr::memchr(b'\n', payload).is_some())
    }
}

/// What was encoded once is shared, and counted once.
fn held<B: AsRef<[u8]> + Send + 'static>(
    place: &OnceCell<Bytes>,
    account: &impl Account,
    encode: impl FnOnce() -> B,
) -> Bytes {
    place.get_or_init(|| account.hold(encode())).clone()
}

/// One unmasked, final WebSocket frame (RFC 6455, section 5.2).
fn web_socket_frame(message: &Message) -> BytesMut {
    let opcode = match message {
        Message::Text(_) => 0x1,
        Message::Binary(_) => 0x2,
    };
    server_frame(opcode, message.payload())
}

/// A close frame with its code and a reason for people (RFC 6455, section 5.5.1).
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    payload.truncate(125);
    server_frame(0x8, &payload).freeze()
}

/// A ping frame without a payload.
#[must_use]
pub const fn ping_frame() -> Bytes {
    Bytes::from_static(&[0x89, 0])
}

fn server_frame(opcode: u8, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    frame.put_u8(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => frame.put_u8(length as u8),
        length @ 126..0x1_0000 => {
            frame.put_u8(126);
            frame.put_u16(length as u16);
        }
        length => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    frame.put_slice(payload);
    frame
}

fn line(payload: &Bytes) -> BytesMut {
    let mut line = BytesMut::with_capacity(payload.len() + 1);
    line.put_slice(payload);
    line.put_u8(b'\n');
    line
}

/// One line of which the message can be had back.
fn escaped(payload: &Bytes) -> BytesMut {
    let mut line = BytesMut::with_capacity(payload.len() + 16);
    for byte in payload {
        match byte {
            b'\n' => line.put_slice(b"\\n"),
            b'\r' => line.put_slice(b"\\r"),
            b'\\' => line.put_slice(b"\\\\"),
            other => line.put_u8(*other),
        }
    }
    line.put_u8(b'\n');
    line
}

/// The total length, itself included, stands first.
fn prefixed(payload: &Bytes) -> BytesMut {
    let mut frame = BytesMut::with_capacity(payload.len() + 4);
    frame.put_u32(u32::try_from(payload.len() + 4).unwrap_or(u32::MAX));
    frame.put_slice(payload);
    frame
}

/// What became of a message that was to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It waits.
    Waits,
    /// It waits in the place of an older one under the same key.
    Replaced,
    /// It was dropped.
    DroppedNew,
    /// It waits in the place of older ones, which were dropped.
    DroppedOld {
        /// How many.
        messages: u32,
    },
    /// The queue is full and the policy is to close.
    Full,
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub struct Outbound {
    parts: VecDeque<Bytes>,
    bytes: usize,
    /// Bytes of the front part that are written.
    written: usize,
    /// None while nothing has come under a key since the queue was empty.
    latest: Option<Box<Latest>>,
}

impl Outbound {
    /// Queues one whole frame. A queue below its bound takes a frame of any size.
    pub fn push(&mut self, part: Bytes, bytes_max: usize, policy: QueuePolicy) -> Queued {
        if part.is_empty() {
            return Queued::Waits;
        }
        let mut dropped = 0;
        if self.bytes >= bytes_max {
            match policy {
                QueuePolicy::Close => return Queued::Full,
                QueuePolicy::DropNew => return Queued::DroppedNew,
                QueuePolicy::DropOld => dropped = self.drop_old(part.len(), bytes_max),
            }
        }
        self.bytes += part.len();
        self.parts.push_back(part);
        if dropped > 0 {
            Queued::DroppedOld { messages: dropped }
        } else {
            Queued::Waits
        }
    }

    /// Queues one whole frame under a key: it takes the place of the one that still waits under the same
    /// key, where that stands. One that is half written is no longer replaced.
    pub fn push_latest(
        &mut self,
        key: &Name,
        part: Bytes,
        bytes_max: usize,
        policy: QueuePolicy,
    ) -> Queued {
        let keep = usize::from(self.written > 0);
        let place = self.latest.as_ref().and_then(|latest| latest.place(key));
        if let Some(place) = place.filter(|place| *place >= keep)
            && let Some(old) = self.parts.get_mut(place)
            && (self.bytes < bytes_max || part.len() <= old.len())
        {
            self.bytes = self.bytes - old.len() + part.len();
            *old = part;
            return Queued::Replaced;
        }
        // Nothing of an empty message waits: the key must not name the part before it.
        let waits = !part.is_empty();
        let queued = self.push(part, bytes_max, policy);
        if waits
            && matches!(queued, Queued::Waits | Queued::DroppedOld { .. })
            && let Some(place) = self.parts.len().checked_sub(1)
        {
            let latest = self.latest.get_or_insert_default();
            latest.set(key.clone(), place, self.parts.len());
        }
        queued
    }

    /// Takes the oldest of what waits for a codec. Nothing else is in such a queue, and none of it is
    /// written.
    pub fn take_plain(&mut self) -> Option<Plain> {
        let part = self.parts.pop_front()?;
        self.bytes = self.bytes.saturating_sub(part.len());
        match &mut self.latest {
            Some(_) if self.parts.is_empty() => self.latest = None,
            Some(latest) => latest.gone(1),
            None => {}
        }
        Some(Plain::of(&part))
    }

    /// Queues what comes last before the end, past the bound: a farewell and a close frame, which no
    /// policy may drop. The caller queues nothing after them.
    pub fn push_last(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Drops what waits but the rest of a frame that is half written. Says how many bytes went.
    pub fn shed(&mut self) -> usize {
        let keep = usize::from(self.written > 0);
        let before = self.bytes;
        self.latest = None;
        self.parts.truncate(keep);
        self.bytes = self.parts.iter().map(Bytes::len).sum::<usize>() - self.written;
        before - self.bytes
    }

    /// Never drops the front once part of it is written: the client would see half a frame.
    fn drop_old(&mut self, wanted: usize, bytes_max: usize) -> u32 {
        let keep = usize::from(self.written > 0);
        let mut dropped = 0;
        while self.parts.len() > keep && self.bytes + wanted > bytes_max {
            if let Some(part) = self.parts.remove(keep) {
                self.bytes -= part.len();
                dropped += 1;
            }
        }
        // A front that stays has the number of the last that is gone: it is not replaced, being half
        // written.
        if let Some(latest) = &mut self.latest {
            latest.gone(dropped as usize);
        }
        dropped
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops everything that waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes to write next: one part as it is, or many gathered in `scratch`.
    #[must_use]
    pub fn next_write<'a>(&'a self, scratch: &'a mut Vec<u8>, gather_max: usize) -> &'a [u8] {
        let front = self.parts.front().and_then(|part| part.get(self.written..));
        let front = front.unwrap_or_default();
        if self.parts.len() <= 1 || front.len() >= gather_max {
            return front;
        }
        scratch.clear();
        scratch.extend_from_slice(front);
        for part in self.parts.iter().skip(1) {
            if scratch.len() + part.len() > gather_max {
                break;
            }
            scratch.extend_from_slice(part);
        }
        scratch
    }

    /// Takes `count` written bytes off the front.
    pub fn wrote(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        count += self.written;
        self.written = 0;
        while let Some(front) = self.parts.front() {
            if front.len() > count {
                self.written = count;
                return;
            }
            count -= front.len();
            self.parts.pop_front();
            if let Some(latest) = &mut self.latest {
                latest.gone(1);
            }
        }
        self.latest = None;
        if self.parts.capacity() > 64 {
            self.parts = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests;
