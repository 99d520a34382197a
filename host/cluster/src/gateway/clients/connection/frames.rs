//! Where the bytes of a WebSocket that have been read stand: how many of them belong to a message
//! that is not complete, and whether the peer's close frame has come, with which code (RFC 6455,
//! sections 5.2 and 5.5.1).
//!
//! It looks at headers only; what is wrong with frames says the parser.

use crate::gateway::clients::memory::LARGE_BYTES;

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;
const MASK_BYTES: usize = 4;
/// The opcode of a close frame.
const CLOSE: u8 = 0x8;

/// Follows the frames of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES_MAX],
    have: usize,
    /// What is still to come of the frame's payload.
    payload: u64,
    /// Bytes of the frame so far.
    frame: usize,
    /// Bytes of the frames before it that belong to the same message.
    message: usize,
    /// The largest frame so far: the parser keeps a buffer of its size.
    largest: usize,
    closed: bool,
    /// The bytes that came last were one whole message, and nothing else is there.
    alone: bool,
    /// The first bytes of the close frame's payload, unmasked, as far as they have come.
    code: [u8; 2],
    code_bytes: u8,
}

impl Frames {
    /// More bytes of the connection.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        self.alone = self.is_one_message(bytes);
        if self.alone {
            self.largest = self.largest.max(bytes.len());
            return;
        }
        while !bytes.is_empty() {
            let taken = if self.payload > 0 {
                let taken = bytes.len().min(clamp(self.payload));
                self.code(bytes.get(..taken).unwrap_or_default());
                self.payload -= taken as u64;
                taken
            } else {
                self.header(bytes)
            };
            self.frame += taken;
            if self.payload == 0 && self.have == self.header_length() {
                self.end();
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Whether these bytes are one whole small message. Most reads bring exactly that.
    fn is_one_message(&self, bytes: &[u8]) -> bool {
        let [0x81 | 0x82, second @ 0x80..0xfe, ..] = bytes else {
            return false;
        };
        let length = usize::from(second & 0x7f);
        self.unfinished() == 0 && !self.closed && bytes.len() == 2 + MASK_BYTES + length
    }

    /// Whether the bytes that came last were one whole message, and nothing else is there; told once.
    pub(super) const fn take_alone(&mut self) -> bool {
        std::mem::replace(&mut self.alone, false)
    }

    /// How many bytes belong to a message that is not complete.
    pub(super) const fn unfinished(&self) -> usize {
        self.message + self.frame
    }

    /// What the parser keeps meanwhile: the message, and a buffer that has held its largest frame.
    pub(super) fn kept(&self) -> usize {
        match self.unfinished() {
            0 => 0,
            _ => self.message + self.reserved().max(self.largest),
        }
    }

    /// What the parser has for the frame that is under way: room for all that its header announces,
    /// which takes memory only as it fills if it is large.
    fn reserved(&self) -> usize {
        if self.have < self.header_length() {
            return self.frame;
        }
        let announced = self.frame.saturating_add(clamp(self.payload));
        self.frame.max(announced.min(LARGE_BYTES))
    }

    /// The largest buffer that the parser may still have.
    pub(super) fn buffer(&self) -> usize {
        self.frame.max(self.largest)
    }

    /// Whether the peer's close frame has come.
    pub(super) const fn closed(&self) -> bool {
        self.closed
    }

    /// The code of the peer's close frame, once it has come and if it has one.
    pub(super) const fn close_code(&self) -> Option<u16> {
        match (self.closed, self.code_bytes) {
            (true, 2) => Some(u16::from_be_bytes(self.code)),
            (_, _) => None,
        }
    }

    /// Looks at bytes of the payload: those of a close frame begin with its code.
    fn code(&mut self, bytes: &[u8]) {
        let [first, ..] = self.header;
        if first & 0x0f != CLOSE || self.closed {
            return;
        }
        let mask_at = self.have.saturating_sub(MASK_BYTES);
        for byte in bytes {
            let at = usize::from(self.code_bytes);
            let (Some(place), Some(mask)) = (self.code.get_mut(at), self.header.get(mask_at + at))
            else {
                return;
            };
            *place = byte ^ mask;
            self.code_bytes += 1;
        }
    }

    /// Takes bytes of the header; when it is complete, its payload is known.
    fn header(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for byte in bytes {
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            taken += 1;
            if self.have == self.header_length() {
                self.payload = self.payload_length();
                break;
            }
        }
        taken
    }

    /// How long the header is, as far as is known.
    fn header_length(&self) -> usize {
        let [_, second, ..] = self.header;
        if self.have < 2 {
            return 2;
        }
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let [_, second, b2, b3, b4, b5, b6, b7, b8, b9, ..] = self.header;
        match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([b2, b3])),
            127 => u64::from_be_bytes([b2, b3, b4, b5, b6, b7, b8, b9]),
            short => u64::from(short),
        }
    }

