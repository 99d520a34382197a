//! What is sent to clients: messages encoded once per transport, and the queue of one connection,
//! bounded in bytes, with its policy when it is full.
//!
//! Pure: it decides what is kept, dropped or the end; the client's task writes.

mod latest;

use std::cell::OnceCell;
use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_wire::Name;
use tidegate_wire::event::{Message, Transport};

use latest::Latest;

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
        let queued = self.push(part, bytes_max, policy);
        if matches!(queued, Queued::Waits | Queued::DroppedOld { .. })
            && let Some(place) = self.parts.len().checked_sub(1)
        {
            let latest = self.latest.get_or_insert_default();
            latest.set(key.clone(), place, self.parts.len());
        }
        queued
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(payload: &str) -> Message {
        Message::Text(Bytes::copy_from_slice(payload.as_bytes()).into())
    }

    fn encoded(outgoing: &Outgoing<'_>, transport: Transport) -> Bytes {
        let encoded = outgoing.encoded(transport, Newlines::default(), &());
        encoded.expect("a message without a newline")
    }

    #[test]
    fn each_transport_frames_in_its_own_way() {
        let message = text("hi");
        let outgoing = Outgoing::message(&message);
        for (transport, expected) in [
            (Transport::WebSocket, &b"\x81\x02hi"[..]),
            (Transport::TextLines, b"hi\n"),
            (Transport::LengthPrefixed, b"\0\0\0\x06hi"),
            (Transport::Tcp, b"hi"),
        ] {
            assert_eq!(&encoded(&outgoing, transport)[..], expected);
        }
    }

    #[test]
    fn a_newline_is_treated_as_the_listener_says() {
        let lines = |content: &str, newlines| {
            let message = text(content);
            let outgoing = Outgoing::message(&message);
            outgoing.encoded(Transport::TextLines, newlines, &())
        };
        assert_eq!(lines("a\nb", Newlines::Refuse), None);
        assert_eq!(lines("a\nb", Newlines::Split), Some("a\nb\n".into()));
        assert_eq!(
            lines("a\r\nb\\", Newlines::Escape),
            Some("a\\r\\nb\\\\\n".into())
        );
        for newlines in [Newlines::Refuse, Newlines::Split, Newlines::Escape] {
            assert_eq!(lines("plain", newlines), Some("plain\n".into()));
        }
        let message = text("a\nb");
        assert_eq!(
            &encoded(&Outgoing::message(&message), Transport::WebSocket)[..],
            b"\x81\x03a\nb"
        );
        let raw = Bytes::from_static(b"a\nb\n");
        assert_eq!(encoded(&Outgoing::raw(&raw), Transport::TextLines), raw);
    }

    #[test]
    fn the_newest_under_a_key_takes_the_place_of_what_waits_but_not_of_what_is_half_written() {
        let (key, other): (Name, Name) = ("a".into(), "b".into());
        let mut queue = Outbound::default();
        let push = |queue: &mut Outbound, key: &Name, part: &'static [u8]| {
            queue.push_latest(key, Bytes::from_static(part), 100, QueuePolicy::Close)
        };
        assert_eq!(push(&mut queue, &key, b"a1"), Queued::Waits);
        queue.push(Bytes::from_static(b"x"), 100, QueuePolicy::Close);
        assert_eq!(push(&mut queue, &other, b"b1"), Queued::Waits);
        assert_eq!(push(&mut queue, &key, b"a22"), Queued::Replaced);
        assert_eq!(queue.next_write(&mut Vec::new(), 100), b"a22xb1");
        assert_eq!(queue.bytes(), 6);
        queue.wrote(1);
        assert_eq!(push(&mut queue, &key, b"a3"), Queued::Waits);
        assert_eq!(push(&mut queue, &key, b"a4"), Queued::Replaced);
        assert_eq!(queue.next_write(&mut Vec::new(), 100), b"22xb1a4");
        queue.wrote(3);
        assert_eq!(push(&mut queue, &other, b"b2"), Queued::Replaced);
        assert_eq!(queue.next_write(&mut Vec::new(), 100), b"b2a4");
        queue.wrote(4);
        assert_eq!(push(&mut queue, &other, b"b3"), Queued::Waits);
        assert_eq!((queue.bytes(), queue.parts.len()), (2, 1));
    }

    #[test]
    fn a_message_that_replaces_a_smaller_one_obeys_the_bound() {
        let key: Name = "a".into();
        for policy in [QueuePolicy::Close, QueuePolicy::DropNew] {
            let mut queue = Outbound::default();
            let mut push =
                |part: &'static [u8]| queue.push_latest(&key, Bytes::from_static(part), 4, policy);
            assert_eq!(push(b"aaaa"), Queued::Waits);
            assert_eq!(push(b"bbbb"), Queued::Replaced);
            assert_ne!(push(b"ccccc"), Queued::Replaced, "{policy:?}");
            assert_eq!(push(b"d"), Queued::Replaced);
        }
    }

    proptest! {
        /// A queue with keys is what a list of (key, part) would be, whatever is written in between.
        #[test]
        fn keys_always_find_their_own_part(
            steps in proptest::collection::vec((0..4u8, 1..6usize, 0..8usize), 1..80),
            drop_old in any::<bool>(),
        ) {
            let policy = if drop_old { QueuePolicy::DropOld } else { QueuePolicy::DropNew };
            let mut queue = Outbound::default();
            let mut model: VecDeque<(u8, Bytes)> = VecDeque::new();
            let mut half = 0;
            for (nth, (key, length, write)) in steps.into_iter().enumerate() {
                let part = Bytes::from(vec![nth as u8; length]);
                let waits = model.iter().map(|(_, it)| it.len()).sum::<usize>() - half;
                let keep = usize::from(half > 0);
                let at = model.iter().rposition(|(it, _)| *it == key && key > 0);
                let at = at.filter(|at| *at >= keep);
                let smaller = |at: usize| part.len() <= model[at].1.len();
                let name: Name = key.to_string().into();
                let queued = match key {
                    0 => queue.push(part.clone(), 12, policy),
                    _ => queue.push_latest(&name, part.clone(), 12, policy),
                };
                match at.filter(|at| waits < 12 || smaller(*at)) {
                    Some(at) => {
                        prop_assert_eq!(queued, Queued::Replaced);
                        model[at].1 = part;
                    }
                    None => {
                        let mut left = waits;
                        if waits >= 12 && drop_old {
                            while model.len() > keep && left + part.len() > 12 {
                                left -= model.remove(keep).unwrap().1.len();
                            }
                        }
                        if waits < 12 || drop_old {
                            model.push_back((key, part));
                        }
                    }
                }
                let all = model.iter().flat_map(|(_, it)| it.iter().copied()).skip(half);
                let all: Vec<u8> = all.collect();
                let mut scratch = Vec::new();
                prop_assert_eq!(queue.next_write(&mut scratch, usize::MAX), &all[..]);
                prop_assert_eq!(queue.bytes(), all.len());
                let written = write.min(all.len());
                queue.wrote(written);
                half += written;
                while model.front().is_some_and(|(_, it)| it.len() <= half) {
                    half -= model.pop_front().unwrap().1.len();
                }
            }
        }
    }

    #[test]
    fn what_comes_last_is_dropped_by_no_policy() {
        for policy in [
            QueuePolicy::Close,
            QueuePolicy::DropNew,
            QueuePolicy::DropOld,
        ] {
            let mut queue = Outbound::default();
            queue.push(Bytes::from_static(b"aaaa"), 4, policy);
            queue.push_last(Bytes::from_static(b"bye"));
            queue.push_last(close_frame(1000, "x"));
            assert_eq!(
                queue.next_write(&mut Vec::new(), 100),
                b"aaaabye\x88\x03\x03\xe8x",
                "{policy:?}"
            );
        }
    }

    #[test]
    fn shedding_keeps_the_rest_of_a_frame_that_is_half_written() {
        let mut queue = Outbound::default();
        for part in ["aaaa", "bbbb"] {
            queue.push(
                Bytes::from_static(part.as_bytes()),
                12,
                QueuePolicy::DropOld,
            );
        }
        queue.wrote(1);
        assert_eq!(queue.shed(), 4);
        assert_eq!(queue.bytes(), 3);
        assert_eq!(queue.next_write(&mut Vec::new(), 100), b"aaa");
    }

    #[test]
    fn frame_lengths_follow_the_standard() {
        for (length, header) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let message = Message::Binary(vec![0; length].into());
            let frame = encoded(&Outgoing::message(&message), Transport::WebSocket);
            assert_eq!(frame.len(), length + header, "payload of {length}");
        }
    }

    #[test]
    fn a_broadcast_is_encoded_once() {
        let message = text("hello");
        let outgoing = Outgoing::message(&message);
        let first = encoded(&outgoing, Transport::WebSocket);
        let again = encoded(&outgoing, Transport::WebSocket);
        assert_eq!(first.as_ptr(), again.as_ptr());
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

    #[test]
    fn what_waits_for_a_client_keeps_nothing_of_what_came_with_it_over_a_link() {
        let read = Bytes::from(vec![b'x'; 1 << 20]);
        let payload = read.slice(10..15);
        let message = Message::Text(payload.clone().into());
        let sent = [
            encoded(&Outgoing::raw(&payload), Transport::Tcp),
            encoded(&Outgoing::message(&message), Transport::Tcp),
            encoded(&Outgoing::message(&message), Transport::WebSocket),
        ];
        drop((message, payload));
        assert!(read.is_unique(), "{sent:?} hold what was read");
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
