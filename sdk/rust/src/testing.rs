//! A gateway that runs a handler natively, so that it is unit-tested with plain `cargo test`.
//!
//! It keeps the promises that a handler's author relies on: effects are collected and happen as
//! one step when the callback returns ok, or not at all; arguments are checked as the real host
//! checks them; a client that a handler closes is told to `on_close`, once. It has one instance
//! and one thread, no limits of time, memory or output, and a panic simply fails the test.
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Gateway;
//!
//! #[derive(Default)]
//! struct Rooms;
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Rooms {
//!     fn on_message(&mut self, client: Client, message: Message) -> Result {
//!         client.join(message.text()?)?;
//!         gateway::to_group("full").send("one more")?;
//!         if message.bytes() == b"full" {
//!             bail!("this room is full");
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result {
//! // In a #[test]:
//! let mut gateway = Gateway::<Rooms>::start()?;
//! let alice = gateway.connect()?;
//! gateway.send(alice, "kitchen")?;
//! assert!(gateway.send(alice, "full").is_err());
//! assert_eq!(gateway.groups(alice), ["kitchen"]);
//! assert!(gateway.received(alice).is_empty());
//! # Ok(())
//! # }
//! ```

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::Value;

use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Refused, Result};
use crate::event::{CloseReason, Closed, HttpRequest, Peer, Transport};
use crate::handler::Handler;
use crate::message::{Message, Outgoing};
use crate::session;

pub(crate) mod effect;
pub(crate) mod event;
mod hub;
#[cfg(test)]
mod tests;

use event::Event;
use hub::Hub;

/// A gateway with one instance of a handler; see the [module](self).
pub struct Gateway<H> {
    handler: H,
    config: String,
    hub: Hub,
    events: u64,
    failures: Vec<String>,
}

impl<H: Handler> Gateway<H> {
    /// Starts the handler with an empty configuration.
    pub fn start() -> Result<Self> {
        Self::start_with("{}")
    }

    /// Starts the handler with this configuration, a JSON object.
    pub fn start_with(config: &str) -> Result<Self> {
        Ok(Self {
            handler: new_instance(config)?,
            config: config.to_owned(),
            hub: Hub::default(),
            events: 0,
            failures: Vec::new(),
        })
    }

    /// Connects a client over a WebSocket. An error is that of `on_connect`; the client is there
    /// all the same, and the last of [`connected`](Self::connected).
    pub fn connect(&mut self) -> Result<Client> {
        self.connect_to("/")
    }

    /// Connects a client over a WebSocket to this path and query, such as `/chat?room=lobby`
    /// (without percent-encoding).
    pub fn connect_to(&mut self, target: &str) -> Result<Client> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        });
        let request = HttpRequest {
            path: path.to_owned(),
            query: query.collect(),
            ..HttpRequest::default()
        };
        let peer = Peer {
            address: "127.0.0.1:50000".to_owned(),
            transport: Transport::WebSocket,
            listener: "testing".to_owned(),
            secure: false,
        };
        self.connect_with(peer, Some(request))
    }

    /// Connects a client of which you say everything.
    pub fn connect_with(&mut self, peer: Peer, request: Option<HttpRequest>) -> Result<Client> {
        let client = self.hub.connect()?;
        self.run(client, false, |handler| {
            handler.on_connect(client, peer, request)
        })?;
        Ok(client)
    }

    /// Lets a client send a message. The error is that of `on_message`.
    pub fn send<'a>(&mut self, client: Client, message: impl Into<Outgoing<'a>>) -> Result {
        if !self.hub.is_open(client) {
            return Err(Refused::Offline.into());
        }
        let message = Message::from(message.into());
        self.run(client, false, |handler| handler.on_message(client, message))
    }

    /// Lets a client go away. The error is that of `on_close`.
    pub fn close(&mut self, client: Client) -> Result {
        self.close_for(client, CloseReason::Client)
    }

    /// Closes a client for a reason of your choice. The error is that of `on_close`.
    pub fn close_for(&mut self, client: Client, reason: CloseReason) -> Result {
        let closed = self.hub.close(client, reason).ok_or(Refused::Offline)?;
        self.tell_close(client, closed)
    }

    /// Drops the instance, as a trap would, and starts a fresh one: what was only in its memory
    /// is gone, sessions stay.
    pub fn replace_instance(&mut self) -> Result {
        self.handler = new_instance(&self.config)?;
        Ok(())
    }

    /// Stops the handler.
    pub fn stop(mut self) {
        let handler = &mut self.handler;
        let event = Event::outside(config_values(&self.config));
        let _ = event::during(event, || handler.on_stop());
    }

    /// Takes what a client has received since the last call, farewells included.
    pub fn received(&mut self, client: Client) -> Vec<Message> {
        self.hub.take_received(client)
    }

    /// Takes what raw sends have brought a client since the last call.
    pub fn received_raw(&mut self, client: Client) -> Vec<Vec<u8>> {
        self.hub.take_raw(client)
    }

    /// Whether a client is connected.
    #[must_use]
    pub fn is_connected(&self, client: Client) -> bool {
        self.hub.is_open(client)
    }

    /// The connected clients, in the order in which they came.
    #[must_use]
    pub fn connected(&self) -> Vec<Client> {
        self.hub.open_clients()
    }

    /// A client's uid.
    #[must_use]
    pub fn uid(&self, client: Client) -> Option<String> {
        self.hub.uid(client)
    }

    /// A client's groups, sorted.
    #[must_use]
    pub fn groups(&self, client: Client) -> Vec<String> {
        self.hub.groups(client)
    }

    /// The members of a group, in the order in which they connected.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<Client> {
        self.hub.members(group)
    }

    /// A client's session; its last one after it closed.
    #[must_use]
    pub fn session(&self, client: Client) -> BTreeMap<String, Value> {
        let entries = self.hub.session(client).into_iter();
        // What is in a session was checked to be JSON.
        entries
            .map(|(key, json)| (key, serde_json::from_str(&json).unwrap_or_default()))
            .collect()
    }

    /// Replaces a client's session by the fields of `value`, as somebody else would.
    pub fn set_session<T: Serialize + ?Sized>(&mut self, client: Client, value: &T) -> Result {
        self.hub.set_session(client, session::to_entries(value)?);
        Ok(())
    }

    /// The handler itself, to look at its memory.
    #[must_use]
    pub const fn handler(&self) -> &H {
        &self.handler
    }

    /// The errors of callbacks that no call here returns: `on_close` after a handler closed a
    /// client.
    #[must_use]
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Runs one callback, commits its effects, then tells the closes that they caused.
    fn run(
        &mut self,
        client: Client,
        closing: bool,
        callback: impl FnOnce(&mut H) -> Result,
    ) -> Result {
        let mut closes = self.run_one(client, closing, callback)?;
        while let Some((client, closed)) = closes.pop_front() {
            let callback = |handler: &mut H| handler.on_close(client, closed);
            match self.run_one(client, true, callback) {
                Ok(more) => closes.extend(more),
                Err(error) => self.failures.push(error.to_string()),
            }
        }
        Ok(())
    }

    fn run_one(
        &mut self,
        client: Client,
        closing: bool,
        callback: impl FnOnce(&mut H) -> Result,
    ) -> Result<VecDeque<(Client, Closed)>> {
        self.events += 1;
        let event = Event {
            client: Some(client),
            closing,
            id: format!("testing-0-{}", self.events),
            session: self.hub.session(client),
            effects: Vec::new(),
            config: config_values(&self.config),
        };
        let handler = &mut self.handler;
        let (result, effects) = event::during(event, || callback(handler));
        result?;
        Ok(self.hub.apply(effects))
    }

    fn tell_close(&mut self, client: Client, closed: Closed) -> Result {
        self.run(client, true, |handler| handler.on_close(client, closed))
    }
}

fn new_instance<H: Handler>(config: &str) -> Result<H> {
    let parsed = Config::from_json(config)?;
    let (handler, _) = event::during(Event::outside(config_values(config)), || {
        H::on_start(&parsed)
    });
    handler.map_err(|error| Error::msg(format_args!("on_start failed: {error}")))
}

/// `wasi:config` has texts: a string as it is, any other value as JSON.
fn config_values(config: &str) -> Vec<(String, String)> {
    let object: BTreeMap<String, Value> = serde_json::from_str(config).unwrap_or_default();
    let text = |value| match value {
        Value::String(text) => text,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    };
    object
        .into_iter()
        .map(|(key, value)| (key, text(value)))
        .collect()
}
