//! What is wrong with a plugin, found out before anything of it runs.

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentNamedList, InstancePre, Lift, Lower, Resource};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::names::Names;
use super::{PluginError, PluginKind};
use crate::bindings::codec::exports::tidegate::plugin::framing;
use crate::bindings::exports::exports::tidegate::plugin::{
    client_events as client, handshake_events as handshake, routing,
};
use crate::engine::Runtime;
use crate::host_api::{HostState, OFFERED_TO_ANSWERERS, OFFERED_TO_COMMANDS, OFFERED_TO_HANDLERS};

pub(super) const CLIENT_EVENTS: &str = "tidegate:plugin/client-events@0.1.0";
pub(super) const COMMANDS: &str = "tidegate:plugin/commands@0.1.0";
pub(super) const FRAMING: &str = "tidegate:plugin/framing@0.1.0";
pub(super) const ROUTING: &str = "tidegate:plugin/routing@0.1.0";
pub(super) const REQUEST_EVENTS: &str = "tidegate:plugin/request-events@0.1.0";
pub(super) const HANDSHAKE_EVENTS: &str = "tidegate:plugin/handshake-events@0.1.0";
pub(super) const TIMER_EVENTS: &str = "tidegate:plugin/timer-events@0.1.0";
pub(super) const TASK_EVENTS: &str = "tidegate:plugin/task-events@0.1.0";
pub(super) const BUFFER_EVENTS: &str = "tidegate:plugin/buffer-events@0.1.0";
pub(super) const PEER_EVENTS: &str = "tidegate:plugin/peer-events@0.1.0";
pub(super) const STATE: &str = "tidegate:plugin/state@0.1.0";
pub(super) const WORKER_EVENTS: &str = "tidegate:plugin/worker-events@0.1.0";
/// Any 0.2 of a component is found by it.
pub(super) const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.0";

/// SpiderMonkey's builds import it unless they are told not to, whether a script uses it or not.
const WITHOUT_HTTP: &str = "; JavaScript is built without it by `jco componentize --disable http \
                            fetch-event` (componentize-js: `disableFeatures: ['http', \
                            'fetch-event']`), other languages by leaving out the HTTP client";

const MAGIC: &[u8] = b"\0asm";
const WASM_PAGE_BYTES: u64 = 65_536;

type Answer = (Result<(), String>,);
type Verdict<R> = (Result<handshake::Accepted, R>,);
type BytesAnswer = (Result<Vec<u8>, String>,);

/// Looks at the container alone: the preamble, and that no section ends behind the file.
pub(super) fn container(name: &str, bytes: &[u8]) -> Result<(), PluginError> {
    let not_wasm = |found: &str| PluginError::NotWasm {
        name: name.to_owned(),
        found: found.to_owned(),
    };
    let truncated = |reason: String| PluginError::Truncated {
        name: name.to_owned(),
        reason,
    };
    if bytes.is_empty() {
        return Err(truncated("the file is empty".to_owned()));
    }
    let Some((preamble, mut rest)) = bytes.split_at_checked(8) else {
        let start = bytes
            .get(..bytes.len().min(MAGIC.len()))
            .unwrap_or_default();
        return Err(if MAGIC.starts_with(start) {
            truncated(format!("it has only {} bytes", bytes.len()))
        } else {
            not_wasm("it starts otherwise")
        });
    };
    match preamble.strip_prefix(MAGIC) {
        Some([0x0d, 0, 1, 0]) => {}
        Some([1, 0, 0, 0]) => {
            return Err(PluginError::CoreModule {
                name: name.to_owned(),
            });
        }
        Some(_) => return Err(not_wasm("it has an unknown version of the format")),
        None if bytes.trim_ascii_start().starts_with(b"(") => {
            return Err(not_wasm(
                "it looks like the text format (use `wasm-tools parse`)",
            ));
        }
        None => return Err(not_wasm("it starts otherwise")),
    }
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        let Some((length, body)) = section(rest) else {
            return Err(truncated(format!(
                "it ends within the head of a section at byte {offset}"
            )));
        };
        rest = usize::try_from(length)
            .ok()
            .and_then(|length| body.get(length..))
            .ok_or_else(|| {
                truncated(format!(
                    "the section at byte {offset} says {length} bytes, only {} are there",
                    body.len()
                ))
            })?;
    }
    Ok(())
}

