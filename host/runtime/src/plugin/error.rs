//! Why a plugin is not accepted: one sentence each, and what to do about it.

use std::path::PathBuf;

use tidegate_wire::Name;

use super::PluginKind;
use super::check::offered;

/// Why a plugin cannot be loaded, or a version not be started.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file cannot be read.
    #[error("cannot read the plugin {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not wasm at all.
    #[error(
        "{name} is not a WebAssembly component: {found}; expected a file that starts with \\0asm"
    )]
    NotWasm {
        /// The plugin.
        name: String,
        /// What is there instead.
        found: String,
    },
    /// It ends too early.
    #[error(
        "{name} is cut short: {reason}; copy it again, best under another name and then rename it"
    )]
    Truncated {
        /// The plugin.
        name: String,
        /// Where it ends.
        reason: String,
    },
    /// A core module instead of a component.
    #[error(
        "{name} is a core module, not a component; build it with `--target wasm32-wasip2`, or wrap \
         it with `wasm-tools component new`"
    )]
    CoreModule {
        /// The plugin.
        name: String,
    },
    /// Compiled machine code.
    #[error(
        "{name} is compiled machine code, which cannot be checked; give the .wasm component itself"
    )]
    Precompiled {
        /// The plugin.
        name: String,
    },
    /// Not valid wasm.
    #[error("{name} is not a valid component: {reason}")]
    Invalid {
        /// The plugin.
        name: String,
        /// What the compiler says.
        reason: String,
    },
    /// It uses async functions, streams or futures of the component model.
    #[error(
        "{name} needs the async component model (WASI 0.3), which this host does not run: {reason}; \
         build it for WASI 0.2"
    )]
    NeedsAsync {
        /// The plugin.
        name: String,
        /// What the compiler says.
        reason: String,
    },
    /// The required export of each kind is missing.
    #[error("{name} exports neither `{handler}`, which every handler must, nor `{command}`, which makes a command component, nor `{codec}`, which makes a codec, nor `{router}`, which makes a router{}", similar.as_ref().map_or_else(String::new, |found| format!("; it exports `{found}`: build it against the host's version of the WIT package")))]
    OfNoKind {
        /// The plugin.
        name: String,
        /// The interface that makes a handler.
        handler: &'static str,
        /// The interface that makes a command component.
        command: &'static str,
        /// The interface that makes a codec.
        codec: &'static str,
        /// The interface that makes a router.
        router: &'static str,
        /// An export with nearly one of these names.
        similar: Option<String>,
    },
    /// It has the required exports of two kinds.
    #[error(
        "{name} exports both `{}` and `{}`; a {} and a {} are two files",
        exports[0], exports[1], kinds[0], kinds[1]
    )]
    BothKinds {
        /// The plugin.
        name: String,
        /// The interfaces, without their package.
        exports: [String; 2],
        /// What they make.
        kinds: [PluginKind; 2],
    },
    /// The other kind of component is wanted here.
    #[error("{name} is a {kind}; a {expected} is wanted here")]
    WrongKind {
        /// The plugin.
        name: String,
        /// What it is.
        kind: PluginKind,
        /// What is wanted.
        expected: PluginKind,
    },
    /// It imports something that the host does not offer.
    #[error("{name} imports `{import}`, which this host does not offer to a {kind}; it offers {}{hint}", offered(*kind).join(", "))]
    UnknownImport {
        /// The plugin.
        name: String,
        /// The import.
        import: String,
        /// What it is, and so what it may import.
        kind: PluginKind,
        /// How it is built without the import, if that is known.
        hint: &'static str,
    },
    /// An import or export of the contract with another type.
    #[error("{name} was built against another version of the contract: {reason}")]
    WrongType {
        /// The plugin.
        name: String,
        /// Which function, and how it differs.
        reason: String,
    },
    /// Larger than the host is configured for.
    #[error("{name} is too large: {reason}")]
    TooLarge {
        /// The plugin.
        name: String,
        /// What is too large and what would fit.
        reason: String,
    },
    /// The pool has no room for another instance.
    #[error(
        "there is no room for another instance of {name}: {reason}; raise the limit of instances"
    )]
    NoRoom {
        /// The plugin.
        name: String,
        /// Which limit.
        reason: String,
    },
    /// on-start returned an error.
    #[error("{name} refused to start: {text}")]
    StartRefused {
        /// The plugin.
        name: String,
        /// Its own words.
        text: String,
    },
    /// It broke before its first event: while it was instantiated or in on-start.
    #[error("{name} failed to start: {reason}")]
    StartFailed {
        /// The plugin.
        name: String,
        /// The trap or the limit.
        reason: String,
    },
    /// A version that is wanted again is not compiled any more.
    #[error("the version {version} is not kept; kept are {}: deploy its file again", kept.join(", "))]
    NotKept {
        /// Which.
        version: String,
        /// Those that are.
        kept: Vec<Name>,
    },
    /// There is nothing to promote.
    #[error("no version of {tenant} is tried on some of its clients")]
    NoCanary {
        /// The tenant.
        tenant: String,
    },
    /// Some clients tried it, and it did badly.
    #[error("version {version} does not become everybody's, it is taken back: {reason}")]
    DidBadly {
        /// Which.
        version: String,
        /// Which bound, and by how much.
        reason: String,
    },
    /// There is nothing to go back to.
    #[error("no version of {tenant} that served before is kept; name one, or deploy its file")]
    NoPrevious {
        /// The tenant.
        tenant: String,
    },
    /// The deployment has been stopped.
    #[error("{name} was not started: the deployment is stopped")]
    Stopped {
        /// The plugin.
        name: String,
    },
}
