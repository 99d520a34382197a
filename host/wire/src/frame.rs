//! Frames: `u32` little-endian length of what follows, `u32` length of the header, the header in
//! postcard, then the payloads that the header announces.
//!
//! Postcard does not describe itself: the order of fields and variants is the protocol. New
//! variants go last.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Name;
use crate::deploy::Deploy;
use crate::effect::{Commit, Effect};
use crate::event::{Delivery, SessionSnapshot};
use crate::feed::{Filter, Happening};
use crate::hello::{Hello, Proof, Refusal};
use crate::id::{ClientId, CloseId, Incarnation};
use crate::membership::{Node, View};
use crate::payload::{Carry, Payload};
use crate::query::{Answer, Answered, Ask, AskError, Question};

/// The largest frame on an authenticated link, in bytes.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// Room that is made for an announced frame whatever has come of it.
const ROOM_BYTES: usize = 64 << 10;

/// One tenant that a worker serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The tenant.
    pub tenant: Name,
    /// The content hash of the plugin that runs for it.
    pub version: Name,
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
    pub session: SessionSnapshot,
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

/// Everything that travels on an authenticated link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// Any → any: I am alive.
    Heartbeat,
    /// Any → any: the last frame, with the reason.
    Goodbye(Refusal),
    /// Worker → gateway.
    Announce(Announcement),
    /// Worker → gateway, with its heartbeats.
    Load(Load),
    /// Gateway → worker: an event.
    Deliver(Box<Delivery>),
    /// Worker → gateway: the end of an event.
    Commit(Commit),
    /// Gateway → worker: be this client's custodian, or learn what others changed.
    Custody(Vec<Custody>),
    /// Gateway → worker: these lanes or custodies are no longer yours.
    Release(Vec<ClientId>),
    /// Worker → gateway: send no more events, I am leaving.
    Drain,
    /// Gateway → worker: nothing of mine is uncommitted at yours, and your clients have other
    /// custodians, if there is anybody.
    Drained,
    /// Gateway → gateway.
    Forward(Forward),
    /// Gateway → gateway: the stream of `shard` has arrived up to `sequence`.
    ForwardAck {
        /// The shard that sent.
        shard: u16,
        /// The last forward that arrived.
        sequence: u64,
    },
    /// Worker → gateway: effects of an event whose home is lost, to be applied and forwarded.
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
    /// Gateway → worker: the adoption was taken.
    Adopted {
        /// Its number.
        sequence: u64,
    },
    /// Gateway or worker → register: give me a lease of this many milliseconds; heartbeats renew
    /// it.
    Join {
        /// The node.
        node: Node,
        /// The lease.
        lease_ms: u32,
    },
    /// Gateway or worker → register: I am gone.
    Leave,
    /// Register → gateway or worker.
    View(View),
    /// Gateway or worker → register: these gateways of your view were declared lost; their closes
    /// may have been told.
    Lost(Vec<Incarnation>),
    /// Worker → gateway: a handler asks, during an event of this gateway.
    Question(Box<Question>),
    /// Gateway → worker: the answer to the question of this number.
    Answered {
        /// The worker's number.
        number: u64,
        /// What was found.
        answer: Box<Result<Answered, AskError>>,
    },
    /// Gateway → gateway: a shard's question about the clients there.
    Ask(Box<Ask>),
    /// Gateway → gateway: its part of the answer.
    Answer {
        /// The shard that asked.
        shard: u16,
        /// Its number.
        number: u64,
        /// What was found here.
        answer: Box<Result<Answer, AskError>>,
    },
    /// Gateway → gateway: tell me what happens to this tenant's clients from now on.
    Watch {
        /// The watcher's number on this link.
        watch: u64,
        /// Whose clients.
        tenant: Name,
        /// What of it.
        filter: Box<Filter>,
    },
    /// Gateway → gateway: no more of this.
    Unwatch {
        /// The watcher's number.
        watch: u64,
    },
    /// Gateway → gateway: what happened. The first of a watch has nothing in it: every shard tells
    /// from now on.
    Happened {
        /// The watcher's number.
        watch: u64,
        /// What, in order.
        happenings: Vec<Happening>,
        /// How many were dropped before these because the watcher fell behind.
        missed: u64,
    },
    /// On links for deploys only.
    Deploy(Box<Deploy>),
    /// Gateway → worker: of each client you, over this link, or another custodian who has confirmed it
    /// could tell the close. What an earlier link entrusted counts no more.
    Recognised,
    /// Gateway → worker: say when you have taken all that came before this.
    Confirm {
        /// The shard that asks.
        shard: u16,
        /// Its number.
        number: u64,
    },
    /// Worker → gateway: I have.
    Confirmed {
        /// The shard that asked.
        shard: u16,
        /// Its number.
        number: u64,
    },
    /// Gateway → worker: be the custodian of these clients, whom you know over this link, and learn
    /// what others changed.
    CustodyChanged(Vec<CustodyChange>),
    /// Gateway → worker: of each of these clients you are the second custodian behind this worker, or
    /// the first. The second tells a close once the first is gone too.
    Standing(Vec<(ClientId, Option<Incarnation>)>),
    /// Gateway → worker: these closes of lost gateways were told, by whomever.
    Told(Vec<CloseId>),
}

