//! The bench plugin in Rust. Its protocol is in `README.md`; `bench-c` and `bench-js` speak it
//! too. It keeps nothing in memory, so that any instance may serve any event.

use tidegate_sdk::prelude::*;

mod command;
mod misbehave;
#[cfg(test)]
mod tests;

use command::Command;

/// The plugin.
#[derive(Default)]
pub struct Bench;

#[tidegate_sdk::handler]
impl Handler for Bench {
    fn on_connect(&mut self, client: Client, _: Peer, request: Option<HttpRequest>) -> Result {
        match request.as_ref().and_then(|request| request.query("hello")) {
            Some(hello) => client.send(hello),
            None => Ok(()),
        }
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        Command::read(&message)?.run(client)
    }

    fn on_close(&mut self, client: Client, closed: Closed) -> Result {
        let uid = closed.uid.as_deref().unwrap_or("-");
        let groups = closed.groups.join(",");
        let session = session::get_json("k")?;
        let session = session.as_deref().unwrap_or("null");
        let reason = closed.reason.name();
        gateway::to_group("watchers")
            .send(format!("closed:{client}:{reason}:{uid}:{groups}:{session}"))
    }
}
