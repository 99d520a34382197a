//! An instance of a command component: the same kind of Store, under the same limits.

use std::sync::Arc;

use tidegate_wire::effect::Effect;
use tokio::time::{Instant, timeout_at};
use wasmtime::Store;

use super::failure::Failure;
use super::store::{begin_call, ended, instantiate, wrong_type};
use crate::bindings::exports::exports::tidegate::plugin::commands;
use crate::command::HubAccess;
use crate::engine::Runtime;
use crate::host_api::{CurrentCall, HostState, Identity, Origin, OutputLog};
use crate::limits::Limits;
use crate::on_demand::Called;
use crate::plugin::{Plugin, PluginError};

/// How a command ended.
pub(crate) enum Executed {
    /// It returned ok, with these bytes.
    Done(Vec<u8>, Vec<Effect>),
    /// It returned an error: no effects.
    Refused(String),
    /// It gave more than it may; the text says so. No effects.
    TooLarge(String),
    /// It broke; drop the instance.
    Broken(Box<Failure>),
}

/// One Store with one instance of a command component in it.
pub(crate) struct CommandInstance {
    store: Store<HostState>,
    guest: commands::Guest,
    limits: Limits,
}

impl Called for CommandInstance {
    fn expect(plugin: &Plugin) -> Result<(), PluginError> {
        plugin.commands().map(drop)
    }

    async fn start(
        runtime: &Runtime,
        plugin: &Plugin,
        identity: &Arc<Identity>,
        number: u32,
        output: &Arc<OutputLog>,
    ) -> Result<Self, PluginError> {
        let exports = plugin.commands()?;
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
}

impl CommandInstance {
    /// Runs one command, whose caller waits until `deadline`.
    pub(crate) async fn execute(
        &mut self,
        name: &str,
        payload: &[u8],
        hub: Arc<dyn HubAccess>,
        deadline: Instant,
    ) -> Executed {
        begin_call(&mut self.store);
        let ends = Instant::now() + self.limits.wall();
        let call = CurrentCall::new(Origin::Command { hub }, None, ends.min(deadline));
        self.store.data_mut().call = Some(call);
        let call = self.guest.call_execute(&mut self.store, name, payload);
        let result = timeout_at(ends, call).await;
        let result = ended(&mut self.store, result);
        let call = self.store.data_mut().call.take();
        match result {
            Ok(Ok(answer)) => self.done(answer, call),
            Ok(Err(text)) => Executed::Refused(text),
            Err(failure) => Executed::Broken(failure),
        }
    }

    /// The effects and the answer are bounded together.
    fn done(&self, answer: Vec<u8>, call: Option<CurrentCall>) -> Executed {
        let effect_bytes = call.as_ref().map_or(0, CurrentCall::effect_bytes);
        let bytes_max = self.limits.effect_bytes_max;
        if answer.len().saturating_add(effect_bytes) > bytes_max {
            return Executed::TooLarge(format!(
                "the answer has {} bytes; with the effects it may have {bytes_max}",
                answer.len()
            ));
        }
        let effects = call.map(CurrentCall::into_effects).unwrap_or_default();
        Executed::Done(answer, effects)
    }
}