/// The length of the section at the front, and what follows its head.
fn section(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (_id, mut rest) = bytes.split_first()?;
    let mut length = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((length, rest));
        }
    }
    // Longer than any length may be: let the parser say so.
    Some((0, &[]))
}

/// The engine has only text to say why; the known cases get a sentence of their own.
pub(super) fn compile_error(name: &str, error: &wasmtime::Error) -> PluginError {
    let name = name.to_owned();
    let reason = format!("{error:#}");
    if reason.contains("async") {
        PluginError::NeedsAsync { name, reason }
    } else if reason.contains("pooling") || reason.contains("exceeds the limit") {
        PluginError::TooLarge { name, reason }
    } else {
        PluginError::Invalid { name, reason }
    }
}

/// Whether it would ever fit.
pub(super) fn resources(
    runtime: &Runtime,
    name: &str,
    component: &Component,
) -> Result<(), PluginError> {
    let Some(required) = component.resources_required() else {
        return Ok(());
    };
    let bytes = required
        .max_initial_memory_size
        .map_or(0, |pages| pages.saturating_mul(WASM_PAGE_BYTES));
    let bytes_max = runtime.memory_bytes_max();
    if usize::try_from(bytes).is_ok_and(|bytes| bytes <= bytes_max) {
        return Ok(());
    }
    Err(PluginError::TooLarge {
        name: name.to_owned(),
        reason: format!(
            "it starts with a memory of {bytes} bytes, the host allows {bytes_max} per instance"
        ),
    })
}

/// Its kind, if it imports nothing that this kind is not offered.
pub(super) fn names(name: &str, names: &Names) -> Result<PluginKind, PluginError> {
    let exports = |wanted: &str| names.exports.iter().any(|export| export == wanted);
    let kind = kind(name, exports)?;
    let offered_to = kind.unwrap_or(PluginKind::Handler);
    let mut imports = names.imports.iter();
    if let Some(import) = imports.find(|import| !is_offered(offered_to, import)) {
        return Err(unknown_import(name, offered_to, import));
    }
    kind.ok_or_else(|| of_no_kind(name, &names.exports))
}

/// Which kind of component it is, by what it exports; none if it is none of them.
pub(super) fn kind_of_component(
    name: &str,
    component: &Component,
) -> Result<Option<PluginKind>, PluginError> {
    kind(name, |interface| has(component, interface))
}

/// What makes each kind.
const KINDS: [(&str, PluginKind); 4] = [
    (CLIENT_EVENTS, PluginKind::Handler),
    (COMMANDS, PluginKind::Command),
    (FRAMING, PluginKind::Codec),
    (ROUTING, PluginKind::Router),
];

fn kind(name: &str, exports: impl Fn(&str) -> bool) -> Result<Option<PluginKind>, PluginError> {
    let mut kinds = KINDS
        .into_iter()
        .filter(|(interface, _)| exports(interface));
    let kind = kinds.next();
    match (kind, kinds.next()) {
        (Some((one, of_one)), Some((other, of_other))) => Err(PluginError::BothKinds {
            name: name.to_owned(),
            exports: [stem(one), stem(other)],
            kinds: [of_one, of_other],
        }),
        (kind, _) => Ok(kind.map(|(_, kind)| kind)),
    }
}

/// An interface without package and version.
fn stem(interface: &str) -> String {
    let text = interface.split('@').next().unwrap_or_default();
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

pub(super) fn has(component: &Component, interface: &str) -> bool {
    component.get_export_index(None, interface).is_some()
}

/// Names the import that the linker did not find, else passes on what the linker says.
pub(super) fn link_error(
    engine: &Engine,
    name: &str,
    kind: PluginKind,
    component: &Component,
    error: &wasmtime::Error,
) -> PluginError {
    let ty = component.component_type();
    let unknown = ty
        .imports(engine)
        .map(|(import, _)| import)
        .find(|import| !is_offered(kind, import));
    match unknown {
        Some(import) => unknown_import(name, kind, import),
        None => wrong_type(name, error),
    }
}

fn unknown_import(name: &str, kind: PluginKind, import: &str) -> PluginError {
    PluginError::UnknownImport {
        name: name.to_owned(),
        import: import.to_owned(),
        kind,
        hint: match import.starts_with("wasi:http/") {
            true => WITHOUT_HTTP,
            false => "",
        },
    }
}

pub(super) fn wrong_type(name: &str, error: &wasmtime::Error) -> PluginError {
    PluginError::WrongType {
        name: name.to_owned(),
        reason: format!("{error:#}"),
    }
}

/// What this kind may import, for messages.
pub(super) const fn offered(kind: PluginKind) -> &'static [&'static str] {
    match kind {
        PluginKind::Handler => OFFERED_TO_HANDLERS,
        PluginKind::Command => OFFERED_TO_COMMANDS,
        PluginKind::Codec | PluginKind::Router => OFFERED_TO_ANSWERERS,
    }
}

