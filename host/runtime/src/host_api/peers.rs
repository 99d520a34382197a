//! `tidegate:plugin/peers`: what is said to the other instances is one effect, which names the instance
//! that says it.

use tidegate_wire::effect::Effect;
use tidegate_wire::payload::Payload;
use tidegate_wire::peers::{PeerMessage, check};

use super::gateway::parse_name;
use super::{HostState, offered, quota};
use offered::peers as wit;
use offered::types::Error;

/// What a message costs beside its texts, for the limit of bytes: about its size on a link.
const MESSAGE_BYTES: usize = 16;

impl wit::Host for HostState {
    fn send(&mut self, topic: String, payload: Vec<u8>) -> Result<(), Error> {
        let topic = parse_name("topic", &topic)?;
        check(&payload).map_err(quota)?;
        let bytes = MESSAGE_BYTES + topic.len() + payload.len();
        let message = PeerMessage {
            from: self.id,
            topic,
            payload: Payload::from(payload),
        };
        self.push(Effect::PeerMessage(Box::new(message)), bytes)
    }
}
