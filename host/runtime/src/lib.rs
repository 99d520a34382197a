//! Runs handler and command components on Wasmtime; knows no cluster socket.
//!
//! A [`Runtime`] compiles a file into a [`Plugin`]; a [`Deployment`] runs it on a number of
//! instances, gives each client's events to one of them in order, and swaps versions between two
//! events. What a handler asked for comes back as a commit through [`EventContext`]. A
//! [`CommandDeployment`] runs a tenant's custom commands beside a gateway's hub, a [`CodecDeployment`]
//! turns bytes of its listeners into messages and back, a [`RouterDeployment`] chooses workers there. Whatever a plugin
//! does (trap, spin, wait, grow) costs its own instance and nobody else.

mod bindings;
mod cache;
mod codec;
mod command;
mod compilers;
mod dead_letter;
mod deployment;
mod engine;
mod host_api;
mod instance;
mod limits;
mod on_demand;
mod plugin;
mod router;
mod version;
mod watch;

pub use codec::{
    CodecDeployment, CodecFault, CodecInput, CodecJob, CodecOutcome, CodecPart, CodecSettings,
    Decoded,
};
pub use command::{CommandCall, CommandDeployment, CommandResult, HubAccess};
pub use dead_letter::DeadLetter;
pub use deployment::{
    Asking, Bounds, Boxed, Condemned, Deployment, DeploymentSettings, EventContext, Job, Prepared,
    Rollout, Tried, VersionRecord, VersionState,
};
pub use engine::{Runtime, RuntimeError, RuntimeSettings};
pub use limits::Limits;
pub use on_demand::OnDemandSettings;
pub use plugin::{Plugin, PluginError, PluginKind, look_at};
pub use router::RouterDeployment;
pub use watch::{Swap, Watching, look_at_plugins, watch};
