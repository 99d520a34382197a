//! What a tracker says, as the JSON that the handler gets.

use serde::Serialize;
use tidegate_sdk::prelude::*;

use crate::packet::Packet;

pub(crate) const LOGIN: u8 = 0x01;
const LOCATION: u8 = 0x12;
const LOCATION_OF_4G: u8 = 0x22;
pub(crate) const HEARTBEAT: u8 = 0x13;
const ANSWER: u8 = 0x15;
pub(crate) const ALARM: u8 = 0x16;

/// A degree in the numbers of trackers.
const DEGREE: f64 = 1_800_000.0;

/// One packet. The handler answers `login` and `heartbeat` with `{"ack": kind, "serial": serial}`,
/// or the tracker hangs up.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    serial: u16,
    #[serde(flatten)]
    said: Said,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Said {
    /// The first packet: who it is.
    Login { imei: String },
    /// It lives.
    Heartbeat {
        charging: bool,
        /// 0 (empty) to 6 (full).
        voltage: u8,
        /// 0 (none) to 4 (strong).
        signal: u8,
    },
    /// Where it is.
    Location(Location),
    /// Where it is, and what is the matter there: 1 is SOS, 2 no power, 3 shaken, 4 and 5 in and out of
    /// its fence.
    Alarm { location: Location, alarm: u8 },
    /// What came of a command.
    Answer { command: u32, text: String },
    /// Anything else, which a newer version of the codec may know.
    Other { kind: u8, content: String },
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Location {
    /// By the tracker's clock, in UTC.
    at: String,
    /// Degrees, north and east.
    latitude: f64,
    longitude: f64,
    speed_kmh: u8,
    /// Degrees, clockwise from north.
    course: u16,
    satellites: u8,
    /// Whether satellites say so, or the last place is told again.
    is_fixed: bool,
}

/// What a packet says.
pub(crate) fn read(packet: &Packet<'_>) -> Result<Report> {
    let content = packet.content;
    let said = match packet.kind {
        LOGIN => Said::Login {
            imei: imei(content)?,
        },
        HEARTBEAT => heartbeat(content)?,
        LOCATION | LOCATION_OF_4G => Said::Location(location(content)?),
        ALARM => Said::Alarm {
            location: location(content)?,
            // Behind the place and the cell: state, voltage, signal, alarm, language.
            alarm: match content {
                [.., alarm, _language] => *alarm,
                _ => bail!("an alarm of {} bytes", content.len()),
            },
        },
        ANSWER => answer(content)?,
        kind => Said::Other {
            kind,
            content: content.iter().map(|byte| format!("{byte:02x}")).collect(),
        },
    };
    Ok(Report {
        serial: packet.serial,
        said,
    })
}

/// Sixteen decimal digits, two a byte, of which the first is a 0.
fn imei(content: &[u8]) -> Result<String> {
    let Some(bytes) = content.get(..8) else {
        bail!("a login has at least 8 bytes, this one {}", content.len());
    };
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match digits.bytes().all(|digit| digit.is_ascii_digit()) {
        true => Ok(digits.trim_start_matches('0').to_owned()),
        false => bail!("{digits} is no IMEI"),
    }
}

fn heartbeat(content: &[u8]) -> Result<Said> {
    match content {
        [state, voltage, signal, ..] => Ok(Said::Heartbeat {
            charging: state & 0b100 != 0,
            voltage: *voltage,
            signal: *signal,
        }),
        _ => bail!("a heartbeat of {} bytes", content.len()),
    }
}

fn location(content: &[u8]) -> Result<Location> {
    let &[
        year,
        month,
        day,
        hour,
        minute,
        second,
        satellites,
        lat0,
        lat1,
        lat2,
        lat3,
        long0,
        long1,
        long2,
        long3,
        speed_kmh,
        high,
        low,
        ..,
    ] = content
    else {
        bail!("a location of {} bytes", content.len());
    };
    let course = u16::from_be_bytes([high, low]);
    let degrees = |bytes| f64::from(u32::from_be_bytes(bytes)) / DEGREE;
    let is = |bit: u16| course & (1 << bit) != 0;
    let sign = |positive| if positive { 1.0 } else { -1.0 };
    Ok(Location {
        at: format!("20{year:02}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
        latitude: degrees([lat0, lat1, lat2, lat3]) * sign(is(10)),
        longitude: degrees([long0, long1, long2, long3]) * sign(!is(11)),
        speed_kmh,
        course: course & 0x3ff,
        satellites: satellites & 0xf,
        is_fixed: is(12),
    })
}

/// A length, the command's number, text, and the language in two bytes.
fn answer(content: &[u8]) -> Result<Said> {
    let [length, flag0, flag1, flag2, flag3, rest @ ..] = content else {
        bail!("an answer of {} bytes", content.len());
    };
    let text = usize::from(*length).checked_sub(4);
    let Some(text) = text.and_then(|length| rest.get(..length)) else {
        bail!(
            "an answer says {length} bytes, {} are there",
            rest.len() + 4
        );
    };
    Ok(Said::Answer {
        command: u32::from_be_bytes([*flag0, *flag1, *flag2, *flag3]),
        text: String::from_utf8_lossy(text).into_owned(),
    })
}
