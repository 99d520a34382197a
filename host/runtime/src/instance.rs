//! One running copy of a plugin: the owner of its Store, and the only one who touches it.
//!
//! A call runs under a CPU budget (counted in ticks of the engine's clock, at which the guest also
//! yields its thread), under a time limit on the clock, and under a memory limit. A call that traps
//! or runs into a limit leaves a broken Store: the instance must be dropped, and its effects go
//! with it.

mod convert;
mod failure;

use std::sync::Arc;

use tidegate_wire::effect::Effect;
use tidegate_wire::event::EventKind;
use tokio::time::timeout;
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::exports::exports::tidegate::plugin::{client_events, worker_events};
use crate::deployment::Job;
use crate::engine::Runtime;
use crate::host_api::{CurrentEvent, HostState, Identity, OutputLog};
use crate::limits::Limits;
use crate::plugin::{Plugin, PluginError};

pub(crate) use failure::{Failure, FailureKind};

/// Handles to host resources and own ones that an instance may hold at once.
const HANDLES_MAX: usize = 1024;

/// How a handler ended.
pub(crate) enum Ran {
    /// It returned ok.
    Done(Vec<Effect>),
    /// It returned an error: no effects.
    Refused(String),
    /// It broke; drop the instance.
    Broken(Box<Failure>),
}

/// One Store with one instance in it.
pub(crate) struct Instance {
    store: Store<HostState>,
    client_events: client_events::Guest,
    worker_events: Option<worker_events::Guest>,
    limits: Limits,
}

impl Instance {
    /// Instantiates the plugin and runs its on-start.
    pub(crate) async fn start(
        runtime: &Runtime,
        plugin: &Plugin,
        identity: &Arc<Identity>,
        number: u32,
        output: &Arc<OutputLog>,
    ) -> Result<Self, PluginError> {
        let limits = identity.limits;
        let mut store = new_store(runtime, identity, number, output);
        let wall = limits.wall();
        let started = timeout(wall, plugin.instance_pre().instantiate_async(&mut store)).await;
        let instance = match started {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => {
                return Err(start_error(
                    plugin,
                    &failure::of_error(&mut store, &error),
                    &error,
                ));
            }
            Err(_elapsed) => {
                return Err(start_failed(plugin, &failure::of_timeout(&store)));
            }
        };
        let wrong = |error: wasmtime::Error| PluginError::WrongType {
            name: plugin.source().to_string(),
            reason: format!("{error:#}"),
        };
        let client_events = plugin
            .client_events()
            .load(&mut store, &instance)
            .map_err(wrong)?;
        let worker_events = match plugin.worker_events() {
            Some(indices) => Some(indices.load(&mut store, &instance).map_err(wrong)?),
            None => None,
        };
        let mut instance = Self {
            store,
            client_events,
            worker_events,
            limits,
        };
        instance.on_start(plugin, identity).await?;
        Ok(instance)
    }

    async fn on_start(&mut self, plugin: &Plugin, identity: &Identity) -> Result<(), PluginError> {
        let Some(worker_events) = &self.worker_events else {
            return Ok(());
        };
        begin_call(&mut self.store);
        let call = worker_events.call_on_start(&mut self.store, &identity.config.json);
        match timeout(self.limits.wall(), call).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(text))) => Err(PluginError::StartRefused {
                name: plugin.source().to_string(),
                text,
            }),
            Ok(Err(error)) => {
                let failure = failure::of_error(&mut self.store, &error);
                Err(start_failed(plugin, &failure))
            }
            Err(_elapsed) => Err(start_failed(plugin, &failure::of_timeout(&self.store))),
        }
    }

    /// Runs the handler of one event.
    pub(crate) async fn handle(&mut self, job: &Job) -> Ran {
        let delivery = &job.delivery;
        begin_call(&mut self.store);
        self.store.data_mut().event = Some(CurrentEvent {
            id: delivery.event,
            attempt: delivery.attempt,
            client: delivery.client,
            closing: matches!(delivery.kind, EventKind::Close(_)),
            session: job.context.session(),
            effects: Vec::new(),
            effect_bytes: 0,
        });
        let id = convert::ClientIdText::new(delivery.client);
        let (guest, store) = (&self.client_events, &mut self.store);
        let wall = self.limits.wall();
        let result = match &delivery.kind {
            EventKind::Message(message) => {
                let message = convert::message(message);
                timeout(wall, guest.call_on_message(store, id.as_str(), message)).await
            }
            EventKind::Connect { peer, request } => {
                let address = peer.address.to_string();
                let pairs = request.as_deref().map(convert::Pairs::new);
                let request = request
                    .as_deref()
                    .zip(pairs.as_ref())
                    .map(|(request, pairs)| pairs.request(request));
                let peer = convert::peer(peer, &address);
                let call = guest.call_on_connect(store, id.as_str(), peer, request);
                timeout(wall, call).await
            }
            EventKind::Request { .. } => return Ran::Refused("not there yet".to_owned()),
            EventKind::Close(closed) => {
                let groups: Vec<&str> = closed.groups.iter().map(|group| &**group).collect();
                let closed = convert::closed(closed, &groups);
                timeout(wall, guest.call_on_close(store, id.as_str(), closed)).await
            }
        };
        match result {
            Ok(Ok(Ok(()))) => {
                let event = self.store.data_mut().event.take();
                Ran::Done(event.map(|event| event.effects).unwrap_or_default())
            }
            Ok(Ok(Err(text))) => {
                self.store.data_mut().event = None;
                Ran::Refused(text)
            }
            Ok(Err(error)) => Ran::Broken(failure::of_error(&mut self.store, &error)),
            Err(_elapsed) => Ran::Broken(failure::of_timeout(&self.store)),
        }
    }

    /// Runs on-stop and drops the instance.
    pub(crate) async fn stop(mut self) {
        let Some(worker_events) = &self.worker_events else {
            return;
        };
        begin_call(&mut self.store);
        let call = worker_events.call_on_stop(&mut self.store);
        let failure = match timeout(self.limits.wall(), call).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => failure::of_error(&mut self.store, &error),
            Err(_elapsed) => failure::of_timeout(&self.store),
        };
        let state = self.store.data();
        tracing::warn!(
            tenant = &*state.identity.tenant,
            plugin = &*state.identity.plugin,
            version = &*state.identity.version,
            instance = state.instance,
            reason = failure.reason,
            "on-stop failed"
        );
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
fn begin_call(store: &mut Store<HostState>) {
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    state.cpu.refill();
    state.memory.forget_refusal();
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

fn start_failed(plugin: &Plugin, failure: &Failure) -> PluginError {
    PluginError::StartFailed {
        name: plugin.source().to_string(),
        reason: failure.to_string(),
    }
}
