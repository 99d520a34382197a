//! Choosing the worker of each event: a component of its own, which runs at each gateway.

use crate::client::Client;
use crate::event::Peer;
use crate::message::Message;

/// A router: one type, exported with [`#[tidegate_sdk::router]`](macro@crate::router).
///
/// It is asked before each event of its tenant goes to a worker, if there are two or more to choose from. It
/// can do nothing and ask nobody; a value lives in each instance and is made when the instance is first
/// called. It has little time: one that is late, traps or chooses nobody of those who are there is passed
/// over, and the event goes where `bind` sends it.
///
/// ```
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::routing::{Candidate, Event};
///
/// /// Rooms whose names begin with `gpu-` are served where there is one.
/// #[derive(Default)]
/// struct Rooms;
///
/// #[tidegate_sdk::router]
/// impl Router for Rooms {
///     fn route(&mut self, event: &Event, candidates: &[Candidate]) -> Option<usize> {
///         let room = event.session("room")?;
///         let has_gpu = |it: &Candidate| it.tags.iter().any(|tag| tag == "gpu");
///         room.starts_with("\"gpu-").then(|| candidates.iter().position(has_gpu))?
///     }
/// }
///
/// let worker = |name: &str, tags: &[&str]| Candidate {
///     name: name.to_owned(),
///     tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
///     ..Candidate::default()
/// };
/// let workers = [worker("a", &[]), worker("b", &["gpu"])];
/// let mut event = Event::default();
/// assert_eq!(Rooms.route(&event, &workers), None);
/// event.session.push(("room".into(), "\"gpu-1\"".into()));
/// assert_eq!(Rooms.route(&event, &workers), Some(1));
/// ```
pub trait Router: Default + 'static {
    /// An index into `candidates`. None: where `bind` would send the event, which is where the client's
    /// last one went.
    fn route(&mut self, event: &Event, candidates: &[Candidate]) -> Option<usize>;
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `on_connect`
    Connect,
    /// `on_message`
    #[default]
    Message,
    /// `on_close`
    Close,
    /// `on_request`
    Request,
    /// `on_timer`
    Timer,
    /// `on_buffer_full` and `on_buffer_drain`
    Buffer,
    /// `on_handshake` and `on_sign_in`
    Handshake,
    /// `on_task`
    Task,
    /// `on_finished`
    TaskFinished,
    /// `on_http`
    Http,
}

/// An event that is to go to a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Of which kind.
    pub kind: EventKind,
    /// Whose it is; none of a request and its like.
    pub client: Option<Client>,
    /// Who is at the other end, if that is known.
    pub peer: Option<Peer>,
    /// The client's uid.
    pub uid: Option<String>,
    /// What the client has of the session keys that the configuration names (`session-keys`): keys and JSON
    /// texts.
    pub session: Vec<(String, String)>,
    /// The message, or what a request, a timer or a task was given. None if there is none, or it is larger
    /// than 64 KiB.
    pub payload: Option<Message>,
}

impl Event {
    /// The JSON text under this key, if the client has one and the configuration names it.
    #[must_use]
    pub fn session(&self, key: &str) -> Option<&str> {
        let (_, value) = self.session.iter().find(|(own, _)| own == key)?;
        Some(value)
    }
}

/// A worker that may get it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its name in its configuration.
    pub name: String,
    /// Its tags there.
    pub tags: Vec<String>,
    /// Clients that it has, by its last report.
    pub clients: u32,
    /// Bytes of events that wait there, by its last report.
    pub queued_bytes: u64,
}
