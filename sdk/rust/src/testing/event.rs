//! The event that is being handled on this thread: what calls see and where effects wait.

use std::cell::RefCell;

use crate::client::Client;
use crate::error::Refused;
use crate::testing::effect::{Change, Effect, Entries};
use crate::testing::hub::Hub;
use crate::testing::world::World;

type Result<T = ()> = std::result::Result<T, Refused>;

/// What is being handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Nothing: an instance starts or stops.
    #[default]
    Nobody,
    /// Something that happened to this client.
    Client(Client),
    /// A call from outside.
    Request,
    /// A custom command, in a command component.
    Command,
}

/// One event under way.
#[derive(Default)]
pub(crate) struct Event {
    /// Whose it is.
    pub(crate) whose: Whose,
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
    /// What questions are about.
    pub(crate) world: World,
}

impl Event {
    /// Collects an effect; its arguments were checked. A change of the event's own session is
    /// seen at once by the rest of the callback.
    fn push(&mut self, effect: Effect) -> Result {
        if self.whose == Whose::Nobody {
            return Err(outside_an_event());
        }
        if let Effect::Session { client, change } = &effect
            && Whose::Client(*client) == self.whose
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

    /// The hub as the event sees it: with its own changes.
    fn view(&self) -> Hub {
        let mut view = self.world.hub.clone();
        view.apply(self.effects.iter().filter(|effect| effect.is_seen()));
        view
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Event>> = const { RefCell::new(None) };
}

/// Runs `callback` with this event as the current one, and gives the event back.
pub(crate) fn during<T>(event: Event, callback: impl FnOnce() -> T) -> (T, Event) {
    CURRENT.set(Some(event));
    let result = callback();
    (result, CURRENT.take().unwrap_or_default())
}

/// Reads the current event, if there is one.
pub(crate) fn peek<T>(read: impl FnOnce(&Event) -> T) -> Option<T> {
    CURRENT.with_borrow(|event| event.as_ref().map(read))
}

/// Collects an effect in the current event.
pub(crate) fn push(effect: Effect) -> Result {
    change(|event| event.push(effect))
}

/// Changes the current event.
pub(crate) fn change<T>(change: impl FnOnce(&mut Event) -> Result<T>) -> Result<T> {
    CURRENT.with_borrow_mut(|event| match event {
        Some(event) => change(event),
        None => Err(outside_an_event()),
    })
}

/// Asks the hub as a handler's event sees it; also gives the gateways that are to be missing.
pub(crate) fn ask<T>(answer: impl FnOnce(&Hub) -> Result<T>) -> Result<(T, Vec<String>)> {
    may_ask()?;
    let (view, missing) =
        peek(|event| (event.view(), event.world.missing.clone())).ok_or_else(outside_an_event)?;
    Ok((answer(&view)?, missing))
}

/// Asks the hub as it is, for a command component.
pub(crate) fn ask_hub<T>(answer: impl FnOnce(&Hub) -> Result<T>) -> Result<T> {
    peek(|event| match event.whose {
        Whose::Command => answer(&event.world.hub),
        Whose::Nobody | Whose::Client(_) | Whose::Request => Err(Refused::NotPermitted(
            "`hub` is for command components; a handler has `directory`".to_owned(),
        )),
    })
    .unwrap_or_else(|| Err(outside_an_event()))
}

/// Whether `directory` can be asked now.
pub(crate) fn may_ask() -> Result {
    match peek(|event| event.whose) {
        Some(Whose::Client(_) | Whose::Request) => Ok(()),
        Some(Whose::Command) => Err(Refused::NotPermitted(
            "`directory` is for handlers; a command component has `hub`".to_owned(),
        )),
        Some(Whose::Nobody) | None => Err(outside_an_event()),
    }
}

/// Reads the session of the current event.
pub(crate) fn session<T>(read: impl FnOnce(&Entries) -> T) -> Result<T> {
    asking_client()?;
    peek(|event| read(&event.session)).ok_or_else(outside_an_event)
}

/// Changes the session of the current event.
pub(crate) fn change_session(change: Change) -> Result {
    let client = asking_client()?;
    push(Effect::Session { client, change })
}

/// The client whose event it is.
fn asking_client() -> Result<Client> {
    match peek(|event| event.whose) {
        Some(Whose::Client(client)) => Ok(client),
        Some(Whose::Request | Whose::Command) => Err(Refused::NotPermitted(
            "no client is asking, so there is no `session`".to_owned(),
        )),
        Some(Whose::Nobody) | None => Err(outside_an_event()),
    }
}

fn outside_an_event() -> Refused {
    Refused::NotPermitted(
        "no event is being handled; in a test, call the handler through \
         tidegate_sdk::testing::Gateway"
            .to_owned(),
    )
}
