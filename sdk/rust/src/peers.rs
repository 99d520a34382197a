//! Between the instances of the handler, on every worker: for what each keeps in its memory, such as
//! caches. Sending is an effect: it happens with the event that asks for it, or not at all.
//!
//! Every other instance gets the message in [`Handler::on_peer_message`](crate::Handler::on_peer_message),
//! at most once: it is lost with a link, with an instance that breaks or is replaced, and where too much
//! waits already. What must arrive belongs elsewhere.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Gateway;
//!
//! #[derive(Default)]
//! struct Prices {
//!     cached: HashMap<String, String>,
//! }
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Prices {
//!     fn on_message(&mut self, client: Client, message: Message) -> Result {
//!         let name = message.text()?;
//!         let price = self.cached.entry(name.to_owned()).or_insert_with(|| "7".to_owned());
//!         client.send(price.as_str())
//!     }
//!
//!     fn on_request(&mut self, name: &str, _: Vec<u8>) -> Result<Vec<u8>> {
//!         self.cached.remove(name);
//!         peers::send("price", name)?;
//!         Ok(Vec::new())
//!     }
//!
//!     fn on_peer_message(&mut self, _: &str, payload: Vec<u8>) -> Result {
//!         self.cached.remove(std::str::from_utf8(&payload)?);
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result {
//! // Each fake gateway has one instance.
//! let (mut one, mut other) = (Gateway::<Prices>::start()?, Gateway::<Prices>::start()?);
//! let client = other.connect()?;
//! other.send(client, "tea")?;
//! one.request("tea", "")?;
//! for (topic, payload) in one.peer_messages() {
//!     other.deliver_peer_message(&topic, payload)?;
//! }
//! assert!(other.handler().cached.is_empty());
//! # Ok(())
//! # }
//! ```

use crate::backend;
use crate::error::Result;

/// To all other instances: a topic of 1 to 255 bytes and at most 64 KiB. Nobody may be there.
pub fn send(topic: &str, payload: impl AsRef<[u8]>) -> Result {
    Ok(backend::tell_peers(topic, payload.as_ref())?)
}
