//! What registers know about nodes.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::id::Incarnation;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Tells nodes about each other.
    Register,
    /// Owns client connections.
    Gateway,
    /// Runs handlers.
    Worker,
}

impl Role {
    /// The word for logs and errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Gateway => "gateway",
            Self::Worker => "worker",
        }
    }
}

/// One node, as it announces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    pub role: Role,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Where gateways are reached; none for workers, which dial.
    pub address: Option<SocketAddrV4>,
    /// Its name.
    pub name: Name,
    /// Its tags.
    pub tags: Vec<Name>,
}

/// A tag that names the machine that a node is on.
const HOST_TAG: &str = "host=";

impl Node {
    /// The machine that it is on, if a tag `host=NAME` says so.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let hosts = self
            .tags
            .iter()
            .filter_map(|tag| tag.strip_prefix(HOST_TAG));
        hosts.into_iter().next()
    }
}

/// A register's whole view, pushed at every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Whether the register has been up for longer than its grace time. Before that, a node that
    /// is absent is not yet known to be gone.
    pub settled: bool,
    /// Every gateway and worker with a lease, ordered by incarnation.
    pub nodes: Vec<Node>,
    /// Who has left of late by its own word: whatever another register says, it is gone.
    pub left: Vec<Incarnation>,
}
