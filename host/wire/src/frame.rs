//! Frames: `u32` little-endian length of what follows, `u32` length of the header, the header in
//! postcard, then the payloads that the header announces.
//!
//! [`Frame`] is what any authenticated link carries; each kind of link and direction has an enum of
//! its own, so that whoever reads a link unwraps its kind and has no arms for frames that cannot
//! come there.
//!
//! Postcard does not describe itself: the order of fields and variants is the protocol. New
//! variants go last.

mod codec;
mod gateway;
mod node;
mod peer;
mod worker;

use serde::{Deserialize, Serialize};

use crate::deploy::Deploy;
use crate::hello::{Hello, Proof, Refusal};
use crate::membership::View;
use crate::payload::{Carry, Payload};

pub use codec::{FRAME_BYTES_MAX, FrameError, decode, encode};
pub use gateway::{Custody, CustodyChange, GatewayFrame, GroupsChange};
pub use node::NodeFrame;
pub use peer::{Forward, PeerFrame};
pub use worker::{Announcement, Load, Serving, WorkerFrame};

/// Everything that travels on an authenticated link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// Any → any: I am alive.
    Heartbeat,
    /// Any → any: the last frame, with the reason.
    Goodbye(Refusal),
    /// Worker → gateway.
    FromWorker(WorkerFrame),
    /// Gateway → worker.
    ToWorker(GatewayFrame),
    /// Gateway ↔ gateway.
    Peer(PeerFrame),
    /// Gateway or worker → register.
    FromNode(NodeFrame),
    /// Register → gateway or worker: all that it says to a node.
    View(View),
    /// On links for deploys only.
    Deploy(Box<Deploy>),
}

impl From<WorkerFrame> for Frame {
    fn from(frame: WorkerFrame) -> Self {
        Self::FromWorker(frame)
    }
}

impl From<GatewayFrame> for Frame {
    fn from(frame: GatewayFrame) -> Self {
        Self::ToWorker(frame)
    }
}

impl From<PeerFrame> for Frame {
    fn from(frame: PeerFrame) -> Self {
        Self::Peer(frame)
    }
}

impl From<NodeFrame> for Frame {
    fn from(frame: NodeFrame) -> Self {
        Self::FromNode(frame)
    }
}

impl From<View> for Frame {
    fn from(view: View) -> Self {
        Self::View(view)
    }
}

impl From<Deploy> for Frame {
    fn from(deploy: Deploy) -> Self {
        Self::Deploy(Box::new(deploy))
    }
}

impl Carry for Frame {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::FromWorker(frame) => frame.carry(visit),
            Self::ToWorker(frame) => frame.carry(visit),
            Self::Peer(frame) => frame.carry(visit),
            Self::Deploy(deploy) => deploy.carry(visit),
            Self::Heartbeat | Self::Goodbye(_) | Self::FromNode(_) | Self::View(_) => {}
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::FromWorker(frame) => frame.carry_mut(visit),
            Self::ToWorker(frame) => frame.carry_mut(visit),
            Self::Peer(frame) => frame.carry_mut(visit),
            Self::Deploy(deploy) => deploy.carry_mut(visit),
            Self::Heartbeat | Self::Goodbye(_) | Self::FromNode(_) | Self::View(_) => {}
        }
    }
}

/// Frames of the handshake carry no payloads.
impl Carry for Hello {
    fn carry<'a>(&'a self, _visit: &mut dyn FnMut(&'a Payload)) {}
    fn carry_mut(&mut self, _visit: &mut dyn FnMut(&mut Payload)) {}
}

impl Carry for Proof {
    fn carry<'a>(&'a self, _visit: &mut dyn FnMut(&'a Payload)) {}
    fn carry_mut(&mut self, _visit: &mut dyn FnMut(&mut Payload)) {}
}
