//! A gateway that runs a handler natively, so that it is unit-tested with plain `cargo test`.
//!
//! It keeps the promises that a handler's author relies on: effects are collected and happen as
//! one step when the callback returns ok, or not at all; arguments are checked as the real host
//! checks them; a client that a handler closes is told to `on_close`, once. It has one instance
//! and one thread, no limits of time, memory or output, and a panic simply fails the test.
//!
//! Questions of [`directory`](crate::directory) are answered from the fake's clients with what the
//! event has asked for so far; [`Gateway::answer_commands`] answers custom commands, and
//! [`Gateway::set_missing`] makes answers partial. Command components have a [`CommandGateway`].
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

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tidegate_wire::effect::{Effect, SessionChange};
use tidegate_wire::session::Session;

use crate::backend;
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Refused, Result};
use crate::event::{CloseFrame, CloseReason, Closed, HttpRequest, Peer, Transport};
use crate::handler::Handler;
use crate::handshake::{Accepted, Rejected, Verdict};
use crate::http;
use crate::message::{Message, Outgoing};
use crate::session;
use crate::tasks::{Finished, Task};
use crate::timers::Timer;

mod codec;
mod command;
mod deliveries;
pub(crate) mod event;
pub(crate) mod shard;
#[cfg(test)]
mod tests;
pub(crate) mod world;

pub use codec::CodecConnection;
pub use command::CommandGateway;

use event::{Event, Steps, Whose};
use shard::Closes;
use world::World;

