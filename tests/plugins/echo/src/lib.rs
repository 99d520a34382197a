//! A guest that sends every message back as it came, and says nothing else: for test suites of
//! others, such as Autobahn's.

use tidegate_sdk::prelude::*;

/// The plugin.
#[derive(Default)]
pub struct Echo;

#[tidegate_sdk::handler]
impl Handler for Echo {
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        client.send(message)
    }
}
