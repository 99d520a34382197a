//! The contract with plugins, read as a plugin author's tools read it: what it is called, which
//! worlds and interfaces there are, and that all of it is documented. An interface that the host
//! does not serve must not be there: who compiles against it would fail only when deployed.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this file is tests, its helpers too; ids come from the resolve they index"
)]

use std::collections::BTreeSet;
use std::path::Path;

use wit_parser::{PackageId, Resolve, Type, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem};

/// Every interface that the host serves or calls.
const INTERFACES: [&str; 22] = [
    "buffer-events",
    "client",
    "client-events",
    "commands",
    "directory",
    "framing",
    "gateway",
    "handshake-events",
    "hub",
    "peer-events",
    "peers",
    "request-events",
    "routing",
    "session",
    "state",
    "task-events",
    "tasks",
    "timer-events",
    "timers",
    "types",
    "worker",
    "worker-events",
];

/// What the smallest plugin may import and must export.
const HANDLER_IMPORTS: [&str; 11] = [
    "tidegate:plugin/client@0.1.0",
    "tidegate:plugin/directory@0.1.0",
    "tidegate:plugin/gateway@0.1.0",
    "tidegate:plugin/peers@0.1.0",
    "tidegate:plugin/session@0.1.0",
    "tidegate:plugin/tasks@0.1.0",
    "tidegate:plugin/timers@0.1.0",
    "tidegate:plugin/types@0.1.0",
    "tidegate:plugin/worker@0.1.0",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:logging/logging@0.1.0-draft",
];
/// What more one may import that answers requests by HTTP; all are types.
const HTTP_IMPORTS: [&str; 5] = [
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:http/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
];
/// What a command component may import. Of `directory` it uses types only.
const COMMAND_IMPORTS: [&str; 6] = [
    "tidegate:plugin/directory@0.1.0",
    "tidegate:plugin/gateway@0.1.0",
    "tidegate:plugin/hub@0.1.0",
    "tidegate:plugin/types@0.1.0",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:logging/logging@0.1.0-draft",
];
/// What a codec or a router may import.
const CODEC_IMPORTS: [&str; 3] = [
    "tidegate:plugin/types@0.1.0",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:logging/logging@0.1.0-draft",
];
const CLIENT_EVENTS: &str = "tidegate:plugin/client-events@0.1.0";
const WORKER_EVENTS: &str = "tidegate:plugin/worker-events@0.1.0";
const REQUEST_EVENTS: &str = "tidegate:plugin/request-events@0.1.0";
const HANDSHAKE_EVENTS: &str = "tidegate:plugin/handshake-events@0.1.0";
const TIMER_EVENTS: &str = "tidegate:plugin/timer-events@0.1.0";
const TASK_EVENTS: &str = "tidegate:plugin/task-events@0.1.0";
const BUFFER_EVENTS: &str = "tidegate:plugin/buffer-events@0.1.0";
const PEER_EVENTS: &str = "tidegate:plugin/peer-events@0.1.0";
const STATE: &str = "tidegate:plugin/state@0.1.0";
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.12";
const ROUTING: &str = "tidegate:plugin/routing@0.1.0";
const COMMANDS: &str = "tidegate:plugin/commands@0.1.0";
const FRAMING: &str = "tidegate:plugin/framing@0.1.0";

/// The parsed package.
fn contract() -> (Resolve, PackageId) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(folder)
        .expect("wit/ is a package that parses");
    (resolve, package)
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn world(resolve: &Resolve, package: PackageId, name: &str) -> WorldId {
    resolve
        .select_world(&[package], Some(name))
        .expect("the world is in the package")
}

