//! A gateway that runs a command component natively.

use serde::Serialize;

use crate::client::Client;
use crate::command::Command;
use crate::error::Result;
use crate::message::Message;
use crate::session;
use crate::testing::effect::{Change, Effect};
use crate::testing::event::{self, Event, Whose};
use crate::testing::hub::Hub;
use crate::testing::{config_values, web_socket};

/// A gateway with one instance of a command component, for its unit tests. Its clients are made
/// and changed by the test; what they would tell a handler is told to nobody.
pub struct CommandGateway<C> {
    command: C,
    config: String,
    hub: Hub,
}

impl<C: Command> CommandGateway<C> {
    /// Starts with an empty configuration.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("{}")
    }

    /// Starts with this configuration, a JSON object.
    #[must_use]
    pub fn start_with(config: &str) -> Self {
        Self {
            command: C::default(),
            config: config.to_owned(),
            hub: Hub::default(),
        }
    }

    /// Runs a command. An error drops what it asked for.
    pub fn execute(&mut self, name: &str, payload: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let mut event = Event {
            whose: Whose::Command,
            config: config_values(&self.config),
            ..Event::default()
        };
        event.world.hub = std::mem::take(&mut self.hub);
        let command = &mut self.command;
        let payload = payload.as_ref().to_owned();
        let (answer, event) = event::during(event, || command.execute(name, payload));
        self.hub = event.world.hub;
        let answer = answer?;
        self.hub.apply(&event.effects);
        Ok(answer)
    }

    /// Connects a client.
    pub fn connect(&mut self) -> Result<Client> {
        self.hub.connect(web_socket())
    }

    /// Binds a client to a uid.
    pub fn bind_uid(&mut self, client: Client, uid: &str) {
        let uid = uid.to_owned();
        self.hub.apply(&[Effect::BindUid { client, uid }]);
    }

    /// Adds a client to a group.
    pub fn join(&mut self, client: Client, group: &str) {
        let group = group.to_owned();
        self.hub.apply(&[Effect::Join { client, group }]);
    }

    /// Replaces a client's session by the fields of `value`.
    pub fn set_session<T: Serialize + ?Sized>(&mut self, client: Client, value: &T) -> Result {
        let entries = session::to_entries(value)?.into_iter().collect();
        let change = Change::Replace(entries);
        self.hub.apply(&[Effect::Session { client, change }]);
        Ok(())
    }

    /// Takes what a client has received since the last call.
    pub fn received(&mut self, client: Client) -> Vec<Message> {
        self.hub.take_received(client)
    }

    /// Whether a client is connected.
    #[must_use]
    pub fn is_connected(&self, client: Client) -> bool {
        self.hub.is_open(client)
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
}
