//! What a gateway says to a worker.

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::event::{ClientSnapshot, Delivery};
use crate::id::{ClientId, CloseId, EventId, Incarnation};
use crate::payload::{Carry, Payload};
use crate::peers::PeerMessage;
use crate::query::{Answered, AskError};
use crate::weight::{PART_BYTES, custody, custody_change, event, found, session};

/// What a custodian would need to tell a client's close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custody {
    /// Index into the tenants of the worker's announcement.
    pub tenant: u16,
    /// Whose.
    pub client: ClientId,
    /// Its uid.
    pub uid: Option<Name>,
    /// Its groups.
    pub groups: Vec<Name>,
    /// Its session.
    pub session: ClientSnapshot,
}

/// What has changed of a client since its custodian was told, or what makes it the custodian of a
/// client whose session it has already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyChange {
    /// Whose.
    pub client: ClientId,
    /// Its uid, if that is told.
    pub uid: Option<Option<Name>>,
    /// Its groups.
    pub groups: GroupsChange,
    /// Keys of its session with their JSON texts; none for one that is gone.
    pub entries: Vec<(Name, Option<String>)>,
}

/// What has changed of a client's groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsChange {
    /// Of these groups it is a member now, or is not.
    Some(Vec<(Name, bool)>),
    /// These are all.
    All(Vec<Name>),
}

/// Gateway → worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayFrame {
    /// An event.
    Deliver(Box<Delivery>),
    /// Be these clients' custodian, or learn what others changed.
    Custody(Vec<Custody>),
    /// Be the custodian of these clients, whom you know over this link, and learn what others
    /// changed.
    CustodyChanged(Vec<CustodyChange>),
    /// These lanes or custodies are no longer yours.
    Release(Vec<ClientId>),
    /// Nothing of mine is uncommitted at yours, and your clients have other custodians, if there is
    /// anybody.
    Drained,
    /// The adoption was taken.
    Adopted {
        /// Its number.
        sequence: u64,
    },
    /// The answer to the question of this number.
    Answered {
        /// The worker's number.
        number: u64,
        /// What was found.
        answer: Box<Result<Answered, AskError>>,
    },
    /// Of each client you, over this link, or another custodian who has confirmed it could tell the
    /// close. What an earlier link entrusted counts no more.
    Recognised,
    /// Say when you have taken all that came before this.
    Confirm {
        /// The shard that asks.
        shard: u16,
        /// Its number.
        number: u64,
    },
    /// Of each of these clients you are the second custodian behind this worker, or the first. The
    /// second tells a close once the first is gone too.
    CustodyRank(Vec<(ClientId, Option<Incarnation>)>),
    /// These closes of lost gateways were told, by whomever.
    Told(Vec<CloseId>),
    /// Nobody wants what comes of this task any more: end it soon.
    CancelTask {
        /// Index into the tenants of the worker's announcement.
        tenant: u16,
        /// The event of the task.
        event: EventId,
        /// Which attempt at it.
        attempt: u8,
    },
    /// One instance says something to those of its tenant at this worker. It may be lost.
    PeerMessage {
        /// Index into the tenants of the worker's announcement.
        tenant: u16,
        /// What.
        message: Box<PeerMessage>,
    },
}

impl GatewayFrame {
    /// What it weighs besides its payloads.
    pub(crate) fn texts(&self) -> usize {
        match self {
            Self::Deliver(delivery) => {
                let known = delivery.session.as_deref().map_or(0, session);
                known + event(&delivery.kind)
            }
            Self::Custody(custodies) => custodies.iter().map(custody).sum(),
            Self::CustodyChanged(changes) => changes.iter().map(custody_change).sum(),
            Self::Release(clients) => clients.len() * PART_BYTES,
            Self::Answered { answer, .. } => match &**answer {
                Ok(answered) => found(&answered.answer) + answered.missing.len() * PART_BYTES,
                Err(_) => 0,
            },
            Self::CustodyRank(clients) => clients.len() * PART_BYTES,
            Self::Told(closes) => closes.len() * PART_BYTES,
            Self::PeerMessage { message, .. } => message.topic.len(),
            Self::Drained
            | Self::Adopted { .. }
            | Self::Recognised
            | Self::Confirm { .. }
            | Self::CancelTask { .. } => 0,
        }
    }
}

impl Carry for GatewayFrame {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Deliver(delivery) => delivery.carry(visit),
            Self::Answered { answer, .. } => {
                if let Ok(answered) = &**answer {
                    answered.answer.carry(visit);
                }
            }
            Self::PeerMessage { message, .. } => visit(&message.payload),
            Self::Custody(_)
            | Self::CustodyChanged(_)
            | Self::Release(_)
            | Self::Drained
            | Self::Adopted { .. }
            | Self::Recognised
            | Self::Confirm { .. }
            | Self::CustodyRank(_)
            | Self::Told(_)
            | Self::CancelTask { .. } => {}
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Deliver(delivery) => delivery.carry_mut(visit),
            Self::Answered { answer, .. } => {
                if let Ok(answered) = &mut **answer {
                    answered.answer.carry_mut(visit);
                }
            }
            Self::PeerMessage { message, .. } => visit(&mut message.payload),
            Self::Custody(_)
            | Self::CustodyChanged(_)
            | Self::Release(_)
            | Self::Drained
            | Self::Adopted { .. }
            | Self::Recognised
            | Self::Confirm { .. }
            | Self::CustodyRank(_)
            | Self::Told(_)
            | Self::CancelTask { .. } => {}
        }
    }
}
