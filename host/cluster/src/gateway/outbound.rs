//! What is sent to clients: messages encoded once per transport, and the queue of one connection,
//! bounded in bytes, with its policy when it is full.
//!
//! Pure: it decides what is kept, dropped or the end; the client's task writes.

use std::cell::OnceCell;
use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_wire::event::{Message, Transport};

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

/// One message, encoded at most once for each transport.
#[derive(Debug)]
pub struct Outgoing<'a> {
    content: Content<'a>,
    web_socket: OnceCell<Bytes>,
    lines: OnceCell<Bytes>,
    prefixed: OnceCell<Bytes>,
}

#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    Message(&'a Message),
    Raw(&'a Bytes),
}

impl<'a> Outgoing<'a> {
    /// A message, to be framed as each client's listener demands.
    #[must_use]
    pub const fn message(message: &'a Message) -> Self {
        Self::new(Content::Message(message))
    }

    /// Bytes as they are.
    #[must_use]
    pub const fn raw(bytes: &'a Bytes) -> Self {
        Self::new(Content::Raw(bytes))
    }

    const fn new(content: Content<'a>) -> Self {
        Self {
            content,
            web_socket: OnceCell::new(),
            lines: OnceCell::new(),
            prefixed: OnceCell::new(),
        }
    }

    /// The bytes for a client on this transport.
    #[must_use]
    pub fn encoded(&self, transport: Transport) -> Bytes {
        let message = match self.content {
            Content::Raw(bytes) => return bytes.clone(),
            Content::Message(message) => message,
        };
        let payload = message.payload().bytes();
        match transport {
            Transport::Tcp => payload.clone(),
            Transport::WebSocket => self
                .web_socket
                .get_or_init(|| web_socket_frame(message))
                .clone(),
            Transport::TextLines => self.lines.get_or_init(|| line(payload)).clone(),
            Transport::LengthPrefixed => self.prefixed.get_or_init(|| prefixed(payload)).clone(),
        }
    }
}

/// One unmasked, final WebSocket frame (RFC 6455, section 5.2).
fn web_socket_frame(message: &Message) -> Bytes {
    let opcode = match message {
        Message::Text(_) => 0x1,
        Message::Binary(_) => 0x2,
    };
    server_frame(opcode, message.payload())
}

/// A close frame with its code (RFC 6455, section 5.5.1).
#[must_use]
pub fn close_frame(code: u16) -> Bytes {
    server_frame(0x8, &code.to_be_bytes())
}

/// A ping frame without a payload.
#[must_use]
pub const fn ping_frame() -> Bytes {
    Bytes::from_static(&[0x89, 0])
}

fn server_frame(opcode: u8, payload: &[u8]) -> Bytes {
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
    frame.freeze()
}

fn line(payload: &Bytes) -> Bytes {
    let mut line = BytesMut::with_capacity(payload.len() + 1);
    line.put_slice(payload);
    line.put_u8(b'\n');
    line.freeze()
}

/// The total length, itself included, stands first.
fn prefixed(payload: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 4);
    frame.put_u32(u32::try_from(payload.len() + 4).unwrap_or(u32::MAX));
    frame.put_slice(payload);
    frame.freeze()
}

/// What became of a message that was to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It waits.
    Waits,
    /// This many messages were dropped, the new one or older ones.
    Dropped {
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
                QueuePolicy::DropNew => return Queued::Dropped { messages: 1 },
                QueuePolicy::DropOld => dropped = self.drop_old(part.len(), bytes_max),
            }
        }
        self.bytes += part.len();
        self.parts.push_back(part);
        if dropped > 0 {
            Queued::Dropped { messages: dropped }
        } else {
            Queued::Waits
        }
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
        }
        if self.parts.capacity() > 64 {
            self.parts = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(payload: &str) -> Message {
        Message::Text(Bytes::copy_from_slice(payload.as_bytes()).into())
    }

    #[test]
    fn each_transport_frames_in_its_own_way() {
        let message = text("hi");
        let outgoing = Outgoing::message(&message);
        assert_eq!(&outgoing.encoded(Transport::WebSocket)[..], b"\x81\x02hi");
        assert_eq!(&outgoing.encoded(Transport::TextLines)[..], b"hi\n");
        assert_eq!(
            &outgoing.encoded(Transport::LengthPrefixed)[..],
            b"\0\0\0\x06hi"
        );
        assert_eq!(&outgoing.encoded(Transport::Tcp)[..], b"hi");
    }

    #[test]
    fn frame_lengths_follow_the_standard() {
        for (length, header) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let message = Message::Binary(vec![0; length].into());
            let frame = Outgoing::message(&message).encoded(Transport::WebSocket);
            assert_eq!(frame.len(), length + header, "payload of {length}");
        }
    }

    #[test]
    fn a_broadcast_is_encoded_once() {
        let message = text("hello");
        let outgoing = Outgoing::message(&message);
        let first = outgoing.encoded(Transport::WebSocket);
        assert_eq!(
            first.as_ptr(),
            outgoing.encoded(Transport::WebSocket).as_ptr()
        );
    }

    #[test]
    fn drop_old_never_breaks_a_frame_that_is_half_written() {
        let mut queue = Outbound::default();
        for part in ["aaaa", "bbbb", "cccc"] {
            queue.push(
                Bytes::from_static(part.as_bytes()),
                12,
                QueuePolicy::DropOld,
            );
        }
        queue.wrote(2);
        queue.push(Bytes::from_static(b"dd"), 10, QueuePolicy::DropOld);
        assert_eq!(queue.next_write(&mut Vec::new(), 100), b"aaccccdd");
    }

    proptest! {
        #[test]
        fn what_is_pushed_comes_out_in_order(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..40),
            steps in proptest::collection::vec(1..30usize, 1..200),
        ) {
            let mut queue = Outbound::default();
            let expected: Vec<u8> = parts.concat();
            for part in parts {
                queue.push(part.into(), usize::MAX, QueuePolicy::Close);
            }
            let (mut seen, mut scratch) = (Vec::new(), Vec::new());
            for step in steps {
                let next = queue.next_write(&mut scratch, 16);
                let count = step.min(next.len());
                seen.extend_from_slice(&next[..count]);
                queue.wrote(count);
                prop_assert_eq!(queue.bytes(), expected.len() - seen.len());
            }
            prop_assert_eq!(&expected[..seen.len()], &seen[..]);
        }
    }
}
