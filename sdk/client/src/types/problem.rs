//! Errors, as `application/problem+json` (RFC 9457) with the named cases of the plugin contract.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The named case of an error, as in the plugin contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ErrorName {
    /// An argument breaks a documented rule; the detail names it.
    InvalidArgument,
    /// No such client is connected.
    Offline,
    /// No answer within the deadline.
    Timeout,
    /// A limit is reached; the detail names it.
    QuotaExceeded,
    /// No token, or not the right one.
    NotPermitted,
    /// The value has changed since it was read, or the idempotency key was used for another call.
    Conflict,
    /// Anything else.
    Other,
}

impl ErrorName {
    /// The name as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid-argument",
            Self::Offline => "offline",
            Self::Timeout => "timeout",
            Self::QuotaExceeded => "quota-exceeded",
            Self::NotPermitted => "not-permitted",
            Self::Conflict => "conflict",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Always `about:blank`: `error` says what it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the status means.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, where, and what would be right.
    pub detail: String,
    /// The named case.
    pub error: ErrorName,
    /// Whether the same call may succeed later without anybody changing anything.
    #[serde(default)]
    pub retryable: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.error, self.status, self.detail)
    }
}
