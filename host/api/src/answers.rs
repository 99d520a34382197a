//! What was found → the types of the API.

use std::net::SocketAddrV4;

use serde_json::Value;
use tidegate_client as api;
use tidegate_wire::cursor::Cursor;
use tidegate_wire::event::{CloseReason, Peer, SessionEntries, Transport};
use tidegate_wire::feed::{Change, ChangeKind, Happening};
use tidegate_wire::query::ClientInfo;

/// Addresses as texts.
pub(crate) fn addresses(gateways: &[SocketAddrV4]) -> Vec<String> {
    gateways.iter().map(SocketAddrV4::to_string).collect()
}

/// A page, with the cursor of its last entry if there may be more.
pub(crate) fn page<F, T>(
    found: Vec<F>,
    more: bool,
    missing: &[SocketAddrV4],
    cursor: impl Fn(&F) -> Cursor,
    entry: impl Fn(F) -> T,
) -> api::Page<T> {
    let last = found.last().filter(|_| more);
    let next = last.map(|last| cursor(last).encode());
    api::Page {
        next,
        items: found.into_iter().map(entry).collect(),
        missing: addresses(missing),
    }
}

/// One client.
pub(crate) fn client(info: ClientInfo) -> api::ClientInfo {
    api::ClientInfo {
        client: info.client.to_string(),
        gateway: info.client.gateway().to_string(),
        connection: info.client.connection,
        peer: info.peer.map(|it| peer(&it)),
        uid: info.uid.map(|uid| uid.to_string()),
        groups: info.groups.iter().map(ToString::to_string).collect(),
        session: session(info.session),
        connected_at: info.connected_at_ms,
        last_message_at: info.last_message_at_ms,
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
    }
}

/// JSON texts as they are. One that is no JSON after all is told as a text.
pub(crate) fn session(entries: SessionEntries) -> api::SessionEntries {
    let value = |text: String| {
        api::Json::parse(text.clone()).unwrap_or_else(|_| Value::String(text).into())
    };
    entries
        .into_iter()
        .map(|(key, text)| (key.to_string(), value(text)))
        .collect()
}

fn peer(peer: &Peer) -> api::Peer {
    api::Peer {
        address: peer.address.to_string(),
        transport: match peer.transport {
            Transport::WebSocket => api::Transport::WebSocket,
            Transport::Tcp => api::Transport::Tcp,
            Transport::TextLines => api::Transport::TextLines,
            Transport::LengthPrefixed => api::Transport::LengthPrefixed,
        },
        listener: peer.listener.to_string(),
        secure: peer.secure,
    }
}

const fn reason(reason: CloseReason) -> api::CloseReason {
    match reason {
        CloseReason::Client => api::CloseReason::Client,
        CloseReason::Server => api::CloseReason::Server,
        CloseReason::Idle => api::CloseReason::Idle,
        CloseReason::Slow => api::CloseReason::Slow,
        CloseReason::Protocol => api::CloseReason::Protocol,
        CloseReason::GoingAway => api::CloseReason::GoingAway,
        CloseReason::GatewayLost => api::CloseReason::GatewayLost,
    }
}

/// What happened, and of which kind it is.
pub(crate) fn happening(it: &Happening) -> (api::Kind, api::Happening) {
    let mut told = api::Happening {
        at: it.at_ms,
        client: it.client.to_string(),
        uid: it.uid.as_ref().map(ToString::to_string),
        group: None,
        groups: None,
        reason: None,
        peer: None,
    };
    let kind = match &it.what {
        Change::Connected(who) => {
            told.peer = Some(peer(who));
            api::Kind::Connected
        }
        Change::Closed(why, groups) => {
            told.reason = Some(reason(*why));
            told.groups = Some(groups.iter().map(ToString::to_string).collect());
            api::Kind::Closed
        }
        Change::Joined(group) => {
            told.group = Some(group.to_string());
            api::Kind::Joined
        }
        Change::Left(group) => {
            told.group = Some(group.to_string());
            api::Kind::Left
        }
        Change::Bound(uid) => {
            told.uid = Some(uid.to_string());
            api::Kind::Bound
        }
        Change::Unbound(uid) => {
            told.uid = Some(uid.to_string());
            api::Kind::Unbound
        }
    };
    (kind, told)
}

/// The kind of this name.
pub(crate) const fn kind(kind: api::Kind) -> ChangeKind {
    match kind {
        api::Kind::Connected => ChangeKind::Connected,
        api::Kind::Closed => ChangeKind::Closed,
        api::Kind::Joined => ChangeKind::Joined,
        api::Kind::Left => ChangeKind::Left,
        api::Kind::Bound => ChangeKind::Bound,
        api::Kind::Unbound => ChangeKind::Unbound,
    }
}
