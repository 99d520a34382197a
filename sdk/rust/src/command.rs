//! Custom gateway commands: a component of its own, run beside the hub of each gateway.

use crate::error::Result;

/// A command component: one type, exported with
/// [`#[tidegate_sdk::command]`](macro@crate::command).
///
/// It is called from handlers ([`directory::command`](fn@crate::directory::command),
/// [`gateway::command`](crate::gateway::command)) and through the Client API, on one gateway, some
/// or all. It sees the clients of its own gateway through [`hub`](crate::hub); what it asks for
/// through [`gateway`](crate::gateway) and [`Client`](crate::Client) takes effect when it returns
/// ok. An error, a trap or a time-out drops the effects, and the caller is told which.
///
/// A value lives in each instance and is made when the instance is first called; a trap costs the
/// instance with its memory. `directory`, `session` and `worker` are for handlers: a command
/// component that uses them is refused when it is loaded.
///
/// ```
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::testing::CommandGateway;
///
/// #[derive(Default)]
/// struct Commands;
///
/// #[tidegate_sdk::command]
/// impl Command for Commands {
///     fn execute(&mut self, name: &str, payload: Vec<u8>) -> Result<Vec<u8>> {
///         match name {
///             "count" => Ok(hub::count(&hub::everyone())?.to_string().into_bytes()),
///             "tell" => {
///                 gateway::to_all().send(payload)?;
///                 Ok(Vec::new())
///             }
///             other => bail!("unknown command {other:?}: count or tell is expected"),
///         }
///     }
/// }
///
/// # fn main() -> Result {
/// let mut gateway = CommandGateway::<Commands>::start();
/// let client = gateway.connect()?;
/// assert_eq!(gateway.execute("count", b"")?, b"1");
/// gateway.execute("tell", b"all")?;
/// assert_eq!(gateway.received(client), [Message::Binary(b"all".to_vec())]);
/// # Ok(())
/// # }
/// ```
pub trait Command: Default + 'static {
    /// Runs one command. The answer, or the error's text, goes to the caller, if one waits.
    fn execute(&mut self, name: &str, payload: Vec<u8>) -> Result<Vec<u8>>;
}
