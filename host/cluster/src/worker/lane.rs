//! A lane: the events of one client at this worker, the mirror of its session and what its close
//! would need.
//!
//! Guarantees: an event is committed at most once, and only while the link that it came over
//! lives; a commit that is done changes the mirror before the next event can start; giving one
//! event back gives back all that the home has sent behind it, so that their order holds: what
//! they do is void until the home sends again, with a snapshot. Nothing here waits: the lock is
//! held for a few lines and a commit only queues a frame.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Outcome, SessionChange};
use tidegate_wire::event::{Arrival, CloseReason, Closed, Delivery, EventKind, SessionEntries};
use tidegate_wire::frame::{Custody, CustodyChange, GroupsChange, WorkerFrame};
use tidegate_wire::id::{ClientId, CloseId, EventId, Incarnation};
use tidegate_wire::payload::Carry;
use tidegate_wire::query::{Answered, AskError, Query, Question};
use tidegate_wire::session::Session;
use tidegate_wire::task::Step;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::gateway_link::GatewayLink;
use super::lane_state::{LaneState, UnderWay};
use super::telling::Permit;

/// With more bytes on the link a task waits with its next step.
const STEPS_BYTES_MAX: usize = 1 << 20;

/// The events of one client, in order.
#[derive(Debug)]
pub struct Lane {
    client: ClientId,
    tenant: Name,
    /// The tenant's place in the announcement on the link.
    place: u16,
    home: Arc<GatewayLink>,
    state: Mutex<LaneState>,
}

/// What remains to be done for a client of a lost gateway.
#[derive(Debug)]
pub(super) enum Farewell {
    /// Nothing: its close was told, or is being told.
    Settled,
    /// The close ran here but could not be sent home.
    Adopt(Vec<Effect>),
    /// The close must be told.
    Tell(Box<Delivery>),
}

/// What becomes of a commit.
enum CommitWay {
    Send,
    Adopt,
    Drop,
}

impl Lane {
    pub(super) fn new(client: ClientId, tenant: Name, place: u16, home: Arc<GatewayLink>) -> Self {
        home.meters().lane_made();
        Self {
            client,
            tenant,
            place,
            home,
            state: Mutex::default(),
        }
    }

    /// Whose lane it is.
    #[must_use]
    pub const fn client(&self) -> ClientId {
        self.client
    }

    /// The client's tenant.
    #[must_use]
    pub const fn tenant(&self) -> &Name {
        &self.tenant
    }

    /// The client's session, to be read when an event starts to run.
    #[must_use]
    pub fn session(&self) -> Arc<Session> {
        self.state().session.clone()
    }

    /// How the client came; none of a request.
    #[must_use]
    pub fn arrival(&self) -> Option<Arc<Arrival>> {
        self.state().arrival.clone()
    }

    /// Asks the home during one of the lane's events. The effects are the event's changes so far;
    /// sends among them are left out on the way. Waits at most for `within`.
    ///
    /// # Errors
    /// See [`AskError`]; [`AskError::Gone`] also when the link has ended.
    pub async fn ask(
        self: Arc<Self>,
        event: EventId,
        attempt: u8,
        mut effects: Vec<Effect>,
        query: Query,
        within: Duration,
    ) -> Result<Answered, AskError> {
        if !self.state().is_under_way(event, attempt) {
            return Err(AskError::Gone);
        }
        effects.retain(Effect::is_visible_to_questions);
        let question = Question {
            number: 0,
            event,
            attempt,
            client: self.client,
            effects,
            query,
            within_ms: u32::try_from(share(within).as_millis()).unwrap_or(u32::MAX),
        };
        let asking = self.home.questions.ask(question, &self.home);
        timeout(within, asking)
            .await
            .unwrap_or(Err(AskError::Timeout))
    }

    /// A compare-and-set by an event of this lane has changed the session at home.
    pub(super) fn swapped(&self, change: &SessionChange) {
        let mut state = self.state();
        let LaneState {
            session, changed, ..
        } = &mut *state;
        Arc::make_mut(session).apply(change);
        if let Some(changed) = changed {
            Arc::make_mut(changed).apply(change);
        }
    }

    /// Ends an event: its effects go home in one frame. Cheap; never waits. To be called exactly
    /// once for each delivery, in order.
    pub fn commit(&self, mut commit: Commit) {
        let Some((way, forget)) = self.settle(&mut commit) else {
            warn!(event = %commit.event, client = %self.client, "commit of an event that is not under way: dropped");
            return;
        };
        match way {
            CommitWay::Send => self.home.commit(commit),
            CommitWay::Adopt => self.adopt(commit.effects),
            CommitWay::Drop => {
                debug!(event = %commit.event, client = %self.client, "link ended: commit dropped")
            }
        }
        if forget {
            self.home.forget(self.client.connection);
        }
    }

