//! The event that is being handled on this thread: what calls see and where effects wait.

use std::cell::RefCell;

use tidegate_hub::hub::HubLimits;
use tidegate_wire::effect::{Effect, SessionChange};
use tidegate_wire::effect_id::EffectId;
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::query::{Answer, Answered, Query};
use tidegate_wire::session::Session;

use crate::client::Client;
use crate::error::Refused;
use crate::testing::shard::{Closes, Shard, id};
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
    /// A timer that is no client's.
    Timer,
    /// A task, or the end of one that is no client's.
    Task,
    /// Somebody who wants to become a client.
    Handshake,
    /// A custom command, in a command component.
    Command,
    /// A request by HTTP.
    Http,
}

/// The steps of a task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steps {
    /// So many are committed, in this run or before.
    pub(crate) committed: u32,
    /// The one under way.
    pub(crate) next: u32,
    /// The worker is lost when this one is to be committed.
    pub(crate) lost_after: Option<u32>,
    /// It was.
    pub(crate) is_lost: bool,
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
    /// Its number among the events of this gateway.
    pub(crate) number: u64,
    /// The timers and tasks that it has named.
    pub(crate) named: u32,
    /// If it is a task.
    pub(crate) steps: Option<Steps>,
    /// Whom its steps have closed.
    pub(crate) closes: Closes,
    /// The session with this event's own changes.
    pub(crate) session: Session,
    /// What the handler asked for.
    pub(crate) effects: Vec<Effect>,
    /// What `wasi:config` says.
    pub(crate) config: Vec<(String, String)>,
    /// What questions are about.
    pub(crate) world: World,
}

impl Event {
    /// Collects an effect; its arguments were checked.
    fn push(&mut self, effect: Effect) -> Result {
        if self.whose == Whose::Nobody {
            return Err(outside_an_event());
        }
        if self.whose == Whose::Handshake {
            return Err(only_asks());
        }
        self.effects.push(effect);
        Ok(())
    }

    fn is_of(&self, client: ClientId) -> bool {
        matches!(&self.whose, Whose::Client(own) if id(own) == client)
    }

    /// Collects changes of one client's session, all or none. A change of the event's own session is
    /// seen at once by the rest of the callback.
    fn push_session(&mut self, client: ClientId, changes: Vec<SessionChange>) -> Result {
        if self.whose == Whose::Nobody {
            return Err(outside_an_event());
        }
        if self.whose == Whose::Handshake {
            return Err(only_asks());
        }
        let is_own = self.is_of(client);
        if is_own && self.closing {
            return Err(Refused::NotPermitted(
                "the session of a closed client can only be read".to_owned(),
            ));
        }
        let mut own = self.session.clone();
        for change in &changes {
            // Of another client's session only the change itself is known.
            let mut alone = Session::default();
            let session = if is_own { &mut own } else { &mut alone };
            apply_within_limit(session, change)?;
        }
        self.session = own;
        let effect = |change| Effect::Session { client, change };
        self.effects.extend(changes.into_iter().map(effect));
        Ok(())
    }

