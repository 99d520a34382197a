//! A component as the body of a call: larger than any other body, and slower to come.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::StreamExt;
use tidegate_client::ErrorName;
use tidegate_wire::deploy::COMPONENT_BYTES_MAX;

use crate::problem::ApiRefusal;
use crate::shared::Api;

/// So long may a component take to come.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// So long is one passed over that nobody wants.
const PASS_OVER_TIMEOUT: Duration = Duration::from_secs(10);

/// A body that was not read yet.
pub(super) struct Upload {
    is_component: bool,
    announced: Option<u64>,
    body: Body,
}

impl FromRequest<Api> for Upload {
    type Rejection = ApiRefusal;

    async fn from_request(request: Request, _: &Api) -> Result<Self, ApiRefusal> {
        let header = |name| request.headers().get(name).and_then(|it| it.to_str().ok());
        let kind = header(CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let known = ["application/wasm", "application/octet-stream"];
        Ok(Self {
            is_component: known.iter().any(|it| kind.eq_ignore_ascii_case(it)),
            announced: header(CONTENT_LENGTH).and_then(|it| it.parse().ok()),
            body: request.into_body(),
        })
    }
}

impl Upload {
    /// What can be known before it is read.
    pub(super) fn check(&self) -> Result<(), ApiRefusal> {
        if !self.is_component {
            return Err(ApiRefusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                ErrorName::InvalidArgument,
                "the body is a component: send the header `Content-Type: application/wasm`",
            ));
        }
        match self.announced {
            Some(bytes) if bytes > COMPONENT_BYTES_MAX => Err(too_long()),
            Some(_) | None => Ok(()),
        }
    }

    /// The component.
    pub(super) async fn read(self) -> Result<Bytes, ApiRefusal> {
        let Ok(read) = tokio::time::timeout(UPLOAD_TIMEOUT, self.collect()).await else {
            return Err(ApiRefusal::new(
                StatusCode::REQUEST_TIMEOUT,
                ErrorName::Timeout,
                format!(
                    "the component did not come within {} s",
                    UPLOAD_TIMEOUT.as_secs()
                ),
            ));
        };
        let component = read?;
        match component.is_empty() {
            false => Ok(component),
            true => Err(ApiRefusal::invalid(
                "the body is empty: it is the component",
            )),
        }
    }

    async fn collect(self) -> Result<Bytes, ApiRefusal> {
        // What is announced was compared with the limit, and is taken as a hint only.
        let hint = self.announced.unwrap_or(0).min(COMPONENT_BYTES_MAX);
        let mut component = Vec::with_capacity(usize::try_from(hint).unwrap_or(0));
        let mut body = self.body.into_data_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| {
                ApiRefusal::invalid("the component did not come as it was announced")
            })?;
            if (component.len() + piece.len()) as u64 > COMPONENT_BYTES_MAX {
                return Err(too_long());
            }
            component.extend_from_slice(&piece);
        }
        Ok(component.into())
    }

    /// Reads it without keeping anything, so that the sender comes to read the answer.
    pub(super) async fn pass_over(self) {
        let mut body = self.body.into_data_stream();
        let passing = async {
            let mut left = COMPONENT_BYTES_MAX;
            while let Some(Ok(piece)) = body.next().await {
                left = match left.checked_sub(piece.len() as u64) {
                    Some(left) => left,
                    None => return,
                };
            }
        };
        // If it takes longer the sender may miss the answer.
        let _ = tokio::time::timeout(PASS_OVER_TIMEOUT, passing).await;
    }
}

fn too_long() -> ApiRefusal {
    ApiRefusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        ErrorName::InvalidArgument,
        format!(
            "the component has more than {COMPONENT_BYTES_MAX} bytes ({} MiB)",
            COMPONENT_BYTES_MAX >> 20
        ),
    )
}
