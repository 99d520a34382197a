//! What plugins may import: the state that a Store carries, and the linkers that offer it.
//!
//! One file per interface. Every function is checked at once, and those that do never wait: effects
//! are only collected here, and leave with the call's commit. Those that ask wait, within a deadline
//! that the guest survives.

mod ask;
mod call;
mod client;
mod directory;
mod gateway;
mod http;
mod hub;
mod logging;
mod output;
mod own_session;
mod peers;
mod session;
mod tasks;
mod timers;
mod worker;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tidegate_wire::Name;
use tidegate_wire::peers::InstanceId;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use crate::bindings::imports::{
    tidegate::plugin as offered, wasi::logging::logging as wasi_logging,
};
use crate::limits::{CpuBudget, Limits, MemoryBudget};

pub(crate) use call::{CurrentCall, Origin, OwnClient, Steps};
pub(crate) use gateway::{json, name};
pub(crate) use output::{OutputLog, Source};

use http::HttpState;

/// Interfaces that a handler may import, as they are named in error messages. Of the `wasi:` ones
/// without a version any 0.2 will do.
pub(crate) const OFFERED_TO_HANDLERS: &[&str] = &[
    "tidegate:plugin/client@0.1.0",
    "tidegate:plugin/directory@0.1.0",
    "tidegate:plugin/gateway@0.1.0",
    "tidegate:plugin/peers@0.1.0",
    "tidegate:plugin/session@0.1.0",
    "tidegate:plugin/tasks@0.1.0",
    "tidegate:plugin/timers@0.1.0",
    "tidegate:plugin/types@0.1.0",
    "tidegate:plugin/worker@0.1.0",
    "wasi:cli/*@0.2",
    "wasi:clocks/*@0.2",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:filesystem/*@0.2 (no directories)",
    "wasi:http/types@0.2.*",
    "wasi:io/*@0.2",
    "wasi:logging/logging@0.1.0-draft",
    "wasi:random/*@0.2",
    "wasi:sockets/*@0.2 (denied)",
];

/// The same for a command component.
pub(crate) const OFFERED_TO_COMMANDS: &[&str] = &[
    "tidegate:plugin/directory@0.1.0 (its types)",
    "tidegate:plugin/gateway@0.1.0",
    "tidegate:plugin/hub@0.1.0",
    "tidegate:plugin/types@0.1.0",
    "wasi:cli/*@0.2",
    "wasi:clocks/*@0.2",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:filesystem/*@0.2 (no directories)",
    "wasi:io/*@0.2",
    "wasi:logging/logging@0.1.0-draft",
    "wasi:random/*@0.2",
    "wasi:sockets/*@0.2 (denied)",
];

/// The same for a codec and for a router: they do nothing but answer.
pub(crate) const OFFERED_TO_ANSWERERS: &[&str] = &[
    "tidegate:plugin/types@0.1.0",
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

/// Who an instance is. Shared by all instances of a version on this node.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) tenant: Name,
    pub(crate) version: Name,
    pub(crate) plugin: Name,
    /// The name of the worker or gateway in its configuration.
    pub(crate) node_name: Name,
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

/// What a Store carries.
pub(crate) struct HostState {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(crate) identity: Arc<Identity>,
    pub(crate) instance: u32,
    /// Which of all instances of the tenant it is, wherever they run.
    pub(crate) id: InstanceId,
    pub(crate) output: Arc<OutputLog>,
    pub(crate) memory: MemoryBudget,
    pub(crate) cpu: CpuBudget,
    /// None in on-start, on-stop and on-peer-message.
    pub(crate) call: Option<CurrentCall>,
    http: HttpState,
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
            // Its keys are random.
            id: InstanceId(RandomState::new().hash_one(instance)),
            output,
            call: None,
            http: HttpState::new(),
        }
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

type Own = HasSelf<HostState>;

/// A linker that offers everything a handler may import.
pub(crate) fn linker_of_handlers(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = shared_linker(engine)?;
    offered::client::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::directory::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::gateway::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::peers::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::session::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::tasks::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::timers::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::worker::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    http::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// A linker that offers everything a command may import.
pub(crate) fn linker_of_commands(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = shared_linker(engine)?;
    offered::hub::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    offered::gateway::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    Ok(linker)
}

/// A linker that offers everything a codec or a router may import, and any other component too.
pub(crate) fn shared_linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| {
        WasiConfig::from(&state.identity.config.variables)
    })?;
    offered::types::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    wasi_logging::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    Ok(linker)
}

fn quota(text: String) -> offered::types::Error {
    offered::types::Error::QuotaExceeded(text)
}

fn invalid(text: String) -> offered::types::Error {
    offered::types::Error::InvalidArgument(text)
}