/// A gateway with one instance of a handler; see the [module](self).
pub struct Gateway<H> {
    handler: H,
    config: String,
    world: World,
    events: u64,
    failures: Vec<String>,
    /// The first run of each task loses its worker after so many steps.
    tasks_lost_after: Option<u32>,
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
            world: World::default(),
            events: 0,
            failures: Vec::new(),
            tasks_lost_after: None,
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
        self.connect_with(web_socket(), Some(request_to(target)))
    }

    /// Connects a client of which you say everything. Of the subprotocols that its request offers
    /// (header `sec-websocket-protocol`) the first is agreed on.
    pub fn connect_with(&mut self, peer: Peer, request: Option<HttpRequest>) -> Result<Client> {
        let subprotocol = offered(request.as_ref());
        let client = self.world.shard.connect(peer.clone(), subprotocol)?;
        self.run(client, false, |handler| {
            handler.on_connect(client, peer, request)
        })?;
        Ok(client)
    }

    /// Somebody wants to open a WebSocket to this path and query: asks `on_handshake`, and connects
    /// whom it accepts. The errors are those of `on_handshake` and of `on_connect`.
    pub fn knock(&mut self, target: &str) -> Result<std::result::Result<Client, Rejected>> {
        let (peer, request) = (web_socket(), request_to(target));
        let told = request.clone();
        let verdict = self.ask_who_may(|handler| handler.on_handshake(peer, told))?;
        self.admit(verdict, web_socket(), Some(request))
    }

    /// The same over another transport: `on_sign_in` decides by the first message.
    pub fn sign_in<'a>(
        &mut self,
        peer: Peer,
        first: impl Into<Outgoing<'a>>,
    ) -> Result<std::result::Result<Client, Rejected>> {
        let (told, first) = (peer.clone(), Message::from(first.into()));
        let verdict = self.ask_who_may(|handler| handler.on_sign_in(told, first))?;
        self.admit(verdict, peer, None)
    }

    fn ask_who_may(&mut self, callback: impl FnOnce(&mut H) -> Result<Verdict>) -> Result<Verdict> {
        let (verdict, _) = self.run_one(Whose::Handshake, false, callback)?;
        Ok(verdict)
    }

    fn admit(
        &mut self,
        verdict: Verdict,
        peer: Peer,
        request: Option<HttpRequest>,
    ) -> Result<std::result::Result<Client, Rejected>> {
        let accepted = match verdict {
            Verdict::Accepted(accepted) => accepted,
            Verdict::Rejected(rejected) => return Ok(Err(rejected)),
        };
        let subprotocol = accepted
            .subprotocol
            .clone()
            .or_else(|| offered(request.as_ref()));
        let client = self.world.shard.connect(peer.clone(), subprotocol)?;
        self.world.shard.apply(&effects_of(client, accepted)?);
        self.run(client, false, |handler| {
            handler.on_connect(client, peer, request)
        })?;
        Ok(Ok(client))
    }

    /// Lets a client send a message. The error is that of `on_message`.
    pub fn send<'a>(&mut self, client: Client, message: impl Into<Outgoing<'a>>) -> Result {
        if !self.is_connected(client) {
            return Err(Refused::Offline.into());
        }
        let message = Message::from(message.into());
        let bytes = message.bytes().len();
        self.world.shard.count_message(&client, bytes);
        self.run(client, false, |handler| handler.on_message(client, message))
    }

    /// Calls the handler from outside, as the Client API does.
    pub fn request(&mut self, name: &str, payload: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let payload = payload.as_ref().to_owned();
        let (answer, closes) = self.run_one(Whose::Request, false, |handler| {
            handler.on_request(name, payload)
        })?;
        self.tell_closes(closes);
        Ok(answer)
    }

    /// Somebody asks this by HTTP. The error is that of `on_http`, for which the host answers 500.
    pub fn http(&mut self, request: http::Request) -> Result<http::Response> {
        let (answer, closes) = self.run_one(Whose::Http, false, |handler| {
            handler.on_http(web_socket(), request)
        })?;
        self.tell_closes(closes);
        Ok(answer)
    }

    /// Lets so much time pass: timers run out in the order of their times, and `on_timer` is called for
    /// each. The error is that of the first call that has failed; the others are made all the same.
    pub fn wait(&mut self, time: Duration) -> Result {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let end_us = self.world.shard.now_us().saturating_add(time);
        let mut result = Ok(());
        while let Some(run_out) = self.world.shard.wait_until(end_us) {
            let client = run_out.timer.client.and_then(shard::named);
            let timer = Timer::new(run_out.timer.to_string());
            let whose = client.map_or(Whose::Timer, Whose::Client);
            let payload = run_out.payload.to_vec();
            let called = self.run_one(whose, false, |handler| {
                handler.on_timer(client, timer, payload)
            });
            let called = called.map(|((), closes)| self.tell_closes(closes));
            result = result.and(called);
        }
        result
    }

    /// Runs all tasks that wait, and those that they submit, each on a fresh instance as on the host, and
    /// calls `on_finished` for each. The error is that of the first of these calls that has failed.
    pub fn run_tasks(&mut self) -> Result {
        let mut result = Ok(());
        while let Some((id, payload)) = self.world.shard.next_task() {
            let (task, client) = (id.to_string(), id.client.and_then(shard::named));
            let finished = self.run_task(client, &task, payload.to_vec())?;
            let client = client.filter(|client| self.is_connected(*client));
            let whose = client.map_or(Whose::Task, Whose::Client);
            let called = self.run_one(whose, false, |handler| {
                handler.on_finished(client, Task::new(task), finished)
            });
            let called = called.map(|((), closes)| self.tell_closes(closes));
            result = result.and(called);
        }
        result
    }

    /// From now on the first run of each task loses its worker when it commits the step of this number:
    /// the task runs again, with the steps before it committed.
    pub fn lose_tasks_after(&mut self, steps: u32) {
        self.tasks_lost_after = Some(steps);
    }

    fn run_task(&mut self, client: Option<Client>, id: &str, payload: Vec<u8>) -> Result<Finished> {
        let mut steps = Steps {
            lost_after: self.tasks_lost_after,
            ..Steps::default()
        };
        loop {
            let (task, payload) = (Task::new(id.to_owned()), payload.clone());
            let mut instance = new_instance::<H>(&self.config)?;
            let event = Event {
                steps: Some(steps),
                ..self.event_of(Whose::Task, false)
            };
            let (result, mut event) =
                event::during(event, || instance.on_task(client, task, payload));
            self.world = std::mem::take(&mut event.world);
            let mut closes = std::mem::take(&mut event.closes);
            let ended = event.steps.take().unwrap_or_default();
            if !ended.is_lost && result.is_ok() {
                closes.extend(self.world.commit(event.effects));
            }
            self.tell_closes(closes);
            if !ended.is_lost {
                return Ok(result.map_err(|error| error.to_string()));
            }
            steps = Steps {
                committed: ended.committed,
                ..Steps::default()
            };
        }
    }

    /// Lets so much wait for a client that its handler is told. The error is that of `on_buffer_full`.
    pub fn fill_buffer(&mut self, client: Client, queued_bytes: u64) -> Result {
        self.run_connected(client, |handler| {
            handler.on_buffer_full(client, queued_bytes)
        })
    }

    /// Lets such a client read everything. The error is that of `on_buffer_drain`.
    pub fn drain_buffer(&mut self, client: Client) -> Result {
        self.run_connected(client, |handler| handler.on_buffer_drain(client))
    }

    fn run_connected(&mut self, client: Client, callback: impl FnOnce(&mut H) -> Result) -> Result {
        if !self.is_connected(client) {
            return Err(Refused::Offline.into());
        }
        self.run(client, false, callback)
    }

    /// Takes what the handler has said to other instances, topics with payloads.
    pub fn peer_messages(&mut self) -> Vec<(String, Vec<u8>)> {
        self.world.shard.take_told_peers()
    }

    /// Another instance says this. The error is that of `on_peer_message`.
    pub fn deliver_peer_message(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Result {
        let (handler, payload) = (&mut self.handler, payload.as_ref().to_owned());
        let told = || handler.on_peer_message(topic, payload);
        let (result, _) = event::during(outside(&self.config), told);
        result
    }

    /// Answers the custom commands of this gateway from now on. Without it the tenant has none.
    pub fn answer_commands(
        &mut self,
        answering: impl FnMut(&str, &[u8]) -> Result<Vec<u8>> + 'static,
    ) {
        self.world.answering = Some(Box::new(answering));
    }

    /// Takes the commands that were started without waiting, with their payloads.
    pub fn started_commands(&mut self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.world.started)
    }

    /// Makes answers of [`directory`](crate::directory) partial from now on, as if these gateways had
    /// not answered in time; whole again with none. As on the host an answer misses only gateways that
    /// could matter to it: what is asked of one client misses none but its own.
    pub fn set_missing(&mut self, gateways: &[&str]) {
        self.world.missing = gateways.iter().map(|&name| name.to_owned()).collect();
    }

    /// Lets a client go away. The error is that of `on_close`.
    pub fn close(&mut self, client: Client) -> Result {
        self.close_for(client, CloseReason::Client)
    }

    /// Lets a client close its WebSocket with this code and reason. The error is that of `on_close`.
    pub fn close_with(&mut self, client: Client, code: u16, reason: &str) -> Result {
        let reason = reason.to_owned();
        let frame = CloseFrame { code, reason };
        self.world.shard.send_close(&client, frame);
        self.close(client)
    }

    /// Closes a client for a reason of your choice. The error is that of `on_close`.
    pub fn close_for(&mut self, client: Client, reason: CloseReason) -> Result {
        let closed = self.world.shard.close(&client, reason);
        let closed = closed.ok_or(Refused::Offline)?;
        self.tell_close(client, closed)
    }

    /// Drops the instance, as a trap would, and starts a fresh one: what was only in its memory
    /// is gone, sessions stay.
    pub fn replace_instance(&mut self) -> Result {
        self.handler = new_instance(&self.config)?;
        Ok(())
    }

    /// Puts a fresh instance in the place of this one, as a new version does: the memory goes over
    /// by `save` and `restore`. The error is that of `restore`; the instance is empty then.
    pub fn swap_instance(&mut self) -> Result {
        let old = &mut self.handler;
        let (saved, _) = event::during(outside(&self.config), || old.save());
        let new = new_instance(&self.config)?;
        let mut old = std::mem::replace(&mut self.handler, new);
        let _ = event::during(outside(&self.config), || old.on_stop());
        let new = &mut self.handler;
        let (restored, _) = event::during(outside(&self.config), || new.restore("testing", saved));
        if restored.is_err() {
            self.handler = new_instance(&self.config)?;
        }
        restored
    }

    /// Stops the handler.
    pub fn stop(mut self) {
        let handler = &mut self.handler;
        let _ = event::during(outside(&self.config), || handler.on_stop());
    }

    /// Takes what a client has received since the last call, farewells included.
    pub fn received(&mut self, client: Client) -> Vec<Message> {
        self.world.shard.take_received(&client)
    }

    /// Takes what raw sends have brought a client since the last call.
    pub fn received_raw(&mut self, client: Client) -> Vec<Vec<u8>> {
        self.world.shard.take_raw(&client)
    }

    /// What the handler has closed a client's WebSocket with.
    #[must_use]
    pub fn close_frame(&self, client: Client) -> Option<CloseFrame> {
        self.world.shard.close_frame(&client)
    }

    /// Whether a client is connected.
    #[must_use]
    pub fn is_connected(&self, client: Client) -> bool {
        self.world.shard.is_online(&client)
    }

    /// The connected clients, in the order in which they came.
    #[must_use]
    pub fn connected(&self) -> Vec<Client> {
        self.world.shard.online()
    }

    /// A client's uid.
    #[must_use]
    pub fn uid(&self, client: Client) -> Option<String> {
        self.world.shard.uid(&client)
    }

    /// A client's groups, sorted.
    #[must_use]
    pub fn groups(&self, client: Client) -> Vec<String> {
        self.world.shard.groups(&client)
    }

    /// The members of a group, in the order in which they connected.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<Client> {
        self.world.shard.members(group)
    }

    /// A client's session; its last one after it closed.
    #[must_use]
    pub fn session(&self, client: Client) -> BTreeMap<String, Value> {
        let session = self.world.shard.session(&client);
        let entries = shard::entries(&session).into_iter();
        // What is in a session was checked to be JSON.
        entries
            .map(|(key, json)| (key, serde_json::from_str(&json).unwrap_or_default()))
            .collect()
    }

    /// Replaces a client's session by the fields of `value`, as somebody else would.
    pub fn set_session<T: Serialize + ?Sized>(&mut self, client: Client, value: &T) -> Result {
        let effect = session_effect(client, value)?;
        self.world.shard.apply(&[effect]);
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
        let ((), closes) = self.run_one(Whose::Client(client), closing, callback)?;
        self.tell_closes(closes);
        Ok(())
    }

    fn tell_closes(&mut self, mut closes: Closes) {
        while let Some((client, closed)) = closes.pop_front() {
            let callback = |handler: &mut H| handler.on_close(client, closed);
            match self.run_one(Whose::Client(client), true, callback) {
                Ok(((), more)) => closes.extend(more),
                Err(error) => self.failures.push(error.to_string()),
            }
        }
    }

    fn run_one<T>(
        &mut self,
        whose: Whose,
        closing: bool,
        callback: impl FnOnce(&mut H) -> Result<T>,
    ) -> Result<(T, Closes)> {
        let event = self.event_of(whose, closing);
        let handler = &mut self.handler;
        let (result, event) = event::during(event, || callback(handler));
        self.world = event.world;
        let result = result?;
        Ok((result, self.world.commit(event.effects)))
    }

    fn event_of(&mut self, whose: Whose, closing: bool) -> Event {
        self.events += 1;
        let session = match whose {
            Whose::Client(client) => self.world.shard.session(&client),
            Whose::Request
            | Whose::Timer
            | Whose::Task
            | Whose::Handshake
            | Whose::Command
            | Whose::Http
            | Whose::Nobody => Session::default(),
        };
        Event {
            whose,
            closing,
            id: format!("testing-0-{}", self.events),
            number: self.events,
            session,
            config: config_values(&self.config),
            world: std::mem::take(&mut self.world),
            ..Event::default()
        }
    }

    fn tell_close(&mut self, client: Client, closed: Closed) -> Result {
        self.run(client, true, |handler| handler.on_close(client, closed))
    }
}

