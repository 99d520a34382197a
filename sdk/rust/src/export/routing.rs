//! From `routing` to [`Router`](crate::Router).

use std::thread::LocalKey;

use super::Slot;
use crate::bindings::router::exports::tidegate::plugin::routing as wit;
use crate::bindings::router::tidegate::plugin::types::{self, Message as WitMessage};
use crate::event::{Peer, Transport};
use crate::message::Message;
use crate::routing::{Candidate, Event, EventKind, Router};

/// A router with a place to live in; implemented by the attribute.
pub trait RouterPlugin: Router {
    /// The place.
    fn slot() -> &'static LocalKey<Slot<Self>>;
}

impl<R: RouterPlugin> wit::Guest for R {
    fn route(event: wit::Event, candidates: Vec<wit::Candidate>) -> Option<u32> {
        let event = Event {
            kind: kind(event.kind),
            client: event.client.and_then(|it| it.parse().ok()),
            peer: event.peer.map(peer),
            uid: event.uid,
            session: event.session,
            payload: event.payload.map(|it| match it {
                WitMessage::Text(text) => Message::Text(text),
                WitMessage::Binary(bytes) => Message::Binary(bytes),
            }),
        };
        let candidates = candidates.into_iter().map(|it| Candidate {
            name: it.name,
            tags: it.tags,
            clients: it.clients,
            queued_bytes: it.queued_bytes,
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let chosen = R::slot().with_borrow_mut(|slot| {
            let router = slot.get_or_insert_default();
            router.route(&event, &candidates)
        });
        // One that is nobody's stays so.
        chosen.map(|index| u32::try_from(index).unwrap_or(u32::MAX))
    }
}

fn kind(kind: wit::EventKind) -> EventKind {
    match kind {
        wit::EventKind::Connect => EventKind::Connect,
        wit::EventKind::Message => EventKind::Message,
        wit::EventKind::Close => EventKind::Close,
        wit::EventKind::Request => EventKind::Request,
        wit::EventKind::Timer => EventKind::Timer,
        wit::EventKind::Buffer => EventKind::Buffer,
        wit::EventKind::Handshake => EventKind::Handshake,
        wit::EventKind::Task => EventKind::Task,
        wit::EventKind::TaskFinished => EventKind::TaskFinished,
        wit::EventKind::Http => EventKind::Http,
    }
}

fn peer(peer: types::Peer) -> Peer {
    Peer {
        address: peer.address,
        transport: match peer.transport {
            types::Transport::WebSocket => Transport::WebSocket,
            types::Transport::Tcp => Transport::Tcp,
            types::Transport::TextLines => Transport::TextLines,
            types::Transport::LengthPrefixed => Transport::LengthPrefixed,
        },
        listener: peer.listener,
        secure: peer.secure,
    }
}
