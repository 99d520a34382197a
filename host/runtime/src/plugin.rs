//! A plugin: bytes that were checked, compiled and linked, ready to be instantiated.
//!
//! All checks of a version happen here, once: that it is a component, that every import is offered
//! and every export has the type of the contract. Nothing of the plugin runs.

mod check;
mod error;

use std::path::Path;
use std::sync::Arc;

use tidegate_wire::Name;
use wasmtime::Engine;
use wasmtime::component::InstancePre;

use crate::bindings::exports::exports::tidegate::plugin::{client_events, worker_events};
use crate::engine::Runtime;
use crate::host_api::HostState;

pub use error::PluginError;

/// One version of a plugin. Immutable; clones are handles to the same.
#[derive(Clone)]
pub struct Plugin {
    shared: Arc<Shared>,
}

struct Shared {
    version: Name,
    name: Name,
    source: Name,
    instance_pre: InstancePre<HostState>,
    client_events: client_events::GuestIndices,
    worker_events: Option<worker_events::GuestIndices>,
}

impl Plugin {
    /// The content hash: blake3, 64 hex digits.
    #[must_use]
    pub fn version(&self) -> &Name {
        &self.shared.version
    }

    /// The file's name without folder and extension.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Where it came from, as it was given.
    #[must_use]
    pub fn source(&self) -> &Name {
        &self.shared.source
    }

    /// The interfaces that it exports and the host calls.
    #[must_use]
    pub fn exports(&self) -> Vec<&'static str> {
        let mut exports = vec![check::CLIENT_EVENTS];
        if self.shared.worker_events.is_some() {
            exports.push(check::WORKER_EVENTS);
        }
        exports
    }

    pub(crate) fn instance_pre(&self) -> &InstancePre<HostState> {
        &self.shared.instance_pre
    }

    pub(crate) fn client_events(&self) -> &client_events::GuestIndices {
        &self.shared.client_events
    }

    pub(crate) fn worker_events(&self) -> Option<&worker_events::GuestIndices> {
        self.shared.worker_events.as_ref()
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("source", &self.shared.source)
            .field("version", &self.shared.version)
            .finish_non_exhaustive()
    }
}

/// The version that a plugin of these bytes would have.
#[must_use]
pub fn version_of(bytes: &[u8]) -> Name {
    Name::from(blake3::hash(bytes).to_hex().as_str())
}

/// Checks, compiles and links. Blocks for as long as the compiler needs.
pub(crate) fn load(runtime: &Runtime, source: &str, bytes: &[u8]) -> Result<Plugin, PluginError> {
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(PluginError::Precompiled {
            name: source.to_owned(),
        });
    }
    check::container(source, bytes)?;
    let version = version_of(bytes);
    let component = runtime
        .compile(&version, bytes)
        .map_err(|error| check::compile_error(source, &error))?;
    check::resources(runtime, source, &component)?;
    // Now, so that the first event of a swap does not pay for it.
    component
        .initialize_copy_on_write_image()
        .map_err(|error| check::compile_error(source, &error))?;
    let instance_pre = runtime
        .linker()
        .instantiate_pre(&component)
        .map_err(|error| check::link_error(runtime.engine(), source, &component, &error))?;
    check::exports(runtime.engine(), source, &instance_pre)?;
    let wrong = |error: wasmtime::Error| PluginError::WrongType {
        name: source.to_owned(),
        reason: format!("{error:#}"),
    };
    let client_events = client_events::GuestIndices::new(&instance_pre).map_err(wrong)?;
    let worker_events = check::has_worker_events(&component)
        .then(|| worker_events::GuestIndices::new(&instance_pre).map_err(wrong))
        .transpose()?;
    let name = Path::new(source)
        .file_stem()
        .map_or(source.into(), |stem| stem.to_string_lossy());
    Ok(Plugin {
        shared: Arc::new(Shared {
            version,
            name: Name::from(&*name),
            source: Name::from(source),
            instance_pre,
            client_events,
            worker_events,
        }),
    })
}