    /// What is committed was changed: the handler reads it under its own changes.
    fn swapped(&mut self, client: ClientId) {
        let Whose::Client(own) = self.whose else {
            return;
        };
        if !self.is_of(client) {
            return;
        }
        self.session = self.world.shard.session(&own);
        for effect in &self.effects {
            if let Effect::Session { client: of, change } = effect
                && *of == client
            {
                self.session.apply(change);
            }
        }
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

/// Commits what the current event, a task, has asked for so far.
pub(crate) fn commit_step() -> Result<u32> {
    change(|event| {
        let Some(steps) = &mut event.steps else {
            return Err(Refused::NotPermitted(
                "only a task may be committed in steps".to_owned(),
            ));
        };
        let number = steps.next;
        let effects = std::mem::take(&mut event.effects);
        if steps.lost_after.is_some_and(|after| number >= after) {
            steps.is_lost = true;
            return Err(Refused::Other(
                "this run of the task counts no more: it was cancelled, or goes on elsewhere"
                    .to_owned(),
            ));
        }
        steps.next += 1;
        if number >= steps.committed {
            steps.committed = steps.next;
            event.closes.extend(event.world.commit(effects));
        }
        Ok(number + 1)
    })
}

/// Goes on behind the steps of the current event, a task, that are committed.
pub(crate) fn resume() -> u32 {
    let resumed = change(|event| {
        let resume = |steps: &mut Steps| {
            steps.next = steps.next.max(steps.committed);
            steps.next
        };
        Ok(event.steps.as_mut().map_or(0, resume))
    });
    resumed.unwrap_or(0)
}

/// Names the next timer or task of the current event: its client's, unless that is gone.
pub(crate) fn next_id() -> Result<EffectId> {
    change(|event| {
        let nth = event.named;
        event.named = nth.saturating_add(1);
        let client = match &event.whose {
            Whose::Client(own) if !event.closing => Some(id(own)),
            Whose::Client(_)
            | Whose::Nobody
            | Whose::Request
            | Whose::Timer
            | Whose::Task
            | Whose::Handshake
            | Whose::Command
            | Whose::Http => None,
        };
        let event = EventId {
            gateway: Incarnation(0),
            shard: 0,
            sequence: event.number,
        };
        Ok(EffectId { client, event, nth })
    })
}

/// Collects changes of a client's session in the current event, all or none.
pub(crate) fn push_session(client: ClientId, changes: Vec<SessionChange>) -> Result {
    change(|event| event.push_session(client, changes))
}

/// Changes the current event.
pub(crate) fn change<T>(change: impl FnOnce(&mut Event) -> Result<T>) -> Result<T> {
    CURRENT.with_borrow_mut(|event| match event {
        Some(event) => change(event),
        None => Err(outside_an_event()),
    })
}

/// Asks for a handler, with its event's own changes.
pub(crate) fn ask(query: &Query) -> Result<Answered> {
    may_ask()?;
    change(|event| event.world.ask(&event.effects, query))
}

/// Compares and sets: at once, on what is committed.
pub(crate) fn compare_and_set(client: ClientId, query: &Query) -> Result<Answered> {
    let answered = ask(query)?;
    if answered.answer == Answer::Swapped(Ok(())) {
        change(|event| {
            event.swapped(client);
            Ok(())
        })?;
    }
    Ok(answered)
}

/// Asks the gateway as it is, for a command component.
pub(crate) fn ask_hub(query: &Query) -> Result<Answer> {
    change(|event| match event.whose {
        Whose::Command => event.world.ask_here(query),
        Whose::Nobody
        | Whose::Client(_)
        | Whose::Request
        | Whose::Timer
        | Whose::Task
        | Whose::Handshake
        | Whose::Http => Err(Refused::NotPermitted(
            "`hub` is for command components; a handler has `directory`".to_owned(),
        )),
    })
}

/// Whether `directory` can be asked now.
pub(crate) fn may_ask() -> Result {
    is_no_command()?;
    match peek(|event| event.whose) {
        Some(
            Whose::Client(_)
            | Whose::Request
            | Whose::Timer
            | Whose::Task
            | Whose::Handshake
            | Whose::Command
            | Whose::Http,
        ) => Ok(()),
        Some(Whose::Nobody) | None => Err(outside_an_event()),
    }
}

/// Whether `directory` is there at all: the host loads no command component that names it.
pub(crate) fn is_no_command() -> Result {
    if peek(|event| event.whose) == Some(Whose::Command) {
        return Err(Refused::NotPermitted(
            "`directory` is for handlers; a command component has `hub`".to_owned(),
        ));
    }
    Ok(())
}

/// The client whose event it is, if it is one's.
pub(crate) fn whose() -> Option<Client> {
    asking_client().ok()
}

/// The client whose event it is.
pub(crate) fn own_client() -> Result<Client> {
    asking_client()
}

/// Reads what the shard knows of the client whose event it is.
pub(crate) fn arrival<T>(read: impl FnOnce(&Shard, ClientId) -> Option<T>) -> Result<T> {
    let client = id(&asking_client()?);
    let found = peek(|event| read(&event.world.shard, client)).flatten();
    found.ok_or_else(outside_an_event)
}

/// Reads the session of the current event.
pub(crate) fn session<T>(read: impl FnOnce(&Session) -> T) -> Result<T> {
    asking_client()?;
    peek(|event| read(&event.session)).ok_or_else(outside_an_event)
}

/// Changes the session of the current event.
pub(crate) fn change_session(change: SessionChange) -> Result {
    push_session(id(&asking_client()?), vec![change])
}

/// Whether a request by HTTP is being handled, which has a peer and no client.
pub(crate) fn is_http() -> bool {
    peek(|event| event.whose) == Some(Whose::Http)
}

/// The client whose event it is.
fn asking_client() -> Result<Client> {
    match peek(|event| event.whose) {
        Some(Whose::Client(client)) => Ok(client),
        Some(
            Whose::Request
            | Whose::Timer
            | Whose::Task
            | Whose::Handshake
            | Whose::Command
            | Whose::Http,
        ) => Err(Refused::NotPermitted(
            "no client is asking, so there is no `session`".to_owned(),
        )),
        Some(Whose::Nobody) | None => Err(outside_an_event()),
    }
}

/// Applies a change to a session unless that would be larger than the hub allows.
pub(crate) fn apply_within_limit(session: &mut Session, change: &SessionChange) -> Result {
    let bytes_max = HubLimits::default().session_bytes_max;
    let applied = session.apply_within(change, bytes_max);
    applied.map(drop).map_err(|_| session_too_large())
}

/// The change would make a session larger than the hub allows.
pub(crate) fn session_too_large() -> Refused {
    let bytes_max = HubLimits::default().session_bytes_max;
    Refused::QuotaExceeded(format!(
        "a session may have {bytes_max} bytes of keys and values"
    ))
}

fn only_asks() -> Refused {
    Refused::NotPermitted(
        "a handshake decides who may come, and does nothing else: `on-connect` may".to_owned(),
    )
}

fn outside_an_event() -> Refused {
    Refused::NotPermitted(
        "no event is being handled, and on_start, on_stop and on_peer_message are none; in a test, \
         call the handler through tidegate_sdk::testing::Gateway"
            .to_owned(),
    )
}
