//! The call that a guest is handling, an event or a command: whose it is, and the effects and
//! questions that it had so far, against their limits.

use std::sync::Arc;

use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, SessionChange};
use tidegate_wire::effect_id::EffectId;
use tidegate_wire::event::{Arrival, CloseFrame, Closed};
use tidegate_wire::id::{ClientId, EventId};
use tidegate_wire::session::{Session, TooLarge};
use tokio::time::Instant;

use super::offered::types::Error;
use super::own_session::{OwnSession, Replaced};
use super::{HostState, quota};
use crate::command::HubAccess;
use crate::deployment::EventContext;

/// Timers and tasks of one event, or of one step of a task.
const NAMED_MAX: u32 = 16_384;
/// Steps of one task, so that each has names of its own for what it begins.
const STEPS_MAX: u32 = u32::MAX / NAMED_MAX;

/// The call under way, with what it asked for so far.
pub(crate) struct CurrentCall {
    pub(super) origin: Origin,
    /// The client whose event it is; a request and a command have none.
    pub(super) client: Option<OwnClient>,
    pub(super) effects: Vec<Effect>,
    effect_bytes: usize,
    pub(super) questions: usize,
    /// Bytes of effects that went with questions so far.
    pub(super) carried: usize,
    /// Compare-and-sets so far.
    swaps: u32,
    /// Who has sent the request by HTTP that it answers.
    pub(crate) caller: Option<Arc<Arrival>>,
    /// It may ask and do nothing: it decides whether somebody may become a client.
    pub(crate) only_asks: bool,
    /// Timers and tasks that it has named so far, since its last step.
    named: u32,
    /// If it is a task.
    pub(crate) steps: Option<Steps>,
    /// When its limit on the clock ends it.
    pub(super) ends: Instant,
}

/// The steps of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    /// The lane of the task.
    pub(crate) lane: ClientId,
    /// So many are committed, in this run or before.
    pub(crate) committed: u32,
    /// The one under way.
    pub(crate) next: u32,
    /// This run counts no more.
    pub(crate) is_void: bool,
}

/// Where a call came from, and so whom it may ask.
pub(crate) enum Origin {
    /// An event of a worker.
    Event {
        id: EventId,
        attempt: u8,
        context: Arc<dyn EventContext>,
    },
    /// A command at a gateway.
    Command { hub: Arc<dyn HubAccess> },
}

/// The client whose event is handled.
pub(crate) struct OwnClient {
    pub(super) id: ClientId,
    /// It is gone: its session can be read but no longer changed.
    closing: bool,
    /// What it has closed its WebSocket with.
    pub(super) close_frame: Option<CloseFrame>,
    /// Its session, with the event's own changes.
    pub(super) session: OwnSession,
}

impl OwnClient {
    /// The client of an event; `closed` is its end, if that is the event.
    pub(crate) fn new(id: ClientId, closed: Option<&Closed>, session: Arc<Session>) -> Self {
        Self {
            id,
            closing: closed.is_some(),
            close_frame: closed.and_then(|closed| closed.frame.clone()),
            session: OwnSession::new(session),
        }
    }
}

impl CurrentCall {
    /// A call that ends no later than this.
    pub(crate) const fn new(origin: Origin, client: Option<OwnClient>, ends: Instant) -> Self {
        Self {
            origin,
            client,
            effects: Vec::new(),
            effect_bytes: 0,
            questions: 0,
            carried: 0,
            swaps: 0,
            caller: None,
            only_asks: false,
            named: 0,
            steps: None,
            ends,
        }
    }

    /// What it asked for, in order.
    pub(crate) fn into_effects(self) -> Vec<Effect> {
        self.effects
    }

    /// Bytes of its effects.
    pub(crate) const fn effect_bytes(&self) -> usize {
        self.effect_bytes
    }

    /// Numbers a compare-and-set of this call.
    pub(super) const fn next_swap(&mut self) -> u32 {
        let nth = self.swaps;
        self.swaps += 1;
        nth
    }

    /// Names the next timer or task of this call: its client's, unless that is gone. What the same step of
    /// a task asks for has the same names in every run.
    pub(super) fn next_id(&mut self) -> Result<EffectId, Error> {
        let Origin::Event { id: event, .. } = self.origin else {
            return Err(Error::NotPermitted(
                "only an event may do this; a command may not".to_owned(),
            ));
        };
        if self.named >= NAMED_MAX {
            return Err(quota(format!(
                "an event, and a step of a task, may begin {NAMED_MAX} timers and tasks"
            )));
        }
        let step = self.steps.as_ref().map_or(0, |steps| steps.next);
        let nth = step * NAMED_MAX + self.named;
        self.named += 1;
        let client = self.client.as_ref().filter(|own| !own.closing);
        Ok(EffectId {
            client: client.map(|own| own.id),
            event,
            nth,
        })
    }

