//! Answers in the shapes of the Client API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tidegate_sdk::directory::{ClientInfo, Count};
use tidegate_sdk::{Peer, Refused, Transport};

use crate::run::refusal;

pub(crate) fn count(count: &Count) -> Value {
    json!({"count": count.value, "missing": count.missing})
}

/// One client. Its address is left out: it is inside the id.
pub(crate) fn info(info: &ClientInfo) -> Value {
    json!({
        "client": info.client,
        "peer": info.peer.as_ref().map(peer),
        "uid": info.uid,
        "groups": info.groups,
        "session": session(&info.session),
        "connected_at": info.connected_at_ms,
        "last_message_at": info.last_message_at_ms,
        "bytes_in": info.bytes_in,
        "bytes_out": info.bytes_out,
    })
}

fn peer(peer: &Peer) -> Value {
    let transport = match peer.transport {
        Transport::WebSocket => "web-socket",
        Transport::Tcp => "tcp",
        Transport::TextLines => "text-lines",
        Transport::LengthPrefixed => "length-prefixed",
    };
    json!({
        "address": peer.address,
        "transport": transport,
        "listener": peer.listener,
        "secure": peer.secure,
    })
}

pub(crate) fn session(entries: &[(String, String)]) -> Value {
    let entries = entries.iter();
    let object: Map<String, Value> = entries
        .map(|(key, text)| (key.clone(), json(text)))
        .collect();
    Value::Object(object)
}

/// A JSON text as its value. One that is none, which the host must not give, shows as such.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!({"not-json": text}))
}

/// What one gateway's command gave.
pub(crate) fn command(gateway: &str, answer: Result<Vec<u8>, Refused>) -> Value {
    match answer.map(String::from_utf8) {
        Ok(Ok(text)) => json!({"gateway": gateway, "text": text}),
        Ok(Err(binary)) => {
            let binary = STANDARD.encode(binary.as_bytes());
            json!({"gateway": gateway, "binary": binary})
        }
        Err(refused) => json!({"gateway": gateway, "error": refusal(&refused)}),
    }
}
