//! A plugin: bytes that were checked, compiled and linked, ready to be instantiated.
//!
//! All checks of a version happen here, once: that it is a component, of which kind, that every
//! import is offered to that kind and every export has the type of the contract. Nothing of the
//! plugin runs.

mod check;
mod error;
mod names;

use std::path::Path;
use std::sync::Arc;

use tidegate_wire::Name;
use tidegate_wire::deploy::version_of;
use wasmtime::Engine;
use wasmtime::component::InstancePre;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use crate::bindings::codec::exports::tidegate::plugin::framing;
use crate::bindings::exports::exports::tidegate::plugin::{
    buffer_events, client_events, commands, handshake_events, peer_events, request_events, routing,
    state, task_events, timer_events, worker_events,
};
use crate::engine::{Runtime, read_file};
use crate::host_api::HostState;

pub use error::PluginError;

/// One version of a plugin. Immutable; clones are handles to the same.
#[derive(Clone)]
pub struct Plugin {
    shared: Arc<PluginShared>,
}

struct PluginShared {
    version: Name,
    name: Name,
    source: Name,
    instance_pre: InstancePre<HostState>,
    exports: Exports,
}

/// What a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginKind {
    /// Handles events, at a worker.
    Handler,
    /// Runs custom commands, at a gateway.
    Command,
    /// Turns the bytes of a listener into messages and back, at a gateway.
    Codec,
    /// Chooses workers for events, at a gateway.
    Router,
}

impl std::fmt::Display for PluginKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Handler => "handler",
            Self::Command => "command component",
            Self::Codec => "codec",
            Self::Router => "router",
        })
    }
}

/// The interfaces that the host calls.
enum Exports {
    Handler(Box<HandlerExports>),
    Command(commands::GuestIndices),
    Codec(framing::GuestIndices),
    Router(routing::GuestIndices),
}

/// Those of a handler.
pub(crate) struct HandlerExports {
    pub(crate) client_events: client_events::GuestIndices,
    pub(crate) request_events: Option<request_events::GuestIndices>,
    pub(crate) handshake_events: Option<handshake_events::GuestIndices>,
    pub(crate) timer_events: Option<timer_events::GuestIndices>,
    pub(crate) task_events: Option<task_events::GuestIndices>,
    pub(crate) buffer_events: Option<buffer_events::GuestIndices>,
    pub(crate) peer_events: Option<peer_events::GuestIndices>,
    pub(crate) state: Option<state::GuestIndices>,
    pub(crate) worker_events: Option<worker_events::GuestIndices>,
    pub(crate) http: Option<incoming_handler::GuestIndices>,
}

impl Plugin {
    /// The content hash, see [`version_of`].
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

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> PluginKind {
        match &self.shared.exports {
            Exports::Handler(_) => PluginKind::Handler,
            Exports::Command(_) => PluginKind::Command,
            Exports::Codec(_) => PluginKind::Codec,
            Exports::Router(_) => PluginKind::Router,
        }
    }

