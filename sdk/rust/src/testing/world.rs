//! Everything round the handler: the fake hub and whoever answers custom commands. It is with the
//! event while a callback runs, so that questions find it.

use crate::error::{Error, Refused};
use crate::testing::effect::Effect;
use crate::testing::hub::{Closes, Hub};

/// Who answers custom commands.
pub(crate) type Answering = Box<dyn FnMut(&str, &[u8]) -> Result<Vec<u8>, Error>>;

/// The fake cluster: one gateway.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) hub: Hub,
    /// None: the tenant has no command component.
    pub(crate) answering: Option<Answering>,
    /// Commands that nobody waits for, with their payloads.
    pub(crate) started: Vec<(String, Vec<u8>)>,
    /// Gateways that every answer is to name as missing.
    pub(crate) missing: Vec<String>,
}

impl World {
    /// Applies the effects of one event, in order.
    pub(crate) fn commit(&mut self, effects: Vec<Effect>) -> Closes {
        let closes = self.hub.apply(&effects);
        for effect in effects {
            if let Effect::Command {
                name,
                payload,
                here,
            } = effect
            {
                if here && let Some(answering) = &mut self.answering {
                    // Nobody waits for what it says.
                    let _ = answering(&name, &payload);
                }
                self.started.push((name, payload));
            }
        }
        closes
    }
}

/// What a caller is told of a command's error.
pub(crate) fn refusal(error: &Error) -> Refused {
    error
        .refused()
        .cloned()
        .unwrap_or_else(|| Refused::Other(error.to_string()))
}
