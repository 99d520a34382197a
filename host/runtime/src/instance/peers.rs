//! Messages of other instances: calls without an event, and so without effects.

use tidegate_wire::peers::PeerMessage;
use tokio::time::{Instant, timeout_at};

use super::Instance;
use super::failure::Failure;
use super::store::{begin_call, ended};

impl Instance {
    /// Whether it takes messages of other instances.
    pub(crate) const fn hears_peers(&self) -> bool {
        self.peer_events.is_some()
    }

    /// Whether this is its own.
    pub(crate) fn has_said(&self, message: &PeerMessage) -> bool {
        message.from == self.store.data().id
    }

    /// Calls the guest with a message; its time begins now, as the caller's clock has it. Gives the words
    /// with which it refused, if it did. After a failure the instance must be dropped.
    pub(crate) async fn hear(
        &mut self,
        message: &PeerMessage,
        now: Instant,
    ) -> Result<Result<(), String>, Box<Failure>> {
        let Some(guest) = &self.peer_events else {
            return Ok(Ok(()));
        };
        begin_call(&mut self.store);
        let ends = now + self.limits.wall();
        let store = &mut self.store;
        let call = guest.call_on_peer_message(store, &message.topic, &message.payload);
        let result = timeout_at(ends, call).await;
        ended(&mut self.store, result)
    }
}