    /// The interfaces that it exports and the host calls.
    #[must_use]
    pub fn exports(&self) -> Vec<&'static str> {
        let exports = match &self.shared.exports {
            Exports::Handler(exports) => exports,
            Exports::Command(_) => return vec![check::COMMANDS],
            Exports::Codec(_) => return vec![check::FRAMING],
            Exports::Router(_) => return vec![check::ROUTING],
        };
        let mut names = vec![check::CLIENT_EVENTS];
        if exports.request_events.is_some() {
            names.push(check::REQUEST_EVENTS);
        }
        if exports.handshake_events.is_some() {
            names.push(check::HANDSHAKE_EVENTS);
        }
        if exports.timer_events.is_some() {
            names.push(check::TIMER_EVENTS);
        }
        if exports.task_events.is_some() {
            names.push(check::TASK_EVENTS);
        }
        if exports.buffer_events.is_some() {
            names.push(check::BUFFER_EVENTS);
        }
        if exports.peer_events.is_some() {
            names.push(check::PEER_EVENTS);
        }
        if exports.state.is_some() {
            names.push(check::STATE);
        }
        if exports.worker_events.is_some() {
            names.push(check::WORKER_EVENTS);
        }
        if exports.http.is_some() {
            names.push(check::INCOMING_HANDLER);
        }
        names
    }

    pub(crate) fn instance_pre(&self) -> &InstancePre<HostState> {
        &self.shared.instance_pre
    }

    /// That it is of this kind.
    ///
    /// # Errors
    /// Says what it is instead.
    pub fn expect_kind(&self, kind: PluginKind) -> Result<(), PluginError> {
        if self.kind() == kind {
            return Ok(());
        }
        Err(self.wrong_kind(kind))
    }

    /// The exports of a handler, or an error if it is none.
    pub(crate) fn handler(&self) -> Result<&HandlerExports, PluginError> {
        match &self.shared.exports {
            Exports::Handler(exports) => Ok(exports),
            Exports::Command(_) | Exports::Codec(_) | Exports::Router(_) => {
                Err(self.wrong_kind(PluginKind::Handler))
            }
        }
    }

    /// Whether it takes messages of other instances.
    pub(crate) fn hears_peers(&self) -> bool {
        let exports = self.handler();
        exports.is_ok_and(|exports| exports.peer_events.is_some())
    }

    /// Whether it takes requests by HTTP.
    pub(crate) fn takes_http(&self) -> bool {
        let exports = self.handler();
        exports.is_ok_and(|exports| exports.http.is_some())
    }

    /// The export of a command component, or an error if it is none.
    pub(crate) fn commands(&self) -> Result<&commands::GuestIndices, PluginError> {
        match &self.shared.exports {
            Exports::Command(commands) => Ok(commands),
            Exports::Handler(_) | Exports::Codec(_) | Exports::Router(_) => {
                Err(self.wrong_kind(PluginKind::Command))
            }
        }
    }

    /// The export of a codec, or an error if it is none.
    pub(crate) fn framing(&self) -> Result<&framing::GuestIndices, PluginError> {
        match &self.shared.exports {
            Exports::Codec(framing) => Ok(framing),
            Exports::Handler(_) | Exports::Command(_) | Exports::Router(_) => {
                Err(self.wrong_kind(PluginKind::Codec))
            }
        }
    }

    /// The export of a router, or an error if it is none.
    pub(crate) fn routing(&self) -> Result<&routing::GuestIndices, PluginError> {
        match &self.shared.exports {
            Exports::Router(routing) => Ok(routing),
            Exports::Handler(_) | Exports::Command(_) | Exports::Codec(_) => {
                Err(self.wrong_kind(PluginKind::Router))
            }
        }
    }

    fn wrong_kind(&self, expected: PluginKind) -> PluginError {
        PluginError::WrongKind {
            name: self.source().to_string(),
            kind: self.kind(),
            expected,
        }
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

/// Looks at a file without compiling it: whether it is a component of this kind that imports nothing
/// which the host lacks. A file that passes may still be refused when it is loaded.
///
/// # Errors
/// Says what is wrong with the file and what to do about it.
pub async fn look_at(path: &Path, expected: PluginKind) -> Result<(), PluginError> {
    let bytes = read_file(path).await?;
    let name = path.display().to_string();
    match look(&name, &bytes)? {
        Some(kind) if kind != expected => Err(PluginError::WrongKind {
            name,
            kind,
            expected,
        }),
        Some(_) | None => Ok(()),
    }
}

/// What can be told of a component before it is compiled: its kind, unless it does not parse.
fn look(source: &str, bytes: &[u8]) -> Result<Option<PluginKind>, PluginError> {
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(PluginError::Precompiled {
            name: source.to_owned(),
        });
    }
    check::container(source, bytes)?;
    let names = names::of(bytes);
    names.map(|names| check::names(source, &names)).transpose()
}

