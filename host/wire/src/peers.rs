//! Messages between the instances of a tenant's handler.

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::payload::Payload;

/// The largest payload of a message to other instances.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// One running instance, cluster-wide: 64 bits drawn at random when it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceId(pub u64);

/// What one instance says to all others of its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMessage {
    /// Who says it, and so does not get it.
    pub from: InstanceId,
    /// What it is about.
    pub topic: Name,
    /// What is said.
    pub payload: Payload,
}

/// Refuses a payload that is too large.
///
/// # Errors
/// What would be right.
pub fn check(payload: &[u8]) -> Result<(), String> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(format!(
            "the payload of a message to other instances may have {PAYLOAD_BYTES_MAX} bytes, this one has {}",
            payload.len()
        ));
    }
    Ok(())
}
