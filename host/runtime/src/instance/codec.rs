//! An instance of a codec: the same kind of Store, under the same limits, with nothing in it that a
//! connection would miss.

use std::sync::Arc;

use tidegate_wire::event::Message;
use tokio::time::{Instant, timeout_at};
use wasmtime::Store;

use super::failure::Failure;
use super::store::{begin_call, ended, instantiate, wrong_type};
use crate::bindings::codec::exports::tidegate::plugin::framing;
use crate::engine::Runtime;
use crate::host_api::{HostState, Identity, OutputLog};
use crate::limits::Limits;
use crate::plugin::{Plugin, PluginError};

/// How a call ended.
pub(crate) enum Called<T> {
    /// It returned ok.
    Done(T),
    /// It returned an error.
    Refused(String),
    /// It broke; drop the instance.
    Broken(Box<Failure>),
}

/// One Store with one instance of a codec in it.
pub(crate) struct CodecInstance {
    store: Store<HostState>,
    guest: framing::Guest,
    limits: Limits,
}

impl CodecInstance {
    pub(crate) async fn start(
        runtime: &Runtime,
        plugin: &Plugin,
        identity: &Arc<Identity>,
        number: u32,
        output: &Arc<OutputLog>,
    ) -> Result<Self, PluginError> {
        let exports = plugin.framing()?;
        let (mut store, instance) = instantiate(runtime, plugin, identity, number, output).await?;
        let guest = exports
            .load(&mut store, &instance)
            .map_err(|error| wrong_type(plugin, &error))?;
        Ok(Self {
            store,
            guest,
            limits: identity.limits,
        })
    }

    /// Bytes of a connection → messages.
    pub(crate) async fn decode(
        &mut self,
        connection: framing::Connection<'_>,
        bytes: &[u8],
        is_end: bool,
    ) -> Called<framing::Decoded> {
        begin_call(&mut self.store);
        let ends = Instant::now() + self.limits.wall();
        let call = self
            .guest
            .call_decode(&mut self.store, connection, bytes, is_end);
        let result = timeout_at(ends, call).await;
        called(ended(&mut self.store, result))
    }

    /// A message for a connection → bytes.
    pub(crate) async fn encode(
        &mut self,
        connection: framing::Connection<'_>,
        message: &Message,
    ) -> Called<framing::Encoded> {
        begin_call(&mut self.store);
        let ends = Instant::now() + self.limits.wall();
        let message = param(message);
        let call = self.guest.call_encode(&mut self.store, connection, message);
        let result = timeout_at(ends, call).await;
        called(ended(&mut self.store, result))
    }
}

fn param(message: &Message) -> framing::MessageParam<'_> {
    match message {
        // Whoever made it has checked it, but perhaps on another machine.
        Message::Text(payload) => match std::str::from_utf8(payload) {
            Ok(text) => framing::MessageParam::Text(text),
            Err(_) => framing::MessageParam::Binary(payload),
        },
        Message::Binary(payload) => framing::MessageParam::Binary(payload),
    }
}

fn called<T>(result: Result<Result<T, String>, Box<Failure>>) -> Called<T> {
    match result {
        Ok(Ok(value)) => Called::Done(value),
        Ok(Err(text)) => Called::Refused(text),
        Err(failure) => Called::Broken(failure),
    }
}
