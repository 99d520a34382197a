//! What a gateway or a worker says to a register. None of it carries payloads.

use serde::{Deserialize, Serialize};

use crate::id::Incarnation;
use crate::membership::Node;
use crate::weight;

/// Gateway or worker → register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeFrame {
    /// Give me a lease of this many milliseconds; heartbeats renew it.
    Join {
        /// The node.
        node: Node,
        /// The lease.
        lease_ms: u32,
    },
    /// I am gone.
    Leave,
    /// These gateways of your view were declared lost; their closes may have been told.
    Lost(Vec<Incarnation>),
}

impl NodeFrame {
    /// What it weighs.
    pub(crate) fn texts(&self) -> usize {
        match self {
            Self::Join { node, .. } => weight::node(node),
            Self::Lost(incarnations) => std::mem::size_of_val(incarnations.as_slice()),
            Self::Leave => 0,
        }
    }
}