fn is_offered(kind: PluginKind, import: &str) -> bool {
    offered(kind).iter().any(|offered| {
        let offered = offered.split(' ').next().unwrap_or_default();
        match offered.split_once('*') {
            Some((package, version)) => import.starts_with(package) && import.contains(version),
            None => import == offered,
        }
    })
}

/// That all functions of a handler that the host calls have the right types.
pub(super) fn handler(name: &str, pre: &InstancePre<HostState>) -> Result<(), PluginError> {
    let component = pre.component();
    let wrong = |reason| PluginError::WrongType {
        name: name.to_owned(),
        reason,
    };
    type Id<'a> = &'a str;
    function::<(Id<'_>, client::Peer<'_>, Option<client::HttpRequest<'_>>), Answer>(
        pre,
        CLIENT_EVENTS,
        "on-connect",
    )
    .map_err(wrong)?;
    function::<(Id<'_>, client::Message<'_>), Answer>(pre, CLIENT_EVENTS, "on-message")
        .map_err(wrong)?;
    function::<(Id<'_>, client::Closed<'_>), Answer>(pre, CLIENT_EVENTS, "on-close")
        .map_err(wrong)?;
    if has(component, REQUEST_EVENTS) {
        function::<(&str, &[u8]), BytesAnswer>(pre, REQUEST_EVENTS, "on-request").map_err(wrong)?;
    }
    if has(component, HANDSHAKE_EVENTS) {
        function::<(client::Peer<'_>, client::HttpRequest<'_>), Verdict<handshake::Rejected>>(
            pre,
            HANDSHAKE_EVENTS,
            "on-handshake",
        )
        .map_err(wrong)?;
        function::<(client::Peer<'_>, client::Message<'_>), Verdict<String>>(
            pre,
            HANDSHAKE_EVENTS,
            "on-sign-in",
        )
        .map_err(wrong)?;
    }
    if has(component, TIMER_EVENTS) {
        function::<(Option<Id<'_>>, &str, &[u8]), Answer>(pre, TIMER_EVENTS, "on-timer")
            .map_err(wrong)?;
    }
    if has(component, TASK_EVENTS) {
        function::<(Option<Id<'_>>, &str, &[u8]), BytesAnswer>(pre, TASK_EVENTS, "on-task")
            .map_err(wrong)?;
        function::<(Option<Id<'_>>, &str, Result<&[u8], &str>), Answer>(
            pre,
            TASK_EVENTS,
            "on-finished",
        )
        .map_err(wrong)?;
    }
    if has(component, BUFFER_EVENTS) {
        function::<(Id<'_>, u64), Answer>(pre, BUFFER_EVENTS, "on-buffer-full").map_err(wrong)?;
        function::<(Id<'_>,), Answer>(pre, BUFFER_EVENTS, "on-buffer-drain").map_err(wrong)?;
    }
    if has(component, PEER_EVENTS) {
        function::<(&str, &[u8]), Answer>(pre, PEER_EVENTS, "on-peer-message").map_err(wrong)?;
    }
    if has(component, STATE) {
        function::<(), (Vec<u8>,)>(pre, STATE, "save").map_err(wrong)?;
        function::<(&str, &[u8]), Answer>(pre, STATE, "restore").map_err(wrong)?;
    }
    if has(component, WORKER_EVENTS) {
        function::<(&str,), Answer>(pre, WORKER_EVENTS, "on-start").map_err(wrong)?;
        function::<(), ()>(pre, WORKER_EVENTS, "on-stop").map_err(wrong)?;
    }
    if has(component, INCOMING_HANDLER) {
        type Http = (
            Resource<HostIncomingRequest>,
            Resource<HostResponseOutparam>,
        );
        function::<Http, ()>(pre, INCOMING_HANDLER, "handle").map_err(wrong)?;
    }
    Ok(())
}

/// The same of a command component.
pub(super) fn command(name: &str, pre: &InstancePre<HostState>) -> Result<(), PluginError> {
    function::<(&str, &[u8]), BytesAnswer>(pre, COMMANDS, "execute").map_err(|reason| {
        PluginError::WrongType {
            name: name.to_owned(),
            reason,
        }
    })
}

/// The same of a codec.
pub(super) fn codec(name: &str, pre: &InstancePre<HostState>) -> Result<(), PluginError> {
    type Answered<T> = (Result<T, String>,);
    type Framed<'a> = framing::Connection<'a>;
    let wrong = |reason| PluginError::WrongType {
        name: name.to_owned(),
        reason,
    };
    function::<(Framed<'_>, &[u8], bool), Answered<framing::Decoded>>(pre, FRAMING, "decode")
        .map_err(wrong)?;
    function::<(Framed<'_>, framing::MessageParam<'_>), Answered<framing::Encoded>>(
        pre, FRAMING, "encode",
    )
    .map_err(wrong)
}

/// The same of a router.
pub(super) fn router(name: &str, pre: &InstancePre<HostState>) -> Result<(), PluginError> {
    type Asked<'a> = (routing::Event<'a>, &'a [routing::Candidate<'a>]);
    function::<Asked<'_>, (Option<u32>,)>(pre, ROUTING, "route").map_err(|reason| {
        PluginError::WrongType {
            name: name.to_owned(),
            reason,
        }
    })
}

fn function<Params, Return>(
    pre: &InstancePre<HostState>,
    interface: &str,
    name: &str,
) -> Result<(), String>
where
    Params: ComponentNamedList + Lower,
    Return: ComponentNamedList + Lift,
{
    let component = pre.component();
    let item = component
        .get_export_index(None, interface)
        .and_then(|interface| component.get_export(Some(&interface), name));
    let Some((ComponentItem::ComponentFunc(function), _)) = item else {
        return Err(format!("`{interface}` lacks the function `{name}`"));
    };
    function
        .typecheck::<Params, Return>(&pre.instance_type())
        .map_err(|error| format!("`{name}` of `{interface}` has another type: {error:#}"))
}

pub(super) fn of_no_kind(name: &str, exports: &[String]) -> PluginError {
    let stems = KINDS.map(|(interface, _)| stem(interface));
    let mut exports = exports.iter();
    let similar = exports
        .find(|export| stems.contains(&stem(export)))
        .cloned();
    PluginError::OfNoKind {
        name: name.to_owned(),
        handler: CLIENT_EVENTS,
        command: COMMANDS,
        codec: FRAMING,
        router: ROUTING,
        similar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_patch_of_wasi_0_2_is_offered_and_other_versions_are_not() {
        let offered = |import| is_offered(PluginKind::Handler, import);
        assert!(offered("wasi:cli/environment@0.2.6"));
        assert!(offered("wasi:logging/logging@0.1.0-draft"));
        assert!(!offered("wasi:cli/environment@0.3.0"));
        assert!(offered("wasi:http/types@0.2.6"));
        assert!(!offered("wasi:http/types@0.3.0"));
        assert!(!offered("wasi:http/outgoing-handler@0.2.6"));
    }

    #[test]
    fn each_kind_is_offered_its_own_interfaces() {
        let all = |import| KINDS.map(|(_, kind)| is_offered(kind, import));
        assert_eq!(
            all("tidegate:plugin/gateway@0.1.0"),
            [true, true, false, false]
        );
        assert_eq!(
            all("tidegate:plugin/session@0.1.0"),
            [true, false, false, false]
        );
        assert_eq!(
            all("tidegate:plugin/hub@0.1.0"),
            [false, true, false, false]
        );
        assert_eq!(
            all("wasi:config/store@0.2.0-rc.1"),
            [true, true, true, true]
        );
    }
}
