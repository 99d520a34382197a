//! The first frames of a link: who is there, and the proof that both know the cluster secret.
//!
//! Dialer and acceptor each send a [`Hello`] with a fresh nonce. The dialer then sends its
//! [`Proof`], the acceptor answers with its own or with a refusal. A proof is
//! HMAC-SHA-256(secret, role label ‖ both hellos as sent); the label (`dial` or `accept`) keeps a
//! proof from being reflected. The secret itself never travels.

use serde::{Deserialize, Serialize};

use crate::membership::Node;

/// The first bytes of every link.
pub const MAGIC: [u8; 4] = *b"TDGT";

/// The version of the protocol. Raised with every change that an older node cannot read.
pub const VERSION: u16 = 10;

/// The largest frame before authentication, in bytes.
pub const HELLO_BYTES_MAX: usize = 4096;

/// Who is at this end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`]
    pub magic: [u8; 4],
    /// [`VERSION`]
    pub version: u16,
    /// The node.
    pub node: Node,
    /// Fresh random bytes.
    pub nonce: [u8; 32],
}

/// That this end knows the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// The MAC.
    Mac([u8; 32]),
    /// The acceptor refuses the link.
    Refused(Refusal),
}

/// Why a link or a join was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The MAC is wrong.
    #[error("the cluster secret differs: set the same TIDEGATE_SECRET on every node")]
    WrongSecret,
    /// The other end speaks another version.
    #[error("protocol version {theirs} is not supported, this node speaks {ours}")]
    WrongVersion {
        /// The version of the node that is refused.
        theirs: u16,
        /// The version of the node that refuses.
        ours: u16,
    },
    /// The wrong kind of node.
    #[error("a {0} cannot connect here")]
    WrongRole(String),
    /// Another node has the announced address.
    #[error("the address {0} is taken by another live gateway")]
    AddressTaken(String),
    /// This incarnation was declared lost.
    #[error("this incarnation was declared lost: restart with a new one")]
    Lost,
    /// There is no room.
    #[error(
        "there is no room: so many links, {0}, are all that it takes; for registers `nodes-max` says how many nodes"
    )]
    Full(u32),
}