/// Checks, compiles and links. Blocks for as long as the compiler needs.
pub(crate) fn load(runtime: &Runtime, source: &str, bytes: &[u8]) -> Result<Plugin, PluginError> {
    look(source, bytes)?;
    let version = version_of(bytes);
    let component = runtime
        .compile(&version, bytes)
        .map_err(|error| check::compile_error(source, &error))?;
    check::resources(runtime, source, &component)?;
    // Now, so that the first event of a swap does not pay for it.
    component
        .initialize_copy_on_write_image()
        .map_err(|error| check::compile_error(source, &error))?;
    let known = check::kind_of_component(source, &component)?;
    let kind = known.unwrap_or(PluginKind::Handler);
    let instance_pre = runtime
        .linker(kind)
        .instantiate_pre(&component)
        .map_err(|error| check::link_error(runtime.engine(), source, kind, &component, &error))?;
    let exports = match known {
        Some(PluginKind::Handler) => handler_exports(source, &instance_pre)?,
        Some(PluginKind::Command) => command_exports(source, &instance_pre)?,
        Some(PluginKind::Codec) => codec_exports(source, &instance_pre)?,
        Some(PluginKind::Router) => router_exports(source, &instance_pre)?,
        // Its names were not read, or it would have been refused by them.
        None => return Err(check::of_no_kind(source, &[])),
    };
    let name = Path::new(source)
        .file_stem()
        .map_or(source.into(), |stem| stem.to_string_lossy());
    Ok(Plugin {
        shared: Arc::new(PluginShared {
            version,
            name: Name::from(&*name),
            source: Name::from(source),
            instance_pre,
            exports,
        }),
    })
}

fn handler_exports(source: &str, pre: &InstancePre<HostState>) -> Result<Exports, PluginError> {
    check::handler(source, pre)?;
    let wrong = |error| check::wrong_type(source, &error);
    let client_events = client_events::GuestIndices::new(pre).map_err(wrong)?;
    let request_events = check::has(pre.component(), check::REQUEST_EVENTS)
        .then(|| request_events::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    let handshake_events = check::has(pre.component(), check::HANDSHAKE_EVENTS)
        .then(|| handshake_events::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    let timer_events = check::has(pre.component(), check::TIMER_EVENTS)
        .then(|| timer_events::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    let task_events = check::has(pre.component(), check::TASK_EVENTS)
        .then(|| task_events::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    let buffer_events = check::has(pre.component(), check::BUFFER_EVENTS)
        .then(|| buffer_events::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    let peer_events = check::has(pre.component(), check::PEER_EVENTS)
        .then(|| peer_events::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    let state = check::has(pre.component(), check::STATE)
        .then(|| state::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    let worker_events = check::has(pre.component(), check::WORKER_EVENTS)
        .then(|| worker_events::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    let http = check::has(pre.component(), check::INCOMING_HANDLER)
        .then(|| incoming_handler::GuestIndices::new(pre).map_err(wrong))
        .transpose()?;
    Ok(Exports::Handler(Box::new(HandlerExports {
        client_events,
        request_events,
        handshake_events,
        timer_events,
        task_events,
        buffer_events,
        peer_events,
        state,
        worker_events,
        http,
    })))
}

fn command_exports(source: &str, pre: &InstancePre<HostState>) -> Result<Exports, PluginError> {
    check::command(source, pre)?;
    let commands = commands::GuestIndices::new(pre);
    let commands = commands.map_err(|error| check::wrong_type(source, &error))?;
    Ok(Exports::Command(commands))
}

fn codec_exports(source: &str, pre: &InstancePre<HostState>) -> Result<Exports, PluginError> {
    check::codec(source, pre)?;
    let framing = framing::GuestIndices::new(pre);
    let framing = framing.map_err(|error| check::wrong_type(source, &error))?;
    Ok(Exports::Codec(framing))
}

fn router_exports(source: &str, pre: &InstancePre<HostState>) -> Result<Exports, PluginError> {
    check::router(source, pre)?;
    let routing = routing::GuestIndices::new(pre);
    let routing = routing.map_err(|error| check::wrong_type(source, &error))?;
    Ok(Exports::Router(routing))
}
