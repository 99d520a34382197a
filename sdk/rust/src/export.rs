//! From the component's exports to the author's type. Public only for the expansion of the
//! attribute.

mod http;
mod routing;

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::buffer::exports::tidegate::plugin::buffer_events;
use crate::bindings::codec::exports::tidegate::plugin::framing;
use crate::bindings::command::exports::tidegate::plugin::commands;
use crate::bindings::exports::tidegate::plugin::{client_events, worker_events};
use crate::bindings::handshake::exports::tidegate::plugin::handshake_events;
use crate::bindings::handshake::tidegate::plugin::types as wit;
use crate::bindings::peer::exports::tidegate::plugin::peer_events;
use crate::bindings::requests::exports::tidegate::plugin::request_events;
use crate::bindings::state::exports::tidegate::plugin::state;
use crate::bindings::task::exports::tidegate::plugin::task_events;
use crate::bindings::tidegate::plugin::types;
use crate::bindings::timer::exports::tidegate::plugin::timer_events;
use crate::client::Client;
use crate::codec::{Codec, decode_all, encode_one};
use crate::command::Command;
use crate::config::Config;
use crate::error::Error;
use crate::event::{CloseReason, Closed, HttpRequest, Peer, Transport};
use crate::handler::Handler;
use crate::handshake::{Accepted, Verdict};
use crate::message::Message;
use crate::tasks::Task;
use crate::timers::Timer;

pub use routing::RouterPlugin;

/// Where the one value of a plugin lives in its instance.
pub type Slot<H> = RefCell<Option<H>>;

/// A handler with a place to live in; implemented by the attribute.
pub trait Plugin: Handler {
    /// The place.
    fn slot() -> &'static LocalKey<Slot<Self>>;
}

impl<H: Plugin> worker_events::Guest for H {
    fn on_start(config: String) -> Result<(), String> {
        let handler = Config::from_json(&config).and_then(|config| H::on_start(&config));
        let handler = handler.map_err(text)?;
        H::slot().with(|slot| slot.replace(Some(handler)));
        Ok(())
    }

    fn on_stop() {
        let handler = H::slot().with(RefCell::take);
        if let Some(mut handler) = handler {
            handler.on_stop();
        }
    }
}

impl<H: Plugin> client_events::Guest for H {
    fn on_connect(
        client: String,
        peer: types::Peer,
        request: Option<types::HttpRequest>,
    ) -> Result<(), String> {
        run::<H>(&client, |handler, client| {
            handler.on_connect(client, peer.into(), request.map(Into::into))
        })
    }

    fn on_message(client: String, message: types::MessageResult) -> Result<(), String> {
        run::<H>(&client, |handler, client| {
            handler.on_message(client, message.into())
        })
    }

    fn on_close(client: String, closed: client_events::Closed) -> Result<(), String> {
        run::<H>(&client, |handler, client| {
            handler.on_close(client, closed.into())
        })
    }
}

impl<H: Plugin> request_events::Guest for H {
    fn on_request(name: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        with::<H, _>(|handler| handler.on_request(&name, payload))
    }
}

impl<H: Plugin> handshake_events::Guest for H {
    fn on_handshake(
        peer: wit::Peer,
        request: wit::HttpRequest,
    ) -> Result<handshake_events::Accepted, handshake_events::Rejected> {
        let verdict = with::<H, _>(|handler| handler.on_handshake(peer.into(), request.into()));
        match verdict {
            Ok(Verdict::Accepted(accepted)) => Ok(accepted.into()),
            Ok(Verdict::Rejected(rejected)) => Err(handshake_events::Rejected {
                status: rejected.status,
                headers: rejected.headers,
                body: rejected.body,
            }),
            Err(text) => Err(failed(&text)),
        }
    }

    fn on_sign_in(
        peer: wit::Peer,
        first: wit::Message,
    ) -> Result<handshake_events::Accepted, String> {
        match with::<H, _>(|handler| handler.on_sign_in(peer.into(), first.into())) {
            Ok(Verdict::Accepted(accepted)) => Ok(accepted.into()),
            Ok(Verdict::Rejected(rejected)) => {
                Err(String::from_utf8_lossy(&rejected.body).into_owned())
            }
            Err(text) => Err(String::from_utf8_lossy(&failed(&text).body).into_owned()),
        }
    }
}

/// The contract has no error beside a rejection: the text is for the log alone.
fn failed(text: &str) -> handshake_events::Rejected {
    crate::log::error!("a handshake failed: {text}");
    handshake_events::Rejected {
        status: 500,
        headers: Vec::new(),
        body: b"Whoever decides who may come has failed.".to_vec(),
    }
}

impl From<Accepted> for handshake_events::Accepted {
    fn from(accepted: Accepted) -> Self {
        Self {
            session: accepted.session,
            uid: accepted.uid,
            groups: accepted.groups,
            subprotocol: accepted.subprotocol,
            headers: accepted.headers,
        }
    }
}

impl From<wit::Peer> for Peer {
    fn from(peer: wit::Peer) -> Self {
        Self {
            address: peer.address,
            transport: match peer.transport {
                wit::Transport::WebSocket => Transport::WebSocket,
                wit::Transport::Tcp => Transport::Tcp,
                wit::Transport::TextLines => Transport::TextLines,
                wit::Transport::LengthPrefixed => Transport::LengthPrefixed,
            },
            listener: peer.listener,
            secure: peer.secure,
        }
    }
}

impl From<wit::HttpRequest> for HttpRequest {
    fn from(request: wit::HttpRequest) -> Self {
        Self {
            path: request.path,
            query: request.query,
            headers: request.headers,
            cookies: request.cookies,
        }
    }
}

