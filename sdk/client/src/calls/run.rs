//! Calls that run code or act at once: without a key they are repeated only if they were never
//! accepted.

use std::time::Duration;

use crate::call::Call;
use crate::client::Client;
use crate::error::Error;
use crate::types::{Command, CommandAnswers, CommandRun, CompareAndSet, Done, Message, Request};

fn ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl Client {
    /// Sets one session key if its value is the expected one.
    ///
    /// # Errors
    /// See [`Error`]; a conflict if the value is another, offline if there is no such client.
    pub async fn compare_and_set(&self, client: &str, it: &CompareAndSet) -> Result<Done, Error> {
        Call::once("/v1/clients", it)?
            .part(client)?
            .word("session/compare-and-set")
            .make(self)
            .await
    }

    /// Calls the tenant's handler and waits for its reply.
    ///
    /// # Errors
    /// See [`Error`]; what the handler refuses has the name `other` and the status 422.
    pub async fn request(
        &self,
        name: &str,
        payload: impl Into<Message>,
        within: Duration,
    ) -> Result<Message, Error> {
        let request = Request {
            name: name.to_owned(),
            payload: payload.into(),
            timeout_ms: Some(ms(within)),
        };
        Call::once("/v1/requests", &request)?
            .within(within + self.deadline)
            .make(self)
            .await
    }

    /// The same under a key of the caller: with the same key the handler runs once, also if this
    /// process ends in between, and whoever calls again gets the first reply. Gateways remember
    /// keys for ten minutes. It is repeated as actions are.
    ///
    /// # Errors
    /// See [`Error`]; a conflict if the key was used for something else, or if the first reply is
    /// not kept any more.
    pub async fn request_with_key(
        &self,
        name: &str,
        payload: impl Into<Message>,
        within: Duration,
        key: &str,
    ) -> Result<Message, Error> {
        let request = Request {
            name: name.to_owned(),
            payload: payload.into(),
            timeout_ms: Some(ms(within)),
        };
        Call::act("/v1/requests", &request, key)?
            .within(within + self.deadline)
            .make(self)
            .await
    }

    /// Runs a custom command beside the gateways' hubs and waits for the answers.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn command(
        &self,
        command: Command,
        within: Duration,
    ) -> Result<CommandAnswers, Error> {
        let run = CommandRun {
            gateways: command.gateways,
            name: command.name,
            payload: command.payload,
            timeout_ms: Some(ms(within)),
            wait: true,
        };
        Call::once("/v1/commands", &run)?
            .within(within + self.deadline)
            .make(self)
            .await
    }

    /// Starts a custom command; nobody waits for it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start_command(&self, command: Command) -> Result<Done, Error> {
        self.batch(vec![crate::types::Action::Command(command)])
            .await
    }
}