fn new_instance<H: Handler>(config: &str) -> Result<H> {
    let parsed = Config::from_json(config)?;
    let (handler, _) = event::during(outside(config), || H::on_start(&parsed));
    handler.map_err(|error| Error::msg(format_args!("on_start failed: {error}")))
}

/// Replaces a client's session by the fields of `value`, checked as a handler's call is.
fn session_effect<T: Serialize + ?Sized>(client: Client, value: &T) -> Result<Effect> {
    let entries = session::to_entries(value)?;
    let entries = session::borrow(&entries).into_iter();
    let change = SessionChange::Replace(backend::session_entries_of(entries)?);
    event::apply_within_limit(&mut Session::default(), &change)?;
    let client = shard::id(&client);
    Ok(Effect::Session { client, change })
}

/// A request for this path and query, without percent-encoding.
fn request_to(target: &str) -> HttpRequest {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    });
    HttpRequest {
        path: path.to_owned(),
        query: query.collect(),
        ..HttpRequest::default()
    }
}

/// The first subprotocol that a request offers.
fn offered(request: Option<&HttpRequest>) -> Option<String> {
    let offered = request?.header("sec-websocket-protocol")?;
    let first = offered.split(',').next()?;
    Some(first.trim().to_owned())
}

/// What the handler has made of a client before its connect, checked as the host checks it.
fn effects_of(client: Client, accepted: Accepted) -> Result<Vec<Effect>> {
    let entries = accepted.session.iter();
    let entries = entries.map(|(key, json)| (key.as_str(), json.as_str()));
    let change = SessionChange::Replace(backend::session_entries_of(entries)?);
    event::apply_within_limit(&mut Session::default(), &change)?;
    let own = shard::id(&client);
    let mut effects = vec![Effect::Session {
        client: own,
        change,
    }];
    if let Some(uid) = accepted.uid {
        let uid = backend::checked_name("uid", &uid)?;
        effects.push(Effect::BindUid { client: own, uid });
    }
    for group in accepted.groups {
        let group = backend::checked_name("group", &group)?;
        effects.push(Effect::JoinGroup { client: own, group });
    }
    Ok(effects)
}

/// No event: an instance starts or stops.
fn outside(config: &str) -> Event {
    Event {
        config: config_values(config),
        ..Event::default()
    }
}

/// Who is at the other end unless a test says it.
pub(crate) fn web_socket() -> Peer {
    Peer {
        address: "127.0.0.1:50000".to_owned(),
        transport: Transport::WebSocket,
        listener: "testing".to_owned(),
        secure: false,
    }
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
