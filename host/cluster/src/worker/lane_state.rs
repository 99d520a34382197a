//! What a lane knows of its client: the mirror, what its close would need, what is under way. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::event::Arrival;
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::session::Session;

use super::telling::Permit;

/// Groups of one client that are remembered for its close.
const GROUPS_MAX: usize = 16_384;

/// What a lane knows.
#[derive(Debug, Default)]
pub(super) struct LaneState {
    pub(super) session: Arc<Session>,
    /// How the client came, if the lane is one's.
    pub(super) arrival: Option<Arc<Arrival>>,
    /// The session as others changed it since the last snapshot. The mirror itself must wait for
    /// the next one, but a close told by this worker needs the newest.
    pub(super) changed: Option<Arc<Session>>,
    /// When the home told last what it knows, events of this client were under way here, which it did
    /// not have yet. Until it tells all again, neither they nor later ones change `uid`, `groups` and
    /// `changed`, or a close would mix two times.
    pub(super) outdated: bool,
    /// Events came over this link, so that the mirror may be ahead of what the home sends.
    pub(super) worked: bool,
    /// It counts as the lane of a client whose events are handled here. One that is kept for its close
    /// alone is no load.
    pub(super) counted: bool,
    pub(super) uid: Option<Name>,
    pub(super) groups: BTreeSet<Name>,
    pub(super) under_way: VecDeque<UnderWay>,
    /// An event was given back: what the home sent before it knew is void.
    pub(super) returning: bool,
    /// The lane is that of a request or a timer without a client: it has one event and nobody whose
    /// close could be told.
    pub(super) of_nobody: bool,
    /// This worker tells the close if the home is lost.
    pub(super) custodian: bool,
    /// The first custodian: this worker is the second and tells the close once that one is gone too.
    pub(super) behind: Option<Incarnation>,
    /// The home gave the lane to another worker.
    pub(super) released: bool,
    /// The close was committed: nothing follows.
    pub(super) closed: bool,
    /// The home is lost: the effects of the close are adopted by another gateway.
    pub(super) lost: bool,
    /// Effects of a close that the home is not known to have, in case it turns out to be lost.
    pub(super) unsent: Option<Vec<Effect>>,
    /// Held while this worker tells the close of a client of a lost gateway.
    pub(super) permit: Option<Permit>,
}

/// An event that was handed to the handlers and is not committed.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) event: EventId,
    pub(super) attempt: u8,
    pub(super) bytes: u64,
    pub(super) close: bool,
    /// Made here, not delivered by the home.
    pub(super) told_here: bool,
    /// The home has it back, or will have.
    pub(super) void: bool,
}

impl LaneState {
    /// Whether nothing needs the lane any more.
    pub(super) fn is_forgettable(&self) -> bool {
        let closed = self.closed && self.unsent.is_none();
        self.under_way.is_empty() && (closed || self.released || self.of_nobody)
    }

    /// Whether the home still waits for this attempt at an event.
    pub(super) fn is_under_way(&self, event: EventId, attempt: u8) -> bool {
        let asked = (event, attempt);
        let live = |it: &UnderWay| (it.event, it.attempt) == asked && !it.void && !it.told_here;
        self.under_way.iter().any(live)
    }

    /// Whether the home waits for nothing here.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.iter().all(|it| it.void)
    }

    /// Applies what concerns this client, as its home will.
    pub(super) fn apply(&mut self, own: ClientId, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Session { client, change } if *client == own => {
                    Arc::make_mut(&mut self.session).apply(change);
                    if let Some(changed) = self.changed.as_mut().filter(|_| !self.outdated) {
                        Arc::make_mut(changed).apply(change);
                    }
                }
                _ if self.outdated => {}
                Effect::BindUid { client, uid } if *client == own => self.uid = Some(uid.clone()),
                Effect::UnbindUid { client } if *client == own => self.uid = None,
                Effect::JoinGroup { client, group } if *client == own => {
                    // The home has a limit of its own and does not say when it refuses.
                    if self.groups.len() < GROUPS_MAX {
                        self.groups.insert(group.clone());
                    }
                }
                Effect::LeaveGroup { client, group } if *client == own => {
                    self.groups.remove(group);
                }
                Effect::Ungroup { group } => {
                    self.groups.remove(group);
                }
                Effect::Session { .. }
                | Effect::BindUid { .. }
                | Effect::UnbindUid { .. }
                | Effect::JoinGroup { .. }
                | Effect::LeaveGroup { .. }
                | Effect::Send { .. }
                | Effect::SendLatest { .. }
                | Effect::SendRaw { .. }
                | Effect::Close { .. }
                | Effect::CloseUid { .. }
                | Effect::Destroy { .. }
                | Effect::Command { .. }
                | Effect::SetTimer { .. }
                | Effect::CancelTimer { .. }
                | Effect::SubmitTask { .. }
                | Effect::CancelTask { .. }
                | Effect::PeerMessage(_) => {}
            }
        }
    }
}
