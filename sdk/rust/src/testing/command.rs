//! A gateway that runs a command component natively.

use serde::Serialize;
use tidegate_wire::effect::Effect;

use crate::client::Client;
use crate::command::Command;
use crate::error::Result;
use crate::message::Message;
use crate::testing::event::{self, Event, Whose};
use crate::testing::shard::{Shard, id};
use crate::testing::{config_values, session_effect, web_socket};

/// A gateway with one instance of a command component, for its unit tests. Its clients are made
/// and changed by the test; what they would tell a handler is told to nobody.
pub struct CommandGateway<C> {
    command: C,
    config: String,
    shard: Shard,
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
            shard: Shard::default(),
        }
    }

    /// Runs a command. An error drops what it asked for.
    pub fn execute(&mut self, name: &str, payload: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let mut event = Event {
            whose: Whose::Command,
            config: config_values(&self.config),
            ..Event::default()
        };
        event.world.shard = std::mem::take(&mut self.shard);
        let command = &mut self.command;
        let payload = payload.as_ref().to_owned();
        let (answer, event) = event::during(event, || command.execute(name, payload));
        self.shard = event.world.shard;
        let answer = answer?;
        self.shard.apply(&event.effects);
        Ok(answer)
    }

    /// Connects a client.
    pub fn connect(&mut self) -> Result<Client> {
        self.shard.connect(web_socket(), None)
    }

    /// Binds a client to a uid.
    pub fn bind_uid(&mut self, client: Client, uid: &str) {
        let (client, uid) = (id(&client), uid.into());
        self.shard.apply(&[Effect::BindUid { client, uid }]);
    }

    /// Adds a client to a group.
    pub fn join(&mut self, client: Client, group: &str) {
        let (client, group) = (id(&client), group.into());
        self.shard.apply(&[Effect::JoinGroup { client, group }]);
    }

    /// Replaces a client's session by the fields of `value`.
    pub fn set_session<T: Serialize + ?Sized>(&mut self, client: Client, value: &T) -> Result {
        let effect = session_effect(client, value)?;
        self.shard.apply(&[effect]);
        Ok(())
    }

    /// Takes what a client has received since the last call.
    pub fn received(&mut self, client: Client) -> Vec<Message> {
        self.shard.take_received(&client)
    }

    /// Whether a client is connected.
    #[must_use]
    pub fn is_connected(&self, client: Client) -> bool {
        self.shard.is_online(&client)
    }

    /// A client's uid.
    #[must_use]
    pub fn uid(&self, client: Client) -> Option<String> {
        self.shard.uid(&client)
    }

    /// A client's groups, sorted.
    #[must_use]
    pub fn groups(&self, client: Client) -> Vec<String> {
        self.shard.groups(&client)
    }
}
