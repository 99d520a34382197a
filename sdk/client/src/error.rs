//! Why a call failed, and whether it may be repeated.

use std::time::Duration;

use crate::types::{ErrorName, Problem};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client was given something that cannot be right.
    #[error("{0}")]
    Setting(String),
    /// The gateway refused; the problem has the named case.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The gateway was not reached, or the connection broke.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Which gateway.
        url: String,
        /// Why.
        reason: String,
        /// Nothing of the call was sent.
        unsent: bool,
    },
    /// Not done within the deadline.
    #[error("{url} gave no answer within {} ms{}", .within.as_millis(), tried(.last.as_deref()))]
    Deadline {
        /// Which gateway.
        url: String,
        /// The deadline.
        within: Duration,
        /// Why the last repetition before it failed.
        last: Option<String>,
    },
    /// What came back is not an answer of the Client API.
    #[error("{0}")]
    Answer(String),
}

impl Error {
    /// The named case, if the gateway refused.
    #[must_use]
    pub fn name(&self) -> Option<ErrorName> {
        match self {
            Self::Refused(problem) => Some(problem.error),
            Self::Deadline { .. } => Some(ErrorName::Timeout),
            Self::Setting(_) | Self::Unreachable { .. } | Self::Answer(_) => None,
        }
    }

    /// Whether the same call may do better a little later. `repeatable`: doing it twice does no
    /// harm. `patient`: a gateway that is not there is waited for.
    pub(crate) fn is_passing(&self, repeatable: bool, patient: bool) -> bool {
        match self {
            Self::Refused(problem) => match problem.status {
                // Refused before anything was done.
                429 => true,
                408 | 500 | 502 | 503 | 504 => repeatable,
                _ => false,
            },
            Self::Unreachable { unsent: true, .. } => patient,
            Self::Unreachable { unsent: false, .. } => repeatable,
            Self::Setting(_) | Self::Deadline { .. } | Self::Answer(_) => false,
        }
    }

    pub(crate) fn unreachable(url: &str, error: &reqwest::Error) -> Self {
        // The deepest cause is what a person can act on: refused, reset, unknown host.
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Self::Unreachable {
            url: url.to_owned(),
            reason: cause.to_string(),
            unsent: error.is_connect(),
        }
    }
}

fn tried(last: Option<&str>) -> String {
    last.map(|last| format!("; the last try: {last}"))
        .unwrap_or_default()
}
