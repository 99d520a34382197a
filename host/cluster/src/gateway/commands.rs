//! Custom commands, as the gateway sees them: something that runs beside the hub, never on a
//! shard's thread.

mod local;
mod run;

use std::net::SocketAddrV4;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::query::{Answer, AskError, CommandError, Query};

pub(super) use run::Runner;

/// A future that can be sent to another thread.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One call of a command.
#[derive(Clone, Debug)]
pub struct CommandCall {
    /// Whose command.
    pub tenant: Name,
    /// Which one.
    pub name: Name,
    /// Its argument.
    pub payload: Bytes,
    /// How long it may run.
    pub within: Duration,
}

/// The tenant's part of this gateway's hub, for a command that runs beside it.
pub trait LocalHub: Send + Sync + 'static {
    /// The announced address of this gateway.
    fn address(&self) -> SocketAddrV4;
    /// Asks the shards of this gateway and nobody else.
    fn ask(&self, query: Query) -> Boxed<Result<Answer, AskError>>;
}

/// What runs custom commands. Bounds how many run at once and how long each runs; never blocks the
/// caller's thread.
pub trait Commands: Send + Sync + 'static {
    /// Runs one command: its answer, and the effects that it asked for, which the gateway applies.
    fn execute(
        &self,
        call: CommandCall,
        hub: Box<dyn LocalHub>,
    ) -> Boxed<Result<(Bytes, Vec<Effect>), CommandError>>;
}

/// Of a gateway without command components.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoCommands;

impl Commands for NoCommands {
    fn execute(
        &self,
        _call: CommandCall,
        _hub: Box<dyn LocalHub>,
    ) -> Boxed<Result<(Bytes, Vec<Effect>), CommandError>> {
        Box::pin(std::future::ready(Err(CommandError::Absent)))
    }
}
