//! What gateways say to each other. The gateway that has dialled sends forwards, questions and
//! watches; the other one acknowledges, answers and tells what happened.

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::effect::Effect;
use crate::feed::{Filter, Happening};
use crate::id::CloseId;
use crate::payload::{Carry, Payload};
use crate::query::{Answer, Ask, AskError};
use crate::schedule::ScheduleSaid;
use crate::weight::{asked, effect, found, happening, names};

/// Effects for other shards, on a numbered stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The shard that sends; each has a stream of its own.
    pub shard: u16,
    /// Counts the stream's forwards, from 1.
    pub sequence: u64,
    /// Whose clients.
    pub tenant: Name,
    /// What to apply, in order.
    pub effects: Vec<Effect>,
    /// The close that asked for them. A gateway applies the effects of each close at most once.
    pub close: Option<CloseId>,
}

/// Gateway ↔ gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerFrame {
    /// Effects for the receiver's clients.
    Forward(Forward),
    /// The stream of `shard` has arrived up to `sequence`.
    ForwardAck {
        /// The shard that sent.
        shard: u16,
        /// The last forward that arrived.
        sequence: u64,
    },
    /// A shard's question about the clients there.
    Ask(Box<Ask>),
    /// Its part of the answer.
    Answer {
        /// The shard that asked.
        shard: u16,
        /// Its number.
        number: u64,
        /// What was found here.
        answer: Box<Result<Answer, AskError>>,
    },
    /// Tell me what happens to this tenant's clients from now on.
    Watch {
        /// The watcher's number on this link.
        watch: u64,
        /// Whose clients.
        tenant: Name,
        /// What of it.
        filter: Box<Filter>,
    },
    /// No more of this.
    Unwatch {
        /// The watcher's number.
        watch: u64,
    },
    /// What happened. The first of a watch has nothing in it: every shard tells from now on.
    Happened {
        /// The watcher's number.
        watch: u64,
        /// What, in order.
        happenings: Vec<Happening>,
        /// How many were dropped before these because the watcher fell behind.
        missed: u64,
    },
    /// About schedules. Whoever has dialled says what it knows and claims ticks; the other one says what it
    /// knows and answers.
    Schedule(Box<ScheduleSaid>),
}

impl PeerFrame {
    /// What it weighs besides its payloads.
    pub(crate) fn texts(&self) -> usize {
        match self {
            Self::Forward(forward) => forward.effects.iter().map(effect).sum(),
            Self::Ask(ask) => asked(&ask.effects, &ask.query),
            Self::Answer { answer, .. } => answer.as_ref().as_ref().map_or(0, found),
            Self::Watch { filter, .. } => names(&filter.groups) + names(&filter.uids),
            Self::Happened { happenings, .. } => happenings.iter().map(happening).sum(),
            Self::Schedule(said) => said.texts(),
            Self::ForwardAck { .. } | Self::Unwatch { .. } => 0,
        }
    }
}

impl Carry for PeerFrame {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Forward(forward) => forward.effects.carry(visit),
            Self::Ask(ask) => ask.carry(visit),
            Self::Answer { answer, .. } => {
                if let Ok(answer) = &**answer {
                    answer.carry(visit);
                }
            }
            Self::ForwardAck { .. }
            | Self::Watch { .. }
            | Self::Unwatch { .. }
            | Self::Happened { .. }
            | Self::Schedule(_) => {}
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Forward(forward) => forward.effects.carry_mut(visit),
            Self::Ask(ask) => ask.carry_mut(visit),
            Self::Answer { answer, .. } => {
                if let Ok(answer) = &mut **answer {
                    answer.carry_mut(visit);
                }
            }
            Self::ForwardAck { .. }
            | Self::Watch { .. }
            | Self::Unwatch { .. }
            | Self::Happened { .. }
            | Self::Schedule(_) => {}
        }
    }
}
