//! What plugins may import: the state that a Store carries, and the linker that offers it.
//!
//! One file per interface. Every function is checked at once and never waits; effects are only
//! collected here, and leave with the event's commit.

mod gateway;
mod logging;
mod output;
mod session;
mod worker;

use std::sync::Arc;

use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, SessionChange};
use tidegate_wire::id::{ClientId, EventId};
use tidegate_wire::session::Session;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use crate::bindings::imports::{
    tidegate::plugin as offered, wasi::logging::logging as wasi_logging,
};
use crate::limits::{CpuBudget, Limits, MemoryBudget};

pub(crate) use output::{OutputLog, Source};

/// Interfaces that a plugin may import, as they are named in error messages. Of the `wasi:` ones
/// without a version any 0.2 will do.
pub(crate) const OFFERED: &[&str] = &[
    "tidegate:plugin/gateway@0.1.0",
    "tidegate:plugin/session@0.1.0",
    "tidegate:plugin/types@0.1.0",
    "tidegate:plugin/worker@0.1.0",
    "wasi:cli/*@0.2",
    "wasi:clocks/*@0.2",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:filesystem/*@0.2 (no directories)",
    "wasi:io/*@0.2",
    "wasi:logging/logging@0.1.0-draft",
    "wasi:random/*@0.2",
    "wasi:sockets/*@0.2 (denied)",
];

/// The largest piece of random data that a guest may ask for at once.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Open host resources (streams, pollables) of one instance.
const RESOURCES_MAX: usize = 1024;

/// Who an instance is. Shared by all instances of a version on this worker.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) tenant: Name,
    pub(crate) version: Name,
    pub(crate) plugin: Name,
    pub(crate) worker_name: Name,
    pub(crate) tags: Vec<Name>,
    pub(crate) limits: Limits,
    pub(crate) config: ConfigValues,
}

/// The plugin's configuration: as one JSON object and as the values of `wasi:config`.
pub(crate) struct ConfigValues {
    pub(crate) json: String,
    variables: WasiConfigVariables,
}

impl ConfigValues {
    /// Strings stand in `wasi:config` as they are, any other value as its JSON text.
    pub(crate) fn new(config: &serde_json::Map<String, serde_json::Value>) -> Self {
        let mut variables = WasiConfigVariables::new();
        for (key, value) in config {
            let text = match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            };
            variables.insert(key.clone(), text);
        }
        let json = serde_json::to_string(config).unwrap_or_else(|_| "{}".to_owned());
        Self { json, variables }
    }
}

impl std::fmt::Debug for ConfigValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.write_str("ConfigValues")
    }
}

/// The event that a guest is handling, with what it asked for so far.
#[derive(Debug)]
pub(crate) struct CurrentEvent {
    pub(crate) id: EventId,
    pub(crate) attempt: u8,
    pub(crate) client: ClientId,
    /// The client is gone: its session can be read but no longer changed.
    pub(crate) closing: bool,
    pub(crate) session: Arc<Session>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) effect_bytes: usize,
}

/// What a Store carries.
pub(crate) struct HostState {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(crate) identity: Arc<Identity>,
    pub(crate) instance: u32,
    pub(crate) output: Arc<OutputLog>,
    pub(crate) memory: MemoryBudget,
    pub(crate) cpu: CpuBudget,
    /// None in on-start and on-stop.
    pub(crate) event: Option<CurrentEvent>,
}

impl HostState {
    pub(crate) fn new(identity: Arc<Identity>, instance: u32, output: Arc<OutputLog>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let wasi = WasiCtxBuilder::new()
            .stdout(output.stream(Source::Stdout))
            .stderr(output.stream(Source::Stderr))
            .max_random_size(RANDOM_BYTES_MAX)
            .build();
        Self {
            wasi,
            table,
            memory: MemoryBudget::new(identity.limits.memory_bytes),
            cpu: CpuBudget::new(identity.limits.cpu_ms),
            identity,
            instance,
            output,
            event: None,
        }
    }

    /// Collects one effect of `bytes` bytes.
    fn push(&mut self, effect: Effect, bytes: usize) -> Result<(), offered::types::Error> {
        let limits = &self.identity.limits;
        let Some(event) = &mut self.event else {
            return Err(outside_an_event());
        };
        if event.effects.len() >= limits.effects_max {
            return Err(quota(format!(
                "an event may have {} effects",
                limits.effects_max
            )));
        }
        let bytes = event.effect_bytes.saturating_add(bytes);
        if bytes > limits.effect_bytes_max {
            return Err(quota(format!(
                "the effects of an event may have {} bytes",
                limits.effect_bytes_max
            )));
        }
        event.effect_bytes = bytes;
        event.effects.push(effect);
        Ok(())
    }

    /// Collects changes of one client's session, all or none. The handler reads changes of its own
    /// client's session back at once.
    fn push_session_changes(
        &mut self,
        client: ClientId,
        changes: impl Iterator<Item = (SessionChange, usize)>,
    ) -> Result<(), offered::types::Error> {
        let Some(event) = &self.event else {
            return Err(outside_an_event());
        };
        let own = event.client == client;
        if own && event.closing {
            return Err(offered::types::Error::NotPermitted(
                "the client is closed: its session can be read but not changed".to_owned(),
            ));
        }
        let (effects, bytes) = (event.effects.len(), event.effect_bytes);
        // The first change of an event copies the session anyway; later ones pay for the undo.
        let before = own.then(|| Arc::clone(&event.session));
        let result = changes
            .into_iter()
            .try_for_each(|(change, bytes)| self.push_session_change(client, change, bytes));
        if let (Err(_), Some(event)) = (&result, &mut self.event) {
            event.effects.truncate(effects);
            event.effect_bytes = bytes;
            if let Some(before) = before {
                event.session = before;
            }
        }
        result
    }

    fn push_session_change(
        &mut self,
        client: ClientId,
        change: SessionChange,
        bytes: usize,
    ) -> Result<(), offered::types::Error> {
        let bytes_max = self.identity.limits.session_bytes_max;
        let too_large = || {
            quota(format!(
                "a session may have {bytes_max} bytes of keys and values"
            ))
        };
        if bytes > bytes_max {
            return Err(too_large());
        }
        self.push(Effect::Session { client, change }, bytes)?;
        if let Some(event) = &mut self.event
            && event.client == client
            && let Some(Effect::Session { change, .. }) = event.effects.last()
        {
            let session = Arc::make_mut(&mut event.session);
            session.apply(change);
            // What only removes may leave a session that others made too large.
            if bytes > 0 && session.bytes() > bytes_max {
                return Err(too_large());
            }
        }
        Ok(())
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl offered::types::Host for HostState {}

/// A linker that offers everything a plugin may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    type Own = HasSelf<HostState>;
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| {
        WasiConfig::from(&state.identity.config.variables)
    })?;
    offered::types::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::gateway::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::session::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::worker::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    wasi_logging::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    Ok(linker)
}

fn outside_an_event() -> offered::types::Error {
    offered::types::Error::NotPermitted(
        "only a client's event may do this; on-start and on-stop may not".to_owned(),
    )
}

fn quota(text: String) -> offered::types::Error {
    offered::types::Error::QuotaExceeded(text)
}

fn invalid(text: String) -> offered::types::Error {
    offered::types::Error::InvalidArgument(text)
}