impl From<wit::Message> for Message {
    fn from(message: wit::Message) -> Self {
        match message {
            wit::Message::Text(text) => Self::Text(text),
            wit::Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl<H: Plugin> timer_events::Guest for H {
    fn on_timer(client: Option<String>, timer: String, payload: Vec<u8>) -> Result<(), String> {
        let client = optional(client)?;
        with::<H, _>(|handler| handler.on_timer(client, Timer::new(timer), payload))
    }
}

impl<H: Plugin> task_events::Guest for H {
    fn on_task(client: Option<String>, task: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        let client = optional(client)?;
        with::<H, _>(|handler| handler.on_task(client, Task::new(task), payload))
    }

    fn on_finished(
        client: Option<String>,
        task: String,
        outcome: Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        let client = optional(client)?;
        with::<H, _>(|handler| handler.on_finished(client, Task::new(task), outcome))
    }
}

impl<H: Plugin> buffer_events::Guest for H {
    fn on_buffer_full(client: String, queued_bytes: u64) -> Result<(), String> {
        run::<H>(&client, |handler, client| {
            handler.on_buffer_full(client, queued_bytes)
        })
    }

    fn on_buffer_drain(client: String) -> Result<(), String> {
        run::<H>(&client, H::on_buffer_drain)
    }
}

impl<H: Plugin> peer_events::Guest for H {
    fn on_peer_message(topic: String, payload: Vec<u8>) -> Result<(), String> {
        with::<H, _>(|handler| handler.on_peer_message(&topic, payload))
    }
}

impl<H: Plugin> state::Guest for H {
    fn save() -> Vec<u8> {
        H::slot().with_borrow_mut(|slot| slot.as_mut().map(H::save).unwrap_or_default())
    }

    fn restore(from_version: String, state: Vec<u8>) -> Result<(), String> {
        with::<H, _>(|handler| handler.restore(&from_version, state))
    }
}

/// A command component with a place to live in; implemented by the attribute.
pub trait CommandPlugin: Command {
    /// The place.
    fn slot() -> &'static LocalKey<Slot<Self>>;
}

impl<C: CommandPlugin> commands::Guest for C {
    fn execute(name: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        C::slot().with_borrow_mut(|slot| {
            let command = slot.get_or_insert_default();
            command.execute(&name, payload).map_err(text)
        })
    }
}

/// A codec; implemented by the attribute.
pub trait CodecPlugin: Codec {}

impl<C: CodecPlugin> framing::Guest for C {
    fn decode(
        connection: framing::Connection,
        bytes: Vec<u8>,
        ended: bool,
    ) -> Result<framing::Decoded, String> {
        let decoded = decode_all::<C>(&connection.peer, &connection.state, &bytes, ended);
        let decoded = decoded.map_err(text)?;
        let messages = decoded.messages.into_iter().map(|message| match message {
            Message::Text(text) => framing::Message::Text(text),
            Message::Binary(bytes) => framing::Message::Binary(bytes),
        });
        Ok(framing::Decoded {
            messages: messages.collect(),
            taken: u32::try_from(decoded.taken).unwrap_or(u32::MAX),
            needs: u32::try_from(decoded.needs).unwrap_or(u32::MAX),
            state: decoded.state,
        })
    }

    fn encode(
        connection: framing::Connection,
        message: framing::Message,
    ) -> Result<framing::Encoded, String> {
        let message = match message {
            framing::Message::Text(text) => Message::Text(text),
            framing::Message::Binary(bytes) => Message::Binary(bytes),
        };
        let (bytes, state) = encode_one::<C>(&connection.state, message).map_err(text)?;
        Ok(framing::Encoded { bytes, state })
    }
}

fn run<H: Plugin>(
    client: &str,
    callback: impl FnOnce(&mut H, Client) -> crate::Result,
) -> Result<(), String> {
    let client = client.parse().map_err(|error| text(Error::from(error)))?;
    with::<H, _>(|handler| callback(handler, client))
}

fn optional(client: Option<String>) -> Result<Option<Client>, String> {
    let client = client.map(|it| it.parse()).transpose();
    client.map_err(|error| text(Error::from(error)))
}

fn with<H: Plugin, T>(callback: impl FnOnce(&mut H) -> crate::Result<T>) -> Result<T, String> {
    H::slot().with_borrow_mut(|slot| match slot {
        Some(handler) => callback(handler).map_err(text),
        None => Err("an event came before on-start".to_owned()),
    })
}

fn text(error: Error) -> String {
    error.to_string()
}

impl From<types::MessageResult> for Message {
    fn from(message: types::MessageResult) -> Self {
        match message {
            types::MessageResult::Text(text) => Self::Text(text),
            types::MessageResult::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<types::Peer> for Peer {
    fn from(peer: types::Peer) -> Self {
        Self {
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
}

impl From<types::HttpRequest> for HttpRequest {
    fn from(request: types::HttpRequest) -> Self {
        Self {
            path: request.path,
            query: request.query,
            headers: request.headers,
            cookies: request.cookies,
        }
    }
}

impl From<client_events::Closed> for Closed {
    fn from(closed: client_events::Closed) -> Self {
        let reason = match closed.reason {
            types::CloseReason::Client => CloseReason::Client,
            types::CloseReason::Server => CloseReason::Server,
            types::CloseReason::Idle => CloseReason::Idle,
            types::CloseReason::Slow => CloseReason::Slow,
            types::CloseReason::Protocol => CloseReason::Protocol,
            types::CloseReason::GoingAway => CloseReason::GoingAway,
            types::CloseReason::GatewayLost => CloseReason::GatewayLost,
        };
        Self {
            reason,
            uid: closed.uid,
            groups: closed.groups,
        }
    }
}
