//! What a worker says to a gateway.

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::effect::{Commit, Effect};
use crate::id::CloseId;
use crate::payload::{Carry, Payload};
use crate::query::Question;
use crate::task::Step;
use crate::weight::{FRAME_BYTES, asked, effect, reply};

/// One tenant that a worker serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The tenant.
    pub tenant: Name,
    /// The content hash of the plugin that runs for it.
    pub version: Name,
    /// Whether that takes requests by HTTP.
    pub http: bool,
}

/// What a worker offers to a gateway. Sent first and at every change; tenants keep their places
/// and new ones are added at the end, so that an index stays valid for the life of the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The tenants.
    pub serving: Vec<Serving>,
    /// How many events of this gateway may be uncommitted at this worker.
    pub window_events: u32,
    /// How many payload bytes of this gateway may be uncommitted at this worker.
    pub window_bytes: u64,
}

/// How busy a worker is, over all gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Clients whose lanes are here.
    pub clients: u32,
    /// Payload bytes of events that wait or run.
    pub queued_bytes: u64,
}

/// Worker → gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerFrame {
    /// What I offer; the first frame of the link.
    Announce(Announcement),
    /// How busy I am; with the heartbeats.
    Load(Load),
    /// The end of an event.
    Commit(Commit),
    /// Send no more events, I am leaving.
    Drain,
    /// Effects of an event whose home is lost, to be applied and forwarded.
    Adopt {
        /// The worker's count of such frames on this link.
        sequence: u64,
        /// Whose clients.
        tenant: Name,
        /// What to apply, in order.
        effects: Vec<Effect>,
        /// The close that asked for them.
        close: CloseId,
    },
    /// A handler asks, during an event of this gateway.
    Question(Box<Question>),
    /// I have taken all that came before this [`super::GatewayFrame::Confirm`].
    Confirmed {
        /// The shard that asked.
        shard: u16,
        /// Its number.
        number: u64,
    },
    /// A part of a task that goes on.
    Step(Box<Step>),
}

impl WorkerFrame {
    /// What it weighs besides its payloads.
    pub(crate) fn texts(&self) -> usize {
        match self {
            Self::Announce(announcement) => announcement.serving.len() * FRAME_BYTES,
            Self::Commit(commit) => {
                let effects: usize = commit.effects.iter().map(effect).sum();
                effects + commit.reply.as_deref().map_or(0, reply)
            }
            Self::Adopt { effects, .. } => effects.iter().map(effect).sum(),
            Self::Step(step) => step.effects.iter().map(effect).sum(),
            Self::Question(question) => asked(&question.effects, &question.query),
            Self::Load(_) | Self::Drain | Self::Confirmed { .. } => 0,
        }
    }
}

impl Carry for WorkerFrame {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Commit(commit) => commit.carry(visit),
            Self::Adopt { effects, .. } => effects.carry(visit),
            Self::Question(question) => question.carry(visit),
            Self::Step(step) => step.carry(visit),
            Self::Announce(_) | Self::Load(_) | Self::Drain | Self::Confirmed { .. } => {}
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Commit(commit) => commit.carry_mut(visit),
            Self::Adopt { effects, .. } => effects.carry_mut(visit),
            Self::Question(question) => question.carry_mut(visit),
            Self::Step(step) => step.carry_mut(visit),
            Self::Announce(_) | Self::Load(_) | Self::Drain | Self::Confirmed { .. } => {}
        }
    }
}