impl Carry for Frame {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        match self {
            Self::Deliver(delivery) => delivery.carry(visit),
            Self::Commit(commit) => commit.carry(visit),
            Self::Forward(forward) => forward.effects.carry(visit),
            Self::Adopt { effects, .. } => effects.carry(visit),
            Self::Question(question) => question.carry(visit),
            Self::Answered { answer, .. } => {
                if let Ok(answered) = &**answer {
                    answered.answer.carry(visit);
                }
            }
            Self::Ask(ask) => ask.carry(visit),
            Self::Answer { answer, .. } => {
                if let Ok(answer) = &**answer {
                    answer.carry(visit);
                }
            }
            Self::Deploy(deploy) => deploy.carry(visit),
            Self::Heartbeat
            | Self::Goodbye(_)
            | Self::Announce(_)
            | Self::Load(_)
            | Self::Custody(_)
            | Self::Release(_)
            | Self::Drain
            | Self::Drained
            | Self::ForwardAck { .. }
            | Self::Adopted { .. }
            | Self::Join { .. }
            | Self::Leave
            | Self::View(_)
            | Self::Lost(_)
            | Self::Watch { .. }
            | Self::Unwatch { .. }
            | Self::Happened { .. }
            | Self::Recognised
            | Self::Confirm { .. }
            | Self::Confirmed { .. }
            | Self::CustodyChanged(_)
            | Self::Standing(_)
            | Self::Told(_) => {}
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        match self {
            Self::Deliver(delivery) => delivery.carry_mut(visit),
            Self::Commit(commit) => commit.carry_mut(visit),
            Self::Forward(forward) => forward.effects.carry_mut(visit),
            Self::Adopt { effects, .. } => effects.carry_mut(visit),
            Self::Question(question) => question.carry_mut(visit),
            Self::Answered { answer, .. } => {
                if let Ok(answered) = &mut **answer {
                    answered.answer.carry_mut(visit);
                }
            }
            Self::Ask(ask) => ask.carry_mut(visit),
            Self::Answer { answer, .. } => {
                if let Ok(answer) = &mut **answer {
                    answer.carry_mut(visit);
                }
            }
            Self::Deploy(deploy) => deploy.carry_mut(visit),
            Self::Heartbeat
            | Self::Goodbye(_)
            | Self::Announce(_)
            | Self::Load(_)
            | Self::Custody(_)
            | Self::Release(_)
            | Self::Drain
            | Self::Drained
            | Self::ForwardAck { .. }
            | Self::Adopted { .. }
            | Self::Join { .. }
            | Self::Leave
            | Self::View(_)
            | Self::Lost(_)
            | Self::Watch { .. }
            | Self::Unwatch { .. }
            | Self::Happened { .. }
            | Self::Recognised
            | Self::Confirm { .. }
            | Self::Confirmed { .. }
            | Self::CustodyChanged(_)
            | Self::Standing(_)
            | Self::Told(_) => {}
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

/// Bytes that are not a frame, or a frame that may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit; nothing was read or buffered for it.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// The announced length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes do not make a frame.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
}

/// Appends one frame to `out`. On an error `out` is as it was.
///
/// # Errors
/// When the frame would be larger than [`FRAME_BYTES_MAX`].
pub fn encode<T: Serialize + Carry>(value: &T, out: &mut BytesMut) -> Result<(), FrameError> {
    let start = out.len();
    out.put_u64_le(0);
    let header_start = out.len();
    let serialized = {
        let mut serializer = postcard::Serializer {
            output: Appender(out),
        };
        value.serialize(&mut serializer).is_ok()
    };
    if !serialized {
        out.truncate(start);
        return Err(FrameError::Malformed("a value that has no wire form"));
    }
    let header_length = out.len() - header_start;
    value.carry(&mut |payload| out.put_slice(payload));
    let length = out.len() - start - 4;
    let lengths = u32::try_from(length)
        .ok()
        .zip(u32::try_from(header_length).ok());
    let place = out.get_mut(start..start + 8);
    match (lengths, place) {
        (Some((total, header)), Some(mut place)) if length <= FRAME_BYTES_MAX => {
            place.put_u32_le(total);
            place.put_u32_le(header);
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(FrameError::TooLarge {
                length,
                limit: FRAME_BYTES_MAX,
            })
        }
    }
}

/// Takes one frame from the front of `input`, or none if it is not all there yet.
///
/// # Errors
/// When the announced length is over `limit`, known from the first four bytes, or when the bytes
/// do not make a frame. The link cannot go on after an error.
pub fn decode<T: DeserializeOwned + Carry>(
    input: &mut BytesMut,
    limit: usize,
) -> Result<Option<T>, FrameError> {
    let Some(mut prefix) = input.get(..4) else {
        return Ok(None);
    };
    let length = prefix.get_u32_le() as usize;
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    if input.len() < 4 + length {
        // A length is believed only as far as bytes have come: room at most doubles what is there.
        let believed = input.len().max(ROOM_BYTES);
        input.reserve((4 + length - input.len()).min(believed));
        return Ok(None);
    }
    input.advance(4);
    decode_body(input.split_to(length).freeze()).map(Some)
}

fn decode_body<T: DeserializeOwned + Carry>(mut body: Bytes) -> Result<T, FrameError> {
    let header_length = body
        .try_get_u32_le()
        .map_err(|_| FrameError::Malformed("shorter than its header's length field"))?;
    let header_length = header_length as usize;
    if body.len() < header_length {
        return Err(FrameError::Malformed("its header is longer than the frame"));
    }
    let header = body.split_to(header_length);
    let (mut value, rest) = postcard::take_from_bytes::<T>(&header)
        .map_err(|_| FrameError::Malformed("its header does not parse"))?;
    if !rest.is_empty() {
        return Err(FrameError::Malformed("bytes follow its header"));
    }
    let mut enough = true;
    value.carry_mut(&mut |payload| enough &= payload.attach(&mut body));
    if !enough {
        return Err(FrameError::Malformed(
            "its payloads are longer than the frame",
        ));
    }
    if !body.is_empty() {
        return Err(FrameError::Malformed("bytes follow its payloads"));
    }
    Ok(value)
}

/// Postcard's output straight into the link's buffer.
struct Appender<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
