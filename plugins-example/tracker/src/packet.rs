//! A packet: `78 78`, one byte of length, what it says, a serial number, a checksum, `0d 0a`; or
//! `79 79` and two bytes of length. The length counts from behind itself up to the checksum and with
//! that.

use tidegate_sdk::prelude::*;

const SHORT: [u8; 2] = [0x78, 0x78];
const LONG: [u8; 2] = [0x79, 0x79];
const END: [u8; 2] = [0x0d, 0x0a];
/// What kind, serial number and checksum take.
const LENGTH_MIN: usize = 5;
/// Longer ones no tracker sends: the gateway need not wait for them.
const LENGTH_MAX: usize = 4 << 10;

/// One whole packet whose checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) kind: u8,
    pub(crate) content: &'a [u8],
    pub(crate) serial: u16,
}

/// Takes the next packet, once all of it has come.
pub(crate) fn read<'a>(input: &mut Input<'a>) -> Result<Option<Packet<'a>>> {
    let (head, length) = match *input.bytes() {
        [first, second, ref rest @ ..] => match ([first, second], rest) {
            (SHORT, [length, ..]) => (3, usize::from(*length)),
            (LONG, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            (SHORT | LONG, _) => return Ok(None),
            (other, _) => bail!("a packet begins with 78 78 or 79 79, not with {other:02x?}"),
        },
        [] | [0x78 | 0x79] => return Ok(None),
        [other] => bail!("a packet begins with 78 78 or 79 79, not with {other:02x}"),
    };
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
        bail!(
            "a packet says that it has {length} bytes, {LENGTH_MIN} to {LENGTH_MAX} are possible"
        );
    }
    let Some(packet) = input.take(head + length + END.len()) else {
        return Ok(None);
    };
    let Some(([_, _, checked @ ..], [high, low, end @ ..])) =
        packet.split_at_checked(head + length - 2)
    else {
        bail!("a packet of {} bytes is too short", packet.len());
    };
    if *end != END {
        bail!("a packet ends with 0d 0a, not with {end:02x?}");
    }
    let (said, computed) = (u16::from_be_bytes([*high, *low]), checksum(checked));
    if said != computed {
        bail!("the checksum of a packet is {computed:04x}, it says {said:04x}");
    }
    match checked.get(head - 2..) {
        Some([kind, content @ .., high, low]) => Ok(Some(Packet {
            kind: *kind,
            content,
            serial: u16::from_be_bytes([*high, *low]),
        })),
        Some(_) | None => bail!("a packet of {length} bytes says nothing"),
    }
}

/// The bytes of a packet.
pub(crate) fn write(packet: &Packet<'_>) -> Result<Vec<u8>> {
    let length = LENGTH_MIN + packet.content.len();
    let mut bytes = Vec::with_capacity(length + 6);
    match u8::try_from(length) {
        Ok(length) => bytes.extend([SHORT[0], SHORT[1], length]),
        Err(_) => {
            bytes.extend(LONG);
            bytes.extend(u16::try_from(length)?.to_be_bytes());
        }
    }
    bytes.push(packet.kind);
    bytes.extend(packet.content);
    bytes.extend(packet.serial.to_be_bytes());
    let checksum = checksum(bytes.get(2..).unwrap_or_default());
    bytes.extend(checksum.to_be_bytes());
    bytes.extend(END);
    Ok(bytes)
}

/// CRC-16 of X.25, bit by bit.
fn checksum(bytes: &[u8]) -> u16 {
    let crc = bytes.iter().fold(0xffff_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| match crc & 1 {
            0 => crc >> 1,
            _ => (crc >> 1) ^ 0x8408,
        })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The check value of CRC-16/IBM-SDLC.
        assert_eq!(checksum(b"123456789"), 0x906e);
    }
}
