//! Refusals: status, named case and what a person needs to put it right, as problem+json.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tidegate_client::{ErrorName, Problem};
use tidegate_cluster::gateway::access::RequestError;
use tidegate_wire::query::{AskError, CommandError};

const PROBLEM: &str = "application/problem+json";

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiRefusal {
    pub(crate) status: StatusCode,
    pub(crate) name: ErrorName,
    pub(crate) detail: String,
}

impl ApiRefusal {
    pub(crate) fn new(status: StatusCode, name: ErrorName, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            name,
            detail,
        }
    }

    /// The call breaks a rule.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorName::InvalidArgument, detail)
    }

    /// No such client.
    pub(crate) fn offline(client: impl std::fmt::Display) -> Self {
        let detail = format!("no client {client} is connected");
        Self::new(StatusCode::NOT_FOUND, ErrorName::Offline, detail)
    }

    /// The one gateway that could answer did not.
    pub(crate) fn timeout(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, ErrorName::Timeout, detail)
    }

    /// A bound is reached.
    pub(crate) fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorName::QuotaExceeded,
            detail,
        )
    }

    /// It is our fault.
    pub(crate) fn broken(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorName::Other, detail)
    }

    fn ending() -> Self {
        Self::unavailable("this gateway is ending: ask another one")
    }

    /// Another gateway can answer, or this one later.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorName::Other, detail)
    }
}

impl From<AskError> for ApiRefusal {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Gone => Self::ending(),
            AskError::Timeout => Self::timeout(error.to_string()),
            AskError::Invalid(text) => Self::invalid(text),
            AskError::Overloaded(text) => Self::overloaded(text),
        }
    }
}

impl From<RequestError> for ApiRefusal {
    fn from(error: RequestError) -> Self {
        let detail = error.to_string();
        let other = |status| Self::new(status, ErrorName::Other, detail.clone());
        match error {
            RequestError::Failed(_) | RequestError::Unhandled => {
                other(StatusCode::UNPROCESSABLE_ENTITY)
            }
            RequestError::DeadLettered => other(StatusCode::BAD_GATEWAY),
            RequestError::Timeout => Self::timeout(detail),
            RequestError::Overloaded(_) => Self::overloaded(detail),
            RequestError::Ending => Self::ending(),
            RequestError::Reused | RequestError::Forgotten => {
                Self::new(StatusCode::CONFLICT, ErrorName::Conflict, detail)
            }
        }
    }
}

/// Why a command gave no answer, as one of the named cases.
pub(crate) fn command_error(error: CommandError) -> (ErrorName, String) {
    match error {
        CommandError::Absent => (
            ErrorName::NotPermitted,
            "the tenant has no command component on this gateway".to_owned(),
        ),
        CommandError::Failed(text) | CommandError::Broken(text) => (ErrorName::Other, text),
        CommandError::Overloaded => (
            ErrorName::QuotaExceeded,
            "too many commands run or wait on this gateway".to_owned(),
        ),
        CommandError::Timeout => (
            ErrorName::Timeout,
            "the command was not done within the deadline".to_owned(),
        ),
    }
}

/// Whether what is refused so may succeed later by itself.
pub(crate) fn is_retryable(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// A request that is refused before any route sees it.
pub(crate) fn of_http(refusal: &tidegate_link::net::http::HttpRefusal) -> (&'static str, String) {
    let name = match refusal.status {
        StatusCode::REQUEST_TIMEOUT => ErrorName::Timeout,
        _ => ErrorName::InvalidArgument,
    };
    let refusal = ApiRefusal::new(refusal.status, name, &refusal.reason);
    (PROBLEM, refusal.body())
}

impl ApiRefusal {
    fn body(self) -> String {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: self
                .status
                .canonical_reason()
                .unwrap_or_default()
                .to_owned(),
            status: self.status.as_u16(),
            retryable: is_retryable(self.status),
            detail: self.detail,
            error: self.name,
        };
        // A struct of texts and a number always serializes.
        serde_json::to_string(&problem).unwrap_or_default()
    }
}

impl IntoResponse for ApiRefusal {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
