//! What a call says: JSON bodies, path parts and queries. Whatever is wrong with them is told as a
//! problem that names the place.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use tidegate_client::ErrorName;

use crate::problem::ApiRefusal;
use crate::rules::CallRules;
use crate::shared::Api;

/// The longest body.
pub(crate) const BODY_BYTES_MAX: usize = 8 << 20;
/// So long may a body take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body, with its bytes.
#[derive(Debug)]
pub(crate) struct Body<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = ApiRefusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiRefusal> {
        is_json(request.headers())?;
        let rules = rules(&request);
        let bytes = read(request, api).await?;
        let value = parse(&bytes, rules.as_ref())?;
        Ok(Self { value, bytes })
    }
}

/// A JSON body that may be absent.
#[derive(Debug)]
pub(crate) struct OptionalBody<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalBody<T> {
    type Rejection = ApiRefusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiRefusal> {
        let typed = is_json(request.headers());
        let rules = rules(&request);
        let bytes = read(request, api).await?;
        if bytes.is_empty() {
            let value = T::default();
            return Ok(Self { value, bytes });
        }
        typed?;
        let value = parse::<Option<T>>(&bytes, rules.as_ref())?;
        let value = value.unwrap_or_default();
        Ok(Self { value, bytes })
    }
}

fn is_json(headers: &HeaderMap) -> Result<(), ApiRefusal> {
    let value = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let essence = value.and_then(|value| value.split(|&byte| byte == b';').next());
    let essence = essence
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    if essence == b"application/json"
        || (essence.starts_with(b"application/") && essence.ends_with(b"+json"))
    {
        return Ok(());
    }
    Err(ApiRefusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorName::InvalidArgument,
        "the body is JSON: send the header `Content-Type: application/json`",
    ))
}

async fn read(request: Request, api: &Api) -> Result<Bytes, ApiRefusal> {
    let reading = Bytes::from_request(request, api);
    let Ok(read) = tokio::time::timeout(BODY_TIMEOUT, reading).await else {
        let detail = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
        return Err(ApiRefusal::new(
            StatusCode::REQUEST_TIMEOUT,
            ErrorName::Timeout,
            detail,
        ));
    };
    read.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiRefusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorName::InvalidArgument,
            format!("the body has more than {BODY_BYTES_MAX} bytes"),
        ),
        _ => ApiRefusal::invalid("the body did not come as it was announced"),
    })
}

/// What is known of the call whose body it is.
fn rules(request: &Request) -> Option<CallRules> {
    request.extensions().get().cloned()
}

fn parse<T: DeserializeOwned>(bytes: &[u8], rules: Option<&CallRules>) -> Result<T, ApiRefusal> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json);
    let value = value.map_err(|error| {
        let mut refusal = misread("body", &error);
        let meant = rules.and_then(|rules| meant(rules, error.path(), &error.inner().to_string()));
        if let Some(meant) = meant {
            refusal
                .detail
                .push_str(&format!("; did you mean `{meant}`?"));
        }
        refusal
    })?;
    match json.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(ApiRefusal::invalid(format!("the body: {error}"))),
    }
}

/// The known member or variant in place of the one that serde does not know.
fn meant(rules: &CallRules, path: &serde_path_to_error::Path, said: &str) -> Option<String> {
    let rest = said.strip_prefix("unknown field `");
    let rest = rest.or_else(|| said.strip_prefix("unknown variant `"))?;
    let (unknown, _) = rest.split_once('`')?;
    let path = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    });
    rules.meant(&path.collect::<Vec<_>>(), unknown)
}

/// What is wrong, and at which member or parameter.
fn misread(place: &str, error: &serde_path_to_error::Error<impl std::error::Error>) -> ApiRefusal {
    let (path, error) = (error.path(), error.inner());
    ApiRefusal::invalid(match path.iter().next() {
        Some(_) => format!("the {place}: `{path}`: {error}"),
        None => format!("the {place}: {error}"),
    })
}

/// Percent-decoded path parts.
#[derive(Debug)]
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for InPath<T> {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiRefusal> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, api).await;
        match path {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiRefusal::invalid(format!(
                "the path: {}",
                rejection.body_text()
            ))),
        }
    }
}

/// The query, in which parameters may stand more than once.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Params<T> {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiRefusal> {
        let query = parts.uri.query().unwrap_or_default();
        let query = serde_html_form::Deserializer::from_bytes(query.as_bytes());
        serde_path_to_error::deserialize(query)
            .map(Self)
            .map_err(|error| misread("query", &error))
    }
}