/// Names of what a world imports and exports; all of it are interfaces.
fn sides(resolve: &Resolve, world: WorldId) -> (BTreeSet<String>, BTreeSet<String>) {
    let world = &resolve.worlds[world];
    let names = |items: &wit_parser::IndexMap<_, WorldItem>| {
        let interface = |item: &WorldItem| matches!(item, WorldItem::Interface { .. });
        assert!(
            items.values().all(interface),
            "{} has bare functions or types",
            world.name
        );
        items
            .keys()
            .map(|key| resolve.name_world_key(key))
            .collect()
    };
    (names(&world.imports), names(&world.exports))
}

#[test]
fn the_package_has_its_name_and_version() {
    let (resolve, package) = contract();
    assert_eq!(
        resolve.packages[package].name.to_string(),
        "tidegate:plugin@0.1.0"
    );
}

#[test]
fn there_are_handlers_with_all_events_or_the_least_commands_codecs_and_routers() {
    let (resolve, package) = contract();
    let worlds = resolve.packages[package].worlds.keys().map(String::as_str);
    assert_eq!(
        set(worlds),
        set(["handler", "full-handler", "command", "codec", "router"])
    );

    let handler = sides(&resolve, world(&resolve, package, "handler"));
    assert_eq!(handler, (set(HANDLER_IMPORTS), set([CLIENT_EVENTS])));
    let full = sides(&resolve, world(&resolve, package, "full-handler"));
    let events = set([
        BUFFER_EVENTS,
        CLIENT_EVENTS,
        HANDSHAKE_EVENTS,
        INCOMING_HANDLER,
        PEER_EVENTS,
        REQUEST_EVENTS,
        STATE,
        TASK_EVENTS,
        TIMER_EVENTS,
        WORKER_EVENTS,
    ]);
    let imports = HANDLER_IMPORTS.into_iter().chain(HTTP_IMPORTS);
    assert_eq!(full, (set(imports), events));
    let command = sides(&resolve, world(&resolve, package, "command"));
    assert_eq!(command, (set(COMMAND_IMPORTS), set([COMMANDS])));
    let codec = sides(&resolve, world(&resolve, package, "codec"));
    assert_eq!(codec, (set(CODEC_IMPORTS), set([FRAMING])));
    let router = sides(&resolve, world(&resolve, package, "router"));
    assert_eq!(router, (set(CODEC_IMPORTS), set([ROUTING])));
}

#[test]
fn only_interfaces_that_are_served_exist() {
    let (resolve, package) = contract();
    let interfaces = resolve.packages[package]
        .interfaces
        .keys()
        .map(String::as_str);
    assert_eq!(set(interfaces), set(INTERFACES));
}

#[test]
fn everything_in_the_contract_is_documented() {
    let (resolve, package) = contract();
    let package = &resolve.packages[package];
    let mut bare = Vec::new();
    if package.docs.is_empty() {
        bare.push("the package".to_owned());
    }
    for (name, &world) in &package.worlds {
        if resolve.worlds[world].docs.is_empty() {
            bare.push(format!("world {name}"));
        }
    }
    for (name, &interface) in &package.interfaces {
        let interface = &resolve.interfaces[interface];
        if interface.docs.is_empty() {
            bare.push(format!("interface {name}"));
        }
        let functions = interface
            .functions
            .iter()
            .filter(|(_, f)| f.docs.is_empty());
        bare.extend(functions.map(|(function, _)| format!("{name}.{function}")));
        let types = interface
            .types
            .iter()
            .filter(|(_, id)| is_bare(&resolve, **id));
        bare.extend(types.map(|(of, _)| format!("{name}.{of}")));
    }
    assert!(bare.is_empty(), "without documentation: {bare:?}");
}

/// Whether a type has no documentation. A type that is used from
/// another interface is documented there.
fn is_bare(resolve: &Resolve, id: TypeId) -> bool {
    let def = &resolve.types[id];
    if let TypeDefKind::Type(Type::Id(original)) = def.kind
        && matches!(resolve.types[original].owner, TypeOwner::Interface(_))
        && resolve.types[original].owner != def.owner
    {
        return false;
    }
    def.docs.is_empty()
}
