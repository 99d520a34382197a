//! Bytes of one frame: encoding, decoding, and the bound on what a length may reserve.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::Carry;

/// The largest frame on an authenticated link, in bytes.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// Room that is made for an announced frame whatever has come of it.
const ROOM_BYTES: usize = 64 << 10;

/// Bytes that are not a frame, or a frame that may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit; nothing was read or buffered for it.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// The announced length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes do not make a frame.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
}

/// Appends one frame to `out`. On an error `out` is as it was.
///
/// # Errors
/// When the frame would be larger than [`FRAME_BYTES_MAX`].
pub fn encode<T: Serialize + Carry>(value: &T, out: &mut BytesMut) -> Result<(), FrameError> {
    let start = out.len();
    out.put_u64_le(0);
    let header_start = out.len();
    let serialized = {
        let mut serializer = postcard::Serializer {
            output: Appender(out),
        };
        value.serialize(&mut serializer).is_ok()
    };
    if !serialized {
        out.truncate(start);
        return Err(FrameError::Malformed("a value that has no wire form"));
    }
    let header_length = out.len() - header_start;
    value.carry(&mut |payload| out.put_slice(payload));
    let length = out.len() - start - 4;
    let lengths = u32::try_from(length)
        .ok()
        .zip(u32::try_from(header_length).ok());
    let place = out.get_mut(start..start + 8);
    match (lengths, place) {
        (Some((total, header)), Some(mut place)) if length <= FRAME_BYTES_MAX => {
            place.put_u32_le(total);
            place.put_u32_le(header);
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(FrameError::TooLarge {
                length,
                limit: FRAME_BYTES_MAX,
            })
        }
    }
}

/// Takes one frame from the front of `input`, or none if it is not all there yet.
///
/// # Errors
/// When the announced length is over `limit`, known from the first four bytes, or when the bytes
/// do not make a frame. The link cannot go on after an error.
pub fn decode<T: DeserializeOwned + Carry>(
    input: &mut BytesMut,
    limit: usize,
) -> Result<Option<T>, FrameError> {
    let Some(mut prefix) = input.get(..4) else {
        return Ok(None);
    };
    let length = prefix.get_u32_le() as usize;
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    if input.len() < 4 + length {
        // A length is believed only as far as bytes have come: room at most doubles what is there.
        let believed = input.len().max(ROOM_BYTES);
        input.reserve((4 + length - input.len()).min(believed));
        return Ok(None);
    }
    input.advance(4);
    decode_body(input.split_to(length).freeze()).map(Some)
}

fn decode_body<T: DeserializeOwned + Carry>(mut body: Bytes) -> Result<T, FrameError> {
    let header_length = body
        .try_get_u32_le()
        .map_err(|_| FrameError::Malformed("shorter than its header's length field"))?;
    let header_length = header_length as usize;
    if body.len() < header_length {
        return Err(FrameError::Malformed("its header is longer than the frame"));
    }
    let header = body.split_to(header_length);
    let (mut value, rest) = postcard::take_from_bytes::<T>(&header)
        .map_err(|_| FrameError::Malformed("its header does not parse"))?;
    if !rest.is_empty() {
        return Err(FrameError::Malformed("bytes follow its header"));
    }
    let mut enough = true;
    value.carry_mut(&mut |payload| enough &= payload.attach(&mut body));
    if !enough {
        return Err(FrameError::Malformed(
            "its payloads are longer than the frame",
        ));
    }
    if !body.is_empty() {
        return Err(FrameError::Malformed("bytes follow its payloads"));
    }
    Ok(value)
}

/// Postcard's output straight into the link's buffer.
struct Appender<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