    /// A frame is complete.
    fn end(&mut self) {
        let [first, ..] = self.header;
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        if opcode < 0x8 {
            self.message = if is_final { 0 } else { self.unfinished() };
        } else if opcode == CLOSE {
            self.closed = true;
        }
        self.largest = self.buffer();
        self.frame = 0;
        self.have = 0;
    }
}

/// At most what an address space holds.
fn clamp(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A masked frame with a mask of zeros.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.resize(frame.len() + length, b'x');
        frame
    }

    #[test]
    fn a_message_is_unfinished_until_its_last_frame_has_come() {
        let mut frames = Frames::default();
        let (first, ping) = (frame(0x01, 200), frame(0x89, 5));
        let last = frame(0x80, 70_000);
        frames.pass(&first);
        assert_eq!(frames.unfinished(), first.len());
        frames.pass(&ping);
        assert_eq!(frames.unfinished(), first.len(), "a ping is not kept");
        frames.pass(&last[..last.len() - 1]);
        assert_eq!(frames.unfinished(), first.len() + last.len() - 1);
        assert_eq!(frames.kept(), first.len() + last.len());
        frames.pass(b"x");
        assert_eq!((frames.unfinished(), frames.kept()), (0, 0));
        frames.pass(&first);
        assert_eq!(frames.kept(), first.len() + last.len());
    }

    #[test]
    fn one_small_message_that_comes_alone_is_known_as_that_once() {
        let mut frames = Frames::default();
        frames.pass(&frame(0x81, 125));
        assert!(frames.take_alone() && !frames.take_alone());
        assert_eq!((frames.unfinished(), frames.buffer()), (0, 131));
        let two = [frame(0x82, 3), frame(0x82, 3)].concat();
        let ping = frame(0x89, 1);
        for others in [two, frame(0x82, 126), ping, frame(0x01, 1)] {
            frames.pass(&others);
            assert!(!frames.take_alone(), "{others:?}");
        }
        // Behind a fragment it is none of its own.
        frames.pass(&frame(0x81, 1));
        assert!(!frames.take_alone());
    }

    #[test]
    fn room_that_a_header_makes_the_parser_reserve_counts_as_far_as_it_takes_memory() {
        let small = frame(0x02, 1000);
        let large = frame(0x02, 10 * LARGE_BYTES);
        for (bytes, reserved) in [(&small, small.len()), (&large, LARGE_BYTES)] {
            let mut frames = Frames::default();
            frames.pass(&bytes[..3]);
            assert_eq!(
                frames.kept(),
                3,
                "nothing is known before the header is complete"
            );
            frames.pass(&bytes[3..20]);
            assert_eq!(frames.kept(), reserved);
        }
        let mut frames = Frames::default();
        frames.pass(&large[..2 * LARGE_BYTES]);
        assert_eq!(frames.kept(), 2 * LARGE_BYTES);
    }

    #[test]
    fn a_close_frame_is_seen_behind_others() {
        let mut frames = Frames::default();
        frames.pass(&frame(0x81, 3));
        assert!(!frames.closed());
        frames.pass(&frame(0x88, 2));
        assert!(frames.closed());
    }

    #[test]
    fn the_code_of_a_close_frame_is_known_however_it_is_cut() {
        let close = [
            0x88,
            0x85,
            1,
            2,
            3,
            4,
            3 ^ 1,
            246 ^ 2,
            b'b' ^ 3,
            b'y' ^ 4,
            b'e' ^ 1,
        ];
        for cut in 0..close.len() {
            let mut frames = Frames::default();
            frames.pass(&frame(0x82, 3));
            frames.pass(&close[..cut]);
            assert_eq!(frames.close_code(), None);
            frames.pass(&close[cut..]);
            assert_eq!(frames.close_code(), Some(1014));
            frames.pass(&frame(0x88, 2));
            assert_eq!(frames.close_code(), Some(1014), "the first one counts");
        }
        let mut frames = Frames::default();
        frames.pass(&frame(0x88, 0));
        assert_eq!(frames.close_code(), None);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            lengths in proptest::collection::vec(0..300usize, 1..20),
            cuts in proptest::collection::vec(1..50usize, 1..50),
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| frame(0x82, *length)).collect();
            let mut whole = Frames::default();
            whole.pass(&bytes);
            prop_assert_eq!(whole.unfinished(), 0);
            let (mut frames, mut rest) = (Frames::default(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                frames.pass(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(frames.unfinished(), 0);
        }
    }
}