    /// Sends a step of a task home, and waits until the link has room for more. False if this run of the
    /// task counts no more.
    pub async fn step(self: Arc<Self>, step: Step) -> bool {
        let counts = self.state().is_under_way(step.event, step.attempt);
        let counts = counts && !self.home.has_ended() && self.home.step(step);
        if counts {
            self.home.sender.at_most_queued(STEPS_BYTES_MAX).await;
        }
        counts
    }

    /// The event under way that is no client's; only a task can be ended.
    pub(super) fn task_under_way(&self) -> Option<(EventId, u8)> {
        let state = self.state();
        let first = state.under_way.front().filter(|_| state.of_nobody)?;
        Some((first.event, first.attempt))
    }

    /// Gives the effects of the close to a live gateway, the home being lost.
    pub(super) fn adopt(&self, effects: Vec<Effect>) {
        self.home.adopt(self.tenant.clone(), effects, self.client);
    }

    /// Takes the event off the lane and decides what becomes of its commit, and whether the link's
    /// task should forget the lane.
    fn settle(&self, commit: &mut Commit) -> Option<(CommitWay, bool)> {
        let mut state = self.state();
        let committed = (commit.event, commit.attempt);
        let index = state
            .under_way
            .iter()
            .position(|under_way| (under_way.event, under_way.attempt) == committed)?;
        let event = state.under_way.remove(index)?;
        // A close is rare, so it may ask the link's queue, which knows of an end first.
        let ended = self.home.has_ended() || (event.close && self.home.is_closed());
        let way = if event.void {
            CommitWay::Drop
        } else {
            self.end(&mut state, &event, commit, ended)
        };
        Some((way, !ended && state.is_forgettable()))
    }

    fn end(
        &self,
        state: &mut LaneState,
        event: &UnderWay,
        commit: &mut Commit,
        ended: bool,
    ) -> CommitWay {
        if !event.told_here {
            self.home.leave(event.bytes);
        }
        let returned = commit.outcome == Outcome::Returned;
        if returned && !event.told_here {
            state.returning = true;
            self.void(state);
            // Until the home sends again, it may have given the client to another worker.
            self.uncount(state);
        }
        if commit.outcome != Outcome::Done {
            commit.effects.clear();
        }
        state.closed |= event.close && !returned;
        if !ended {
            state.apply(self.client, &commit.effects);
            // The home may be lost before it has this commit: the effects are kept until it releases the
            // client, which says that it has them.
            if event.close && state.custodian && !commit.effects.is_empty() {
                state.unsent = Some(commit.effects.clone());
            }
            return CommitWay::Send;
        }
        if event.close && state.lost {
            state.permit = None;
            // One that the handlers gave back is told again.
            return if returned {
                CommitWay::Drop
            } else {
                CommitWay::Adopt
            };
        }
        if event.close && !returned && state.custodian {
            state.unsent = Some(std::mem::take(&mut commit.effects));
        }
        CommitWay::Drop
    }

    fn uncount(&self, state: &mut LaneState) {
        if std::mem::take(&mut state.counted) {
            self.home.meters().client_went();
        }
    }

    /// What is under way went back to the home.
    fn void(&self, state: &mut LaneState) {
        for event in &mut state.under_way {
            if !event.void && !event.told_here {
                event.void = true;
                self.home.leave(event.bytes);
            }
        }
    }

    /// Takes the mirror out of the delivery and counts it as under way. False if it crossed an
    /// event that was given back: the home has it back too and waits for nothing.
    pub(super) fn accept(&self, delivery: &mut Delivery, bytes: u64) -> bool {
        let snapshot = delivery.session.take();
        let mut state = self.state();
        if let EventKind::Connect { arrival, .. } = &delivery.kind {
            state.arrival = Some(arrival.clone());
        }
        if let Some(snapshot) = snapshot {
            // The home sends one only when nothing it sent before counts any more.
            self.void(&mut state);
            state.arrival = snapshot.arrival.or(state.arrival.take());
            state.session = mirror(snapshot.entries);
            state.changed = None;
            state.returning = false;
        }
        if state.returning {
            return false;
        }
        // The first to see a client connect is its custodian without being told. If the connect was given
        // back before, several workers may have seen it, and nobody is custodian by that alone.
        if matches!(delivery.kind, EventKind::Connect { .. }) && delivery.attempt == delivery.losses
        {
            state.custodian = true;
        }
        state.released = false;
        state.worked = true;
        if !std::mem::replace(&mut state.counted, true) {
            self.home.meters().client_came();
        }
        state.of_nobody = !delivery.kind.is_of_client();
        state.under_way.push_back(UnderWay {
            event: delivery.event,
            attempt: delivery.attempt,
            bytes,
            close: matches!(delivery.kind, EventKind::Close(_)),
            told_here: false,
            void: false,
        });
        true
    }

    /// Learns what others changed.
    pub(super) fn learn(&self, custody: Custody) {
        let mut state = self.state();
        state.uid = custody.uid;
        state.groups = custody.groups.into_iter().collect();
        state.custodian = true;
        state.released = false;
        state.outdated = !state.is_idle();
        state.arrival = custody.session.arrival.or(state.arrival.take());
        let session = mirror(custody.session.entries);
        // What the home tells may lack a commit that is on its way there. It must not replace the mirror,
        // since the home need not send another snapshot with the next event.
        if state.worked {
            state.changed = Some(session);
        } else {
            state.session = session;
        }
    }

