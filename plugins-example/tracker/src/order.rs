//! What a tracker is told, from the JSON that the handler sends.

use serde::Deserialize;
use tidegate_sdk::prelude::*;

use crate::Kept;
use crate::packet::{self, Packet};

const COMMAND: u8 = 0x80;
const ENGLISH: [u8; 2] = [0, 2];

/// One packet.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Order {
    /// Its packet of this kind and number has come.
    Ack { ack: Kind, serial: u16 },
    /// A command of its manual, like `DYD#`, which cuts oil and electricity. It answers with the
    /// number of the command, counted from 1.
    Command { command: String },
}

/// What is acknowledged.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Login,
    Heartbeat,
    Alarm,
}

/// The bytes of a packet.
pub(crate) fn write(kept: &mut Kept, order: Order) -> Result<Vec<u8>> {
    match order {
        Order::Ack { ack, serial } => packet::write(&Packet {
            kind: match ack {
                Kind::Login => crate::report::LOGIN,
                Kind::Heartbeat => crate::report::HEARTBEAT,
                Kind::Alarm => crate::report::ALARM,
            },
            content: &[],
            serial,
        }),
        Order::Command { command } => {
            let Ok(length) = u8::try_from(command.len() + 4) else {
                bail!(
                    "a command has at most 251 bytes, this one {}",
                    command.len()
                );
            };
            kept.commands = kept.commands.wrapping_add(1);
            let serial = kept.commands;
            let number = u32::from(serial).to_be_bytes();
            let content = [&[length], &number[..], command.as_bytes(), &ENGLISH].concat();
            packet::write(&Packet {
                kind: COMMAND,
                content: &content,
                serial,
            })
        }
    }
}
