//! The event that is being handled on this thread: what calls see and where effects wait.

use std::cell::RefCell;

use crate::client::Client;
use crate::error::Refused;
use crate::testing::effect::{Change, Effect, Entries};

type Result<T = ()> = std::result::Result<T, Refused>;

/// One event under way.
pub(crate) struct Event {
    /// Whose event; none while an instance starts or stops.
    pub(crate) client: Option<Client>,
    /// Whether it is `on_close`, where the session can only be read.
    pub(crate) closing: bool,
    /// Its id; empty outside an event.
    pub(crate) id: String,
    /// The session with this event's own changes.
    pub(crate) session: Entries,
    /// What the handler asked for.
    pub(crate) effects: Vec<Effect>,
    /// What `wasi:config` says.
    pub(crate) config: Vec<(String, String)>,
}

impl Event {
    /// No event: an instance starts or stops.
    pub(crate) const fn outside(config: Vec<(String, String)>) -> Self {
        Self {
            client: None,
            closing: false,
            id: String::new(),
            session: Entries::new(),
            effects: Vec::new(),
            config,
        }
    }

    /// Collects an effect; its arguments were checked. A change of the event's own session is
    /// seen at once by the rest of the callback.
    fn push(&mut self, effect: Effect) -> Result {
        if self.client.is_none() {
            return Err(outside_an_event());
        }
        if let Effect::Session { client, change } = &effect
            && Some(*client) == self.client
        {
            if self.closing {
                return Err(Refused::NotPermitted(
                    "the session of a closed client can only be read".to_owned(),
                ));
            }
            change.apply(&mut self.session);
        }
        self.effects.push(effect);
        Ok(())
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Event>> = const { RefCell::new(None) };
}

/// Runs `callback` with this event as the current one; returns its effects too.
pub(crate) fn during<T>(event: Event, callback: impl FnOnce() -> T) -> (T, Vec<Effect>) {
    CURRENT.set(Some(event));
    let result = callback();
    let effects = CURRENT.take().map(|event| event.effects);
    (result, effects.unwrap_or_default())
}

/// Reads the current event, if there is one.
pub(crate) fn peek<T>(read: impl FnOnce(&Event) -> T) -> Option<T> {
    CURRENT.with_borrow(|event| event.as_ref().map(read))
}

/// Collects an effect in the current event.
pub(crate) fn push(effect: Effect) -> Result {
    CURRENT.with_borrow_mut(|event| match event {
        Some(event) => event.push(effect),
        None => Err(outside_an_event()),
    })
}

/// Reads the session of the current event.
pub(crate) fn session<T>(read: impl FnOnce(&Entries) -> T) -> Result<T> {
    peek(|event| event.client.map(|_| read(&event.session)))
        .flatten()
        .ok_or_else(outside_an_event)
}

/// Changes the session of the current event.
pub(crate) fn change_session(change: Change) -> Result {
    let client = peek(|event| event.client)
        .flatten()
        .ok_or_else(outside_an_event)?;
    push(Effect::Session { client, change })
}

fn outside_an_event() -> Refused {
    Refused::NotPermitted(
        "no client's event is being handled; in a test, call the handler through \
         tidegate_sdk::testing::Gateway"
            .to_owned(),
    )
}