    /// Learns what has changed since it was told, or that it is the custodian of a client whose
    /// session it has.
    pub(super) fn learn_change(&self, change: CustodyChange) {
        let mut state = self.state();
        state.outdated &= !state.is_idle();
        if let Some(uid) = change.uid {
            state.uid = uid;
        }
        match change.groups {
            GroupsChange::All(groups) => state.groups = groups.into_iter().collect(),
            GroupsChange::Some(groups) => {
                for (group, member) in groups {
                    if member {
                        state.groups.insert(group);
                    } else {
                        state.groups.remove(&group);
                    }
                }
            }
        }
        state.custodian = true;
        state.released = false;
        if change.entries.is_empty() {
            return;
        }
        let worked = state.worked;
        let LaneState {
            session, changed, ..
        } = &mut *state;
        // The mirror of a lane that has worked may be ahead of the home, as in `learn`.
        let session = match changed {
            Some(changed) => changed,
            None if worked => changed.insert(session.clone()),
            None => session,
        };
        let session = Arc::make_mut(session);
        for (key, value) in change.entries {
            session.apply(&match value {
                Some(value) => SessionChange::Set { key, value },
                None => SessionChange::Remove { key },
            });
        }
    }

    /// This worker is the second custodian behind another one, or the first.
    pub(super) fn set_rank(&self, behind: Option<Incarnation>) {
        self.state().behind = behind;
    }

    /// Behind which worker this one is the second custodian.
    pub(super) fn first_custodian(&self) -> Option<Incarnation> {
        let state = self.state();
        state.behind.filter(|_| state.custodian)
    }

    /// The close of this client whose home is lost.
    pub(super) fn close_id(&self) -> CloseId {
        let (home, client) = (self.home.gateway, self.client);
        CloseId { home, client }
    }

    /// The home gave the lane away. True if it may be forgotten at once.
    pub(super) fn release(&self) -> bool {
        let mut state = self.state();
        self.uncount(&mut state);
        state.released = true;
        state.custodian = false;
        state.behind = None;
        state.unsent = None;
        state.is_forgettable()
    }

    /// The home is lost: what remains to be done for this client? `event` is the id of a close
    /// that is to be told; `permit` is held until its commit.
    pub(super) fn lose(&self, event: EventId, permit: Permit) -> Farewell {
        let mut state = self.state();
        if !state.custodian {
            return Farewell::Settled;
        }
        state.lost = true;
        if let Some(effects) = state.unsent.take() {
            return Farewell::Adopt(effects);
        }
        if state.closed {
            return Farewell::Settled;
        }
        state.permit = Some(permit);
        if state
            .under_way
            .iter()
            .any(|under_way| under_way.close && !under_way.void)
        {
            return Farewell::Settled;
        }
        if let Some(changed) = state.changed.take() {
            state.session = changed;
        }
        state.under_way.push_back(UnderWay {
            event,
            attempt: 0,
            bytes: 0,
            close: true,
            told_here: true,
            void: false,
        });
        Farewell::Tell(Box::new(Delivery {
            event,
            attempt: 0,
            losses: 0,
            tenant: self.place,
            client: self.client,
            session: None,
            kind: EventKind::Close(Box::new(Closed {
                reason: CloseReason::GatewayLost,
                frame: None,
                uid: state.uid.clone(),
                groups: state.groups.iter().cloned().collect(),
            })),
        }))
    }

    /// Whether nothing of this client must be told if its home is lost.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.state();
        (state.closed && state.unsent.is_none()) || !state.custodian
    }

    /// Whether the close was committed.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether the link's task may drop the lane.
    pub(super) fn is_forgettable(&self) -> bool {
        self.state().is_forgettable()
    }

    /// The state is plain data: whoever panicked while holding the lock left it usable.
    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.state();
        self.uncount(&mut state);
        self.home.meters().lane_dropped();
    }
}

/// What of the caller's time the home may use: its answer, also a partial one, must be back in time.
fn share(within: Duration) -> Duration {
    within - (within / 10).min(Duration::from_millis(100))
}

fn mirror(entries: SessionEntries) -> Arc<Session> {
    Arc::new(Session::from(entries))
}

/// What a delivery or effects count against a bound in bytes.
pub(super) fn payload_bytes(value: &impl Carry) -> u64 {
    let mut bytes = 0;
    value.carry(&mut |payload| bytes += payload.len() as u64);
    bytes
}

/// A commit that gives the event back.
pub(super) fn returned(delivery: &Delivery) -> WorkerFrame {
    WorkerFrame::Commit(Commit {
        event: delivery.event,
        attempt: delivery.attempt,
        client: delivery.client,
        outcome: Outcome::Returned,
        effects: Vec::new(),
        reply: None,
    })
}
