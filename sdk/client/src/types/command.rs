//! Custom commands beside the gateways' hubs, and requests to the handler.

use serde::{Deserialize, Serialize};

use super::{ErrorName, Message, message};

/// A custom command and its argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Announced addresses of gateways, `ip:port`; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub gateways: Option<Vec<String>>,
    /// Which command.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub name: String,
    /// Its argument; empty if nothing is given.
    #[serde(flatten, deserialize_with = "message::or_empty")]
    pub payload: Message,
}

impl Command {
    /// This command on every gateway.
    pub fn new(name: impl Into<String>, payload: impl Into<Message>) -> Self {
        Self {
            gateways: None,
            name: name.into(),
            payload: payload.into(),
        }
    }
}

/// A custom command, how long it may take, and whether its answers are waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CommandRun {
    /// Announced addresses of gateways, `ip:port`; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub gateways: Option<Vec<String>>,
    /// Which command.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub name: String,
    /// Its argument; empty if nothing is given.
    #[serde(flatten, deserialize_with = "message::or_empty")]
    pub payload: Message,
    /// How long the answers may take, 100 to 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 100, maximum = 60_000))]
    pub timeout_ms: Option<u32>,
    /// False: it is started and nobody waits for it.
    #[serde(default = "yes")]
    #[cfg_attr(feature = "openapi", schema(default = true))]
    pub wait: bool,
}

const fn yes() -> bool {
    true
}

/// What one gateway's command gave: `text` or `binary`, or else `error` with its detail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandAnswer {
    /// The gateway's announced address.
    pub gateway: String,
    /// The answer, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The answer as base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorName>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What the gateways' commands gave, ordered by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandAnswers {
    /// One for each gateway that said something.
    pub answers: Vec<CommandAnswer>,
    /// Gateways that said nothing in time.
    pub missing: Vec<String>,
}

/// A call of the tenant's handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is called.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub name: String,
    /// The argument; empty if nothing is given.
    #[serde(flatten, deserialize_with = "message::or_empty")]
    pub payload: Message,
    /// How long the answer may take, 100 to 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 100, maximum = 60_000))]
    pub timeout_ms: Option<u32>,
}
