//! A Store with one instance in it, of a handler or of a command: how it is made, how a call begins
//! and how one that broke is told.

use std::sync::Arc;

use tokio::time::error::Elapsed;
use tokio::time::timeout;
use wasmtime::component::Instance;
use wasmtime::{Store, UpdateDeadline};

use super::failure::{self, Failure};
use crate::engine::Runtime;
use crate::host_api::{HostState, Identity, OutputLog};
use crate::plugin::{Plugin, PluginError};

/// Handles to host resources and own ones that an instance may hold at once.
const HANDLES_MAX: usize = 1024;

/// Makes a Store and instantiates the plugin in it.
pub(super) async fn instantiate(
    runtime: &Runtime,
    plugin: &Plugin,
    identity: &Arc<Identity>,
    number: u32,
    output: &Arc<OutputLog>,
) -> Result<(Store<HostState>, Instance), PluginError> {
    let mut store = new_store(runtime, identity, number, output);
    let wall = identity.limits.wall();
    match timeout(wall, plugin.instance_pre().instantiate_async(&mut store)).await {
        Ok(Ok(instance)) => Ok((store, instance)),
        Ok(Err(error)) => {
            let failure = failure::of_error(&mut store, &error);
            Err(start_error(plugin, &failure, &error))
        }
        Err(_elapsed) => Err(start_failed(plugin, &failure::of_timeout(&store))),
    }
}

fn new_store(
    runtime: &Runtime,
    identity: &Arc<Identity>,
    number: u32,
    output: &Arc<OutputLog>,
) -> Store<HostState> {
    let state = HostState::new(Arc::clone(identity), number, Arc::clone(output));
    let mut store = Store::new(runtime.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(identity.limits.hostcall_bytes());
    store.set_max_component_handles(HANDLES_MAX);
    store.epoch_deadline_callback(|mut store| {
        Ok(if store.data_mut().cpu.charge() {
            UpdateDeadline::Yield(1)
        } else {
            UpdateDeadline::Interrupt
        })
    });
    begin_call(&mut store);
    store
}

/// A new call has a whole CPU budget, and the clock's next tick is its first.
pub(super) fn begin_call(store: &mut Store<HostState>) {
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    state.cpu.refill();
    state.memory.forget_refusal();
}

/// What the call gave, or why it broke.
pub(super) fn ended<T>(
    store: &mut Store<HostState>,
    result: Result<wasmtime::Result<T>, Elapsed>,
) -> Result<T, Box<Failure>> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failure::of_error(store, &error)),
        Err(_elapsed) => Err(failure::of_timeout(store)),
    }
}

fn start_error(plugin: &Plugin, failure: &Failure, error: &wasmtime::Error) -> PluginError {
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return PluginError::NoRoom {
            name: plugin.source().to_string(),
            reason: format!("{error:#}"),
        };
    }
    start_failed(plugin, failure)
}

pub(super) fn start_failed(plugin: &Plugin, failure: &Failure) -> PluginError {
    PluginError::StartFailed {
        name: plugin.source().to_string(),
        reason: failure.to_string(),
    }
}

/// An export that was there when the plugin was checked.
pub(super) fn wrong_type(plugin: &Plugin, error: &wasmtime::Error) -> PluginError {
    PluginError::WrongType {
        name: plugin.source().to_string(),
        reason: format!("{error:#}"),
    }
}
