//! The call that a guest is handling, an event or a command: whose it is, and the effects and
//! questions that it had so far, against their limits.

use std::sync::Arc;

use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, SessionChange};
use tidegate_wire::event::{CloseFrame, Closed};
use tidegate_wire::id::{ClientId, EventId};
use tidegate_wire::session::{Session, TooLarge};
use tidegate_wire::timer::TimerId;
use tokio::time::Instant;

use super::offered::types::Error;
use super::own_session::{OwnSession, Replaced};
use super::{HostState, quota};
use crate::command::HubAccess;
use crate::deployment::EventContext;

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
    /// It may ask and do nothing: it decides whether somebody may become a client.
    pub(crate) only_asks: bool,
    /// Timers that it has set so far.
    timers: u16,
    /// When its limit on the clock ends it.
    pub(super) ends: Instant,
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
            only_asks: false,
            timers: 0,
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

    /// Names the next timer of this call: its client's, unless that is gone.
    pub(super) fn next_timer(&mut self) -> Option<TimerId> {
        let Origin::Event { id: event, .. } = self.origin else {
            return None;
        };
        let nth = self.timers;
        self.timers = nth.checked_add(1)?;
        let client = self.client.as_ref().filter(|own| !own.closing);
        Some(TimerId {
            client: client.map(|own| own.id),
            event,
            nth,
        })
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
    Error::NotPermitted("only an event may do this; on-start and on-stop may not".to_owned())
}

pub(super) fn session_too_large(bytes_max: usize) -> Error {
    quota(format!(
        "a session may have {bytes_max} bytes of keys and values"
    ))
}
