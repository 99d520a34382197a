//! A codec for GPS trackers that speak GT06, the protocol of many cheap ones: packets of bytes with a
//! serial number and a checksum become JSON messages, and JSON messages packets.
//!
//! `packet` is the framing: where a packet begins and ends and whether it is whole. `report` is what
//! trackers say, `order` what they are told. None of them knows Tidegate; this file joins them.

mod order;
mod packet;
mod report;

use serde::{Deserialize, Serialize};
use tidegate_sdk::prelude::*;

/// The codec.
pub struct Tracker;

/// What is kept of a tracker between two calls.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The number of the last command that it was sent.
    commands: u16,
}

#[tidegate_sdk::codec]
impl Codec for Tracker {
    type State = Kept;

    fn decode(_: &mut Kept, input: &mut Input<'_>) -> Result<Option<Message>> {
        let Some(packet) = packet::read(input)? else {
            return Ok(None);
        };
        let report = report::read(&packet)?;
        Ok(Some(Message::Text(serde_json::to_string(&report)?)))
    }

    fn encode(kept: &mut Kept, message: Message) -> Result<Vec<u8>> {
        order::write(kept, message.json()?)
    }
}

#[cfg(test)]
mod tests;
