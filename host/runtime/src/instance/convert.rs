//! Values of the wire as arguments of the guest's functions. Borrows: the one copy of a payload is
//! the one into the guest.

use tidegate_wire::event;
use tidegate_wire::id::ClientId;

use crate::bindings::exports::exports::tidegate::plugin::client_events as wit;
use crate::bindings::exports::tidegate::plugin::types::Transport;

/// The text of a client id, without an allocation.
pub(super) struct ClientIdText([u8; 20]);

impl ClientIdText {
    pub(super) fn new(id: ClientId) -> Self {
        // 80 bits, as they stand in the text.
        let bits =
            (u128::from(id.ip) << 48) | (u128::from(id.port) << 32) | u128::from(id.connection);
        let mut text = [0; 20];
        for (place, digit) in text.iter_mut().rev().enumerate() {
            let nibble = ((bits >> (place * 4)) & 0xf) as u8;
            *digit = match nibble {
                0..=9 => b'0' + nibble,
                _ => b'a' + (nibble - 10),
            };
        }
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

pub(super) fn message(message: &event::Message) -> wit::Message<'_> {
    match message {
        // Whoever made it has checked it, but perhaps on another machine.
        event::Message::Text(payload) => match std::str::from_utf8(payload) {
            Ok(text) => wit::Message::Text(text),
            Err(_) => wit::Message::Binary(payload),
        },
        event::Message::Binary(payload) => wit::Message::Binary(payload),
    }
}

/// `address` is the peer's, as text.
pub(super) fn peer<'a>(peer: &'a event::Peer, address: &'a str) -> wit::Peer<'a> {
    wit::Peer {
        address,
        transport: match peer.transport {
            event::Transport::WebSocket => Transport::WebSocket,
            event::Transport::Tcp => Transport::Tcp,
            event::Transport::TextLines => Transport::TextLines,
            event::Transport::LengthPrefixed => Transport::LengthPrefixed,
        },
        listener: &peer.listener,
        secure: peer.secure,
    }
}

type Pair<'a> = (&'a str, &'a str);

/// The lists of a request as pairs of borrowed texts.
pub(super) struct Pairs<'a> {
    query: Vec<Pair<'a>>,
    headers: Vec<Pair<'a>>,
    cookies: Vec<Pair<'a>>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(request: &'a event::HttpRequest) -> Self {
        Self {
            query: pairs(&request.query),
            headers: pairs(&request.headers),
            cookies: pairs(&request.cookies),
        }
    }

    pub(super) fn request(&'a self, request: &'a event::HttpRequest) -> wit::HttpRequest<'a> {
        wit::HttpRequest {
            path: &request.path,
            query: &self.query,
            headers: &self.headers,
            cookies: &self.cookies,
        }
    }
}

fn pairs(list: &[(String, String)]) -> Vec<Pair<'_>> {
    list.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// `groups` are those of `closed`.
pub(super) fn closed<'a>(closed: &'a event::Closed, groups: &'a [&'a str]) -> wit::Closed<'a> {
    wit::Closed {
        reason: match closed.reason {
            event::CloseReason::Client => wit::CloseReason::Client,
            event::CloseReason::Server => wit::CloseReason::Server,
            event::CloseReason::Idle => wit::CloseReason::Idle,
            event::CloseReason::Slow => wit::CloseReason::Slow,
            event::CloseReason::Protocol => wit::CloseReason::Protocol,
            event::CloseReason::GoingAway => wit::CloseReason::GoingAway,
            event::CloseReason::GatewayLost => wit::CloseReason::GatewayLost,
        },
        uid: closed.uid.as_deref(),
        groups,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_id_is_what_it_prints() {
        let id = ClientId {
            ip: 0x7f00_0001,
            port: 0x1f90,
            connection: 0xdead_beef,
        };
        assert_eq!(ClientIdText::new(id).as_str(), id.to_string());
    }
}