    /// Ends a step of a task: what it has asked for so far, with the number of the step. The limits begin
    /// anew.
    pub(super) fn end_step(&mut self) -> Result<(u32, Vec<Effect>), Error> {
        let Some(steps) = &mut self.steps else {
            return Err(Error::NotPermitted(
                "only a task may be committed in steps".to_owned(),
            ));
        };
        if steps.next >= STEPS_MAX {
            return Err(quota(format!("a task may have {STEPS_MAX} steps")));
        }
        let number = steps.next;
        steps.next += 1;
        self.effect_bytes = 0;
        self.questions = 0;
        self.carried = 0;
        self.named = 0;
        Ok((number, std::mem::take(&mut self.effects)))
    }

    /// A compare-and-set did this: the handler reads it in its session, under its own changes.
    pub(super) fn swapped(&mut self, client: ClientId, key: Name, new: Option<String>) {
        let Some(own) = self.client.as_mut().filter(|own| own.id == client) else {
            return;
        };
        let set = key.clone();
        let change = match new {
            Some(value) => SessionChange::Set { key: set, value },
            None => SessionChange::Remove { key: set },
        };
        let own_changes = self.effects.iter().filter_map(|effect| {
            if let Effect::Session { client: of, change } = effect {
                (*of == client).then_some(change)
            } else {
                None
            }
        });
        own.session.swapped(&key, &change, own_changes);
    }
}

impl HostState {
    /// The call under way.
    pub(super) fn current(&mut self) -> Result<&mut CurrentCall, Error> {
        self.call.as_mut().ok_or_else(outside_an_event)
    }

    /// Collects one effect of `bytes` bytes.
    pub(super) fn push(&mut self, effect: Effect, bytes: usize) -> Result<(), Error> {
        let limits = &self.identity.limits;
        let call = self.call.as_mut().ok_or_else(outside_an_event)?;
        if call.only_asks {
            return Err(Error::NotPermitted(
                "a handshake decides who may come, and does nothing else: `on-connect` may"
                    .to_owned(),
            ));
        }
        if call.effects.len() >= limits.effects_max {
            return Err(quota(format!(
                "an event may have {} effects",
                limits.effects_max
            )));
        }
        let bytes = call.effect_bytes.saturating_add(bytes);
        if bytes > limits.effect_bytes_max {
            return Err(quota(format!(
                "the effects of an event may have {} bytes",
                limits.effect_bytes_max
            )));
        }
        call.effect_bytes = bytes;
        call.effects.push(effect);
        Ok(())
    }

    /// Collects changes of one client's session, all or none. The handler reads changes of its own
    /// client's session back at once.
    pub(super) fn push_session_changes(
        &mut self,
        client: ClientId,
        changes: impl Iterator<Item = (SessionChange, usize)>,
    ) -> Result<(), Error> {
        let call = self.current()?;
        let own = call.client.as_ref().filter(|own| own.id == client);
        if own.is_some_and(|own| own.closing) {
            return Err(Error::NotPermitted(
                "the client is closed: its session can be read but not changed".to_owned(),
            ));
        }
        let (effects, bytes) = (call.effects.len(), call.effect_bytes);
        let mut replaced = Vec::new();
        let result = changes.into_iter().try_for_each(|(change, bytes)| {
            replaced.extend(self.push_session_change(client, change, bytes)?);
            Ok(())
        });
        if let (Err(_), Some(call)) = (&result, &mut self.call) {
            call.effects.truncate(effects);
            call.effect_bytes = bytes;
            if let Some(own) = &mut call.client {
                let newest_first = replaced.into_iter().rev();
                newest_first.for_each(|it| own.session.undo(it));
            }
        }
        result
    }

    fn push_session_change(
        &mut self,
        client: ClientId,
        change: SessionChange,
        bytes: usize,
    ) -> Result<Option<Replaced>, Error> {
        let bytes_max = self.identity.limits.session_bytes_max;
        if bytes > bytes_max {
            return Err(session_too_large(bytes_max));
        }
        self.push(Effect::Session { client, change }, bytes)?;
        let Some(call) = &mut self.call else {
            return Ok(None);
        };
        let own = call.client.as_mut().filter(|own| own.id == client);
        let (Some(own), Some(Effect::Session { change, .. })) = (own, call.effects.last()) else {
            return Ok(None);
        };
        let applied = own.session.apply(change, bytes_max);
        applied
            .map(Some)
            .map_err(|TooLarge| session_too_large(bytes_max))
    }
}

fn outside_an_event() -> Error {
    Error::NotPermitted(
        "only an event may do this; on-start, on-stop and on-peer-message may not".to_owned(),
    )
}

pub(super) fn session_too_large(bytes_max: usize) -> Error {
    quota(format!(
        "a session may have {bytes_max} bytes of keys and values"
    ))
}
