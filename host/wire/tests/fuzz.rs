//! Fuzz targets: frames of authenticated links, and those of the handshake, which anybody can send.
//!
//! Seeds are the golden bytes. Besides that nothing panics: what decodes is the same once it was
//! encoded and decoded again, bytes in any pieces give the same frames and the same error, and what
//! a decoder takes stays in proportion to what it was given.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Debug;

use bytes::BytesMut;
use peak_alloc::PeakAlloc;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_fuzzing::Case;
use tidegate_wire::frame::{FRAME_BYTES_MAX, Frame, FrameError, decode, encode};
use tidegate_wire::hello::{HELLO_BYTES_MAX, Hello, Proof};
use tidegate_wire::payload::Carry;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What decoding may take at most for each byte that it was given: a list of small values is larger
/// in memory than on the wire, and grows by doubling.
const MEMORY_PER_BYTE: usize = 256;
/// What it may take besides: serde believes the length of a list as far as one MiB.
const MEMORY_BESIDES: usize = 4 << 20;

/// Words between seeds: small frames, and lengths that lie.
const WORDS: [&str; 4] = ["\u{5}\0\0\0\u{1}\0\0\0\0", "tg", "{\"a\":1}", "\u{1}\0\0\0"];

fn seeds(of_handshake: bool) -> Vec<Vec<u8>> {
    let golden = include_str!("golden.txt").lines();
    let of = |name: &str| name.starts_with("hello") || name.starts_with("proof");
    let lines = golden.filter_map(|line| line.split_once(": "));
    let lines = lines.filter(|(name, _)| of(name) == of_handshake);
    lines.map(|(_, hex)| bytes_of(hex)).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8);
    digits.chunks(2).map(byte).collect()
}

trait Value: Serialize + DeserializeOwned + Carry + Clone + PartialEq + Debug {}

impl<T: Serialize + DeserializeOwned + Carry + Clone + PartialEq + Debug> Value for T {}

/// All frames of these bytes, which come in pieces, and why nothing follows, if that is an error.
fn decoded<'a, T: Value>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limit: usize,
) -> (Vec<T>, Option<FrameError>) {
    let (mut input, mut frames, mut given) = (BytesMut::new(), Vec::new(), 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        given += piece.len();
        loop {
            match decode(&mut input, limit) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(
            input.capacity() <= 4 * given + (128 << 10),
            "{} bytes of room after {given}",
            input.capacity()
        );
    }
    (frames, None)
}

fn check<T: Value>(case: &Case, bytes: &[u8], limit: usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let (frames, error) = decoded::<T>(std::iter::once(bytes), limit);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(
        taken <= MEMORY_BESIDES + bytes.len() * MEMORY_PER_BYTE,
        "{taken} bytes taken for {}",
        bytes.len()
    );
    if let Some(error) = &error {
        assert!(!error.to_string().is_empty());
    }
    let in_pieces = decoded::<T>(case.pieces(bytes), limit);
    assert_eq!(in_pieces, (frames.clone(), error));
    for frame in frames {
        let mut again = BytesMut::new();
        encode(&frame, &mut again).expect("what was decoded can be encoded");
        let (back, error) = decoded::<T>(std::iter::once(&*again), FRAME_BYTES_MAX);
        assert_eq!((back, error), (vec![frame], None));
    }
}

#[test]
fn frames_of_a_link() {
    let seeds = seeds(false);
    assert!(seeds.len() > 100, "golden bytes");
    tidegate_fuzzing::run!(|case: &Case| {
        let bytes = case.bytes(&seeds, &WORDS);
        check::<Frame>(case, &bytes, FRAME_BYTES_MAX);
    });
}

#[test]
fn frames_of_the_handshake() {
    let seeds = seeds(true);
    assert!(seeds.len() > 1, "golden bytes");
    tidegate_fuzzing::run!(|case: &Case| {
        let bytes = case.bytes(&seeds, &WORDS);
        check::<Hello>(case, &bytes, HELLO_BYTES_MAX);
        check::<Proof>(case, &bytes, HELLO_BYTES_MAX);
    });
}
